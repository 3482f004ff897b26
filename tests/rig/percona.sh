#!/bin/bash
# percona.sh xtrabackup|xbstream ARGUMENTS... -- NOT Percona's programs, which no Debian mirror has: a stand-in for what the
# agent does with them beside a MySQL server. It copies with the clone plugin under a global read lock (so the coordinates are
# exact), packs and unpacks with MariaDB's mbstream (same format), and leaves what --prepare does to the next start of a server.
# Env: MYSQL (the client), MBSTREAM, ARGUMENTS (a file for what it was called with; --prepare waits while ARGUMENTS.hold exists).
set -euo pipefail
name=$1; shift
defaults="" mode="" dir="" compress=""
for o; do
  case $o in
  --version) echo "xtrabackup version 9.7.1-rc1 based on MySQL server 9.7.1 Linux (x86_64) (revision id: stand-in)" >&2; exit 0 ;;
  --defaults-file=*) defaults=${o#*=} ;;
  --target-dir=*) dir=${o#*=} ;;
  --backup | --prepare | --decompress) mode=$o ;;
  --compress=zstd) compress=1 ;;
  esac
done
echo "$name $*" >>"$ARGUMENTS"
[ "$name" = xtrabackup ] || exec "$MBSTREAM" "$@"

packed() { find "$1" -name '*.zst'; }
case $mode in
--backup)
  coproc "$MYSQL" --defaults-file="$defaults" -BN # a session from the beginning to the end, as xtrabackup has
  ask() { "$MYSQL" --defaults-file="$defaults" -BN -e "$1"; }
  copy=$(ask 'SELECT @@tmpdir')/copy.$$
  trap 'rm -rf "$copy"' EXIT
  where=$(ask "FLUSH TABLES WITH READ LOCK; SHOW BINARY LOG STATUS; CLONE LOCAL DATA DIRECTORY = '$copy'; UNLOCK TABLES")
  cd "$copy"
  cp "$(ask 'SELECT @@datadir')"/mysql/*.{CSV,CSM} mysql/ # clone leaves other engines out
  awk -F'\t' -v OFS='\t' '{ print $1, $2, $5 }' <<<"$where" | sed 's/\\n/\n/g' >xtrabackup_binlog_info
  if [ -n "$compress" ]; then
    find . -type f ! -name xtrabackup_checkpoints | while read -r f; do zstd -c "$f" >"$f.zst" && rm "$f"; done
  fi
  echo -e 'backup_type = full-backuped\nfrom_lsn = 0\nto_lsn = 4711\nlast_lsn = 4711' >xtrabackup_checkpoints
  find . -type f | sed 's|^\./||' | xargs -d '\n' "$MBSTREAM" -c
  ;;
--decompress) packed "$dir" | while read -r f; do zstd -dc "$f" >"${f%.zst}"; done ;;
--prepare)
  [ -z "$(packed "$dir")" ] || { echo "compressed files in $dir" >&2; exit 1; }
  echo "InnoDB: Doing recovery: scanned up to log sequence number 4711" >&2
  while [ -e "$ARGUMENTS.hold" ]; do sleep 0.05; done
  sed -i 's/full-backuped/full-prepared/' "$dir/xtrabackup_checkpoints"
  ;;
*) echo "no mode" >&2; exit 255 ;;
esac
echo "completed OK!" >&2
