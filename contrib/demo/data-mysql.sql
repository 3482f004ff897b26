-- Data of the demonstration on MySQL: about @mb megabytes of every kind of thing that a copy can get wrong.
-- Not in the binary log, so that a replica can only have it from the seed.
SET NAMES utf8mb4;
SET sql_log_bin = 0, foreign_key_checks = 0, unique_checks = 0, group_concat_max_len = 65536, cte_max_recursion_depth = 10000000;

CREATE DATABASE shop CHARACTER SET utf8mb4;
CREATE DATABASE `archive, 2026` CHARACTER SET latin1;
CREATE DATABASE run CHARACTER SET utf8mb4;

USE shop;
CREATE TABLE numbers (seq INT UNSIGNED PRIMARY KEY) WITH RECURSIVE n AS (SELECT 1 AS seq UNION ALL SELECT seq + 1 FROM n WHERE seq < @mb * 1500) SELECT seq FROM n;
SELECT UNHEX(GROUP_CONCAT(LPAD(HEX(seq - 1), 2, '0') ORDER BY seq SEPARATOR '')) INTO @all_bytes FROM numbers WHERE seq <= 256;

CREATE TABLE customers (
  id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, name VARCHAR(60) NOT NULL, email VARCHAR(80) NULL UNIQUE, born DATE NULL,
  profile JSON NULL, created TIMESTAMP(6) NOT NULL, balance DECIMAL(20,6) NOT NULL, ratio DOUBLE NULL,
  kind ENUM('person','firm') NOT NULL, flags SET('a','b','c') NOT NULL, mask BIT(10) NOT NULL,
  secret INT DEFAULT 42 INVISIBLE, initial CHAR(1) AS (LEFT(name, 1)) VIRTUAL, token BINARY(16) DEFAULT (UUID_TO_BIN(UUID())),
  KEY unused (born) INVISIBLE, CHECK (mask < 1024)
);
-- JSON from text: inside a JSON value, DECIMAL, DATETIME and unsigned numbers become DOUBLE, STRING and INTEGER in any dump.
INSERT INTO customers (id, name, email, born, profile, created, balance, ratio, kind, flags, mask, secret)
SELECT seq, CONCAT(ELT(1 + seq % 4, 'Ærøskøbing ', '東京 ', 'Zoë 😀 ', "O'Brien \\ \"q\" "), LEFT(SHA2(seq, 224), 12)),
  IF(seq % 7, CONCAT(SHA2(seq * 3, 224), '@example.com'), NULL), IF(seq % 5, DATE_ADD('1930-01-01', INTERVAL seq % 28000 DAY), NULL),
  IF(seq % 3, CAST(JSON_OBJECT('id', seq, 'tags', JSON_ARRAY(SHA2(seq, 224), NULL, seq / 7), 'emoji', '🐬') AS CHAR), NULL),
  '2020-01-01' + INTERVAL seq * 1234567 MICROSECOND, (CONV(LEFT(SHA2(seq, 224), 10), 16, 10) - 500000000000) / 1000,
  IF(seq % 11, 1 / seq, NULL), 1 + seq % 2, seq % 8, seq % 1024, seq
FROM numbers WHERE seq <= @mb * 200;

CREATE TABLE orders (
  id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, customer INT UNSIGNED NOT NULL, placed DATETIME(6) NOT NULL, due DATE NULL, at TIME(3) NULL,
  amount DECIMAL(12,2) NOT NULL, doubled DECIMAL(13,2) AS (amount * 2) STORED, note TEXT NULL, hash BINARY(32) NOT NULL, KEY (customer),
  CONSTRAINT customer FOREIGN KEY (customer) REFERENCES customers (id)
) ROW_FORMAT=COMPRESSED;
INSERT INTO orders (id, customer, placed, due, at, amount, note, hash)
SELECT seq, 1 + seq % (@mb * 200), '2021-06-01' + INTERVAL seq * 7654321 MICROSECOND, IF(seq % 4, '2022-01-01' + INTERVAL seq % 900 DAY, NULL),
  SEC_TO_TIME(seq % 86400), (seq * 37 % 1000000) / 100,
  IF(seq % 9, CONCAT(SHA2(seq, 512), ' ü\n\t\r', CHAR(0 USING utf8mb4), CHAR(26 USING utf8mb4), SHA2(seq, 224)), NULL), UNHEX(SHA2(seq, 256))
FROM numbers;

CREATE TABLE pictures (
  id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, content LONGBLOB NULL, tag VARBINARY(255) NOT NULL
) PARTITION BY HASH (id) PARTITIONS 4;
INSERT INTO pictures
SELECT seq, IF(seq % 50, CONCAT(REPEAT(CONCAT(@all_bytes, UNHEX(SHA2(seq, 512))), 24), REVERSE(@all_bytes)), NULL), SUBSTR(@all_bytes, 1 + seq % 200, 56)
FROM numbers WHERE seq <= @mb * 30;

