//! What a new client is told about the server: the parameters a real Postgres reports for the settings the client asked
//! for. They are learnt from a real server connection and remembered for a while.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::audit::Client;
use crate::backend::Settings;
use crate::domain::clock::{self, Instant};
use crate::domain::{Fault, Origin, SqlState};
use crate::pool::{Lease, Outcome, Pool};
use crate::session::{Lanes, Leaving, Parameter, Progress, Session};
use crate::tenant::Binding;
use crate::wire::author;

use super::core::CoreContext;

/// How long a greeting is believed. A setting that the operator changes shows after this time at the latest.
const GREETING_LIFE: Duration = Duration::from_secs(10);
/// How many greetings a core remembers.
const GREETINGS_MAX: usize = 64;

/// Names and values of ParameterStatus messages, in order.
pub type Parameters = Rc<Vec<Parameter>>;

/// The greetings a core remembers.
#[derive(Default)]
pub struct Greetings {
    known: Vec<Known>,
}

struct Known {
    database: Rc<str>,
    role: Arc<str>,
    settings: Arc<Settings>,
    parameters: Parameters,
    since: Instant,
    /// The pool's, when this was learnt.
    vacations: u64,
}

impl Greetings {
    fn get(
        &mut self,
        database: &str,
        role: &str,
        settings: &Settings,
        vacations: u64,
        now: Instant,
    ) -> Option<Parameters> {
        self.known.retain(|known| now.duration_since(known.since) < GREETING_LIFE);
        let is_it = |known: &&Known| {
            &*known.database == database
                && &*known.role == role
                && *known.settings == *settings
                && known.vacations == vacations
        };
        self.known.iter().find(is_it).map(|known| known.parameters.clone())
    }

    fn put(&mut self, known: Known) {
        if self.known.len() >= GREETINGS_MAX {
            self.known.remove(0);
        }
        self.known.push(known);
    }
}

/// Learns the parameters for a client with these settings.
///
/// # Errors
/// No server connection, or Postgres' own error for a setting it doesn't accept.
pub(super) async fn learn(
    core: &Rc<CoreContext>,
    pool: &Rc<Pool>,
    database: &str,
    binding: &Binding,
    settings: &Arc<Settings>,
    client: &Arc<Client>,
) -> Result<Parameters, Fault> {
    let vacations = pool.vacations();
    let known = core.greetings.borrow_mut().get(database, binding.role(), settings, vacations, clock::now());
    if let Some(parameters) = known {
        return Ok(parameters);
    }
    let lease = match pool.try_lease(binding) {
        Some(lease) => lease,
        None => pool.lease(binding).await?,
    };
    let parameters = Rc::new(ask(core, lease, database, binding, settings, client).await?);
    core.greetings.borrow_mut().put(Known {
        database: database.into(),
        role: binding.role().clone(),
        settings: settings.clone(),
        parameters: parameters.clone(),
        since: clock::now(),
        vacations,
    });
    Ok(parameters)
}

/// Gives a server connection the settings and collects what it reports.
async fn ask(
    core: &CoreContext,
    mut lease: Lease,
    database: &str,
    binding: &Binding,
    settings: &Arc<Settings>,
    client: &Arc<Client>,
) -> Result<Vec<Parameter>, Fault> {
    let mut parameters: Vec<Parameter> = lease
        .connection
        .parameters
        .iter()
        .map(|(name, value)| (name.as_bytes().into(), value.as_bytes().into()))
        .collect();
    let mut session = Session::new(0, binding.workspace(), settings.clone());
    let (mut lanes, must_bind) = (Lanes::default(), lease.needs_bind());
    core.with(database, |core| session.greet(&mut lease.state, must_bind, core, &mut lanes));
    lease.connection.socket.write_all(lanes.server.bytes(&[])).await.map_err(lost)?;
    let mut received = bytes::BytesMut::new();
    while session.is_waiting() {
        if lease.connection.socket.read_buf(&mut received).await.map_err(lost)? == 0 {
            return Err(lost(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let (taken, progress) =
            core.with(database, |core| session.on_server(&received, &mut lease.state, core, &mut lanes))?;
        lanes.client.clear();
        bytes::Buf::advance(&mut received, taken);
        if let Progress::Unbound(fault) = progress {
            lease.release(Outcome::Broken);
            super::audit::bind_failed(core, client, binding, &fault);
            return Err(fault);
        }
    }
    let reported = session.take_reported();
    let outcome = match session.leaving(&lease.state) {
        Leaving::Clean => Outcome::Clean,
        Leaving::Soiled => Outcome::Dirty,
        Leaving::Busy => Outcome::Broken,
    };
    lease.release(outcome);
    if let Some(refused) = reported.refused {
        return Err(refused);
    }
    for (name, value) in reported.parameters {
        match parameters.iter_mut().find(|(each, _)| *each == name) {
            Some(known) => known.1 = value,
            None => parameters.push((name, value)),
        }
    }
    Ok(parameters)
}

/// Writes the parameters for a client.
pub(super) fn write(out: &mut bytes::BytesMut, parameters: &Parameters) {
    for (name, value) in parameters.iter() {
        author::parameter_status(out, name, value);
    }
}

fn lost(error: std::io::Error) -> Fault {
    Fault::new(
        Origin::Upstream,
        SqlState::CANNOT_CONNECT_NOW,
        "the server connection was lost while the session was opened",
    )
    .log(error.to_string())
}
