//! What one query string may leave behind.

/// The state that a query string may leave in its session. Nothing of it is certain: the statement may fail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Settings that may have another value afterwards, in lower case.
    pub touches: Vec<Box<str>>,
    /// RESET ALL or DISCARD ALL is in it: every setting goes back, the sealed context included.
    pub resets_all: bool,
    /// DISCARD ALL is in it: prepared statements go too.
    pub discards_all: bool,
    /// DEALLOCATE is in it.
    pub deallocates: Option<Deallocates>,
    /// It may leave something that can't be carried to another server connection.
    pub pins: Option<PinReason>,
}

impl Facts {
    /// Whether there is nothing to remember.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// The facts of a text that couldn't be understood: it may do everything, so its client stays where it is.
    pub fn unknown() -> Self {
        Self { pins: Some(PinReason::NotUnderstood), ..Self::default() }
    }
}

/// Which prepared statements a DEALLOCATE removes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Deallocates {
    /// All of them.
    All,
    /// The one with this name, and the string consists of this statement alone.
    One(Box<str>),
}

/// Why a client must stay on its server connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PinReason {
    /// SQL PREPARE: the statement lives on one server connection.
    Prepare,
    /// LISTEN: notifications arrive there.
    Listen,
    /// A temporary table.
    Temporary,
    /// A cursor WITH HOLD.
    HeldCursor,
    /// A session-level advisory lock.
    AdvisoryLock,
    /// SET ROLE or SET SESSION AUTHORIZATION.
    Role,
    /// A setting whose name isn't visible in the text.
    HiddenSetting,
    /// LOAD.
    Load,
    /// A text that the parser doesn't understand, or one too long to be opened.
    NotUnderstood,
}

impl PinReason {
    /// A word for logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Listen => "listen",
            Self::Temporary => "temporary",
            Self::HeldCursor => "held_cursor",
            Self::AdvisoryLock => "advisory_lock",
            Self::Role => "role",
            Self::HiddenSetting => "hidden_setting",
            Self::Load => "load",
            Self::NotUnderstood => "not_understood",
        }
    }
}
