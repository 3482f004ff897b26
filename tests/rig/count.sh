#!/bin/bash
# count.sh COMMAND... -- runs each COMMAND (one word, such as 'cargo test --lib'), passes the output on and ends with one line,
# "N passed, N failed", summed over all of them. False if a test failed, if none ran, or if a command itself failed (say, to compile).
set -uo pipefail
{
  failed=0
  for command; do $command || failed=1; done
  exit $failed
} | awk '
  { print; fflush() }
  /^test result:/ { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) passed += $(i - 1); if ($i ~ /^failed/) failed += $(i - 1) } }
  END { printf "%d passed, %d failed\n", passed, failed; exit failed > 0 || passed == 0 }'
