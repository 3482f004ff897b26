#!/bin/bash
# physical.sh -- measures the Backup of an Xtrabackup seed, from the source's tool to the unpacked copy on the target, against the
# pipeline of old, on this machine and in one run. Called by `make bench`.
#   socat  mariadb-backup --stream=xbstream | socat -> loopback -> socat | mbstream -x
#   ours   the Backup stage by HTTP, from the call until the source says Completed (asked every 20 ms): checked, compared, synced
# The source is below target/; both copies go to a file system in memory (/dev/shm) where that has room, so that the pipelines are
# measured and not a disk. PHYSICAL_MB: size of the data (default 4800, a stream of 4 GiB). BENCH_RUNS: how often (default 3). AGENT: the program.
set -euo pipefail
top=$(cd "$(dirname "$0")/../.." && pwd)
kind=mariadb mb=${PHYSICAL_MB:-4800}
common='seed-port = 34500'
sections='[xtrabackup]
enabled = true'
# shellcheck source-path=SCRIPTDIR source=servers.sh
. "$top/tests/performance/servers.sh"

socat_pipeline() {
  mkdir "$dir/db2/bare"
  socat -u "TCP-LISTEN:$stream_port,bind=${ip[2]},reuseaddr" - | mbstream -x -C "$dir/db2/bare" &
  local receiver=$!
  until grep -q ":$(printf %04X "$stream_port") 00000000:0000 0A" /proc/net/tcp; do sleep 0.01; done
  mariadb-backup --defaults-file="$dir/db1/my.cnf" --backup --stream=xbstream --target-dir="$dir/scratch" --user=root \
    --socket="$dir/db1/run/mysql.sock" 2>"$dir/backup.log" | socat -u - "TCP:${ip[2]}:$stream_port"
  wait "$receiver"
}

start_bench mariadb
stream_port=$(free_port 34600) common="seed-port = $(free_port 34500)"
place="below target/"
if [ "$(df --output=avail -m /dev/shm 2>/dev/null | tail -n 1)" -gt $((mb * 3)) ] 2>/dev/null; then
  memory_dir=$(mktemp -d /dev/shm/bench.XXXXXX) place="in /dev/shm"
  chmod 755 "$memory_dir"
  ln -s "$memory_dir/db2" "$dir/db2"
fi
mkdir "$dir/scratch"
server 1
sql 1 <<SQL
SET GLOBAL innodb_flush_log_at_trx_commit = 0; SET sql_log_bin = 0;
CREATE DATABASE big;
CREATE TABLE big.t0 (id INT PRIMARY KEY, t VARBINARY(4000)) ENGINE=InnoDB;
INSERT INTO big.t0 SELECT seq, CONCAT(SHA2(seq, 512), RANDOM_BYTES(1000), RANDOM_BYTES(1000), RANDOM_BYTES(1000), REPEAT('text ', 100)) FROM mysql.seq_1_to_$((mb * 27));
SQL
for t in 1 2 3 4 5 6 7; do sql 1 <<<"SET sql_log_bin = 0; CREATE TABLE big.t$t ENGINE=InnoDB AS SELECT * FROM big.t0"; done
sum="SELECT CONCAT(COUNT(*), ' ', SUM(CRC32(t))) FROM big.t7"
expected=$(sql 1 -e "$sum")
bytes=$(du -c --block-size=1 "$dir/db1/data" | awk 'END { print $1 }')

machine_facts
echo "data:     $((bytes / 1000000)) MB in 8 tables, copies $place; $runs runs each"

for ((run = 1; run <= runs; run++)); do
  echo "run $run"
  server 2
  timed socat socat_pipeline
  ls "$dir"/db2/bare/{big/t7.ibd,xtrabackup_info} >/dev/null || fail "the bare pipeline made no copy: $(tail -n 3 "$dir/backup.log")"
  rm -rf "$dir/db2/bare"
  start_agent 1
  start_agent 2
  seed=$run
  stage 2 Prepare "prepare/$seed/Xtrabackup/Target"
  stage 1 Prepare "prepare/$seed/Xtrabackup/Source"
  timed backup stage 1 Backup "backup/$seed/Xtrabackup/${ip[2]}/$port"
  if [ "$run" = 1 ]; then
    timed restore stage 2 Restore "restore/$seed/Xtrabackup"
    [ "$(sql 2 -e "$sum")" = "$expected" ] || fail "the copy differs from the source"
  fi
  stage 2 Cleanup "cleanup/$seed/Xtrabackup/Target"
  stage 1 Cleanup "cleanup/$seed/Xtrabackup/Source"
  for p in "${agents[@]}"; do kill "$p" && wait "$p"; done
  agents=()
  rm -rf "$dir"/agent[12]
done

awk -v bytes="$bytes" -v bare="$(median socat)" -v ours="$(median backup)" 'BEGIN {
  print "medians, from the tool on the source to the unpacked copy:"
  printf "%-34s %8.2f s %8.1f MB/s\n", "mariadb-backup, socat, mbstream", bare, bytes / 1e6 / bare
  printf "%-34s %8.2f s %8.1f MB/s   %.2f x the pipeline\n", "ours: Backup", ours, bytes / 1e6 / ours, ours / bare
}'
