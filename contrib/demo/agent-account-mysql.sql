-- The MySQL account of the agent (MySQL 8.4 and later): the same on source and target, because a seed copies the accounts too.
CREATE USER 'agent'@'%' IDENTIFIED WITH caching_sha2_password BY 'change-me';
GRANT
  -- dump and load, the mysql schema included; EXECUTE and ALTER ROUTINE keep a load from adding grants on each routine
  SELECT, INSERT, CREATE, DROP, ALTER, REFERENCES, TRIGGER, EVENT, LOCK TABLES, SHOW VIEW, CREATE VIEW,
  CREATE ROUTINE, ALTER ROUTINE, EXECUTE, PROCESS, RELOAD,
  -- coordinates, SHOW REPLICA STATUS; SHOW REPLICAS
  REPLICATION CLIENT, REPLICATION SLAVE
ON *.* TO 'agent'@'%';
GRANT
  -- sql_log_bin, gtid_purged and the settings during a load; gtid_purged with tagged GTIDs
  SYSTEM_VARIABLES_ADMIN, TRANSACTION_GTID_TAG,
  -- definers of other accounts: root's, those of accounts that the load brings, those that are gone
  SET_ANY_DEFINER, SYSTEM_USER, ALLOW_NONEXISTENT_DEFINER,
  -- CHANGE REPLICATION SOURCE, START REPLICA
  REPLICATION_SLAVE_ADMIN
ON *.* TO 'agent'@'%';
-- For load-without-redo-log = true:
-- GRANT INNODB_REDO_LOG_ENABLE ON *.* TO 'agent'@'%';
-- For copies by a backup tool (Xtrabackup):
-- GRANT BACKUP_ADMIN ON *.* TO 'agent'@'%';
-- For copies by CLONE:
-- GRANT BACKUP_ADMIN, CLONE_ADMIN ON *.* TO 'agent'@'%';
-- For copies by CLONE in place of a source that is a replica itself:
-- GRANT PERSIST_RO_VARIABLES_ADMIN ON *.* TO 'agent'@'%';
