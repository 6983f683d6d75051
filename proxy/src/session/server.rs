//! The server's side: each message is held against what is owed, and relayed, swallowed or acted upon. Rows and copy data
//! pass unread. The server is no more trusted with the framing than a client is.

use std::ops::Range;

use crate::backend::{BackendState, Name};
use crate::domain::limits::OPENED_MESSAGE_BYTES_MAX;
use crate::domain::{Fault, Origin, SqlState};
use crate::sql::StatementKind;
use crate::wire::frame::HEAD;
use crate::wire::{Frame, author, inject, open};

use super::admission::Request;
use super::asynchronous::parameter;
use super::errors::{is_cancelled, unbound, undo};
use super::expect::{Bound, CopyInput, Expect, Injected, Parsed};
use super::reports::may_be_report;
use super::{Core, Lanes, Progress, Session};

/// How much of a notice is looked at to learn whether it is a meter's report, in bytes. What matters stands in front; behind it
/// is the CONTEXT, as long as functions are nested.
const NOTICE_OPENED_BYTES_MAX: usize = 16 * 1024;

/// How many records of finished transactions a client that never waits for an answer may have open.
const OWED_RECORDS_MAX: usize = 1024;

/// What becomes of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// The client gets it, and more is to come for the same message of the client's.
    Relay,
    /// The client gets it, and what was owed is paid.
    RelayLast,
    /// It answers a message of ours.
    Swallow,
    /// It is the last that answers a message of ours.
    SwallowLast,
    /// It is the error that a denial was to raise: the client gets ours, and the server skips to the next Sync.
    Denied,
    /// It is kept until what the statement added is reserved, which must be asked for.
    Ask(Request),
    /// What a held statement added was reserved at once.
    Proceed,
    /// It is a ReadyForQuery that waits for the audit trail.
    Withhold,
    /// It is a notification: the client gets it with this process id.
    Notification(i32),
    /// It is a ReadyForQuery behind which settings must be given again before the client may know.
    Refit,
    /// The client gets it, and the server skips to the next Sync.
    RelayAndSkip,
    /// The same, behind the answer to the client's Parse, which went out by a name.
    RelayUnrepeated,
    /// The client gets it behind the answer to its Parse, which went out by a name, and what was owed is paid.
    RelayRepeated,
    /// It is the ReadyForQuery behind which the client's cycle is sent again.
    SendAgain,
    /// It answers a message of ours, and the server skips to a Sync of ours.
    SwallowAndSkip,
    /// The bind failed.
    Unbound,
}

impl Session {
    /// Takes in what a server connection sent. Returns how many bytes are dealt with.
    ///
    /// # Errors
    /// A server that breaks the protocol: the server connection and the session end.
    pub fn on_server(
        &mut self,
        input: &[u8],
        backend: &mut BackendState,
        core: &Core<'_>,
        lanes: &mut Lanes,
    ) -> Result<(usize, Progress), Fault> {
        let mut at = 0;
        loop {
            if self.relaying > 0 {
                let relayed = self.relaying.min(input.len() - at);
                lanes.client.relay(input, at..at + relayed);
                self.relaying -= relayed;
                at += relayed;
            }
            if self.discarding > 0 {
                let dropped = self.discarding.min(input.len() - at);
                self.discarding -= dropped;
                at += dropped;
            }
            let rest = &input[at..];
            let framed = Frame::from_server(rest).map_err(|_| broken("a message has an impossible length"));
            let Some(frame) = framed.inspect_err(|_| self.broken = true)? else { break };
            let seen = &rest[..rest.len().min(frame.total)];
            if frame.total > OPENED_MESSAGE_BYTES_MAX && matches!(frame.tag, b'Z' | b'C' | b's') {
                self.broken = true;
                return Err(broken("an answer that is too long"));
            }
            if !frame.is_whole(rest) && !self.is_enough(frame, seen) {
                break;
            }
            let fate = self.fate(frame.tag, seen, backend, core).inspect_err(|_| self.broken = true)?;
            let of_repeated = matches!(fate, Fate::RelayRepeated | Fate::RelayUnrepeated);
            if of_repeated {
                author::parse_complete(lanes.client.author(input));
            }
            let relayed = of_repeated || matches!(fate, Fate::Relay | Fate::RelayLast | Fate::RelayAndSkip);
            if relayed && frame.tag == b'Z' {
                self.tell_parameters(input, backend, lanes);
            }
            if relayed {
                self.relay(frame, input, at..at + seen.len(), lanes);
            } else {
                self.discarding = frame.total - seen.len();
            }
            at += seen.len();
            if let Some(progress) = self.act(fate, seen, input, backend, core, lanes) {
                return Ok((at, progress));
            }
        }
        self.end_failed_copy(lanes);
        self.settle(lanes);
        let owes_too_many = self.owes_records && self.happened.len() > OWED_RECORDS_MAX;
        Ok((at, if owes_too_many { Progress::Withheld } else { Progress::Going }))
    }

