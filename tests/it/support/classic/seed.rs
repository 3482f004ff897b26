//! A seed as the server makes it: `executeSeed` of orchestrator 3.2.6 (go/agent/agent_dao.go), call by call, with the states that its
//! page shows.

use super::orchestrator::{AgentPage, Orchestrator, Times};
use crate::support::wait_for;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A row of table `agent_seed_state`.
#[derive(Debug, Clone)]
pub struct State {
    pub action: String,
    /// Up to 255 characters.
    pub error: String,
    pub at: Duration,
}

/// What a test does to a seed.
#[derive(Default, Clone)]
pub struct Faults {
    /// The volume to mount in place of the first one listed.
    pub volume: Option<&'static str>,
    /// Commands that are not sent: `mountlv`.
    pub skip: &'static [&'static str],
    /// The name that `send` gets in place of the target's.
    pub send_to: Option<&'static str>,
}

pub struct Seed {
    pub id: i64,
    pub target: String,
    pub source: String,
    pub orchestrator: Orchestrator,
    pub times: Times,
    pub faults: Faults,
    states: Mutex<Vec<State>>,
    begin: Instant,
    /// The server has ended or forgotten the seed: no call comes any more.
    forgotten: AtomicBool,
    over: AtomicBool,
}

/// An end of the procedure before its last call: the reason is in the last state, or the server is gone.
struct Ended;

type Step<T = ()> = Result<T, Ended>;

/// The only text that orchestrator has for a copy that failed.
pub const BAILING_OUT: &str = "10 iterations have passed without progress. Bailing out.";

const RUNNING: &str =
    "MySQL is running on target host. Cowardly refusing to proceeed. Please stop the MySQL service";

impl Seed {
    pub fn new(orchestrator: Orchestrator, id: i64, target: &str, source: &str) -> Self {
        Self {
            id,
            target: target.into(),
            source: source.into(),
            orchestrator,
            times: Times::default(),
            faults: Faults::default(),
            states: Mutex::default(),
            begin: Instant::now(),
            forgotten: AtomicBool::new(false),
            over: AtomicBool::new(false),
        }
    }

    pub fn start(self: &Arc<Self>) {
        let seed = Arc::clone(self);
        std::thread::spawn(move || seed.run(|_| {}));
    }

    /// The whole procedure; `at` is told each action before its call.
    pub fn run(&self, mut at: impl FnMut(&str)) {
        let _ = self.execute(&mut at); // the reason is in the last state
        self.over.store(true, Ordering::SeqCst);
    }

    pub fn states(&self) -> Vec<State> {
        self.locked().clone()
    }

