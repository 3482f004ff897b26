-- The MySQL account of the agent (MySQL 8.4 and later): the same on source and target, because a seed copies the accounts too.
CREATE USER 'agent'@'%' IDENTIFIED WITH caching_sha2_password BY 'change-me';
-- [always] reports and checks, coordinates, sql_log_bin, gtid_purged, CHANGE REPLICATION SOURCE, SHOW REPLICA STATUS, SHOW REPLICAS;
-- events of other accounts, root's too, which are disabled on the target
GRANT SELECT, EVENT, LOCK TABLES, PROCESS, RELOAD, REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO 'agent'@'%';
GRANT SYSTEM_VARIABLES_ADMIN, REPLICATION_SLAVE_ADMIN, SET_ANY_DEFINER, SYSTEM_USER ON *.* TO 'agent'@'%';
-- [logical] Mysqldump and Mydumper: the load, the mysql schema included; EXECUTE and ALTER ROUTINE keep a load from adding grants on each routine
GRANT INSERT, CREATE, DROP, ALTER, REFERENCES, TRIGGER, SHOW VIEW, CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE, EXECUTE ON *.* TO 'agent'@'%';
-- gtid_purged with tagged GTIDs; definers that the load brings later, or that are gone
GRANT TRANSACTION_GTID_TAG, ALLOW_NONEXISTENT_DEFINER ON *.* TO 'agent'@'%';
-- [xa] a source or target of Mysqldump or Mydumper: without it prepared XA transactions, which a dump does not hold, are not seen
GRANT XA_RECOVER_ADMIN ON *.* TO 'agent'@'%';
-- [merge] Mysqldump and Mydumper of MERGE tables
-- GRANT UPDATE, DELETE ON *.* TO 'agent'@'%';
-- [resource_groups] Mysqldump and Mydumper: to see the source's resource groups, which a dump does not carry
-- GRANT RESOURCE_GROUP_USER ON *.* TO 'agent'@'%';
-- [redo] load-without-redo-log = true
-- GRANT INNODB_REDO_LOG_ENABLE ON *.* TO 'agent'@'%';
-- [xtrabackup] copies by a backup tool
-- GRANT BACKUP_ADMIN ON *.* TO 'agent'@'%';
-- [clone] copies by CLONE; the second one where the agent is to install the plugin
-- GRANT BACKUP_ADMIN, CLONE_ADMIN ON *.* TO 'agent'@'%';
-- GRANT INSERT ON mysql.plugin TO 'agent'@'%';
-- [clone_of_replica] copies by CLONE in place of a source that is a replica itself
-- GRANT PERSIST_RO_VARIABLES_ADMIN ON *.* TO 'agent'@'%';
-- [relay_log] applying relay logs of another replica; its statements need their own privileges besides, its rows none
-- GRANT BINLOG_ADMIN ON *.* TO 'agent'@'%';
-- [init_connect] servers with init_connect, which accounts with this privilege skip
-- GRANT CONNECTION_ADMIN ON *.* TO 'agent'@'%';
-- [encryption] a target of Mysqldump or Mydumper with table_encryption_privilege_check = ON
-- GRANT TABLE_ENCRYPTION_ADMIN ON *.* TO 'agent'@'%';
-- [skip_show_database] a source of Mysqldump or Mydumper with skip_show_database = ON
-- GRANT SHOW DATABASES ON *.* TO 'agent'@'%';
