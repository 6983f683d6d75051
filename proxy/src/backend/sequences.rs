//! Whose numbers a server connection remembers. `currval` and `lastval` answer with what the server process took from a
//! sequence last, for whichever client that was. A *stay* is a session's time on one server connection during which nobody
//! else used it: only in an unbroken stay are the numbers there the session's own, and all of them.

use super::SessionId;

/// A session's stay, by its number among that session's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stay {
    /// Whose.
    pub session: SessionId,
    /// Which.
    pub number: u64,
}

/// The numbers a server connection remembers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sequences {
    /// None: nothing was run since it was opened, cleared, or its numbers were discarded.
    #[default]
    Untouched,
    /// Those of one stay.
    Of(Stay),
    /// Anybody's. The last to use the server connection was this stay.
    Mixed(Stay),
}

impl Sequences {
    /// The stay that used the server connection last, if any.
    pub const fn last(self) -> Option<Stay> {
        match self {
            Self::Untouched => None,
            Self::Of(stay) | Self::Mixed(stay) => Some(stay),
        }
    }
}
