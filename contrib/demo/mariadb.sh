# shellcheck shell=bash disable=SC2034,SC2154 # read by demo.sh, whose variables and functions these are
# What the demonstration needs to know of MariaDB.
about='MariaDB 10.11' tree=mdb client=mariadb agent_account=agent-account.sql data=data.sql xtrabackup=true

position() { sql 1 -e 'SELECT @@gtid_binlog_pos'; }
caught_up() { [ "$(sql 2 -e "SELECT MASTER_GTID_WAIT('$at', 60)")" = 0 ]; }
replica_status='SHOW SLAVE STATUS'
dump=(mariadb-dump --no-defaults --skip-comments)
accounts() { "${dump[@]}" -uroot -S "$dir/db$1/run/mysql.sock" --system=users; }
own_transactions() { echo "only server id $(sql 1 -e 'SELECT @@server_id')"; }
no_own() {
  local pos source_id
  source_id=$(sql 1 -e 'SELECT @@server_id')
  pos=$(sql 2 -e "SELECT CONCAT_WS(',', @@gtid_binlog_state, @@gtid_binlog_pos, @@gtid_current_pos)")
  [ -n "$pos" ] && ! tr ',' '\n' <<<"$pos" | grep -vq -- "^[0-9]*-$source_id-[0-9]*$"
}
