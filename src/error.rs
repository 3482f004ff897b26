//! The one error type. Its text is for a database engineer: it says what failed, on what, and which setting or
//! action mends it. Text is ASCII where it may reach orchestrator, whose state table stores nothing else.

use std::fmt;

/// What the caller may do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Repeating the call as it is will fail again: bad input, permission, version, full disk, wrong password.
    Permanent,
    /// May succeed later: network, a server that is down or busy.
    Transient,
    /// Somebody asked for the work to end.
    Cancelled,
}

/// An error with its class and a text that names the remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: Kind,
    text: String,
}

/// Result with [`Error`].
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error that repeating will not cure.
    pub fn permanent(text: impl Into<String>) -> Self {
        Self {
            kind: Kind::Permanent,
            text: text.into(),
        }
    }

    /// An error that may pass.
    pub fn transient(text: impl Into<String>) -> Self {
        Self {
            kind: Kind::Transient,
            text: text.into(),
        }
    }

    /// The work was told to end.
    pub fn cancelled() -> Self {
        Self {
            kind: Kind::Cancelled,
            text: "cancelled".into(),
        }
    }

    /// The class of the error.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// True if the work was told to end.
    pub fn is_cancelled(&self) -> bool {
        self.kind == Kind::Cancelled
    }

    /// The same error with `what: ` in front of its text.
    #[must_use]
    pub fn context(self, what: impl fmt::Display) -> Self {
        Self {
            kind: self.kind,
            text: format!("{what}: {}", self.text),
        }
    }

    /// An I/O error on `subject`. A full disk, a missing file and a refused permission are permanent.
    pub fn io(subject: impl fmt::Display, e: &std::io::Error) -> Self {
        use std::io::ErrorKind::{
            AlreadyExists, NotFound, PermissionDenied, ReadOnlyFilesystem, StorageFull,
        };
        let permanent = matches!(
            e.kind(),
            NotFound | PermissionDenied | StorageFull | ReadOnlyFilesystem | AlreadyExists
        );
        let kind = if permanent {
            Kind::Permanent
        } else {
            Kind::Transient
        };
        Self {
            kind,
            text: format!("{subject}: {e}"),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}
