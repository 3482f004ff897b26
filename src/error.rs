//! The one error type. Callers decide by its functions; the text is rendered here and in [`mysql`] and nowhere else, and no
//! caller looks into it. It is for a database engineer: it says what failed, on which object, and which setting or
//! statement fixes it. It is ASCII where it may reach orchestrator, whose state table stores nothing else.

mod mysql;

pub(crate) use mysql::TLS_REQUIRED;
pub(crate) use mysql::{Cause, LoginOptions, MysqlError};

use std::fmt;
use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// Names the path or the operation in an I/O error.
pub(crate) trait OnPath<T> {
    fn on(self, what: impl AsRef<Path>) -> Result<T>;
}

impl<T> OnPath<T> for std::io::Result<T> {
    fn on(self, what: impl AsRef<Path>) -> Result<T> {
        self.map_err(|e| Error::io(what.as_ref().display(), &e))
    }
}

/// A text of a peer, for a message: one line of at most 300 characters, without control characters.
pub(crate) fn shortened(text: &str) -> String {
    text.trim()
        .chars()
        .take(300)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

/// What failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// A MySQL server, or the connection to it.
    Mysql(Box<MysqlError>),
    /// A system call: the operation or path, and the kernel's words.
    Io(ErrorKind, String),
    /// A program that the agent has run.
    Tool(Box<ToolError>),
    /// A port could not be bound.
    Listen(Box<ListenError>),
    /// A check that will fail again until an operator has changed something; the text names the remedy.
    Refused(String),
    /// What may succeed when it is repeated: a server that is down or busy, a network.
    Unavailable(String),
    /// The work was cancelled.
    Cancelled,
    /// An error with more to say about it.
    With(Box<Error>, Addition),
}

/// What is added to an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addition {
    /// What was being done, or on which object: `context: cause`.
    Context(String),
    /// What it has led to, or a remedy: `cause; note`.
    Note(String),
    /// The setting in which it is corrected, `section.key`.
    Setting(&'static str),
    /// Whether it is worth repeating where it happened, whatever it is.
    Transient(bool),
}

/// A program that has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolError {
    /// The name for messages.
    pub name: String,
    /// How it has failed.
    pub fault: ToolFault,
    /// The end of its standard error, or the message that says why.
    pub stderr: String,
}

/// How a program has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ToolFault {
    /// It has ended with another status than 0.
    Exit(ExitStatus),
    /// It was killed after `common.command-timeout`.
    Deadline(Duration),
    /// It has reported a failure, whatever its exit status.
    Reported,
    /// It takes no more input.
    Input(ErrorKind),
}

/// A port that could not be bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenError {
    /// Address and port, or the port alone.
    at: String,
    kind: ErrorKind,
    /// The kernel's words.
    text: String,
    set_by: ListenOption,
}

/// The option that names a listening port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListenOption {
    /// `common.port`
    Port,
    /// `common.seed-port`
    SeedPort,
    /// `seed --listen`
    Listen,
}

impl Error {
    /// A check has failed, and repeating the call will not help.
    pub(crate) fn permanent(text: impl Into<String>) -> Self {
        Self::Refused(text.into())
    }

    /// Repeating the call may help.
    pub(crate) fn transient(text: impl Into<String>) -> Self {
        Self::Unavailable(text.into())
    }

    pub(crate) fn cancelled() -> Self {
        Self::Cancelled
    }

    /// An I/O error on `what`.
    pub(crate) fn io(what: impl fmt::Display, e: &std::io::Error) -> Self {
        Self::Io(e.kind(), format!("{what}: {e}"))
    }

    pub(crate) fn tool(name: &str, fault: ToolFault, stderr: impl Into<String>) -> Self {
        let (name, stderr) = (name.into(), stderr.into());
        Self::Tool(Box::new(ToolError {
            name,
            fault,
            stderr,
        }))
    }

    /// `at`: address and port, or the port alone.
    pub(crate) fn listen(at: impl fmt::Display, e: &std::io::Error, set_by: ListenOption) -> Self {
        Self::Listen(Box::new(ListenError {
            at: at.to_string(),
            kind: e.kind(),
            text: e.to_string(),
            set_by,
        }))
    }

    fn with(self, addition: Addition) -> Self {
        Self::With(Box::new(self), addition)
    }

