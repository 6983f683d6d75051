//! What went wrong, whose fault it is, what the client may read and what the log needs. A fault never carries a secret
//! in any of its fields.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;

/// A five-character SQLSTATE (Postgres docs, appendix A), of the list in INTERFACE.md.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SqlState(pub &'static str);

#[allow(missing_docs, reason = "the names are those of Postgres docs, appendix A")]
impl SqlState {
    pub const INVALID_PASSWORD: Self = Self("28P01");
    pub const INVALID_AUTHORIZATION: Self = Self("28000");
    pub const INVALID_PARAMETER_VALUE: Self = Self("22023");
    pub const SYNTAX_ERROR: Self = Self("42601");
    pub const UNKNOWN_DATABASE: Self = Self("3D000");
    pub const INSUFFICIENT_PRIVILEGE: Self = Self("42501");
    pub const IDLE_IN_TRANSACTION_TIMEOUT: Self = Self("25P03");
    pub const TRANSACTION_TIMEOUT: Self = Self("25P04");
    pub const UNKNOWN_STATEMENT: Self = Self("26000");
    pub const TOO_MANY_CONNECTIONS: Self = Self("53300");
    pub const CONFIGURATION_LIMIT_EXCEEDED: Self = Self("53400");
    pub const OBJECT_NOT_IN_PREREQUISITE_STATE: Self = Self("55000");
    pub const LOCK_NOT_AVAILABLE: Self = Self("55P03");
    pub const QUERY_CANCELED: Self = Self("57014");
    pub const ADMIN_SHUTDOWN: Self = Self("57P01");
    pub const CANNOT_CONNECT_NOW: Self = Self("57P03");
    pub const IDLE_SESSION_TIMEOUT: Self = Self("57P05");
    pub const CONNECTION_FAILURE: Self = Self("08006");
    pub const PROTOCOL_VIOLATION: Self = Self("08P01");
    pub const FEATURE_NOT_SUPPORTED: Self = Self("0A000");
    pub const IO_ERROR: Self = Self("58030");
    pub const INTERNAL_ERROR: Self = Self("XX000");
}

impl fmt::Debug for SqlState {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0)
    }
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The peer that connected to us sent something wrong or isn't who it says.
    Client,
    /// Postgres refused, broke off or can't be reached.
    Upstream,
    /// A limit of ours was reached, we are shutting down, or we have a bug.
    Proxy,
}

/// One thing that went wrong. It is a pointer: whatever may fail has room for a fault, and hardly anything does fail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(Box<Wrong>);

/// What a fault says. `message`, `detail` and `hint` are for the client; `log` never leaves the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Whose fault it is.
    pub origin: Origin,
    /// The code the client's driver acts on.
    pub sqlstate: SqlState,
    /// What the client reads, without the prefix `pgcordon: `, which is added where the message is written.
    pub message: Cow<'static, str>,
    /// The DETAIL field.
    pub detail: Option<String>,
    /// The HINT field.
    pub hint: Option<Cow<'static, str>>,
    /// What the operator needs beside the message. Not shown to the client.
    pub log: Option<String>,
    /// The body of Postgres' own ErrorResponse (without type and length), which is passed on untouched in place of
    /// everything above.
    pub verbatim: Option<bytes::Bytes>,
}

impl Fault {
    /// A fault with a code and a message for the client.
    pub fn new(origin: Origin, sqlstate: SqlState, message: impl Into<Cow<'static, str>>) -> Self {
        let message = message.into();
        Self(Box::new(Wrong { origin, sqlstate, message, detail: None, hint: None, log: None, verbatim: None }))
    }

    /// The client broke the protocol (08P01).
    pub fn protocol(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(Origin::Client, SqlState::PROTOCOL_VIOLATION, message)
    }

    /// Adds the DETAIL field.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = Some(detail.into());
        self
    }

    /// Adds the HINT field.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Adds what only the log sees.
    #[must_use]
    pub fn log(mut self, log: impl Into<String>) -> Self {
        self.0.log = Some(log.into());
        self
    }

    /// Passes Postgres' own ErrorResponse body on in place of ours.
    #[must_use]
    pub fn verbatim(mut self, body: bytes::Bytes) -> Self {
        self.0.verbatim = Some(body);
        self
    }
}

impl Deref for Fault {
    type Target = Wrong;

    fn deref(&self) -> &Wrong {
        &self.0
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", self.message, self.sqlstate.0)?;
        match &self.log {
            Some(log) => write!(out, ": {log}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Fault {}
