#!/bin/bash
# mysql.sh init|start|stop|kill|status|wait DIR PORT [FILE] -- one scratch MySQL server in DIR: data, run/mysql.sock, my.cnf.
# init takes the lines of FILE into [mysqld], and env BIND (default 127.0.0.1) as address. root@localhost, without password,
# is for the socket only. start, stop and status serve as an agent's service commands. As root the server runs as uid 64202.
# shellcheck disable=SC2034,SC2317 # read by server.sh
tree=my97 server=mysqld admin=mysqladmin
settings() {
  cat <<CONF
mysqlx=OFF
gtid_mode=ON
enforce_gtid_consistency=ON
log_replica_updates=ON
innodb_redo_log_capacity=32M
secure_file_priv=NULL
CONF
}
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/server.sh"
