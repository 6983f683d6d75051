//! What a new client is told about the server: the parameters a real Postgres reports for the settings the client asked
//! for. They are learnt from a real server connection and remembered for a while.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::audit::Client;
use crate::backend::{Parameters, Settings};
use crate::domain::clock::{self, Instant};
use crate::domain::{Fault, Origin, SqlState};
use crate::pool::{Lease, Outcome, Pool};
use crate::session::{Lanes, Leaving, Progress, Session};
use crate::tenant::Binding;
use crate::wire::author;

use super::core::CoreContext;

/// How long a greeting is believed. A setting that the operator changes shows after this time at the latest.
const GREETING_LIFE: Duration = Duration::from_secs(10);
/// How many greetings a core remembers.
const GREETINGS_MAX: usize = 64;

/// What a client is greeted with. The clients of a core that ask for the same share it.
#[derive(Clone)]
pub(super) struct Greeting {
    /// The database.
    pub(super) database: Rc<str>,
    /// The settings that were asked for.
    pub(super) settings: Arc<Settings>,
    /// ParameterStatus messages.
    pub(super) parameters: Arc<Parameters>,
    /// Notices for the settings that the client asked for, as they came.
    notices: Rc<[Bytes]>,
}

/// The greetings a core remembers.
#[derive(Default)]
pub struct Greetings {
    known: Vec<Known>,
}

struct Known {
    role: Arc<str>,
    greeting: Greeting,
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
    ) -> Option<Greeting> {
        self.known.retain(|known| now.duration_since(known.since) < GREETING_LIFE);
        let is_it = |known: &&Known| {
            &*known.greeting.database == database
                && &*known.role == role
                && *known.greeting.settings == *settings
                && known.vacations == vacations
        };
        self.known.iter().find(is_it).map(|known| known.greeting.clone())
    }

    fn put(&mut self, known: Known) {
        if self.known.len() >= GREETINGS_MAX {
            self.known.remove(0);
        }
        self.known.push(known);
    }
}

/// Learns what a client with these settings is greeted with.
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
) -> Result<Greeting, Fault> {
    let vacations = pool.vacations();
    let known = core.greetings.borrow_mut().get(database, binding.role(), settings, vacations, clock::now());
    if let Some(greeting) = known {
        return Ok(greeting);
    }
    let lease = match pool.try_lease(binding, None) {
        Some(lease) => lease,
        None => pool.lease(binding, None).await?,
    };
    let greeting = ask(core, lease, database, binding, settings, client).await?;
    core.greetings.borrow_mut().put(Known {
        role: binding.role().clone(),
        greeting: greeting.clone(),
        since: clock::now(),
        vacations,
    });
    Ok(greeting)
}

/// Gives a server connection the settings and collects what it reports.
async fn ask(
    core: &CoreContext,
    mut lease: Lease,
    database: &str,
    binding: &Binding,
    settings: &Arc<Settings>,
    client: &Arc<Client>,
) -> Result<Greeting, Fault> {
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
    let (reported, parameters) = (session.take_reported(), lease.state.reported().clone());
    let outcome = match session.leaving(&lease.state) {
        Leaving::Clean => Outcome::Clean,
        Leaving::Soiled => Outcome::Dirty,
        Leaving::Busy => Outcome::Broken,
    };
    // It is somebody's home, who may be on another core.
    lease.hand_back(outcome);
    match reported.refused {
        Some(refused) => Err(refused),
        None => {
            let notices = reported.notices.into();
            Ok(Greeting { database: database.into(), settings: settings.clone(), parameters, notices })
        }
    }
}

/// Writes a greeting for a client.
pub(super) fn write(out: &mut bytes::BytesMut, greeting: &Greeting) {
    greeting.notices.iter().for_each(|notice| out.extend_from_slice(notice));
    for (name, value) in greeting.parameters.iter() {
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
