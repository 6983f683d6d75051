//! What the door and the sessions tell the audit trail.

use std::net::SocketAddr;
use std::sync::Arc;

use serde_json::json;

use crate::audit::settings::{Durability, OnFailure, Statements};
use crate::audit::{Client, Event, EventType, Outcome};
use crate::auth::Directory;
use crate::domain::{Fault, SqlState};
use crate::limits::Overstay;
use crate::session::{AuditPolicy, Happened, Texts};
use crate::tenant::Binding;
use crate::wire::startup::Startup;

use super::core::{CoreContext, Shared};

/// Who a peer says it is.
pub(super) fn client(startup: &Startup, peer: SocketAddr) -> Arc<Client> {
    // The default is one for all: many say nothing of themselves.
    let said =
        |name: &str| startup.parameter(name).filter(|said| !said.is_empty()).map_or_else(Arc::default, Arc::from);
    Arc::new(Client { addr: Some(peer.ip()), user: said("user"), application_name: said("application_name") })
}

/// A login was refused: wrong secret, unknown key, no such database, … Nobody waits for the record of it, so that who tries
/// many is only counted.
pub(super) fn login_refused(core: &CoreContext, client: &Arc<Client>, fault: &Fault) {
    // Only a key that exists is a key: what else stands in its place may be anything, a secret too.
    let key = core.shared.snapshot.load().key(&client.user);
    let event = Event {
        key_id: key.as_ref().map(|key| key.key_id.clone()),
        workspace: key.as_ref().and_then(|key| key.workspace),
        outcome: Outcome::Denied,
        ..failed(EventType::ApiKeyAccessFailed, client, fault)
    };
    core.shared.recorder.record(event);
}

/// A session is open. With strict logins this returns when that is on disk.
///
/// # Errors
/// It isn't, and what can't be recorded is refused.
pub(super) async fn session_opened(
    core: &CoreContext,
    client: &Arc<Client>,
    binding: &Binding,
    database: &str,
    encrypted: bool,
) -> Result<(), Fault> {
    let detail = json!({ "database": database, "kind": binding.tenant().kind.as_str(), "tls": encrypted });
    let event = Event::new(EventType::ApiKeyAccess, client.clone());
    login(core, of(binding, Event { detail: Some(detail), ..event })).await
}

/// The secret was right, and no session could be opened.
pub(super) async fn session_refused(core: &CoreContext, client: &Arc<Client>, binding: &Binding, fault: &Fault) {
    let _ = login(core, of(binding, failed(EventType::ApiKeyAccess, client, fault))).await;
}

/// A server connection couldn't be bound to the session's workspace. That a client cancels its own is nothing to be told of.
pub(super) fn bind_failed(core: &CoreContext, client: &Arc<Client>, binding: &Binding, fault: &Fault) {
    if fault.sqlstate == SqlState::QUERY_CANCELED {
        return;
    }
    core.shared.recorder.record(of(binding, failed(EventType::ContextFailed, client, fault)));
}

/// A client took too long for something. To keep others waiting with a lock on a whole table is what no honest program does.
pub(super) fn overstayed(
    core: &CoreContext,
    client: &Arc<Client>,
    binding: &Binding,
    overstay: Overstay,
    fault: &Fault,
) {
    let kind = match overstay {
        Overstay::TableLock => EventType::SuspiciousActivity,
        _ => EventType::RateLimitExceeded,
    };
    let detail = Some(json!({ "limit": overstay.name() }));
    let event = Event { outcome: Outcome::Denied, detail, ..failed(kind, client, fault) };
    core.shared.recorder.record(of(binding, event));
    core.shared.tally.overstayed(overstay);
}

/// How the trail keeps writes.
pub(super) fn policy(shared: &Shared) -> AuditPolicy {
    let audit = &shared.audit;
    AuditPolicy {
        strict: audit.enabled && audit.writes != Durability::Relaxed,
        texts: match audit.statements {
            Statements::Normalized => Texts::Normalized,
            Statements::None => Texts::None,
            Statements::Full => Texts::Full,
        },
        refuses: audit.on_failure == OnFailure::Refuse && shared.recorder.is_failing(),
    }
}

/// What happened in a session. Nobody waits for the record.
pub(super) fn happened(core: &CoreContext, client: &Arc<Client>, binding: &Binding, happened: Vec<Happened>) {
    for each in happened {
        core.shared.recorder.record(event(each, client, binding));
    }
}

/// The same, and returns when it is on disk.
///
/// # Errors
/// It isn't, and what can't be recorded is refused.
pub(super) fn happened_durably(
    core: &CoreContext,
    client: &Arc<Client>,
    binding: &Binding,
    happened: Vec<Happened>,
) -> impl Future<Output = Result<(), Fault>> + use<> {
    let events = happened.into_iter().map(|each| event(each, client, binding)).collect();
    let (ticket, on_failure) = (core.shared.recorder.record_durably(events), core.shared.audit.on_failure);
    async move {
        match (ticket.await, on_failure) {
            (Err(fault), OnFailure::Refuse) => Err(fault),
            _ => Ok(()),
        }
    }
}

fn event(happened: Happened, client: &Arc<Client>, binding: &Binding) -> Event {
    let Happened { kind, severity, relation, resource, statement, rows, outcome, sqlstate, duration_us, detail } =
        happened;
    let event = Event::new(kind, client.clone());
    of(
        binding,
        Event { severity, relation, resource, statement, rows, outcome, sqlstate, duration_us, detail, ..event },
    )
}

async fn login(core: &CoreContext, event: Event) -> Result<(), Fault> {
    let (recorder, audit) = (&core.shared.recorder, &core.shared.audit);
    if audit.logins == Durability::Relaxed {
        recorder.record(event);
        return Ok(());
    }
    match (recorder.record_durably(vec![event]).await, audit.on_failure) {
        (Err(fault), OnFailure::Refuse) => Err(fault),
        _ => Ok(()),
    }
}

fn of(binding: &Binding, event: Event) -> Event {
    Event { workspace: binding.workspace(), key_id: Some(binding.key_id().clone()), ..event }
}

fn failed(kind: EventType, client: &Arc<Client>, fault: &Fault) -> Event {
    Event {
        outcome: Outcome::Failed,
        sqlstate: fault.sqlstate.0.as_bytes().try_into().ok(),
        detail: Some(json!({ "reason": fault.log.as_deref().unwrap_or(&fault.message) })),
        ..Event::new(kind, client.clone())
    }
}
