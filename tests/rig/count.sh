#!/bin/bash
# count.sh COMMAND... -- runs `cargo test ...`, passes its output on and ends with one line, "N passed, N failed", summed over all
# test binaries. False if a test failed, if none ran, or if the command itself failed (say, to compile).
set -uo pipefail
"$@" | awk '
  { print; fflush() }
  /^test result:/ { for (i = 2; i <= NF; i++) { if ($i ~ /^passed/) passed += $(i - 1); if ($i ~ /^failed/) failed += $(i - 1) } }
  END { printf "%d passed, %d failed\n", passed, failed; exit failed > 0 || passed == 0 }'
