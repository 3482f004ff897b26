#!/bin/bash
# bench.sh -- measures a Mysqldump seed through two agents against the bare tools, on this machine and in one run. `make bench`.
#   pipe   mariadb-dump | mariadb                      from source to an empty target (with MySQL: mysqldump | mysql)
#   dump   mariadb-dump > file, sync                   what Backup does
#   load   mariadb < file                              what Restore does
#   ours   prepare, backup and restore by HTTP, each timed from the call until its state is Completed (asked every 20 ms)
# Two scratch servers, 127.0.0.1 and 127.0.0.2, below target/; everything is stopped and removed at the end. The bare dump gets the
# options that the agent gives; the bare load gets none, as by hand.
# SERVER: mariadb (the default) or mysql. BENCH_MB: size of the data (default 200). BENCH_RUNS: how often (default 3); medians are printed. AGENT: the program.
# shellcheck disable=SC2317 # functions that are called by name
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
export RIG=${RIG:-$top/target/rig} kind=${SERVER:-mariadb}
agent=${AGENT:-$top/target/release/orchestrator-agent} mb=${BENCH_MB:-200} runs=${BENCH_RUNS:-3}
dir=$top/target/bench ctl=$top/tests/rig/$kind.sh
case $kind in mariadb | mysql) ;; *) echo "bench.sh: SERVER=$kind: it is either mariadb or mysql" >&2; exit 1 ;; esac
# shellcheck source-path=SCRIPTDIR source=../../contrib/demo/mysql.sh
. "$top/contrib/demo/$kind.sh"
PATH=$RIG/$tree/bin:$PATH
ip=([1]=127.0.0.1 [2]=127.0.0.2) agents=()

fail() { echo "bench.sh: $*" >&2; exit 1; }
[ -x "$agent" ] || fail "$agent is missing: make build"
command -v curl >/dev/null || fail "curl is missing: apt-get install curl"
[[ $mb =~ ^[1-9][0-9]*$ && $runs =~ ^[1-9][0-9]*$ ]] || fail "BENCH_MB and BENCH_RUNS are whole numbers from 1"

cleanup() {
  local rc=$? n p
  set +e
  trap '' INT TERM HUP
  for p in "${agents[@]}"; do kill "$p" 2>/dev/null; wait "$p"; done
  for n in 1 2; do [ -z "${port:-}" ] || "$ctl" kill "$dir/db$n" "$port"; done
  if [ "$rc" = 0 ]; then rm -rf "$dir"; else echo "bench.sh: failed; what is left to read is in $dir" >&2; fi
  exit "$rc"
}

# Prints the first port from $1 on that nobody listens on, on any address.
free_port() {
  local p=$1
  while cat /proc/net/tcp /proc/net/tcp6 2>/dev/null | awk '{ print $2 }' | grep -q ":$(printf %04X "$p")\$"; do p=$((p + 1)); done
  echo "$p"
}
sql() { local n=$1; shift; "$client" --no-defaults --default-character-set=utf8mb4 -N -uroot -S "$dir/db$n/run/mysql.sock" "$@"; }

server() { # N: a new and empty one
  "$ctl" kill "$dir/db$1" "$port"
  # A bare copy would run the source's events at once, and differ.
  # And an account without SUPER loads no function into MySQL, which the agent sees to by itself.
  printf 'server_id=%d\nevent_scheduler=OFF\nlog_bin_trust_function_creators=ON\n' $((port * 10 + $1)) >"$dir/extra.cnf"
  BIND=${ip[$1]} "$ctl" init "$dir/db$1" "$port" "$dir/extra.cnf"
  "$ctl" start "$dir/db$1" "$port"
  local account
  account=$(<"$top/contrib/demo/$agent_account")
  sql "$1" <<<"${account//change-me/$password}"
}

start_agent() { # N
  local at=$dir/agent$1 service="\"$ctl\" %s \"$dir/db$1\" $port"
  mkdir -p "$at/backup"
  # shellcheck disable=SC2059 # the format holds the place of the verb
  (umask 077 && cat >"$at/agent.conf") <<CONF
[common]
hostname = "db$1"
listen-address = "${ip[$1]}"
port = $agent_port
backup-dir = "$at/backup"
state-dir = "$at/state"
token-hint-file = "$at/token"
[orchestrator]
url = "http://127.0.0.1"
agents-port = 1
[logging]
file = ""
[mysql]
host = "${ip[$1]}"
port = $port
user = "agent"
password = "$password"
service-status-command = '$(printf "$service" status)'
service-start-command = '$(printf "$service" start)'
service-stop-command = '$(printf "$service" stop)'
CONF
  "$agent" --config "$at/agent.conf" </dev/null >"$at/log" 2>&1 &
  agents+=($!)
  until curl -sf "http://${ip[$1]}:$agent_port/api/get-agent-info" >/dev/null; do
    kill -0 "${agents[-1]}" 2>/dev/null || fail "an agent ended: $(tail -n 3 "$at/log")"
    sleep 0.05
  done
}
call() { # N PATH
  curl -sS "http://${ip[$1]}:$agent_port/api/$2?token=$(<"$dir/agent$1/token")"
}
stage() { # N STAGE CALL: starts it and waits for its end
  local state
  state=$(call "$1" "$3")
  [ "$state" = Started ] || fail "$3: $state"
  while state=$(call "$1" "seed-stage-state/$seed/$2"); [[ $state == *'"Status":"Running"'* ]]; do sleep 0.02; done
  [[ $state == *'"Status":"Completed"'* ]] || fail "$state"
}

