#!/bin/bash
# demo.sh -- seeds a replica on this machine, with real servers, and checks the copy. Run it by `make demo`, as root.
# Two scratch servers and two agents represent the hosts db1.demo (127.0.0.1) and db2.demo (127.0.0.2). Everything lives below
# target/ and is stopped at the end. SERVER: mariadb (the default) or mysql. DEMO_MB: size of the data (default 220).
# shellcheck disable=SC2317 # functions that are called by name
set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
export RIG=${RIG:-$top/target/rig}
agent=${AGENT:-$top/target/release/orchestrator-agent} mb=${DEMO_MB:-220} dir=$RIG/demo kind=${SERVER:-mariadb}
ip=([1]=127.0.0.1 [2]=127.0.0.2) failed=0 agents=()

say() { printf '[%3d s] %s\n' $SECONDS "$*"; }
fail() { echo "demo.sh: $*" >&2; exit 1; }
check() { # TEXT COMMAND...: one check
  local text=$1; shift
  if "$@"; then say "ok    $text"; else say "WRONG $text"; failed=1; fi
}
run() { "$@" <&0 & wait $!; } # a long command that does not keep a signal waiting
sql() { local n=$1; shift; "$client" --no-defaults --default-character-set=utf8mb4 -N -uroot -S "$dir/db$n/run/mysql.sock" "$@"; }

case $kind in mariadb | mysql) ;; *) fail "SERVER=$kind: use mariadb or mysql" ;; esac
# shellcheck source-path=SCRIPTDIR source=demo/mysql.sh
. "$top/contrib/demo/$kind.sh"
PATH=$RIG/$tree/bin:$PATH ctl=$top/tests/rig/$kind.sh

[ "$(id -u)" = 0 ] || fail "needs root: for a private /etc/hosts and servers that run as another user"
[ -x "$agent" ] || fail "$agent is missing: make build"
resolves() { getent ahostsv4 db1.demo | grep -q '^127\.0\.0\.1 ' && getent ahostsv4 db2.demo | grep -q '^127\.0\.0\.2 '; }
if ! resolves; then # this script again, with an /etc/hosts that only it and its children see
  if [ -z "${DEMO_HOSTS:-}" ]; then
    mkdir -p "$RIG"
    { cat /etc/hosts; printf '127.0.0.1 db1.demo\n127.0.0.2 db2.demo\n'; } >"$RIG/demo.hosts"
    unshare -m true || fail "cannot make a private mount namespace (in a container: --cap-add SYS_ADMIN)." \
      "Or add '127.0.0.1 db1.demo' and '127.0.0.2 db2.demo' to /etc/hosts by hand"
    # shellcheck disable=SC2016 # expanded by the inner shell
    DEMO_HOSTS=1 exec unshare -m sh -c 'mount --bind "$0" /etc/hosts && exec "$@"' "$RIG/demo.hosts" "$0"
  fi
  fail "db1.demo and db2.demo do not resolve to 127.0.0.1 and 127.0.0.2: does /etc/nsswitch.conf contain 'hosts: files ...'?"
fi

members() { # SESSION: its processes, zombies left out
  cat /proc/[0-9]*/stat 2>/dev/null | sed 's/ (.*) / /' | awk -v s="$1" '$5 == s && $2 != "Z" { print $1 }'
}
cleanup() {
  local rc=$? n p left
  set +e
  trap '' INT TERM HUP
  touch "$dir/stop-writer"
  for p in $(jobs -p) "${agents[@]}"; do kill "$p" 2>/dev/null; done
  for p in "${agents[@]}"; do
    for ((n = 0; n < 300; n++)); do [ -n "$(members "$p")" ] || break; sleep 0.05; done
    left=$(members "$p")
    # shellcheck disable=SC2086 # one word per process
    if [ -n "$left" ]; then echo "demo.sh: an agent left processes: $left" >&2; rc=1; kill -9 $left 2>/dev/null; fi
  done
  for n in 1 2; do "$ctl" stop "$dir/db$n" "$port" || rc=1; done
  wait
  rm -f "$RIG/demo.hosts"
  if [ "$rc" != 1 ]; then rm -rf "$dir"/db?/{data,tmp,backup}; fi
  say "everything stopped; logs are in $dir"
  if [ "$rc" = 0 ]; then echo "The demonstration succeeded in $SECONDS s."; else echo "The demonstration FAILED." >&2; fi
  exit "$rc"
}

# Prints the first port from $1 on that is free on all addresses.
free_port() {
  local p=$1
  while cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '{ print $2 }' | grep -q ":$(printf %04X "$p")\$"; do p=$((p + 1)); done
  echo "$p"
}

