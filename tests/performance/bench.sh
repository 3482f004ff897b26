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
kind=${SERVER:-mariadb} mb=${BENCH_MB:-200}
# shellcheck source-path=SCRIPTDIR source=servers.sh
. "$top/tests/performance/servers.sh"

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

start_bench "$kind"
server 1
{ echo "SET @mb = $mb;"; cat "$top/contrib/demo/$data"; } | sql 1
checksums 1 >"$dir/checksums"
[ -s "$dir/checksums" ] || fail "the source has no tables"
loaded=$(du -cm "$dir"/db1/data/{shop,archive*,run} | awk 'END { print $1 }')
to_file # once before, so that the source's pages and the tools are in memory for all alike
bytes=$(stat -c %s "$dir/bare.sql")

machine_facts
echo "data:     $loaded MB of tables, a dump of $((bytes / 1000000)) MB; $runs runs each, target new and empty each time"

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

awk -v bytes="$bytes" -v pipe="$(median pipe)" -v dump="$(median dump)" -v loading="$(median load)" \
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
    row("bare load from it", loading)
    row("bare dump and load", dump + loading, pipe, "the pipe")
    row("ours: backup", backup, dump, "the bare dump")
    row("ours: restore", restore, loading, "the bare load")
    row("ours: prepare, backup and restore", prepare + backup + restore, dump + loading, "bare dump and load")
    row("", prepare + backup + restore, pipe, "the pipe")
  }'
