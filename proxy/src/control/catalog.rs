//! The catalogs of the configured databases, kept current: loaded anew when an event trigger tells of DDL, and now and
//! then in any case. Until a database's catalog is there, and while it can't be kept current, nothing is known of it, so
//! that its statements may do everything.

mod derive;
mod read;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::domain::clock;
use crate::sql::Catalog;

use super::{Connection, ControlTarget, Ear, REST, StoreError};
use read::Raw;

/// The channel on which the event trigger tells of DDL, and the triggers on `cordon` of what is metered.
const CHANNEL: &str = "cordon_catalog";
/// How often a catalog is read although nothing was heard.
const POLL: Duration = Duration::from_secs(30);
/// How long to wait before a database is tried again.
const RECONNECT: Duration = Duration::from_secs(1);

/// The catalogs by database.
#[derive(Clone, Debug, Default)]
pub struct Catalogs {
    known: HashMap<Box<str>, Arc<Catalog>, ahash::RandomState>,
}

impl Catalogs {
    /// The catalog of a database, if it is known.
    pub fn of(&self, database: &str) -> Option<&Arc<Catalog>> {
        self.known.get(database)
    }

    fn with(&self, database: &str, catalog: Option<Arc<Catalog>>) -> Self {
        let mut known = self.known.clone();
        match catalog {
            Some(catalog) => known.insert(database.into(), catalog),
            None => known.remove(database),
        };
        Self { known }
    }
}

/// Reads the catalog of one database once.
///
/// # Errors
/// Postgres can't be reached or refuses.
pub async fn load(client: &mut tokio_postgres::Client) -> Result<Catalog, StoreError> {
    Ok(derive::catalog(&read::read(client).await?))
}

/// One database whose catalog is kept current.
pub(super) struct Keeper {
    target: ControlTarget,
    database: String,
    catalogs: Arc<ArcSwap<Catalogs>>,
    connection: Option<Connection>,
    ear: Ear,
    raw: Option<Raw>,
    /// The last attempt failed, and that was told.
    fails: bool,
}

impl Keeper {
    /// Reads the catalog for the first time. A failure is told and tried again later: statements are cautious until then.
    pub(super) async fn start(
        target: ControlTarget,
        database: String,
        catalogs: Arc<ArcSwap<Catalogs>>,
        ear: Ear,
    ) -> Self {
        let mut target = target;
        target.config.dbname(&database);
        let mut keeper = Self { target, database, catalogs, connection: None, ear, raw: None, fails: false };
        keeper.refresh().await;
        keeper
    }

    /// Keeps it current for good.
    pub(super) async fn keep(mut self) {
        let mut not_before = clock::now();
        loop {
            match &mut self.connection {
                // A wait that ends without a word is a poll; a connection that is gone shows when it is used.
                Some(connection) => drop(tokio::time::timeout(POLL, connection.notified.recv()).await),
                None => tokio::time::sleep(RECONNECT).await,
            }
            tokio::time::sleep(not_before.saturating_duration_since(clock::now())).await;
            let begin = clock::now();
            self.refresh().await;
            // Every tenant may NOTIFY.
            not_before = clock::now() + (begin.elapsed() * REST).min(POLL);
        }
    }

    async fn refresh(&mut self) {
        match self.try_refresh().await {
            Ok(()) if self.fails => {
                self.fails = false;
                tracing::info!(database = self.database, "the catalog can be read again");
            }
            Ok(()) => {}
            Err(error) => {
                self.ear.listens(false);
                (self.connection, self.raw) = (None, None);
                self.publish(None);
                if !std::mem::replace(&mut self.fails, true) {
                    tracing::warn!(database = self.database, %error, "the catalog can't be read: every statement counts as one that may do everything");
                }
            }
        }
    }

    async fn try_refresh(&mut self) -> Result<(), StoreError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let ear = Some(self.ear.clone());
                none.insert(Connection::open(&self.target, CHANNEL, super::unheard(), ear).await?)
            }
        };
        let raw = read::read(&mut connection.client).await?;
        // A connection that broke meanwhile has said so after this, or is found broken by the next reading.
        self.ear.listens(raw.is_told && !connection.client.is_closed());
        if self.raw.as_ref() == Some(&raw) {
            return Ok(());
        }
        // Parsing hundreds of views is no work for the thread that others wait for.
        let (raw, catalog) = tokio::task::spawn_blocking(move || {
            let catalog = derive::catalog(&raw);
            (raw, catalog)
        })
        .await
        .map_err(|error| StoreError::Postgres(error.to_string()))?;
        self.raw = Some(raw);
        self.publish(Some(Arc::new(catalog)));
        Ok(())
    }

    fn publish(&self, catalog: Option<Arc<Catalog>>) {
        self.catalogs.rcu(|now| now.with(&self.database, catalog.clone()));
    }
}
