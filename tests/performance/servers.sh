# shellcheck shell=bash disable=SC2034,SC2154 # what bench.sh and physical.sh have in common; they set $top, $kind, $mb, and maybe lines for an agent's configuration in $common, $sections
# Two scratch servers, 127.0.0.1 and 127.0.0.2, an agent beside each, and the times of what is measured.
export RIG=${RIG:-$top/target/rig}
self=${0##*/} agent=${AGENT:-$top/target/release/orchestrator-agent} runs=${BENCH_RUNS:-3} dir=$top/target/bench ctl=$top/tests/rig/$kind.sh
case $kind in mariadb | mysql) ;; *) echo "$self: SERVER=$kind: it is either mariadb or mysql" >&2; exit 1 ;; esac
# shellcheck source-path=SCRIPTDIR source=../../contrib/demo/mysql.sh
. "$top/contrib/demo/$kind.sh"
PATH=$RIG/$tree/bin:$PATH
ip=([1]=127.0.0.1 [2]=127.0.0.2) agents=()

fail() { echo "$self: $*" >&2; exit 1; }
[ -x "$agent" ] || fail "$agent is missing: make build"
command -v curl >/dev/null || fail "curl is missing: apt-get install curl"
[[ $mb =~ ^[1-9][0-9]*$ && $runs =~ ^[1-9][0-9]*$ ]] || fail "BENCH_MB and BENCH_RUNS are whole numbers from 1"

cleanup() {
  local rc=$? n p
  set +e
  trap '' INT TERM HUP
  for p in "${agents[@]}"; do kill "$p" 2>/dev/null; wait "$p"; done
  for n in 1 2; do [ -z "${port:-}" ] || "$ctl" kill "$dir/db$n" "$port"; done
  [ -z "${memory_dir:-}" ] || rm -rf "$memory_dir"
  if [ "$rc" = 0 ]; then rm -rf "$dir"; else echo "$self: failed; what is left to read is in $dir" >&2; fi
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
${common-}
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
${sections-}
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

machine_facts() {
  local cpu memory disk write
  cpu=$(awk -F': ' '/^model name/ { print $2; exit }' /proc/cpuinfo)
  memory=$(awk '/^MemTotal|^MemAvailable/ { printf "%s%d MB", s, $2 / 1024; s = " total, " }' /proc/meminfo)
  disk=$(df --output=fstype,source "$dir" | tail -n 1 | tr -s ' ')
  write=$( (LC_ALL=C dd if=/dev/zero of="$dir/dd" bs=1M count=256 conv=fsync) 2>&1 | awk -F', ' 'END { print $NF }')
  rm -f "$dir/dd"
  cat <<FACTS
machine:  $(nproc) cores (${cpu:-unknown}), load $(cut -d ' ' -f 1 /proc/loadavg) at the start; source, target, tools and agents share them
memory:   $memory available: the data and the copies stay in the page cache, so disks are hardly read
disk:     $disk, $write for 256 MB written and synced
server:   $about
FACTS
}

start_bench() { # PACKAGES
  "$top/tests/rig/fetch.sh" "$1"
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
}
