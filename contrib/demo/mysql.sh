# shellcheck shell=bash disable=SC2034,SC2154 # read by demo.sh, whose variables and functions these are
# What the demonstration needs to know of MySQL.
about='MySQL 9.7' tree=my97 client=mysql agent_account=agent-account-mysql.sql data=data-mysql.sql

position() { sql 1 -e "SELECT REPLACE(@@gtid_executed, '\n', '')"; }
caught_up() { [ "$(sql 2 -e "SELECT WAIT_FOR_EXECUTED_GTID_SET('$at', 60)")" = 0 ]; }
replica_status='SHOW REPLICA STATUS'
dump=(mysqldump --no-defaults --skip-comments --set-gtid-purged=OFF)
accounts() {
  sql "$1" --raw -e "SELECT CONCAT('SHOW CREATE USER ', a, '; SHOW GRANTS FOR ', a, ';')
    FROM (SELECT CONCAT(QUOTE(User), '@', QUOTE(Host)) AS a FROM mysql.user) AS accounts ORDER BY a" |
    { echo 'SET print_identified_with_as_hex = ON;'; cat; } | sql "$1"
}
own_transactions() { echo 'its GTID set is the part of the source that it has replicated'; }
no_own() {
  local of_replica
  of_replica=$(sql 2 -e "SELECT REPLACE(@@gtid_executed, '\n', '')")
  [ -n "$of_replica" ] && [ "$(sql 1 -e "SELECT GTID_SUBTRACT('$of_replica', @@gtid_executed) = ''")" = 1 ] &&
    [ "$(sql 2 -e "SELECT LOCATE(@@server_uuid, '$of_replica')")" = 0 ]
}
