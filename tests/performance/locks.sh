#!/bin/bash
# locks.sh -- prints the longest wait of an INSERT on the source while a copy is made, for each method of a family. Called by `make bench`.
#   bare      the method's own tool, into /dev/null (mydumper: into a directory; CLONE: CLONE LOCAL)
#   no limit  the Backup of a seed by HTTP
#   1 MB/s    the same with seed-rate-limit = 1000000, where the method has a stream of ours
#   frozen    the same without a limit; the target's agent is stopped (SIGSTOP) for 30 s once the tool has begun its last phase
# An INSERT is made every 20 ms, one transaction each; a second one into a table without transactions (MySQL: none, InnoDB only).
# SERVER: mariadb (the default) or mysql. LOCKS_MB: size of the data (default 40). AGENT: the program.
# Fails if a wait is more than half a second above that of the bare tool.
# shellcheck disable=SC2317 # functions that are called by name
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
kind=${SERVER:-mariadb} mb=${LOCKS_MB:-40}
# shellcheck source-path=SCRIPTDIR source=servers.sh
. "$top/tests/performance/servers.sh"
FROZEN=30

# Inserts until $dir/stop is there; writes the longest time in ms to $dir/longest.TABLE.
insert() { # TABLE
  local begin took longest=0 answer
  coproc server { exec "$client" --no-defaults -N --unbuffered -uroot -S "$dir/db1/run/mysql.sock"; }
  while [ ! -e "$dir/stop" ]; do
    begin=${EPOCHREALTIME/./}
    echo "INSERT INTO probe.$1 VALUES (1); SELECT 1;" >&"${server[1]}"
    read -r answer <&"${server[0]}" && [ "$answer" = 1 ] || break
    took=$(((${EPOCHREALTIME/./} - begin) / 1000))
    [ $took -le $longest ] || longest=$took
    sleep 0.02
  done
  echo "$longest" >"$dir/longest.$1"
}
# Runs a command with the inserts; the longest wait in ms is in $longest.
during() {
  local probes=() t
  rm -f "$dir"/stop "$dir"/longest.*
  for t in "${tables[@]}"; do insert "$t" & probes+=($!); done
  sleep 0.5
  "$@" || fail "$*: see $dir"
  touch "$dir/stop"
  wait "${probes[@]}"
  longest=$(cat "$dir"/longest.* | sort -n | tail -n 1)
}

bare_Mysqldump() { "$dumper" --defaults-file="$dir/source.cnf" "${dump_options[@]}" >/dev/null; }
bare_Mydumper() { mydumper --defaults-file "$dir/source.cnf" --host "${ip[1]}" --port "$port" --user agent --password "$password" --outputdir "$dir/bare" >"$dir/bare.log" 2>&1; }
bare_Xtrabackup() {
  mkdir -p "$dir/bare"
  mariadb-backup --defaults-file="$dir/db1/my.cnf" --backup --stream=xbstream --target-dir="$dir/bare" --user=root --socket="$dir/db1/run/mysql.sock" \
    2>"$dir/bare.log" >/dev/null
}
bare_ClonePlugin() { sql 1 -e "CLONE LOCAL DATA DIRECTORY = '$dir/db1/tmp/bare'" && rm -rf "$dir/db1/tmp/bare"; }

# The last phase of the tool has begun.
begun() { # METHOD
  case $1 in
  Xtrabackup) grep -q "seed $seed Backup: the backup tool takes its locks" "$dir/agent1/log" ;;
  ClonePlugin) grep -q "seed $seed Backup: Making a private server that clones" "$dir/agent2/log" ;;
  *) grep -q "seed $seed Backup: Running backup of" "$dir/agent2/log" ;;
  esac
}
freeze() { # METHOD
  local p=${agents[1]}
  until begun "$1"; do sleep 0.01; done
  kill -STOP "$p"
  sleep $FROZEN
  kill -CONT "$p"
}
backup() { # METHOD HOW
  local freezer=
  [ "$2" != frozen ] || { freeze "$1" & freezer=$!; }
  case $1 in
  Xtrabackup) stage 1 Backup "backup/$seed/$1/${ip[2]}/$port" ;;
  *) stage 2 Backup "backup/$seed/$1/${ip[1]}/$port" ;;
  esac
  [ -z "$freezer" ] || wait "$freezer"
}
seed_by() { # METHOD HOW
  local p
  seed=$((seed + 1)) common="seed-port = $stream_port"
  [ "$2" != limited ] || common+=$'\nseed-rate-limit = 1000000'
  start_agent 1
  start_agent 2
  stage 2 Prepare "prepare/$seed/$1/Target"
  stage 1 Prepare "prepare/$seed/$1/Source"
  during backup "$1" "$2"
  stage 2 Cleanup "cleanup/$seed/$1/Target"
  stage 1 Cleanup "cleanup/$seed/$1/Source"
  for p in "${agents[@]}"; do kill "$p" && wait "$p"; done
  agents=()
  rm -rf "$dir"/agent[12]
}

