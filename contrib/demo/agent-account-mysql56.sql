-- The MySQL account of the agent (MySQL 5.6 and 5.7): the same on source and target, because a seed copies the accounts too.
CREATE USER 'agent'@'%' IDENTIFIED BY 'change-me';
-- [always] reports and checks, coordinates, sql_log_bin, gtid_purged, CHANGE MASTER, KILL, SHOW SLAVE STATUS, SHOW SLAVE HOSTS
GRANT SELECT, EVENT, LOCK TABLES, PROCESS, RELOAD, SUPER, REPLICATION CLIENT, REPLICATION SLAVE ON *.* TO 'agent'@'%';
-- [logical] Mysqldump and Mydumper: the load, the mysql schema included
GRANT INSERT, CREATE, DROP, ALTER, REFERENCES, TRIGGER, SHOW VIEW, CREATE VIEW, CREATE ROUTINE, ALTER ROUTINE, EXECUTE ON *.* TO 'agent'@'%';
-- [skip_show_database] a source of Mysqldump or Mydumper with skip_show_database = ON
-- GRANT SHOW DATABASES ON *.* TO 'agent'@'%';
