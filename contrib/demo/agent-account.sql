-- The MySQL account of the agent (MariaDB 10.11): the same on source and target, because a seed copies the accounts too.
CREATE USER 'agent'@'%' IDENTIFIED BY 'change-me';
GRANT
  -- dump and load, the mysql schema included
  SELECT, INSERT, UPDATE, DELETE, CREATE, DROP, ALTER, INDEX, REFERENCES, TRIGGER, EVENT, LOCK TABLES, SHOW VIEW,
  CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE, CREATE TEMPORARY TABLES, EXECUTE, CREATE TABLESPACE,
  -- backup locks, flushes, definers of other accounts, variables such as sql_log_bin
  PROCESS, RELOAD, SUPER, SET USER, BINLOG ADMIN, READ_ONLY ADMIN, CONNECTION ADMIN,
  -- coordinates, RESET MASTER, CHANGE MASTER, gtid_slave_pos, SHOW SLAVE STATUS, SHOW SLAVE HOSTS
  BINLOG MONITOR, SLAVE MONITOR, REPLICATION SLAVE, REPLICATION SLAVE ADMIN, REPLICATION MASTER ADMIN
ON *.* TO 'agent'@'%';
