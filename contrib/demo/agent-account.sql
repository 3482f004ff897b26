-- The MySQL account of the agent (MariaDB 10.11): the same on source and target, because a seed copies the accounts too.
CREATE USER 'agent'@'%' IDENTIFIED BY 'change-me';
-- [always] reports and checks, coordinates, RESET MASTER, CHANGE MASTER, gtid_slave_pos, SHOW SLAVE STATUS, SHOW SLAVE HOSTS; events of other accounts,
-- which are disabled on the target
GRANT SELECT, EVENT, SET USER, LOCK TABLES, PROCESS, RELOAD,
  BINLOG MONITOR, SLAVE MONITOR, REPLICATION SLAVE, REPLICATION SLAVE ADMIN, REPLICATION MASTER ADMIN
ON *.* TO 'agent'@'%';
-- [logical] Mysqldump and Mydumper: the load, the mysql schema included; settings during the load, sql_log_bin, definers of other accounts
GRANT INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, TRIGGER, SHOW VIEW,
  CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE, CREATE TEMPORARY TABLES, EXECUTE, CREATE TABLESPACE,
  SUPER, BINLOG ADMIN
ON *.* TO 'agent'@'%';
-- [read_only] a target with read_only = ON
GRANT READ_ONLY ADMIN ON *.* TO 'agent'@'%';
-- [init_connect] servers with init_connect, which accounts with this privilege skip (SUPER holds it before MariaDB 11.0)
GRANT CONNECTION ADMIN ON *.* TO 'agent'@'%';
-- [relay_log] applying relay logs of another replica; its statements need their own privileges besides, its rows none (SUPER holds it before MariaDB 11.0)
-- GRANT BINLOG REPLAY ON *.* TO 'agent'@'%';
-- [skip_show_database] a source of Mysqldump or Mydumper with skip_show_database = ON
-- GRANT SHOW DATABASES ON *.* TO 'agent'@'%';