# Sends numbered rows at 100 a second through one client until the file stop-writer exists; keeps the statements in a file.
writer() {
  local n=$last i
  while [ ! -e "$dir/stop-writer" ]; do
    for ((i = 0; i < 10; i++)); do n=$((n + 1)); echo "INSERT INTO run.numbers (n, at) VALUES ($n, NOW(6));"; done
    sleep 0.1
  done | tee -a "$dir/written.sql" | sql 1
}

start_agent() { # N
  local n=$1 service
  service="\"$ctl\" %s \"$dir/db$n\" $port"
  mkdir -p "$dir/db$n"/{backup,state}
  # shellcheck disable=SC2059 # the format holds the place of the verb
  (umask 077 && cat >"$dir/db$n/agent.conf") <<CONF
[common]
hostname = "db$n.demo"
listen-address = "${ip[$n]}"
port = $agent_port
seed-port = $seed_port
poll-interval = "2s"
backup-dir = "$dir/db$n/backup"
state-dir = "$dir/db$n/state"

[orchestrator]
url = "http://127.0.0.1"
agents-port = $seed_command_port

[logging]
file = "$dir/db$n/agent.log"

[mysql]
host = "${ip[$n]}"
port = $port
user = "agent"
password = "$password"
service-status-command = '$(printf "$service" status)'
service-start-command = '$(printf "$service" start)'
service-stop-command = '$(printf "$service" stop)'

[mysqldump]
enabled = true

[xtrabackup]
enabled = ${xtrabackup:-false}
CONF
  setsid env -i PATH="$PATH" RIG="$RIG" "$agent" --config "$dir/db$n/agent.conf" </dev/null >"$dir/db$n/agent.out" 2>&1 9>&- &
  agents+=($!)
}

mkdir -p "$RIG"
exec 9>"$RIG/demo.lock"
flock -n 9 || fail "another demonstration runs"
say "$about and its tools in $RIG/$tree"
run "$top/tests/rig/fetch.sh" "$kind"
for n in 1 2; do "$ctl" kill "$dir/db$n" 0; done # left by a demonstration that was killed
rm -rf "$dir" && mkdir -p "$dir"
port=$(free_port 33306) agent_port=$(free_port 33400) seed_port=$(free_port 33500) seed_command_port=$(free_port 33600)
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

say "two servers on port $port: db1.demo is the source, db2.demo becomes its replica"
for n in 1 2; do
  echo "server_id=$((port * 10 + n))" >"$dir/extra.cnf"
  BIND=${ip[$n]} "$ctl" init "$dir/db$n" "$port" "$dir/extra.cnf"
  run "$ctl" start "$dir/db$n" "$port" 9>&-
done
random() { od -An -N12 -tx1 /dev/urandom | tr -d ' \n'; }
password=$(random) replication_password=$(random)
(umask 077 && echo "$password" >"$dir/agent.password" && echo "$replication_password" >"$dir/repl.password")
account() { local s; s=$(<"$top/contrib/demo/$1"); echo "${s//change-me/$2}"; }
for n in 1 2; do account "$agent_account" "$password" | sql $n; done
account replication-account.sql "$replication_password" | sql 1
say "loading $mb MB into the source"
load() { { echo "SET @mb = $mb;"; cat "$top/contrib/demo/$data"; } | sql 1; }
run load
loaded=$(du -cm "$dir"/db1/data/{shop,archive*,run} | awk 'END { print $1 }')
say "loaded $loaded MB; a writer adds 100 rows a second while a seed runs, an event one more"
last=0

threads() {
  sql 2 --column-names -E -e "$replica_status" >"$dir/replica-status" &&
    [ "$(grep -cE '^ *(Slave|Replica)_(IO|SQL)_Running: Yes$' "$dir/replica-status")" = 2 ]
}

