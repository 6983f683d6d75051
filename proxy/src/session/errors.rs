//! Errors of the server: whose they are, and what of that which was noted when a message was sent isn't so.

use bytes::Bytes;

use crate::backend::{BackendState, Unnamed};
use crate::domain::{Fault, Origin, SqlState};
use crate::wire::frame::HEAD;
use crate::wire::open;

use super::expect::{Expect, Injected, Parsed};
use super::server::{Fate, broken};
use super::{Core, Session};

impl Session {
    pub(super) fn error(&mut self, seen: &[u8], backend: &mut BackendState, core: &Core<'_>) -> Result<Fate, Fault> {
        if std::mem::take(&mut self.copying_in) {
            self.copy_failed = true;
        }
        let severity =
            open::error_field(seen, b'V').or_else(|| open::error_field(seen, b'S')).map(|range| &seen[range]);
        if matches!(severity, Some(b"FATAL" | b"PANIC")) {
            self.fatal = true;
            return Ok(Fate::Relay);
        }
        if let Some(Expect::Repeat(repeated)) = self.expects.head() {
            let fate = self.repeat_failed(*repeated, seen, backend);
            if fate == Fate::RelayUnrepeated {
                self.note_error();
                self.failed(seen, core);
            }
            return Ok(fate);
        }
        Ok(match self.expects.head() {
            Some(Expect::Injected(Injected::Setting)) if self.reported.is_some() => {
                self.setting_refused(seen);
                backend.soil();
                Fate::Swallow
            }
            Some(Expect::Injected(Injected::Setting | Injected::Bind(_))) => Fate::Unbound,
            Some(Expect::Injected(Injected::MayGive)) => {
                self.ungiven = true;
                Fate::Swallow
            }
            Some(Expect::Injected(Injected::ReadBack(_))) => {
                self.ungiven = false;
                backend.soil();
                Fate::Swallow
            }
            Some(Expect::Injected(Injected::Discard)) => {
                self.lodging.discard_failed = true;
                Fate::Swallow
            }
            Some(Expect::Injected(Injected::Surface(_))) => Fate::SwallowAndSkip,
            Some(Expect::Injected(Injected::Denial(fault))) if is_denial(seen, fault) => {
                self.note_error();
                self.transaction.failed = true;
                self.metered.clear();
                Fate::Denied
            }
            Some(Expect::Query(..) | Expect::Call) => {
                self.note_error();
                self.failed(seen, core);
                Fate::Relay
            }
            Some(_) => {
                self.note_error();
                self.failed(seen, core);
                Fate::RelayAndSkip
            }
            None => return Err(broken("an error that nothing was asked for")),
        })
    }

    fn setting_refused(&mut self, seen: &[u8]) {
        if let Some(reported) = &mut self.reported {
            let body = Bytes::copy_from_slice(&seen[HEAD..]);
            reported.refused.get_or_insert_with(|| unbound(seen).verbatim(body));
        }
    }

    /// The server skips to the next Sync: what was promised for the messages between is undone.
    pub(super) fn skip(&mut self, backend: &mut BackendState, core: &Core<'_>) {
        // Of an unnamed statement whose own Parse failed nothing is left; one whose Parse was skipped leaves the one before.
        if let Some(Expect::Parse(Parsed::Unnamed(serial) | Parsed::Repeated { serial, .. })) = self.expects.head() {
            self.statements.unnamed_failed(*serial);
        }
        let (skipped, synced) = self.expects.skip_to_sync();
        for each in skipped {
            undo(&each, backend);
            self.skipped(each, core);
        }
        self.note_skipped();
        self.skipping = !synced;
        // Whatever the client sent behind the error, a Query too, is skipped: the cycle is open until its Sync.
        self.in_cycle |= !synced;
    }
}

/// The server didn't get to a message: what was noted of its connection isn't so.
pub(super) fn undo(skipped: &Expect, backend: &mut BackendState) {
    match skipped {
        Expect::Parse(Parsed::Named { body, sent, .. }) | Expect::Injected(Injected::Parse(body, sent)) => {
            backend.unprepared(*body, *sent);
        }
        Expect::Parse(Parsed::Repeated { name, .. }) => backend.repeat_unprepared(*name),
        Expect::Injected(Injected::Drop(name)) => backend.not_closed(*name),
        Expect::Injected(Injected::Unnamed | Injected::Close) => backend.set_unnamed(Unnamed::Unknown),
        other if other.unnamed().is_some() => backend.set_unnamed(Unnamed::Unknown),
        _ => {}
    }
}

/// Whether an error is the one that `cordon.deny()` raises for this fault.
fn is_denial(error: &[u8], fault: &Fault) -> bool {
    let field = |code: u8| open::error_field(error, code).map(|range| &error[range]);
    field(b'C') == Some(fault.sqlstate.0.as_bytes()) && field(b'M') == Some(b"pgcordon: denied")
}

/// Whether an error says that a statement was cancelled on somebody's request.
pub(super) fn is_cancelled(error: &[u8]) -> bool {
    open::error_field(error, b'C').is_some_and(|range| &error[range] == SqlState::QUERY_CANCELED.0.as_bytes())
}

/// Why a bind failed, for the client whose statement was to follow it. A cancel request of its own, or a timeout that it has set,
/// may hit the bind as well as the statement.
pub(super) fn unbound(error: &[u8]) -> Fault {
    let code = open::error_field(error, b'C').map(|range| String::from_utf8_lossy(&error[range]).into_owned());
    let text = open::error_field(error, b'M').map(|range| String::from_utf8_lossy(&error[range]).into_owned());
    if code.as_deref() == Some(SqlState::QUERY_CANCELED.0) {
        return Fault::new(Origin::Client, SqlState::QUERY_CANCELED, text.unwrap_or_default());
    }
    Fault::new(
        Origin::Upstream,
        SqlState::CONNECTION_FAILURE,
        "the workspace could not be established on the server connection",
    )
    .hint("The statement saw no workspace and its answer was discarded; it may be sent again.")
    .log(format!("{}: {}", code.unwrap_or_default(), text.unwrap_or_default()))
}