    /// Relays what is there of a message; the rest follows unread. An error that speaks of what the proxy changed is led back to
    /// what the client sent.
    fn relay(&mut self, frame: Frame, input: &[u8], range: Range<usize>, lanes: &mut Lanes) {
        let seen = &input[range.clone()];
        if frame.tag == b'E' && seen.len() == frame.total {
            if let Some(why) = &self.stopped
                && is_cancelled(seen)
            {
                author::error(lanes.client.author(input), author::Severity::Error, why);
                self.stopped = None;
                return;
            }
            if let Some(Expect::Bind(Bound { statement: Some(name), .. })) = self.expects.head() {
                // Postgres quotes the name of the statement that it was told.
                return author::renamed_error(lanes.client.author(input), seen, Name::PREFIX, name);
            }
            if let Some(position) = self.position_of(seen) {
                return author::repositioned_error(lanes.client.author(input), seen, position);
            }
        }
        self.relaying = frame.total - seen.len();
        lanes.client.relay(input, range);
    }

    /// Does what a message's fate asks for, and says what stops the turn.
    fn act(
        &mut self,
        fate: Fate,
        seen: &[u8],
        input: &[u8],
        backend: &mut BackendState,
        core: &Core<'_>,
        lanes: &mut Lanes,
    ) -> Option<Progress> {
        match fate {
            Fate::Relay | Fate::Swallow => {}
            Fate::Notification(pid) => self.tell_notification(seen, pid, input, core, lanes),
            Fate::RelayLast | Fate::RelayRepeated | Fate::SwallowLast => self.pay(input, core, lanes),
            Fate::SendAgain => self.send_again(backend, lanes),
            Fate::RelayAndSkip | Fate::RelayUnrepeated | Fate::SwallowAndSkip => {
                self.skip(backend, core);
                self.sync_held_query(lanes);
            }
            Fate::Denied => {
                if let Some(Expect::Injected(Injected::Denial(fault))) = self.expects.head() {
                    author::error(lanes.client.author(input), author::Severity::Error, fault);
                }
                self.skip(backend, core);
                self.sync_held_query(lanes);
            }
            Fate::Unbound => return Some(Progress::Unbound(unbound(seen))),
            Fate::Ask(request) => return Some(Progress::Ask(request)),
            Fate::Proceed => {
                let _ = self.proceed(input, backend, core, lanes);
            }
            Fate::Refit => {
                self.pay(input, core, lanes);
                self.refit(backend, core, lanes);
                self.expects.push(Expect::Ready, &mut lanes.client);
            }
            Fate::Withhold => return Some(self.withhold(input, backend, core, lanes)),
        }
        if matches!(self.expects.head(), Some(Expect::Ready)) {
            if self.owes_records {
                return Some(self.withhold(input, backend, core, lanes));
            }
            self.tell_parameters(input, backend, lanes);
            author::ready_in(lanes.client.author(input), self.status);
            self.expects.pop(input, &mut lanes.client);
        }
        None
    }

