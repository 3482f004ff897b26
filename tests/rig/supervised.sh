#!/bin/bash
# supervised.sh PIDFILE PROGRAM ARGUMENTS... -- runs a server as systemd or mysqld_safe does: it is started again when it ends with
# status 16, which MySQL does for RESTART and after a CLONE if MYSQLD_PARENT_PID names its parent.
pidfile=$1; shift
export MYSQLD_PARENT_PID=$$
status=16
while [ "$status" = 16 ]; do
  "$@" &
  echo $! >"$pidfile"
  wait $!
  status=$?
done
exit "$status"
