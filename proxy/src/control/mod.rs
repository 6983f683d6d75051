//! Control data: workspaces, keys and signing keys. They live in Postgres, in schema `cordon`; the proxy decides by a
//! snapshot, which is loaded anew when something changed: Postgres tells, and is asked every few seconds in any case. The
//! catalogs of the databases are kept the same way.

pub mod audit_read;
pub mod audit_sink;
mod audit_text;
pub mod catalog;
pub mod key_role;
pub mod quota_store;
pub mod quota_truth;
pub mod schema;
pub mod settings;
pub mod signaller;
pub mod snapshot;
pub mod store;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::poll_fn;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_postgres::{AsyncMessage, Client, Config, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::backend::Alterations;
use crate::domain::clock;
use crate::tls::Connector;
use quota_store::Recount;

pub use catalog::Catalogs;
pub use settings::RoleNames;
pub use snapshot::{Snapshot, Workspace};
pub use store::StoreError;

use store::Version;

/// The channel on which the schema's triggers tell of changes.
const CHANNEL: &str = "cordon_control";
/// How often it is asked whether something changed although nothing was heard.
const POLL: Duration = Duration::from_secs(5);
/// For how many times as long as a load took no other one begins: every tenant may NOTIFY, and loading takes at most a
/// tenth of the time. A change that comes after a quiet time is loaded at once.
const REST: u32 = 9;
/// Requests to count anew that nobody has taken yet, at most. One more is dropped: tenants can send them too.
const RECOUNTS_MAX: usize = 64;
/// How long to wait before the control database is tried again.
const RECONNECT: Duration = Duration::from_millis(500);

/// How to reach the control database.
#[derive(Clone)]
pub struct ControlTarget {
    /// Address, role, password, database.
    pub config: Config,
    /// TLS, if the upstream is reached by it.
    pub tls: Option<Connector>,
    /// Names of the upstream roles.
    pub roles: RoleNames,
    /// The databases whose catalogs are kept.
    pub databases: Vec<String>,
}

/// Control data that keeps itself current.
pub struct Control {
    /// The current snapshot.
    pub snapshot: Arc<ArcSwap<Snapshot>>,
    /// Changes whenever `snapshot` was swapped.
    pub changed: watch::Receiver<()>,
    /// Whether the control connection stands, as far as is known.
    pub reachable: watch::Receiver<bool>,
    /// Requests to count a workspace anew.
    pub recounts: Option<mpsc::Receiver<Recount>>,
    /// What is known of the databases' catalogs.
    pub catalogs: Arc<ArcSwap<Catalogs>>,
    /// How often anything in them was altered.
    pub alterations: Arc<Alterations>,
    tasks: Vec<JoinHandle<()>>,
}

impl Control {
    /// Loads the first snapshot and keeps it current from then on, on the runtime of the caller.
    ///
    /// # Errors
    /// The first snapshot can't be loaded.
    pub async fn start(target: ControlTarget) -> Result<Self, StoreError> {
        let (asked, recounts) = mpsc::channel(RECOUNTS_MAX);
        let mut connection = Connection::open(&target, CHANNEL, asked.clone(), None).await?;
        let (first, version) = store::load(&mut connection.client, &target.roles).await?;
        let snapshot = Arc::new(ArcSwap::from_pointee(first));
        let (sender, changed) = watch::channel(());
        let (reached, reachable) = watch::channel(true);
        let catalogs = Arc::<ArcSwap<Catalogs>>::default();
        let mut tasks = Vec::with_capacity(target.databases.len() + 1);
        let alterations = Arc::new(Alterations::with_ears(target.databases.len()));
        for (number, database) in target.databases.iter().enumerate() {
            let ear = Ear { alterations: alterations.clone(), number };
            let keeper = catalog::Keeper::start(target.clone(), database.clone(), catalogs.clone(), ear).await;
            tasks.push(tokio::spawn(keeper.keep()));
        }
        tasks.push(tokio::spawn(keep_current(target, connection, (snapshot.clone(), version), sender, reached, asked)));
        Ok(Self { snapshot, changed, reachable, recounts: Some(recounts), catalogs, alterations, tasks })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// A control connection that listens.
struct Connection {
    client: Client,
    notified: mpsc::Receiver<()>,
}

impl Connection {
    async fn open(
        target: &ControlTarget,
        channel: &str,
        recounts: mpsc::Sender<Recount>,
        ear: Option<Ear>,
    ) -> Result<Self, StoreError> {
        let (sender, notified) = mpsc::channel(1);
        let client = connect_and(target, Heard { changed: sender, recounts, ear }).await?;
        client.batch_execute(&format!("LISTEN {channel}")).await?;
        Ok(Self { client, notified })
    }
}

/// Opens a connection for one command of an operator.
///
/// # Errors
/// Postgres can't be reached or refuses.
pub async fn connect(target: &ControlTarget) -> Result<Client, StoreError> {
    open(target).await
}

/// Opens a connection that listens to nothing.
async fn open(target: &ControlTarget) -> Result<Client, StoreError> {
    connect_and(target, Heard { changed: mpsc::channel(1).0, recounts: unheard(), ear: None }).await
}

/// Where requests to count go that nobody answers.
fn unheard() -> mpsc::Sender<Recount> {
    mpsc::channel(1).0
}

async fn connect_and(target: &ControlTarget, heard: Heard) -> Result<Client, StoreError> {
    Ok(match &target.tls {
        Some(tls) => {
            let (client, connection) = target.config.connect(MakeRustlsConnect::new((*tls.config()).clone())).await?;
            tokio::spawn(drive(connection, heard));
            client
        }
        None => {
            let (client, connection) = target.config.connect(NoTls).await?;
            tokio::spawn(drive(connection, heard));
            client
        }
    })
}

/// Where notifications go.
struct Heard {
    changed: mpsc::Sender<()>,
    recounts: mpsc::Sender<Recount>,
    ear: Option<Ear>,
}

/// Hears of alterations in one database.
#[derive(Clone)]
struct Ear {
    alterations: Arc<Alterations>,
    number: usize,
}

impl Ear {
    fn listens(&self, hears: bool) {
        self.alterations.listens(self.number, hears);
    }
}

/// Drives a connection to its end, and passes on what was notified.
async fn drive<S, T>(mut connection: tokio_postgres::Connection<S, T>, heard: Heard)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin,
{
    while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
        let AsyncMessage::Notification(notification) = message else { continue };
        match Recount::parse(notification.payload()) {
            Some(recount) => drop(heard.recounts.try_send(recount)),
            None => {
                if let Some(ear) = &heard.ear {
                    ear.alterations.note();
                }
                // One that is waiting to be heard says everything.
                let _ = heard.changed.try_send(());
            }
        }
    }
    if let Some(ear) = &heard.ear {
        ear.listens(false);
    }
}

/// Loads again and again. While the control database can't be reached, the last snapshot holds.
async fn keep_current(
    target: ControlTarget,
    mut connection: Connection,
    (snapshot, mut version): (Arc<ArcSwap<Snapshot>>, Version),
    sender: watch::Sender<()>,
    reached: watch::Sender<bool>,
    recounts: mpsc::Sender<Recount>,
) {
    let mut not_before = clock::now();
    loop {
        let heard = tokio::time::timeout(POLL, connection.notified.recv()).await;
        let mut lost = matches!(heard, Ok(None));
        if !lost {
            tokio::time::sleep(not_before.saturating_duration_since(clock::now())).await;
            let begin = clock::now();
            let loading = store::load_unless(&mut connection.client, &target.roles, &version);
            match patiently(loading, &reached).await {
                Ok(loaded) => {
                    reached.send_replace(true);
                    if let Some((next, of)) = loaded {
                        snapshot.store(Arc::new(next));
                        version = of;
                        let _ = sender.send(());
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "control data couldn't be loaded; the last snapshot holds");
                    lost = connection.client.is_closed();
                }
            }
            // Nobody asked for a look after a quiet time, so nobody can ask for too many.
            not_before = clock::now();
            if heard.is_ok() {
                not_before += (begin.elapsed() * REST).min(POLL);
            }
        }
        if lost {
            tracing::error!("the control connection is lost; the last snapshot holds until it is back");
            reached.send_replace(false);
            connection = reconnect(&target, &recounts).await;
            reached.send_replace(true);
            tracing::info!("the control connection is back");
        }
    }
}

/// Waits for Postgres; when that takes long it counts as unreachable meanwhile, for a machine that is gone closes nothing.
async fn patiently<T>(loading: impl Future<Output = T>, reached: &watch::Sender<bool>) -> T {
    tokio::pin!(loading);
    match tokio::time::timeout(POLL, &mut loading).await {
        Ok(loaded) => loaded,
        Err(_) => {
            tracing::warn!("the control database doesn't answer; the last snapshot holds");
            reached.send_replace(false);
            loading.await
        }
    }
}

async fn reconnect(target: &ControlTarget, recounts: &mpsc::Sender<Recount>) -> Connection {
    loop {
        tokio::time::sleep(RECONNECT).await;
        match Connection::open(target, CHANNEL, recounts.clone(), None).await {
            Ok(connection) => return connection,
            Err(error) => tracing::debug!(%error, "the control database can't be reached"),
        }
    }
}
