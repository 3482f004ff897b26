//! A writer that inserts a running number into a table without a unique key, and the proof that none is missing or double.

use super::server::{Kind, Server};
use super::wait_for;
use mysql::prelude::Queryable;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub struct Writer {
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
    begin: Instant,
}

impl Writer {
    /// At least 50 rows a second, one transaction each; 100 are aimed at, and what a busy machine has held up is made up for.
    pub fn start<K: Kind>(db: &Server<K>) -> Self {
        db.sql("CREATE DATABASE IF NOT EXISTS running");
        db.sql("CREATE TABLE IF NOT EXISTS running.numbers (n BIGINT NOT NULL, at TIMESTAMP(6) NOT NULL DEFAULT NOW(6)) ENGINE=InnoDB");
        // The disk is not what is tested; a server that is killed loses nothing by it.
        db.sql("SET GLOBAL innodb_flush_log_at_trx_commit = 2");
        db.sql("SET GLOBAL sync_binlog = 0");
        let mut conn = db.root();
        let stop = Arc::new(AtomicBool::new(false));
        let written = Arc::new(AtomicU64::new(0));
        let (s, w) = (Arc::clone(&stop), Arc::clone(&written));
        let begin = Instant::now();
        let thread = std::thread::spawn(move || {
            while !s.load(Ordering::Relaxed) {
                let n = w.load(Ordering::Relaxed) + 1;
                conn.query_drop(format!("INSERT INTO running.numbers (n) VALUES ({n})"))
                    .expect("the writer writes");
                w.store(n, Ordering::Relaxed);
                let due = Duration::from_millis(10 * n);
                std::thread::sleep(due.saturating_sub(begin.elapsed()));
            }
        });
        Self {
            stop,
            written,
            thread: Some(thread),
            begin,
        }
    }

    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// Waits for as many rows as half a second has: they are written after whatever came before.
    pub fn write_more(&self) {
        let wanted = self.written() + 50;
        wait_for("more rows", Duration::from_secs(60), || {
            (self.written() >= wanted).then_some(())
        });
    }

    /// Stops, and proves that `replica` gets exactly 1..=n.
    pub fn stop_and_prove<K: Kind>(mut self, replica: &Server<K>) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread
            .take()
            .expect("once")
            .join()
            .expect("the writer ended well");
        let n = self.written();
        let rate = n as f64 / self.begin.elapsed().as_secs_f64();
        println!("writer: {n} rows, {rate:.0} rows/s");
        let begin = Instant::now();
        wait_for(
            &format!("row {n} arrives on the replica"),
            Duration::from_secs(60),
            || {
                let error = replica.replica_status("Last_SQL_Error")
                    + &replica.replica_status("Last_IO_Error");
                assert_eq!(error, "", "replication");
                if begin.elapsed() > Duration::from_secs(20) {
                    let threads =
                        [K::IO_RUNNING, K::SQL_RUNNING].map(|c| replica.replica_status(c));
                    let rows = replica.value("SELECT MAX(n) FROM running.numbers");
                    assert_eq!(threads, ["Yes", "Yes"], "row {rows} of {n}");
                }
                (replica.value("SELECT MAX(n) FROM running.numbers") == n.to_string()).then_some(())
            },
        );
        let counts = replica.value("SELECT CONCAT(COUNT(*), ' ', COUNT(DISTINCT n), ' ', MIN(n), ' ', MAX(n)) FROM running.numbers");
        assert_eq!(counts, format!("{n} {n} 1 {n}"), "no gap, no double");
        assert!(
            rate >= 50.0,
            "the writer was too slow to prove anything: {rate:.0} rows/s"
        );
        n
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