    /// What is owed first has come.
    fn pay(&mut self, input: &[u8], core: &Core<'_>, lanes: &mut Lanes) {
        let place = self.expects.head_at();
        let paid = self.expects.pop(input, &mut lanes.client);
        self.paid(paid, place, core, lanes);
    }

    /// What was owed first, at this place in the queue, has come.
    fn paid(&mut self, paid: Option<Expect>, place: u64, core: &Core<'_>, lanes: &mut Lanes) {
        match paid {
            Some(Expect::Execute(_)) => self.sync_held_query(lanes),
            Some(Expect::Bind(Bound { portal: Some(serial), .. })) => self.portals.confirmed(serial),
            Some(Expect::Repeat(repeated)) => {
                self.statements.unnamed_confirmed(repeated.serial);
                repeated.portal.into_iter().for_each(|serial| self.portals.confirmed(serial));
            }
            Some(Expect::ClosePortal(name)) => self.portals.closed(&name, place),
            Some(Expect::Parse(Parsed::Named { name, sent, .. })) => {
                self.statements.answered(&name, sent, core.bodies.moment());
            }
            Some(paid) => {
                if let Some(serial) = paid.unnamed() {
                    self.statements.unnamed_confirmed(serial);
                }
            }
            None => {}
        }
    }

    /// The client's ReadyForQuery waits for the audit trail.
    fn withhold(&mut self, input: &[u8], backend: &BackendState, core: &Core<'_>, lanes: &mut Lanes) -> Progress {
        self.tell_parameters(input, backend, lanes);
        self.withheld = Some(self.status);
        let place = self.expects.head_at();
        // Answers of ours that are due behind it wait as well.
        let paid = if self.expects.len() > 1 {
            self.expects.stand_in(Expect::Ready)
        } else {
            self.expects.pop(input, &mut lanes.client)
        };
        self.paid(paid, place, core, lanes);
        self.end_failed_copy(lanes);
        self.settle(lanes);
        Progress::Withheld
    }

    /// A Sync that the client sent while its copy failed is answered, as one behind the failure.
    fn end_failed_copy(&mut self, lanes: &mut Lanes) {
        if !std::mem::take(&mut self.copy_failed) {
            return;
        }
        self.copy_refused = false;
        for _ in 0..std::mem::take(&mut self.copy_synced) {
            inject::bare(lanes.server.author(&[]), b'S');
            self.expects.push(Expect::Sync, &mut lanes.client);
            self.in_cycle = false;
            self.skipping = false;
        }
    }

    /// Whether of a message that isn't there as a whole there is enough to act upon.
    fn is_enough(&self, frame: Frame, seen: &[u8]) -> bool {
        let swallowing = matches!(self.expects.head(), Some(Expect::Injected(_)));
        match frame.tag {
            b'N' => {
                let is_opened = self.reported.is_some() || may_be_report(seen);
                !is_opened || seen.len() >= NOTICE_OPENED_BYTES_MAX
            }
            b'S' | b'A' => frame.total > OPENED_MESSAGE_BYTES_MAX,
            b'Z' | b'C' | b's' => false,
            b'E' => seen.len() >= OPENED_MESSAGE_BYTES_MAX,
            _ => !swallowing || frame.total > OPENED_MESSAGE_BYTES_MAX,
        }
    }

    fn fate(&mut self, tag: u8, seen: &[u8], backend: &mut BackendState, core: &Core<'_>) -> Result<Fate, Fault> {
        let swallowing = matches!(self.expects.head(), Some(Expect::Injected(_)));
        match tag {
            b'Z' => self.ready(seen, core),
            b'E' => self.error(seen, backend, core),
            b'S' => parameter(seen, backend),
            b'N' if self.is_report(seen, backend, core) => Ok(Fate::Swallow),
            b'N' if swallowing => {
                self.keep_notice(seen);
                Ok(Fate::Swallow)
            }
            b'A' => Ok(self.notified(seen, backend, core)),
            b'N' => {
                // What Postgres has to say of a text must be said every time.
                if let Some(Expect::Parse(Parsed::Repeated { name, .. })) = self.expects.head() {
                    backend.repeat_refused(*name);
                }
                Ok(Fate::Relay)
            }
            b'V' => self.function_result(seen, backend),
            _ => self.answer(tag, seen, backend, core),
        }
    }