user_tables="TABLE_SCHEMA NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema')"
checksums() { # N
  sql "$1" -e "SELECT CONCAT('CHECKSUM TABLE \`', TABLE_SCHEMA, '\`.\`', TABLE_NAME, '\`;') FROM information_schema.TABLES
    WHERE $user_tables AND TABLE_TYPE = 'BASE TABLE' ORDER BY 1" --raw | sql "$1" >"$dir/checksums.$1"
}
same() {
  if cmp -s "$dir/$1.1" "$dir/$1.2" && [ -s "$dir/$1.1" ]; then return 0; fi
  diff "$dir/$1.1" "$dir/$1.2" | head -n 20
  return 1
}
definitions() { # N: all tables, views, routines, triggers, events, accounts and grants, as statements
  local schemas
  mapfile -t schemas < <(sql "$1" --raw -e "SELECT SCHEMA_NAME FROM information_schema.SCHEMATA
    WHERE ${user_tables/TABLE_SCHEMA/SCHEMA_NAME} ORDER BY 1")
  {
    "${dump[@]}" -uroot -S "$dir/db$1/run/mysql.sock" --no-data --routines --events --triggers --databases "${schemas[@]}"
    accounts "$1"
  } | sed -E 's/ DISABLE ON (SLAVE|REPLICA) DO / ENABLE DO /' >"$dir/definitions.$1"
}
count() { sql 1 -e "SELECT COUNT(*) FROM information_schema.$1 WHERE ${user_tables/TABLE_SCHEMA/$2}"; }
numbers() {
  [ "$(sql 2 -e 'SELECT COUNT(*), COUNT(DISTINCT n), MIN(n), MAX(n) FROM run.numbers')" = "$last"$'\t'"$last"$'\t'1$'\t'"$last" ]
}
quiet_events() { [ "$(sql 2 -e "SELECT COUNT(*), SUM(STATUS IN ('SLAVESIDE_DISABLED', 'REPLICA_SIDE_DISABLED')) FROM information_schema.EVENTS")" = $'1\t1' ]; }

# One seed by METHOD while the writer writes, then the checks.
seed_and_check() { # METHOD MORE...
  local method=$1 rows since took rate at; shift
  rm -f "$dir/stop-writer"
  sql 1 -e 'SET GLOBAL event_scheduler = ON'
  writer &
  writer_pid=$!
  rows=$(sql 1 -e 'SELECT COUNT(*) FROM run.numbers')
  since=${EPOCHREALTIME/./}
  run "$agent" seed --source "db1.demo:$agent_port" --target "db2.demo:$agent_port" --listen "127.0.0.1:$seed_command_port" \
    --mysql-user agent --mysql-password-file "$dir/agent.password" --method "$method" "$@" \
    --replication-user repl --replication-password-file "$dir/repl.password" || fail "the seed ended with exit status $?; see also $dir/db?/agent.log"
  took=$(((${EPOCHREALTIME/./} - since) / 1000))
  say "the seed took $((took / 1000)).$((took % 1000 / 100)) s; three more seconds of writing"
  sleep 3
  rate=$((($(sql 1 -e 'SELECT COUNT(*) FROM run.numbers') - rows) * 1000 / (took + 3000)))

  # Without the writer and the event the replica must reach the position of the source.
  touch "$dir/stop-writer"
  wait $writer_pid || fail "the writer failed"
  last=$(wc -l <"$dir/written.sql")
  sql 1 -e 'SET GLOBAL event_scheduler = OFF'
  until at=$(position) && sleep 0.5 && [ "$at" = "$(position)" ]; do :; done
  check "the replica reached the source's GTID position $at" caught_up
  check "both replication threads run" threads
  grep -E '(Master|Source)_Host|_(IO|SQL)_Running:|Using_Gtid|Auto_Position|Seconds_Behind_|Last_(IO|SQL)_Error:' "$dir/replica-status" || true
  run checksums 1
  run checksums 2
  check "CHECKSUM TABLE agrees on $(wc -l <"$dir/checksums.1") tables" same checksums
  definitions 1
  definitions 2
  check "definitions agree: $(count VIEWS TABLE_SCHEMA) views, $(count ROUTINES ROUTINE_SCHEMA) routines, $(
    count TRIGGERS TRIGGER_SCHEMA) triggers, $(count EVENTS EVENT_SCHEMA) events, accounts and grants" same definitions
  check "running numbers 1 to $last: none lost, none twice" numbers
  check "the writer wrote $rate rows a second while the seed ran (50 wanted)" test "$rate" -ge 50
  check "at least $mb MB were seeded" test "$loaded" -ge "$mb"
  check "the replica has no transaction of its own: $(own_transactions)" no_own
  check "the event is disabled on the replica" quiet_events
  say "$loaded MB seeded by $method in $((took / 1000)).$((took % 1000 / 100)) s"
}

for n in 1 2; do start_agent $n; done
say "two agents, and a seed by Mysqldump"
seed_and_check Mysqldump
if [ "${xtrabackup:-}" = true ]; then
  say "the same replica once more, by Xtrabackup: a copy of the running server, swapped in"
  seed_and_check Xtrabackup --force
fi
exit $failed