now() { echo "${EPOCHREALTIME/./}"; }
# Runs a command and adds its seconds to the list of a name.
timed() { # NAME COMMAND...
  local name=$1 begin took; shift
  begin=$(now)
  "$@"
  took=$(awk -v a="$begin" -v b="$(now)" 'BEGIN { printf "%.3f", (b - a) / 1e6 }')
  echo "$took" >>"$dir/times.$name"
  printf '  %-12s %7.2f s\n' "$name" "$took"
}
median() { sort -n "$dir/times.$1" | awk '{ v[NR] = $1 } END { print (v[int((NR + 1) / 2)] + v[int((NR + 2) / 2)]) / 2 }'; }

case $kind in
mariadb) dump_options=(--master-data=2 --gtid) dumper=mariadb-dump ;;
mysql) dump_options=(--source-data=2 --set-gtid-purged=AUTO --get-server-public-key) dumper=mysqldump ;;
esac
dump_options+=(--all-databases --single-transaction --quick --routines --events --triggers --hex-blob)
bare_dump() { "$dumper" --defaults-file="$dir/source.cnf" "${dump_options[@]}"; }
bare_load() { "$client" --defaults-file="$dir/target.cnf"; }
pipe() { bare_dump | bare_load; }
to_file() { bare_dump >"$dir/bare.sql"; sync "$dir/bare.sql"; }
from_file() { bare_load <"$dir/bare.sql"; }
checksums() { # N
  sql "$1" -e "SELECT CONCAT('CHECKSUM TABLE \`', TABLE_SCHEMA, '\`.\`', TABLE_NAME, '\`;') FROM information_schema.TABLES WHERE
    TABLE_TYPE = 'BASE TABLE' AND TABLE_SCHEMA NOT IN ('mysql', 'sys', 'information_schema', 'performance_schema') ORDER BY 1" --raw | sql "$1"
}
proved() { cmp -s <(checksums 2) "$dir/checksums" || fail "$1: the copy differs from the source"; }

"$top/tests/rig/fetch.sh" "$kind"
[ ! -e "$dir" ] || fail "$dir is there: another measurement runs, or one has failed; remove it"
mkdir -p "$dir"
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
port=$(free_port 34306) agent_port=$(free_port 34400)
password=$(od -An -N12 -tx1 /dev/urandom | tr -d ' \n')
for n in 1 2; do
  (umask 077 && printf '[client]\nhost=%s\nport=%s\nuser=agent\npassword=%s\n' "${ip[$n]}" "$port" "$password" >"$dir/$n.cnf")
done
mv "$dir/1.cnf" "$dir/source.cnf" && mv "$dir/2.cnf" "$dir/target.cnf"

server 1
{ echo "SET @mb = $mb;"; cat "$top/contrib/demo/$data"; } | sql 1
checksums 1 >"$dir/checksums"
[ -s "$dir/checksums" ] || fail "the source has no tables"
loaded=$(du -cm "$dir"/db1/data/{shop,archive*,run} | awk 'END { print $1 }')
to_file # once before, so that the source's pages and the tools are in memory for all alike
bytes=$(stat -c %s "$dir/bare.sql")

cpu=$(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)
memory=$(awk '/^MemTotal|^MemAvailable/ { printf "%s%d MB", s, $2 / 1024; s = " total, " }' /proc/meminfo)
disk=$(df --output=fstype,source "$dir" | tail -n 1 | tr -s ' ')
write=$( (LC_ALL=C dd if=/dev/zero of="$dir/dd" bs=1M count=256 conv=fsync) 2>&1 | awk -F', ' 'END { print $NF }')
rm -f "$dir/dd"
cat <<FACTS
machine:  $(nproc) cores (${cpu:-unknown}), load $(cut -d ' ' -f 1 /proc/loadavg) at the start; source, target, tools and agents share them
memory:   $memory available: the data and the dump stay in the page cache, so disks are hardly read
disk:     $disk, $write for 256 MB written and synced
server:   $about
data:     $loaded MB of tables, a dump of $((bytes / 1000000)) MB; $runs runs each, target new and empty each time
FACTS

for ((run = 1; run <= runs; run++)); do
  echo "run $run"
  server 2
  timed pipe pipe
  proved pipe
  server 2
  timed dump to_file
  timed load from_file
  proved load
  server 2
  start_agent 1
  start_agent 2
  seed=$run
  timed prepare stage 2 Prepare "prepare/$seed/Mysqldump/Target"
  stage 1 Prepare "prepare/$seed/Mysqldump/Source"
  timed backup stage 2 Backup "backup/$seed/Mysqldump/${ip[1]}/$port"
  timed restore stage 2 Restore "restore/$seed/Mysqldump"
  proved ours
  stage 2 Cleanup "cleanup/$seed/Mysqldump/Target"
  stage 1 Cleanup "cleanup/$seed/Mysqldump/Source"
  for p in "${agents[@]}"; do kill "$p" && wait "$p"; done
  agents=()
  rm -rf "$dir"/agent[12]
done

awk -v bytes="$bytes" -v pipe="$(median pipe)" -v dump="$(median dump)" -v load="$(median load)" \
  -v prepare="$(median prepare)" -v backup="$(median backup)" -v restore="$(median restore)" '
  function row(name, s, of, what) {
    printf "%-34s %8.2f s %8.1f MB/s", name, s, bytes / 1e6 / s
    if (of) printf "   %.2f x %s", s / of, what
    print ""
  }
  BEGIN {
    print "medians, MB/s of the dump:"
    row("bare pipe", pipe)
    row("bare dump to a synced file", dump)
    row("bare load from it", load)
    row("bare dump and load", dump + load, pipe, "the pipe")
    row("ours: backup", backup, dump, "the bare dump")
    row("ours: restore", restore, load, "the bare load")
    row("ours: prepare, backup and restore", prepare + backup + restore, dump + load, "bare dump and load")
    row("", prepare + backup + restore, pipe, "the pipe")
  }'
