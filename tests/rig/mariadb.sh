#!/bin/bash
# mariadb.sh init|start|stop|kill|status|wait DIR PORT [FILE] -- one scratch MariaDB server in DIR: data, run/mysql.sock, my.cnf.
# init takes the lines of FILE into [mysqld], and env BIND (default 127.0.0.1) as address. root@localhost, without password,
# is for the socket only. start, stop and status serve as an agent's service commands. As root the server runs as uid 64202.
# shellcheck disable=SC2034,SC2317 # read by server.sh
tree=mdb server=mariadbd admin=mariadb-admin
settings() {
  cat <<CONF
log_slave_updates=1
gtid_strict_mode=1
innodb_log_file_size=16M
CONF
}
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/server.sh"
