-- The account that replicas use, on the source.
CREATE USER 'repl'@'%' IDENTIFIED BY 'change-me';
GRANT REPLICATION SLAVE ON *.* TO 'repl'@'%';
