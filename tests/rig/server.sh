# shellcheck shell=bash
# server.sh -- what mariadb.sh and mysql.sh have in common; they set $tree (name in $RIG), $server and $admin (names of the
# programs), maybe admin_options, and settings(), which prints the my.cnf lines that only their kind of server has.
set -euo pipefail
RIG=${RIG:-$(cd "$(dirname "$0")/../.." && pwd)/target/rig}
self=${0##*/}
[ $# -ge 3 ] || { sed -n '2,4s/^# //p' "$0" >&2; exit 2; }
# shellcheck disable=SC2154 # set by the script that reads this one
[ -n "${admin_options+x}" ] || admin_options=()
cmd=$1 port=$3 extra=${4:-/dev/null} bin=$RIG/$tree/bin root=$RIG/$tree/root/usr
dir=$(realpath -m "$2")
fail() { echo "$self: $*" >&2; exit 1; }

# Prints the pid of the server of this DIR, false when it does not run; the pid in the file may be another process's by now.
# Asked many times a second, so it starts no program.
pid() {
  local p argument
  read -r p 2>/dev/null <"$dir/run/pid" || return 1
  while IFS= read -r -d '' argument; do
    if [ "$argument" = "--defaults-file=$dir/my.cnf" ]; then echo "$p"; return 0; fi
  done 2>/dev/null <"/proc/$p/cmdline"
  return 1
}
# A server makes its socket when it is nearly ready.
# shellcheck disable=SC2154
answers() { pid >/dev/null && [ -S "$dir/run/mysql.sock" ] && timeout 10 "$bin/$admin" --no-defaults "${admin_options[@]}" -uroot -S "$dir/run/mysql.sock" ping >/dev/null 2>&1; }

# Waits until the server answers; there is nothing to recover here that takes longer. False as soon as it has died.
wait_ready() {
  local until=$((SECONDS + 120))
  until answers; do
    [ $SECONDS -lt $until ] || fail "the server in $dir does not answer: $(tail -n 8 "$dir/run/error.log")"
    # looked at twice: in the instant of an exec a process shows no command line
    pid >/dev/null || { sleep 0.2 && pid >/dev/null; } || fail "the server in $dir does not run: $(cat "$dir"/run/{error.log,stdout} 2>/dev/null | tail -n 8)"
    sleep 0.05
  done
}
wait_gone() { # SECONDS
  for ((i = 0; i < $1 * 20; i++)); do pid >/dev/null || return 0; sleep 0.05; done
  return 1
}

case $cmd in
init)
  [ -d "$RIG/$tree/template" ] || fail "no server in $RIG: run tests/rig/fetch.sh ${self%.sh}"
  ! pid >/dev/null || fail "a server runs in $dir: stop it first"
  rm -rf "$dir"
  mkdir -p "$dir"/{run,tmp}
  cp -r --sparse=auto "$RIG/$tree/template" "$dir/data"
  chmod -R go= "$dir/data"
  {
    cat <<CONF
[mysqld]
basedir=$root
datadir=$dir/data
plugin_dir=$root/lib/mysql/plugin
lc_messages_dir=$root/share/mysql
character_sets_dir=$root/share/mysql/charsets
socket=$dir/run/mysql.sock
pid_file=$dir/run/mysqld.pid
log_error=$dir/run/error.log
tmpdir=$dir/tmp
port=$port
bind_address=${BIND:-127.0.0.1}
skip_name_resolve=1
server_id=$port
log_bin=binlog
relay_log=relay
innodb_buffer_pool_size=64M
event_scheduler=ON
max_connections=100
character_set_server=utf8mb4
CONF
    settings
    cat "$extra"
  } >"$dir/my.cnf"
  if [ "$(id -u)" = 0 ]; then chown -R 64202:64202 "$dir"; fi
  ;;
start)
  exec 8>"$dir/run/start.lock" && flock 8 # two starters at once would overwrite each other's pid
  if ! pid >/dev/null; then
    as=()
    # shellcheck disable=SC2154
    if [ "$(id -u)" = 0 ]; then
      as=(setpriv --reuid 64202 --regid 64202 --clear-groups)
      # below a closed directory, such as /root, the server must be let through
      "${as[@]}" test -r "$dir/my.cnf" -a -x "$bin/$server" || as+=(--inh-caps=+dac_override --ambient-caps=+dac_override)
    fi
    rm -f "$dir/run/mysql.sock.lock" # of a killed MySQL: it names a pid that may be another process's by now
    # a line of FILE may name another program, with files of its own next to it
    program=$(sed -n 's/^# program: //p' "$dir/my.cnf")
    run=("${program:-$bin/$server}")
    rm -f "$dir/run/pid" # a supervisor writes its own, again and again
    if [ -e "$dir/supervised" ]; then run=("$(dirname "$0")/supervised.sh" "$dir/run/pid" "${run[@]}"); fi
    setsid "${as[@]}" "${run[@]}" --defaults-file="$dir/my.cnf" </dev/null >"$dir/run/stdout" 2>&1 8>&- &
    if [ ! -e "$dir/supervised" ]; then echo $! >"$dir/run/pid"; fi
    # until the chain of exec has come to the server
    for ((i = 0; i < 100; i++)); do if pid >/dev/null || ! kill -0 $! 2>/dev/null; then break; fi; sleep 0.02; done
  fi
  exec 8>&-
  wait_ready
  ;;
wait) wait_ready ;;
status) answers ;;
stop)
  p=$(pid) || exit 0
  # again and again: a server that is just starting does not hear it
  until=$((SECONDS + 20))
  while [ $SECONDS -lt $until ]; do
    kill "$p" 2>/dev/null || true
    if wait_gone 1; then break; fi
  done
  if pid >/dev/null; then
    echo "$self: the server in $dir did not stop within 20 s: kill -9" >&2
    kill -9 "$p"
    wait_gone 10
  fi
  ;;
kill)
  p=$(pid) || exit 0
  kill -9 "$p"
  wait_gone 10
  ;;
*) fail "unknown command $cmd" ;;
esac
