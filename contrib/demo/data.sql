-- Data of the demonstration: about @mb megabytes of every kind of thing that a copy can get wrong.
-- Not in the binary log, so that a replica can only have it from the seed.
SET NAMES utf8mb4;
SET sql_log_bin = 0, foreign_key_checks = 0, unique_checks = 0, group_concat_max_len = 65536;

CREATE DATABASE shop CHARACTER SET utf8mb4;
CREATE DATABASE `archive, 2026` CHARACTER SET latin1;
CREATE DATABASE run CHARACTER SET utf8mb4;

USE shop;
SELECT UNHEX(GROUP_CONCAT(LPAD(HEX(seq), 2, '0') ORDER BY seq SEPARATOR '')) INTO @all_bytes FROM seq_0_to_255;

CREATE TABLE customers (
  id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, name VARCHAR(60) NOT NULL, email VARCHAR(80) NULL UNIQUE, born DATE NULL,
  profile JSON NULL, created TIMESTAMP(6) NOT NULL, balance DECIMAL(20,6) NOT NULL, ratio DOUBLE NULL,
  kind ENUM('person','firm') NOT NULL, flags SET('a','b','c') NOT NULL, mask BIT(10) NOT NULL
) ENGINE=InnoDB;
INSERT INTO customers
SELECT seq, CONCAT(ELT(1 + seq % 4, 'Ærøskøbing ', '東京 ', 'Zoë 😀 ', "O'Brien \\ \"q\" "), LEFT(MD5(seq), 12)),
  IF(seq % 7, CONCAT(MD5(seq * 3), '@example.com'), NULL), IF(seq % 5, DATE_ADD('1930-01-01', INTERVAL seq % 28000 DAY), NULL),
  IF(seq % 3, JSON_OBJECT('id', seq, 'tags', JSON_ARRAY(MD5(seq), NULL, seq / 7), 'emoji', '🐬'), NULL),
  '2020-01-01' + INTERVAL seq * 1234567 MICROSECOND, (CONV(LEFT(MD5(seq), 10), 16, 10) - 500000000000) / 1000,
  IF(seq % 11, 1 / seq, NULL), 1 + seq % 2, seq % 8, seq % 1024
FROM seq_1_to_100000000 WHERE seq <= @mb * 200;

CREATE TABLE orders (
  id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, customer INT UNSIGNED NOT NULL, placed DATETIME(6) NOT NULL, due DATE NULL, at TIME(3) NULL,
  amount DECIMAL(12,2) NOT NULL, doubled DECIMAL(13,2) AS (amount * 2) STORED, note TEXT NULL, hash BINARY(32) NOT NULL, KEY (customer),
  CONSTRAINT customer FOREIGN KEY (customer) REFERENCES customers (id)
) ENGINE=InnoDB;
INSERT INTO orders (id, customer, placed, due, at, amount, note, hash)
SELECT seq, 1 + seq % (@mb * 200), '2021-06-01' + INTERVAL seq * 7654321 MICROSECOND, IF(seq % 4, '2022-01-01' + INTERVAL seq % 900 DAY, NULL),
  SEC_TO_TIME(seq % 86400), (seq * 37 % 1000000) / 100, IF(seq % 9, CONCAT(SHA2(seq, 512), ' ü\n\t\r', CHAR(0), CHAR(26), MD5(seq)), NULL),
  UNHEX(SHA2(seq, 256))
FROM seq_1_to_100000000 WHERE seq <= @mb * 1500;

CREATE TABLE pictures (
  id INT UNSIGNED AUTO_INCREMENT PRIMARY KEY, content LONGBLOB NULL, tag VARBINARY(255) NOT NULL
) ENGINE=InnoDB PARTITION BY HASH (id) PARTITIONS 4;
INSERT INTO pictures
SELECT seq, IF(seq % 50, CONCAT(REPEAT(CONCAT(@all_bytes, UNHEX(SHA2(seq, 512))), 24), REVERSE(@all_bytes)), NULL), SUBSTR(@all_bytes, 1 + seq % 200, 56)
FROM seq_1_to_100000000 WHERE seq <= @mb * 30;

CREATE TABLE audit (id BIGINT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(200) NOT NULL, at TIMESTAMP NOT NULL DEFAULT CURRENT_TIMESTAMP) ENGINE=InnoDB;
CREATE TABLE `odd name; "ünïcode" 表` (`a b` INT PRIMARY KEY, `select` VARCHAR(20) DEFAULT 'x''y\\') ENGINE=InnoDB;
INSERT INTO `odd name; "ünïcode" 表` VALUES (-1, NULL), (0, ''), (1, DEFAULT), (2, "\0\b'\"\\%_");
CREATE TABLE empty_one (id INT PRIMARY KEY) ENGINE=InnoDB;
CREATE SEQUENCE tickets START WITH 1000 INCREMENT BY 10;

USE `archive, 2026`;
CREATE TABLE journal (id INT AUTO_INCREMENT PRIMARY KEY, line VARCHAR(500) NULL, raw VARBINARY(300) NOT NULL, day DATE NOT NULL, KEY (day)) ENGINE=MyISAM;
INSERT INTO journal
SELECT seq, IF(seq % 13, CONCAT('entry é ', SHA2(seq, 384)), NULL), CONCAT(@all_bytes, UNHEX(MD5(seq))), '2000-01-01' + INTERVAL seq % 9000 DAY
FROM seq_1_to_100000000 WHERE seq <= @mb * 400;
CREATE TABLE readings (id INT AUTO_INCREMENT PRIMARY KEY, sensor CHAR(32) NOT NULL, value DECIMAL(30,10) NULL, body TEXT NOT NULL) ENGINE=Aria;
INSERT INTO readings
SELECT seq, MD5(seq), IF(seq % 6, seq * 1.0000000001, NULL), REPEAT(SHA2(seq, 256), 4)
FROM seq_1_to_100000000 WHERE seq <= @mb * 500;

-- Running numbers without a unique key: a row copied twice, or lost, shows at once. The event must run on the source only.
USE run;
CREATE TABLE numbers (n BIGINT NOT NULL, at DATETIME(6) NOT NULL, crc INT UNSIGNED NULL) ENGINE=InnoDB;
CREATE TABLE ticks (id INT AUTO_INCREMENT PRIMARY KEY, at DATETIME(6) NOT NULL, server INT UNSIGNED NOT NULL) ENGINE=InnoDB;

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

CREATE USER 'shop'@'%' IDENTIFIED BY 'Shop-1', 'report'@'10.0.0.%' IDENTIFIED BY 'it''s "secret"';
CREATE ROLE reader;
GRANT SELECT ON shop.* TO reader;
GRANT reader TO 'report'@'10.0.0.%';
SET DEFAULT ROLE reader FOR 'report'@'10.0.0.%';
GRANT ALL ON shop.* TO 'shop'@'%' WITH GRANT OPTION;
GRANT SELECT (id, name), UPDATE (name) ON shop.customers TO 'report'@'10.0.0.%';
GRANT EXECUTE ON FUNCTION shop.total TO 'report'@'10.0.0.%';
