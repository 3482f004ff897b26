-- The MySQL account of the agent (MySQL 5.6 and 5.7): the same on source and target, because a seed copies the accounts too.
CREATE USER 'agent'@'%' IDENTIFIED BY 'change-me';
GRANT
  -- dump and load, the mysql schema included
  SELECT, INSERT, CREATE, DROP, ALTER, REFERENCES, TRIGGER, EVENT, LOCK TABLES, SHOW VIEW, CREATE VIEW,
  CREATE ROUTINE, ALTER ROUTINE, EXECUTE, PROCESS, RELOAD,
  -- variables such as sql_log_bin and gtid_purged, definers of other accounts, CHANGE MASTER, KILL
  SUPER,
  -- coordinates, SHOW SLAVE STATUS; SHOW SLAVE HOSTS
  REPLICATION CLIENT, REPLICATION SLAVE
ON *.* TO 'agent'@'%';
