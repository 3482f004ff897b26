#!/bin/bash
# mysql56.sh init|start|stop|kill|status|wait DIR PORT [FILE] -- as mysql.sh, with a MySQL 5.6 server and the clients of today.
# shellcheck disable=SC2034,SC2317 # read by server.sh
tree=my56 server=mysqld admin=mysqladmin
settings() {
  cat <<CONF
gtid_mode=ON
enforce_gtid_consistency=ON
log_slave_updates=ON
innodb_log_file_size=16M
explicit_defaults_for_timestamp=ON
CONF
}
RIG=${RIG:-$(cd "$(dirname "$0")/../.." && pwd)/target/rig}
# the clients do not have the old login built in any more
admin_options=(--plugin-dir="$RIG/my97/root/usr/lib/mysql/plugin")
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/server.sh"
