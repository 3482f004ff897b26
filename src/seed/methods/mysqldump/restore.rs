//! Restore: the dump into the running server.

use super::backup::{name_of, read_header};
use super::{Mysqldump, options};
use crate::error::{Error, Result};
use crate::mysql::{Endpoint, Flavour, connect, control};
use crate::process::{Credentials, Job, Login, Running, feed_from};
use crate::seed::context::Context;
use crate::seed::coordinates::Coordinates;
use crate::seed::methods::target_server::{TargetServer, until_none};
use crate::seed::record::Load;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read, Seek, SeekFrom};
use std::process::{ChildStdout, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Goes before the dump, in the same session: nothing of the load is written to the target's binary log, and the first line
/// of output is the connection's number.
const PROLOGUE: &str = "SET SESSION sql_log_bin = 0;\nSELECT CONNECTION_ID();\n";

impl Mysqldump {
    /// The whole stage. Until the last check has passed nothing on the server is touched. When it returns Ok the data are
    /// whole, the GTID state is set, and every setting is as before.
    pub(super) fn load(&self, ctx: &Context) -> Result<String> {
        ctx.report("Running restore");
        let seed = ctx.seed()?;
        let path = self.dump_file();
        let header = read_header(&path)?;
        let mut dump = File::open(&path).map_err(|e| Error::io(path.display(), &e))?;
        let size = dump
            .metadata()
            .map_err(|e| Error::io(path.display(), &e))?
            .len();
        if size != seed.dump_bytes || Some(&header.coordinates) != seed.coordinates.as_ref() {
            return Err(Error::permanent(format!(
                "{} is not the dump that Backup made ({size} bytes, not {}): call prepare again",
                path.display(),
                seed.dump_bytes
            )));
        }
        dump.seek(SeekFrom::Start(header.load_from))
            .map_err(|e| Error::io(path.display(), &e))?;
        let mut target = TargetServer::open(&self.config.mysql)?;
        target.check_role()?;
        ctx.cancel().check()?;

        let result = self.fill(ctx, &mut target, dump, size, &header.coordinates);
        let whole = result.is_ok();
        let settled = ctx
            .seed()
            .and_then(|s| target.put_back_soon(&s, whole))
            .and_then(|()| ctx.update(|s| s.put_back.clear()));
        if let Err(e) = &settled {
            log::error!("settings of MySQL are not put back yet: {e}");
        }
        let notes = result?;
        settled?;
        TargetServer::prove_login(&self.config.mysql)?;
        Ok(notes)
    }

    fn fill(
        &self,
        ctx: &Context,
        target: &mut TargetServer,
        dump: File,
        size: u64,
        at: &Coordinates,
    ) -> Result<String> {
        target.interruptible(ctx, |t| t.begin(ctx))?;
        ctx.report("Running restore. Loading the dump");
        ctx.progress().expect(size);
        self.feed(ctx, target, dump)?;
        ctx.cancel().check()?;
        ctx.report("Running restore. Setting accounts and GTID state");
        let of_source = ctx.seed()?.source_schemas;
        let mut notes = vec![format!("Stage completed: {size} bytes loaded")];
        notes.push(target.interruptible(ctx, |t| t.complete(ctx, at))?);
        ctx.update(|s| s.load = Load::Whole)?;
        notes.extend(target.interruptible(ctx, |t| t.extras(&of_source))?);
        notes.retain(|n| !n.is_empty());
        Ok(notes.join(", "))
    }

    fn feed(&self, ctx: &Context, target: &mut TargetServer, dump: File) -> Result<()> {
        let mysql = &self.config.mysql;
        let login = Login {
            host: &mysql.host,
            port: mysql.port,
            socket: &mysql.socket,
            user: &mysql.user,
            password: mysql.password.reveal(),
            public_key: target.server.flavour == Flavour::MySql,
        };
        let credentials =
            Credentials::create(&self.config.common.state_dir, &login, &self.launcher)?;
        let program = self.launcher.find(target.server.client_tools())?;
        let mut cmd = self.launcher.command(&program);
        cmd.args(options::client_arguments(credentials.path()));
        cmd.stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .env("LC_ALL", "C");
        let mut tool = Running::start(&mut cmd, &name_of(&program))?;
        ctx.adopt(&tool)?;
        let connection = Arc::new(AtomicU64::new(0));
        if let Some(out) = tool.take_stdout() {
            let connection = Arc::clone(&connection);
            std::thread::spawn(move || read_connection(out, &connection));
        }
        let progress = Arc::clone(ctx.progress());
        let head = PROLOGUE.len() as u64;
        let job = Job {
            cancel: ctx.cancel(),
            before_kill: &|_| {},
        };
        let input = Cursor::new(PROLOGUE).chain(dump);
        let result = feed_from(
            tool,
            input,
            move |n| {
                progress.bytes(n.saturating_sub(head));
                Ok(())
            },
            &job,
        );
        let failed = !matches!(&result, Ok((exit, _)) if exit.status.success());
        let id = connection.load(Ordering::Relaxed);
        if failed && id != 0 {
            // A statement goes on in the server when its client has been killed.
            end_connection(&Endpoint::local(mysql), id);
        }
        let (mut exit, _) = result?;
        exit.stderr = errors_only(&exit.stderr);
        exit.check().map_err(|e| e.context("loading the dump"))
    }
}

/// The client repeats the statement that failed, and with it rows, on its standard error: only its own words may go on.
fn errors_only(stderr: &str) -> String {
    let own: Vec<&str> = stderr.lines().filter(|l| l.starts_with("ERROR ")).collect();
    own.join("\n")
}

/// A new connection: the one that is open may itself be waiting.
fn end_connection(target: &Endpoint, id: u64) {
    match connect(target, Duration::from_secs(3)) {
        Ok(mut conn) => until_none(|| control::kill_connection(&mut conn, &target.user, id)),
        Err(e) => log::warn!("cannot look for left-over connections on the target: {e}"),
    }
}

/// The first line of the client's output is the number of its connection; the rest is drained.
fn read_connection(out: ChildStdout, connection: &AtomicU64) {
    let mut out = BufReader::new(out);
    let mut line = String::new();
    if out.by_ref().take(64).read_line(&mut line).is_ok()
        && let Ok(id) = line.trim().parse()
    {
        connection.store(id, Ordering::Relaxed);
    }
    if let Err(e) = std::io::copy(&mut out, &mut std::io::sink()) {
        log::debug!("output of the client: {e}");
    }
}