start_bench "$kind"
seed=0 stream_port=$(free_port 34500)
server 1
server 2
case $kind in
mariadb)
  methods=(Mysqldump Mydumper Xtrabackup) tables=(a b) dumper=mariadb-dump dump_options=(--master-data=2 --gtid)
  sections=$'[xtrabackup]\nenabled = true\n[mydumper]\nenabled = true'
  sql 1 -e "CREATE DATABASE big; CREATE TABLE big.t ENGINE=InnoDB AS SELECT seq, CONCAT(SHA2(seq, 512), RANDOM_BYTES(800)) t FROM mysql.seq_1_to_$((mb * 800))
    ; CREATE TABLE big.m ENGINE=MyISAM AS SELECT * FROM big.t LIMIT $((mb * 200))"
  ;;
mysql)
  methods=(Mysqldump ClonePlugin) tables=(a) dumper=mysqldump dump_options=(--source-data=2 --set-gtid-purged=AUTO --get-server-public-key)
  sections=$'[clone_plugin]\nenabled = true'
  sql 1 -e "SET cte_max_recursion_depth = 1000000; INSTALL PLUGIN clone SONAME 'mysql_clone.so'; CREATE DATABASE big; CREATE TABLE big.t (n INT, t VARBINARY(1000));
    INSERT INTO big.t WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < $((mb * 800))) SELECT n, CONCAT(SHA2(n, 512), RANDOM_BYTES(800)) FROM n"
  ;;
esac
dump_options+=(--all-databases --single-transaction --quick --routines --events --triggers --hex-blob)
[ $kind = mariadb ] || for n in 1 2; do sql $n -e "SET sql_log_bin = 0; GRANT BACKUP_ADMIN, CLONE_ADMIN ON *.* TO 'agent'@'%'"; done
sql 1 -e "CREATE DATABASE probe; CREATE TABLE probe.a (n INT) ENGINE=InnoDB"
[ $kind = mysql ] || sql 1 -e "CREATE TABLE probe.b (n INT) ENGINE=MyISAM"
sql 1 -e "SET GLOBAL innodb_flush_log_at_trx_commit = 2; SET GLOBAL sync_binlog = 0"

machine_facts
during sleep 5
idle=$longest
lines=() wrong=()
for method in "${methods[@]}"; do
  during "bare_$method"
  rm -rf "$dir/bare"
  bare=$longest line=$(printf '| %-11s | %8d |' "$method" "$longest")
  for how in free limited frozen; do
    if [ $how = limited ] && [ "$method" != Xtrabackup ]; then
      line+=$(printf ' %8s |' -)
      continue
    fi
    # Other work on this machine only ever adds: what comes in the way of one run is not in three.
    best=
    for _ in 1 2 3; do
      seed_by "$method" $how
      [ -n "$best" ] && [ "$best" -le "$longest" ] || best=$longest
      [ "$best" -gt $((bare + 500)) ] || break
    done
    longest=$best
    line+=$(printf ' %8d |' "$longest")
    [ "$longest" -le $((bare + 500)) ] || wrong+=("$method $how: $longest ms, bare $bare ms")
  done
  lines+=("$line")
done
echo "longest wait of an INSERT on the source, ms ($idle without any copy)"
printf '| %-11s | %8s | %8s | %8s | %8s |\n' method bare 'no limit' '1 MB/s' frozen
echo '|---|---|---|---|---|'
printf '%s\n' "${lines[@]}"
[ ${#wrong[@]} = 0 ] || fail "more than half a second above the bare tool: $(printf '%s; ' "${wrong[@]}")"