    /// The same error with `what: ` in front.
    pub(crate) fn context(self, what: impl fmt::Display) -> Self {
        self.with(Addition::Context(what.to_string()))
    }

    /// The same error with `; note` behind.
    pub(crate) fn noted(self, note: impl fmt::Display) -> Self {
        self.with(Addition::Note(note.to_string()))
    }

    /// The same error, of which `setting` (`section.key`) is the remedy.
    pub(crate) fn about(self, setting: &'static str) -> Self {
        self.with(Addition::Setting(setting))
    }

    /// The same error, worth repeating whatever it is.
    pub(crate) fn passing(self) -> Self {
        self.with(Addition::Transient(true))
    }

    /// The same error, not worth repeating whatever it is.
    pub(crate) fn lasting(self) -> Self {
        self.with(Addition::Transient(false))
    }

    /// True if repeating the call may help. Neither bad input, a missing file, permission, version, a full disk or a wrong
    /// password is transient, nor a cancellation.
    pub(crate) fn is_transient(&self) -> bool {
        match self {
            Self::Mysql(e) => e.is_transient(),
            Self::Io(kind, _) => !stays(*kind),
            Self::Tool(e) => match e.fault {
                ToolFault::Deadline(_) => true,
                ToolFault::Exit(_) | ToolFault::Reported => false,
                ToolFault::Input(kind) => kind != ErrorKind::BrokenPipe && !stays(kind),
            },
            Self::Unavailable(_) => true,
            Self::Listen(_) | Self::Refused(_) | Self::Cancelled => false,
            Self::With(_, Addition::Transient(transient)) => *transient,
            Self::With(cause, _) => cause.is_transient(),
        }
    }

    /// True if the work was cancelled.
    pub(crate) fn is_cancelled(&self) -> bool {
        match self {
            Self::Cancelled => true,
            Self::With(_, Addition::Transient(_)) => false,
            Self::With(cause, _) => cause.is_cancelled(),
            _ => false,
        }
    }

    /// True if repeating the call as it is will fail again.
    pub(crate) fn is_permanent(&self) -> bool {
        !self.is_transient() && !self.is_cancelled()
    }

    /// The number of the server's error, if a server has answered with one.
    pub(crate) fn mysql_code(&self) -> Option<u16> {
        match self.root() {
            Self::Mysql(e) => e.code(),
            _ => None,
        }
    }

    /// What a tool that failed has written last to its standard error.
    pub(crate) fn tool_stderr(&self) -> Option<&str> {
        match self.root() {
            Self::Tool(e) => Some(&e.stderr),
            _ => None,
        }
    }

    /// True if a tool takes no more of its input: it has ended, and knows why.
    pub(crate) fn is_tool_input(&self) -> bool {
        matches!(self.root(), Self::Tool(e) if matches!(e.fault, ToolFault::Input(_)))
    }

    /// The setting in which the error is corrected, if it is known.
    pub(crate) fn setting(&self) -> Option<&'static str> {
        match self {
            Self::With(_, Addition::Setting(setting)) => Some(setting),
            Self::With(cause, _) => cause.setting(),
            _ => None,
        }
    }

    /// The error below all that was added to it.
    fn root(&self) -> &Self {
        match self {
            Self::With(cause, _) => cause.root(),
            own => own,
        }
    }

    fn root_mut(&mut self) -> &mut Self {
        match self {
            Self::With(cause, _) => cause.root_mut(),
            own => own,
        }
    }

    /// The same as an error of the `seed` command about `server`, which has options where the agent has settings.
    pub(crate) fn of_seed_command(mut self, server: &str) -> Self {
        if let Self::Mysql(e) = self.root_mut() {
            e.server.clear();
            e.login = LoginOptions::SeedCommand;
        }
        self.context(server)
    }

    /// The same with another option that names the port.
    pub(crate) fn listening_by(mut self, option: ListenOption) -> Self {
        if let Self::Listen(e) = self.root_mut() {
            e.set_by = option;
        }
        self
    }
}