    fn locked(&self) -> MutexGuard<'_, Vec<State>> {
        self.states.lock().expect("states")
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Until the procedure has ended.
    pub fn wait(&self, limit: Duration) {
        while !self.is_over() {
            let states = self.states();
            assert!(self.begin.elapsed() < limit, "no end: {states:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Until an action with this beginning is shown.
    pub fn wait_action(&self, begin: &str, limit: Duration) {
        wait_for(begin, limit, || {
            let states = self.states();
            let seen = states.iter().any(|s| s.action.starts_with(begin));
            assert!(seen || !self.is_over(), "{begin}: {states:#?}");
            seen.then_some(())
        });
    }

    pub fn must_succeed(&self) {
        self.wait(Duration::from_secs(240));
        let states = self.states();
        let last = states.last().expect("states");
        assert_eq!(
            (last.action.as_str(), last.error.as_str()),
            ("Done", ""),
            "{states:#?}"
        );
        println!("seed {}: {:.1} s", self.id, last.at.as_secs_f64());
    }

    /// The action that failed, and the error as it is shown.
    pub fn must_fail(&self) -> State {
        self.wait(Duration::from_secs(240));
        let states = self.states();
        let last = states.last().expect("states").clone();
        assert_ne!(last.error, "", "{states:#?}");
        last
    }

    /// The server ends: nothing more is heard of this seed.
    pub fn forget(&self) {
        self.forgotten.store(true, Ordering::SeqCst);
    }

    /// `/api/agent-abort-seed/ID`: the procedure goes on.
    pub fn abort(&self) {
        for host in [&self.target, &self.source] {
            let _ = self.call(host, &format!("abort-seed/{}", self.id)); // ignored there too
        }
    }

    pub fn completed(&self) -> bool {
        self.flag("completed")
    }

    pub fn succeeded(&self) -> bool {
        self.flag("succeeded")
    }

    fn flag(&self, name: &str) -> bool {
        let command = format!("seed-command-{name}/{}", self.id);
        self.orchestrator.says_true(&self.target, &command)
    }

    fn call(&self, host: &str, command: &str) -> Result<(), String> {
        let name = command.split(['/', '?']).next().unwrap_or_default();
        if self.faults.skip.contains(&name) {
            return Ok(());
        }
        self.orchestrator.call(host, command).map(drop)
    }

    fn state(&self, action: String, at: &mut dyn FnMut(&str)) -> Step {
        if self.forgotten.load(Ordering::SeqCst) {
            return Err(Ended);
        }
        self.locked().push(State {
            action: action.chars().take(127).collect(),
            error: String::new(),
            at: self.begin.elapsed(),
        });
        at(&action);
        Ok(())
    }

    fn fail<T>(&self, error: &str) -> Step<T> {
        if let Some(last) = self.locked().last_mut() {
            last.error = error.chars().take(255).collect();
        }
        Err(Ended)
    }

    /// A call after whose failure the server does nothing more.
    fn must(&self, host: &str, command: &str) -> Step {
        if self.forgotten.load(Ordering::SeqCst) {
            return Err(Ended);
        }
        self.call(host, command).or_else(|e| self.fail(&e))
    }

    fn page(&self, host: &str) -> AgentPage {
        self.orchestrator.page(host)
    }

    fn execute(&self, at: &mut dyn FnMut(&str)) -> Step {
        let size = self.mount(at)?;
        let mysql_port = self.send(size, at)?;
        self.copy(size, at)?;
        self.finish(mysql_port, at)
    }

    /// The size of the copy.
    fn mount(&self, at: &mut dyn FnMut(&str)) -> Step<i64> {
        let (target, source) = (&self.target, &self.source);
        self.state(format!("getting target agent info for {target}"), at)?;
        let page = self.page(target);
        self.orchestrator.discover(target, page.mysql_port);
        self.state(format!("getting source agent info for {source}"), at)?;
        let of_source = self.page(source);
        self.state(format!("Checking MySQL status on target {target}"), at)?;
        if page.mysql_running {
            return self.fail(RUNNING);
        }
        let text = format!("Looking up available snapshots on source {source}");
        self.state(text, at)?;
        let Some(volume) = of_source.paths().first().map(ToString::to_string) else {
            return self.fail("No logical volumes found on source host");
        };
        self.state(format!("Checking mount point on source {source}"), at)?;
        if of_source.is_mounted() {
            return self.fail("Volume already mounted on source host; please unmount");
        }
        let volume = self.faults.volume.map_or(volume, str::to_string);
        self.state(format!("Mounting logical volume: {volume}"), at)?;
        self.must(source, &format!("mountlv?lv={volume}"))?;
        Ok(self.page(source).size())
    }

    /// The port of the target's MySQL.
    fn send(&self, size: i64, at: &mut dyn FnMut(&str)) -> Step<i64> {
        let (target, source) = (&self.target, &self.source);
        let text = format!("MySQL data volume on source host {source} is {size} bytes");
        self.state(text, at)?;
        self.state(format!("Erasing MySQL data on {target}"), at)?;
        self.must(target, "delete-mysql-datadir")?;
        let text = format!("Aquiring target host datadir free space on {target}");
        self.state(text, at)?;
        let page = self.page(target);
        if size > page.free {
            let _ = self.call(source, "umount");
            let free = page.free;
            return self.fail(&format!(
                "Not enough disk space on target host {target}. Required: {size}, available: {free}. Bailing out."
            ));
        }
        self.state(format!("{target} will now receive data in background"), at)?;
        let _ = self.call(target, &format!("receive-mysql-seed-data/{}", self.id));
        let wait = self.times.before_send;
        let seconds = wait.as_secs();
        let text =
            format!("Waiting {seconds} seconds for {target} to start listening for incoming data");
        self.state(text, at)?;
        std::thread::sleep(wait);
        let to = self.faults.send_to.unwrap_or(target);
        let text = format!("{source} will now send data to {target} in background");
        self.state(text, at)?;
        let _ = self.call(source, &format!("send-mysql-seed-data/{to}/{}", self.id));
        Ok(page.mysql_port)
    }

    /// Polls the target until the copy is complete. Which values of mysql-du are equal is counted once a `round`.
    fn copy(&self, size: i64, at: &mut dyn FnMut(&str)) -> Step {
        let (mut last, mut stale, mut next) = (0, 0, Instant::now());
        loop {
            let copied = self.page(&self.target).mysql_disk_usage;
            if Instant::now() >= next {
                stale += u32::from(copied == last);
                last = copied;
                next += self.times.round;
            }
            let completed = self.completed();
            let failed = completed && !self.succeeded();
            if failed || stale > 10 {
                for host in [&self.source, &self.target] {
                    let _ = self.call(host, &format!("abort-seed/{}", self.id));
                }
                let _ = self.call(&self.source, "umount");
                return self.fail(BAILING_OUT);
            }
            let percent = (100 * copied).checked_div(size).unwrap_or_default();
            self.state(format!("Copied {copied}/{size} bytes ({percent}%)"), at)?;
            if completed {
                return Ok(());
            }
            std::thread::sleep(self.times.poll);
        }
    }

    fn finish(&self, mysql_port: i64, at: &mut dyn FnMut(&str)) -> Step {
        let (target, source) = (&self.target, &self.source);
        self.state(format!("Executing post-copy command on {target}"), at)?;
        self.must(target, &format!("post-copy/?sourceHost={source}"))?;
        self.state(format!("{source} will now unmount"), at)?;
        self.must(source, "umount")?;
        self.state(format!("Starting MySQL on target: {target}"), at)?;
        self.must(target, "mysql-start")?;
        let text = format!("Submitting MySQL instance for discovery: {target}");
        self.state(text, at)?;
        if !self.orchestrator.discover(target, mysql_port) {
            return self.fail("the only attempt to discover the new replica failed");
        }
        self.state("Done".into(), at)
    }
}

impl State {
    pub fn reason(&self) -> String {
        decoded(&self.error)
    }
}

/// A text with the percent encoding of a `Location` undone.
pub fn decoded(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|h| std::str::from_utf8(h).ok());
        match hex.map(|h| u8::from_str_radix(h, 16)) {
            Some(Ok(byte)) if *first == b'%' => {
                bytes.push(byte);
                rest = &after[2..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