    /// The messages that mean something only as the answer to what is owed first.
    fn answer(&mut self, tag: u8, seen: &[u8], backend: &mut BackendState, core: &Core<'_>) -> Result<Fate, Fault> {
        let head = self.expects.head().ok_or_else(|| broken("an answer that nothing was asked for"))?;
        match (tag, head) {
            (b'D' | b'H' | b'd' | b'c', Expect::Query(..) | Expect::Execute(_)) => Ok(Fate::Relay),
            (b'T' | b'I', Expect::Query(..)) => Ok(Fate::Relay),
            (b'C', Expect::Query(..)) => {
                self.note(seen, backend, core);
                Ok(Fate::Relay)
            }
            (b'G', Expect::Query(..) | Expect::Execute(_)) => {
                let extended = matches!(head, Expect::Execute(_));
                self.copying_in = match self.expects.copy_begins() {
                    CopyInput::Awaited => true,
                    CopyInput::Ended => false,
                    CopyInput::Refused(expect) => {
                        undo(&expect, backend);
                        self.skipped(expect, core);
                        false
                    }
                };
                self.copy_synced = 0;
                self.early_data = false;
                // The Sync that the client sent with its Execute is read by nobody: another one must come. So is a Flush of ours.
                self.in_cycle |= extended && self.copying_in;
                self.awaiting = false;
                if extended {
                    self.lower_barrier();
                }
                Ok(Fate::Relay)
            }
            (b'C' | b'I' | b's', Expect::Execute(_)) => {
                self.copying_in = false;
                Ok(match self.note(seen, backend, core) {
                    Some(request) => Fate::Ask(request),
                    None if self.deciding.is_some() => Fate::Proceed,
                    None => Fate::RelayLast,
                })
            }
            (b'C', Expect::Injected(Injected::Discard)) => {
                self.discarded(&seen[HEAD..], backend);
                Ok(Fate::Swallow)
            }
            (b'1', Expect::Parse(_)) | (b'2', Expect::Bind(_)) => Ok(Fate::RelayLast),
            (b'2', Expect::Repeat(_)) => {
                self.repeating = false;
                Ok(Fate::RelayRepeated)
            }
            (b'3', Expect::Close | Expect::CloseUnnamed(_) | Expect::ClosePortal(_)) => Ok(Fate::RelayLast),
            (b't', Expect::Describe) => Ok(Fate::Relay),
            (b'T' | b'n', Expect::Describe) => Ok(Fate::RelayLast),
            (
                b'1',
                Expect::Injected(
                    Injected::Parse(..)
                    | Injected::Unnamed
                    | Injected::Throwaway
                    | Injected::Surface(_)
                    | Injected::SurfaceInCycle(_)
                    | Injected::Replacing(_),
                ),
            )
            | (b'2', Expect::Injected(Injected::Bound))
            | (b'n', Expect::Injected(Injected::Columns)) => Ok(Fate::SwallowLast),
            (b'T', Expect::Injected(Injected::Columns)) => Ok(Fate::RelayLast),
            (b'3', Expect::Injected(Injected::Close | Injected::CloseSurfaced | Injected::Drop(_))) => {
                Ok(Fate::SwallowLast)
            }
            _ => Err(broken("an answer to something else than was asked")),
        }
    }