/// Whether an I/O error stays until an operator does something.
fn stays(kind: ErrorKind) -> bool {
    use ErrorKind::{AlreadyExists, NotFound, PermissionDenied, ReadOnlyFilesystem, StorageFull};
    [
        NotFound,
        PermissionDenied,
        StorageFull,
        ReadOnlyFilesystem,
        AlreadyExists,
    ]
    .contains(&kind)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mysql(e) => e.fmt(f),
            Self::Tool(e) => e.fmt(f),
            Self::Listen(e) => e.fmt(f),
            Self::Io(_, text) | Self::Refused(text) | Self::Unavailable(text) => f.write_str(text),
            Self::Cancelled => f.write_str("cancelled"),
            Self::With(cause, Addition::Context(what)) => write!(f, "{what}: {cause}"),
            // The output of a tool ends with a line break.
            Self::With(cause, Addition::Note(note)) => {
                write!(f, "{}; {note}", cause.to_string().trim_end())
            }
            Self::With(cause, _) => cause.fmt(f),
        }
    }
}

impl fmt::Display for ToolError {
    /// An exit status has the form of the Go agent's errors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, stderr) = (&self.name, &self.stderr);
        let how = match self.fault {
            ToolFault::Exit(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit status {code}"),
                (None, Some(signal)) => format!("killed by signal {signal}"),
                (None, None) => "ended without a status".into(),
            },
            ToolFault::Deadline(limit) => {
                let limit = limit.as_secs();
                format!("explicitly killed after {limit}s (common.command-timeout)")
            }
            ToolFault::Reported => return write!(f, "{name}: {stderr}"),
            ToolFault::Input(ErrorKind::BrokenPipe) => {
                return write!(f, "{name} exited before it had read all input");
            }
            ToolFault::Input(_) => return write!(f, "{name} reads no more input: {stderr}"),
        };
        write!(f, "error: command \"{name}\": {how}, stderr: {stderr}")
    }
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ADDRESS: &str = "listen-address in [common]";
        let (change, correct, see) = match self.set_by {
            ListenOption::Port => {
                let see = "port and listen-address in [common]";
                ("set another common.port", ADDRESS, see)
            }
            ListenOption::SeedPort => {
                let see = "common.seed-port and common.listen-address";
                ("set another common.seed-port on both hosts", ADDRESS, see)
            }
            ListenOption::Listen => ("name another --listen", "--listen", "--listen"),
        };
        write!(f, "cannot listen on {}: {}; ", self.at, self.text)?;
        match self.kind {
            ErrorKind::AddrInUse => write!(
                f,
                "another program listens there (ss -ltnp shows which): end it, or {change}"
            ),
            ErrorKind::PermissionDenied => write!(
                f,
                "ports below 1024 need root or CAP_NET_BIND_SERVICE: {change}"
            ),
            ErrorKind::AddrNotAvailable => write!(
                f,
                "no interface of this host has that address: correct {correct}, or leave it empty for all"
            ),
            _ => write!(f, "see {see}"),
        }
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_added_keeps_the_cause() {
        let server = |code| {
            Error::Mysql(Box::new(MysqlError {
                server: "db1:3306".into(),
                purpose: "STOP SLAVE".into(),
                cause: Cause::Server {
                    code,
                    state: "HY000".into(),
                    message: "no".into(),
                    init_connect: false,
                },
                ..MysqlError::default()
            }))
        };
        let e = server(1064).context("target").noted("nothing was changed");
        assert_eq!(
            e.to_string(),
            "target: STOP SLAVE: MySQL at db1:3306: ERROR 1064 (HY000): no; nothing was changed"
        );
        assert_eq!((e.mysql_code(), e.is_permanent()), (Some(1064), true));
        let e = e.passing();
        assert_eq!((e.mysql_code(), e.is_transient()), (Some(1064), true));
        let busy = server(1205).context("target");
        assert!(busy.is_transient() && !busy.clone().lasting().is_transient());
        let ended = Error::cancelled().context("loading");
        assert!(ended.is_cancelled() && !ended.is_transient() && !ended.is_permanent());
        assert!(!ended.passing().is_cancelled());
        assert_eq!(Error::transient("x").mysql_code(), None);
    }

    #[test]
    fn a_port_is_named_by_its_option() {
        let busy = |set_by| {
            let e = Error::listen(
                "0.0.0.0:3002",
                &ErrorKind::AddrInUse.into(),
                ListenOption::Port,
            );
            e.listening_by(set_by).to_string()
        };
        for (option, name) in [
            (ListenOption::Port, "or set another common.port"),
            (
                ListenOption::SeedPort,
                "or set another common.seed-port on both hosts",
            ),
            (ListenOption::Listen, "or name another --listen"),
        ] {
            let text = busy(option);
            assert!(text.ends_with(name), "{text}");
        }
    }
}