CREATE TABLE places (
  id INT AUTO_INCREMENT PRIMARY KEY, at POINT NOT NULL SRID 4326, area GEOMETRY NULL, embedding VECTOR(4) NULL, story TEXT NOT NULL,
  SPATIAL KEY (at), FULLTEXT KEY (story)
);
INSERT INTO places
SELECT seq, ST_SRID(POINT(seq % 180, seq % 90), 4326), IF(seq % 3, ST_GeomFromText(CONCAT('LINESTRING(0 0, ', seq, ' 1.5)')), NULL),
  IF(seq % 4, STRING_TO_VECTOR(CONCAT('[1.5, -2, 3e10, ', seq, ']')), NULL), CONCAT('a story of ', SHA2(seq, 224), ' and ', SHA2(seq + 1, 224))
FROM numbers WHERE seq <= 1000;

CREATE TABLE audit (id BIGINT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(200) NOT NULL, at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE `odd name; "ünïcode" 表` (`a b` INT PRIMARY KEY, `select` VARCHAR(20) DEFAULT 'x''y\\');
INSERT INTO `odd name; "ünïcode" 表` VALUES (-1, NULL), (0, ''), (1, DEFAULT), (2, "\0\b'\"\\%_");
-- Empty also because CHECKSUM TABLE does not compare between servers for rows with an index on an expression.
CREATE TABLE empty_one (id INT PRIMARY KEY, name VARCHAR(20), KEY lower_name ((LOWER(name))));

USE `archive, 2026`;
CREATE TABLE journal (id INT AUTO_INCREMENT PRIMARY KEY, line VARCHAR(500) NULL, raw VARBINARY(300) NOT NULL, day DATE NOT NULL, KEY (day)) ENGINE=MyISAM;
INSERT INTO journal
SELECT seq, IF(seq % 13, CONCAT('entry é ', SHA2(seq, 384)), NULL), CONCAT(@all_bytes, UNHEX(SHA2(seq, 224))), '2000-01-01' + INTERVAL seq % 9000 DAY
FROM shop.numbers WHERE seq <= @mb * 400;
CREATE TABLE readings (id INT AUTO_INCREMENT PRIMARY KEY, sensor CHAR(56) NOT NULL, value DECIMAL(30,10) NULL, body TEXT NOT NULL);
INSERT INTO readings
SELECT seq, SHA2(seq, 224), IF(seq % 6, seq * 1.0000000001, NULL), REPEAT(SHA2(seq, 256), 4)
FROM shop.numbers WHERE seq <= @mb * 500;
DROP TABLE shop.numbers;

-- Running numbers without a unique key: a row copied twice, or lost, shows at once. The event must run on the source only.
USE run;
CREATE TABLE numbers (n BIGINT NOT NULL, at DATETIME(6) NOT NULL, crc INT UNSIGNED NULL);
CREATE TABLE ticks (id INT AUTO_INCREMENT PRIMARY KEY, at DATETIME(6) NOT NULL, server INT UNSIGNED NOT NULL);

DELIMITER $$
CREATE TRIGGER numbers_crc BEFORE INSERT ON numbers FOR EACH ROW SET NEW.crc = CRC32(NEW.n)$$
CREATE TRIGGER shop.orders_audit AFTER UPDATE ON shop.orders FOR EACH ROW
BEGIN
  INSERT INTO shop.audit (what) VALUES (CONCAT('order ', NEW.id, ': ', OLD.amount, ' -> ', NEW.amount));
END$$
CREATE EVENT tick ON SCHEDULE EVERY 1 SECOND DO INSERT INTO run.ticks (at, server) VALUES (NOW(6), @@server_id)$$
CREATE PROCEDURE shop.raise_prices(IN percent DECIMAL(5,2)) COMMENT 'It''s a "comment"; -- not SQL'
BEGIN
  UPDATE shop.orders SET amount = amount * (1 + percent / 100) WHERE id <= 100;
END$$
CREATE FUNCTION shop.total(c INT UNSIGNED) RETURNS DECIMAL(20,2) READS SQL DATA
BEGIN
  RETURN (SELECT SUM(amount) FROM shop.orders WHERE customer = c);
END$$
DELIMITER ;
CALL shop.raise_prices(2.5);
CREATE VIEW shop.good_customers AS SELECT id, name, shop.total(id) AS total FROM shop.customers WHERE balance > 0;
CREATE VIEW shop.best_customers AS SELECT * FROM shop.good_customers ORDER BY total DESC LIMIT 10;

CREATE USER 'shop'@'%' IDENTIFIED BY 'Shop-1' ATTRIBUTE '{"team": "Zoë"}';
CREATE USER 'report'@'10.0.0.%' IDENTIFIED BY 'it''s "secret"' PASSWORD EXPIRE INTERVAL 90 DAY;
CREATE ROLE reader;
GRANT SELECT ON shop.* TO reader;
GRANT reader TO 'report'@'10.0.0.%';
SET DEFAULT ROLE reader TO 'report'@'10.0.0.%';
GRANT ALL ON shop.* TO 'shop'@'%' WITH GRANT OPTION;
GRANT BACKUP_ADMIN, SHOW_ROUTINE ON *.* TO 'shop'@'%';
GRANT SELECT (id, name), UPDATE (name) ON shop.customers TO 'report'@'10.0.0.%';
GRANT EXECUTE ON FUNCTION shop.total TO 'report'@'10.0.0.%';