    /// A statement is complete. On the way that most take nothing is to be noted.
    fn note(&mut self, seen: &[u8], backend: &mut BackendState, core: &Core<'_>) -> Option<Request> {
        let is_noted = self.expects.is_watched() || !self.portals.is_empty();
        if self.transaction.is_untouched() && self.metered.is_empty() && !is_noted {
            return None;
        }
        if self.may_lose_names() {
            self.note_names(seen, backend);
        }
        self.note_undone(&seen[HEAD..]);
        self.note_discarded(&seen[HEAD..]);
        self.completed(seen, core)
    }

    /// A statement is complete that may have taken names of prepared statements away. No rollback brings them back.
    fn note_names(&mut self, seen: &[u8], backend: &mut BackendState) {
        let is_discard = seen[HEAD..].starts_with(b"DISCARD ALL");
        match self.expects.statement().map(|statement| &statement.kind) {
            Some(StatementKind::Deallocate(Some(name))) => {
                self.statements.remove(name.as_bytes());
                self.thrown_away.retain(|each| **each != *name.as_bytes());
            }
            Some(kind) if is_discard || *kind == StatementKind::Deallocate(None) => {
                self.statements.clear();
                self.thrown_away.clear();
                backend.deallocated();
            }
            _ => {}
        }
    }

    fn ready(&mut self, seen: &[u8], core: &Core<'_>) -> Result<Fate, Fault> {
        let status = open::ready_status(seen).filter(|status| matches!(status, b'I' | b'T' | b'E'));
        self.status = status.ok_or_else(|| broken("a ReadyForQuery with an unknown status"))?;
        self.ended += u64::from(self.status == b'I');
        if self.alters && self.status == b'I' {
            self.alters = false;
            core.bodies.alterations().note();
        }
        self.copying_in = false;
        match self.expects.head() {
            Some(Expect::Sync | Expect::Query(..) | Expect::Call) => {
                self.at_ready(core);
                Ok(if self.must_refit() {
                    Fate::Refit
                } else if self.owes_records {
                    Fate::Withhold
                } else {
                    Fate::RelayLast
                })
            }
            Some(Expect::Injected(Injected::Discard)) => {
                self.lodging.discarding = false;
                Ok(Fate::SwallowLast)
            }
            Some(Expect::Injected(Injected::Again(_))) => Ok(Fate::SendAgain),
            Some(Expect::Injected(
                Injected::Setting | Injected::Bind(_) | Injected::ReadBack(_) | Injected::MayGive | Injected::Sync,
            )) => Ok(Fate::SwallowLast),
            _ => Err(broken("a ReadyForQuery that nothing was asked for")),
        }
    }

    fn function_result(&mut self, seen: &[u8], backend: &mut BackendState) -> Result<Fate, Fault> {
        match self.expects.head() {
            Some(Expect::Call) => Ok(Fate::Relay),
            Some(Expect::Injected(Injected::Setting | Injected::MayGive)) => Ok(Fate::Swallow),
            Some(Expect::Injected(Injected::Bind(step))) => {
                // Only who has the signing key can say the seal: an answer that a client smuggled in isn't taken for this one.
                let echoed = open::function_result(seen).ok().flatten();
                if step.echoes() {
                    if echoed != Some(self.bind_echo.as_bytes()) {
                        return Err(broken("another seal was set than was asked for"));
                    }
                    // A client that is idle from now on needs no room for it.
                    self.bind_echo = String::new();
                }
                Ok(Fate::Swallow)
            }
            Some(Expect::Injected(Injected::ReadBack(name))) => {
                let name = name.clone();
                let value = open::function_result(seen).map_err(|_| broken("a function result that overruns"))?;
                self.read_back(&name, value, backend);
                Ok(Fate::Swallow)
            }
            _ => Err(broken("a function result that nothing was asked for")),
        }
    }
}

/// The server breaks the protocol.
pub(super) fn broken(what: &'static str) -> Fault {
    Fault::new(Origin::Upstream, SqlState::CONNECTION_FAILURE, "the server connection broke the protocol").log(what)
}
