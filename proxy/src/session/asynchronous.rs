//! What a server sends unasked: settings that it reports, notices and notifications. Whose they are isn't said by what is owed.

use std::sync::Arc;

use bytes::Bytes;

use crate::backend::BackendState;
use crate::domain::Fault;
use crate::wire::{Frame, author, open};

use super::server::{Fate, broken};
use super::{Core, Lanes, Session};

/// So many notices are passed on to a client that connects.
const NOTICES_KEPT_MAX: usize = 16;

impl Session {
    /// Tells the client which settings are reported with other values than it knows. The server connection may have been
    /// others' meanwhile, so what the server reports is relayed by this alone.
    pub(super) fn tell_parameters(&mut self, input: &[u8], backend: &BackendState, lanes: &mut Lanes) {
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

    /// A notification: of a channel that isn't the workspace's the client hears nothing.
    pub(super) fn notified(&self, seen: &[u8], backend: &BackendState, core: &Core<'_>) -> Fate {
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
    pub(super) fn keep_notice(&mut self, seen: &[u8]) {
        let is_whole = Frame::from_server(seen).ok().flatten().is_some_and(|frame| frame.is_whole(seen));
        if let Some(reported) = &mut self.reported
            && reported.notices.len() < NOTICES_KEPT_MAX
            && is_whole
        {
            reported.notices.push(Bytes::copy_from_slice(seen));
        }
    }

    /// Tells the client of a notification, by the name that it knows for the channel.
    pub(super) fn tell_notification(&self, seen: &[u8], pid: i32, input: &[u8], core: &Core<'_>, lanes: &mut Lanes) {
        if let Some((channel, payload)) = open::notification(seen)
            && let Some(own) = self.own_channel(channel, core)
        {
            author::notification(lanes.client.author(input), pid, own, payload);
        }
    }
}

/// A setting is reported. The client is told with its ReadyForQuery, as Postgres does since version 14.
pub(super) fn parameter(seen: &[u8], backend: &mut BackendState) -> Result<Fate, Fault> {
    let (name, value) = open::parameter_status(seen).map_err(|_| broken("a ParameterStatus that overruns"))?;
    backend.reports(name, value);
    Ok(Fate::Swallow)
}
