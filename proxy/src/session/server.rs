//! The server's side: each message is held against what is owed, and relayed, swallowed or acted upon. Rows and copy data
//! pass unread. The server is no more trusted with the framing than a client is.

use std::sync::Arc;

use bytes::Bytes;

use crate::backend::{BackendState, Unnamed};
use crate::domain::limits::OPENED_MESSAGE_BYTES_MAX;
use crate::domain::{Fault, Origin, SqlState};
use crate::sql::StatementKind;
use crate::wire::frame::HEAD;
use crate::wire::{Frame, author, inject, open};

use super::admission::Request;
use super::expect::{BindStep, Bound, CopyInput, Expect, Injected, Parsed};
use super::reports::may_be_report;
use super::{Core, Lanes, Progress, Session};

/// How much of a notice is looked at to learn whether it is a meter's report, in bytes. What matters stands in front; behind it
/// is the CONTEXT, as long as functions are nested.
const NOTICE_OPENED_BYTES_MAX: usize = 16 * 1024;

/// So many notices are passed on to a client that connects.
const NOTICES_KEPT_MAX: usize = 16;

/// How many records of finished transactions a client that never waits for an answer may have open.
const OWED_RECORDS_MAX: usize = 1024;

/// What becomes of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
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
            let relayed = matches!(fate, Fate::Relay | Fate::RelayLast | Fate::RelayAndSkip);
            if relayed && frame.tag == b'Z' {
                self.tell_parameters(input, backend, lanes);
            }
            if let (b'E', Some(Expect::Bind(Bound { statement: Some(name), .. }))) = (frame.tag, self.expects.head())
                && frame.is_whole(rest)
                && relayed
            {
                // Postgres quotes the name of the statement that it was told.
                author::renamed_error(lanes.client.author(input), seen, crate::backend::Name::PREFIX, name);
            } else if let b'E' = frame.tag
                && frame.is_whole(rest)
                && relayed
                && let Some(position) = self.position_of(seen)
            {
                author::repositioned_error(lanes.client.author(input), seen, position);
            } else if relayed {
                lanes.client.relay(input, at..at + seen.len());
                self.relaying = frame.total - seen.len();
            } else {
                self.discarding = frame.total - seen.len();
            }
            at += seen.len();
            match fate {
                Fate::Relay | Fate::Swallow => {}
                Fate::Notification(pid) => {
                    if let Some((channel, payload)) = open::notification(seen)
                        && let Some(own) = self.own_channel(channel, core)
                    {
                        author::notification(lanes.client.author(input), pid, own, payload);
                    }
                }
                Fate::RelayLast | Fate::SwallowLast => {
                    let place = self.expects.head_at();
                    let paid = self.expects.pop(input, &mut lanes.client);
                    self.paid(paid, place, core, lanes);
                }
                Fate::RelayAndSkip | Fate::SwallowAndSkip => {
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
                Fate::Unbound => return Ok((at, Progress::Unbound(unbound(seen)))),
                Fate::Ask(request) => return Ok((at, Progress::Ask(request))),
                Fate::Proceed => {
                    let _ = self.proceed(input, backend, core, lanes);
                }
                Fate::Refit => {
                    let place = self.expects.head_at();
                    let paid = self.expects.pop(input, &mut lanes.client);
                    self.paid(paid, place, core, lanes);
                    self.refit(backend, core, lanes);
                    self.expects.push(Expect::Ready, &mut lanes.client);
                }
                Fate::Withhold => return Ok((at, self.withhold(input, backend, core, lanes))),
            }
            if matches!(self.expects.head(), Some(Expect::Ready)) {
                if self.owes_records {
                    return Ok((at, self.withhold(input, backend, core, lanes)));
                }
                self.tell_parameters(input, backend, lanes);
                author::ready_in(lanes.client.author(input), self.status);
                self.expects.pop(input, &mut lanes.client);
            }
        }
        self.end_failed_copy(lanes);
        self.settle(lanes);
        let owes_too_many = self.owes_records && self.happened.len() > OWED_RECORDS_MAX;
        Ok((at, if owes_too_many { Progress::Withheld } else { Progress::Going }))
    }

    /// What was owed first, at this place in the queue, has come.
    fn paid(&mut self, paid: Option<Expect>, place: u64, core: &Core<'_>, lanes: &mut Lanes) {
        match paid {
            Some(Expect::Execute(_)) => self.sync_held_query(lanes),
            Some(Expect::Bind(Bound { portal: Some(serial), .. })) => self.portals.confirmed(serial),
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

    /// Tells the client which settings are reported with other values than it knows. The server connection may have been
    /// others' meanwhile, so what the server reports is relayed by this alone.
    fn tell_parameters(&mut self, input: &[u8], backend: &BackendState, lanes: &mut Lanes) {
        let reported = backend.reported();
        if Arc::ptr_eq(&self.told, reported) {
            return;
        }
        if !self.told.is_like(reported) {
            for (name, value) in reported.unknown_to(&self.told) {
                author::parameter_status(lanes.client.author(input), name, value);
            }
        }
        self.told = reported.clone();
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
            b'N' => Ok(Fate::Relay),
            b'V' => self.function_result(seen, backend),
            _ => self.answer(tag, seen, backend, core),
        }
    }

    /// A notification: of a channel that isn't the workspace's the client hears nothing.
    fn notified(&self, seen: &[u8], backend: &BackendState, core: &Core<'_>) -> Fate {
        let notifier = open::notifier(seen);
        let pid = self.renumbered(notifier, backend);
        match open::notification(seen).and_then(|(channel, _)| Some((channel, self.own_channel(channel, core)?))) {
            None => Fate::Swallow,
            Some((channel, own)) if channel == own => pid.map_or(Fate::Relay, Fate::Notification),
            Some(_) => Fate::Notification(pid.or(notifier).unwrap_or(0)),
        }
    }

    /// The process id in place of a notification's own, if it must be another: what the client sent itself has the one that it
    /// knows for its own, and what comes from there hasn't.
    fn renumbered(&self, notifier: Option<i32>, backend: &BackendState) -> Option<i32> {
        match notifier {
            Some(pid) if pid == backend.pid() && pid != self.pid => Some(self.pid),
            Some(pid) if pid == self.pid && pid != backend.pid() => Some(backend.pid()),
            _ => None,
        }
    }

    /// A notice for a setting that the client asked for when it connected. One that isn't there as a whole is too long.
    fn keep_notice(&mut self, seen: &[u8]) {
        let is_whole = Frame::from_server(seen).ok().flatten().is_some_and(|frame| frame.is_whole(seen));
        if let Some(reported) = &mut self.reported
            && reported.notices.len() < NOTICES_KEPT_MAX
            && is_whole
        {
            reported.notices.push(Bytes::copy_from_slice(seen));
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
            Some(Expect::Injected(
                Injected::Setting | Injected::Bind(_) | Injected::ReadBack(_) | Injected::MayGive | Injected::Sync,
            )) => Ok(Fate::SwallowLast),
            _ => Err(broken("a ReadyForQuery that nothing was asked for")),
        }
    }

    fn error(&mut self, seen: &[u8], backend: &mut BackendState, core: &Core<'_>) -> Result<Fate, Fault> {
        if std::mem::take(&mut self.copying_in) {
            self.copy_failed = true;
        }
        let severity =
            open::error_field(seen, b'V').or_else(|| open::error_field(seen, b'S')).map(|range| &seen[range]);
        if matches!(severity, Some(b"FATAL" | b"PANIC")) {
            self.fatal = true;
            return Ok(Fate::Relay);
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

    fn function_result(&mut self, seen: &[u8], backend: &mut BackendState) -> Result<Fate, Fault> {
        match self.expects.head() {
            Some(Expect::Call) => Ok(Fate::Relay),
            Some(Expect::Injected(Injected::Setting | Injected::MayGive)) => Ok(Fate::Swallow),
            Some(Expect::Injected(Injected::Bind(step))) => {
                // Only who has the signing key can say the seal: an answer that a client smuggled in isn't taken for this one.
                let echoed = open::function_result(seen).ok().flatten();
                if *step == BindStep::Seal && echoed != Some(self.sealed_with.as_bytes()) {
                    return Err(broken("another seal was set than was asked for"));
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

    /// The server skips to the next Sync: what was promised for the messages between is undone.
    fn skip(&mut self, backend: &mut BackendState, core: &Core<'_>) {
        // Of an unnamed statement whose own Parse failed nothing is left; one whose Parse was skipped leaves the one before.
        if let Some(Expect::Parse(Parsed::Unnamed(serial))) = self.expects.head() {
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
fn undo(skipped: &Expect, backend: &mut BackendState) {
    match skipped {
        Expect::Parse(Parsed::Named { body, sent, .. }) | Expect::Injected(Injected::Parse(body, sent)) => {
            backend.unprepared(*body, *sent);
        }
        Expect::Injected(Injected::Drop(name)) => backend.not_closed(*name),
        Expect::Injected(Injected::Unnamed | Injected::Close) => backend.set_unnamed(Unnamed::Unknown),
        other if other.unnamed().is_some() => backend.set_unnamed(Unnamed::Unknown),
        _ => {}
    }
}

/// A setting is reported. The client is told with its ReadyForQuery, as Postgres does since version 14.
fn parameter(seen: &[u8], backend: &mut BackendState) -> Result<Fate, Fault> {
    let (name, value) = open::parameter_status(seen).map_err(|_| broken("a ParameterStatus that overruns"))?;
    backend.reports(name, value);
    Ok(Fate::Swallow)
}

/// Whether an error is the one that `cordon.deny()` raises for this fault.
fn is_denial(error: &[u8], fault: &Fault) -> bool {
    let field = |code: u8| open::error_field(error, code).map(|range| &error[range]);
    field(b'C') == Some(fault.sqlstate.0.as_bytes()) && field(b'M') == Some(b"pgcordon: denied")
}

/// Why a bind failed, for the client whose statement was to follow it. A cancel request of its own, or a timeout that it has set,
/// may hit the bind as well as the statement.
fn unbound(error: &[u8]) -> Fault {
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

fn broken(what: &'static str) -> Fault {
    Fault::new(Origin::Upstream, SqlState::CONNECTION_FAILURE, "the server connection broke the protocol").log(what)
}
