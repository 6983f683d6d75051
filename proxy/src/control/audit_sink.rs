//! The audit trail in Postgres: where the spool's records go, and the stream `control` of what operators change, which is
//! written in the transaction of the change itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use serde_json::json;
use tokio_postgres::types::{IsNull, ToSql, Type};
use tokio_postgres::{Client, Statement, ToStatement, Transaction};

use super::{ControlTarget, StoreError, audit_text};
use crate::audit::shipper::{Appended, Sink, SinkError};
use crate::audit::{Event, EventType, Hash, Head, Outcome, Parcel, Row};

/// The stream of what operators change.
pub const CONTROL_STREAM: &str = "control";
const LOCK: &str = "SELECT is_new, at_seq, at_hash FROM cordon.audit_lock($1)";
const APPEND: &str = "SELECT outcome, at_seq, at_hash FROM cordon.audit_append($1, $2, $3)";
/// How long one batch may take before the connection is given up.
const BATCH_TIMEOUT: Duration = Duration::from_secs(30);

/// Postgres, as the shipper sees it. The connection is made when it is needed.
pub struct ControlSink {
    target: ControlTarget,
    connection: Option<Connection>,
}

struct Connection {
    client: Client,
    /// Prepared once: with a batch or ten in a second it would be half of what they cost.
    lock: Statement,
    append: Statement,
    /// The database can store any text as it is.
    any_text: bool,
}

impl ControlSink {
    /// Not connected yet.
    pub const fn new(target: ControlTarget) -> Self {
        Self { target, connection: None }
    }

    async fn connect(&mut self) -> Result<&mut Connection, StoreError> {
        self.connection = self.connection.take().filter(|connection| !connection.client.is_closed());
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => {
                let client = super::connect(&self.target).await?;
                // Space on disk is given back for what the database has: it must have it for good.
                client.batch_execute("SET synchronous_commit = on; SET lock_timeout = '10s'").await?;
                let any_text = any_text(&client).await?;
                let lock = client.prepare(LOCK).await.map_err(super::store::missing)?;
                let append = client.prepare(APPEND).await.map_err(super::store::missing)?;
                Connection { client, lock, append, any_text }
            }
        };
        Ok(self.connection.insert(connection))
    }

    /// Does something under a bound of time. A connection that failed in mid-transaction isn't used again.
    async fn on_connection<T>(
        &mut self,
        work: impl AsyncFnOnce(&mut Connection) -> Result<T, StoreError>,
    ) -> Result<T, SinkError> {
        let done = tokio::time::timeout(BATCH_TIMEOUT, async { work(self.connect().await?).await }).await;
        match done {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(error)) => {
                self.connection = None;
                Err(SinkError(error.to_string()))
            }
            Err(_) => {
                self.connection = None;
                Err(SinkError("the control database didn't answer in time".to_owned()))
            }
        }
    }
}

impl Sink for ControlSink {
    async fn head(&mut self, stream: &str) -> Result<Head, SinkError> {
        self.on_connection(async |connection: &mut Connection| {
            let sql = "SELECT seq, hash FROM cordon.audit_stream WHERE stream = $1";
            let row = connection.client.query_opt(sql, &[&stream]).await.map_err(super::store::missing)?;
            Ok(row.map(|row| head(row.get(0), row.get(1))).unwrap_or_default())
        })
        .await
    }

    async fn append(&mut self, stream: &str, parcel: &Parcel, after_gap: bool) -> Result<Appended, SinkError> {
        self.on_connection(async |connection: &mut Connection| {
            let Connection { client, lock: locking, append: appending, any_text } = connection;
            let transaction = client.transaction().await?;
            let (is_new, before) = lock(&transaction, &*locking, stream).await?;
            if is_new {
                // Whoever removes a stream with its head must remove this too, from the middle of another chain.
                note(&transaction, registration(stream)).await?;
            }
            let appended = append(&transaction, &*appending, (stream, parcel, after_gap), *any_text).await?;
            let Appended::Through(_) = appended else {
                transaction.rollback().await?;
                return Ok(appended);
            };
            if let Some(first) = parcel.first().filter(|first| after_gap && first.seq > before.seq) {
                let follows = first.seq == before.seq + 1 && first.prev_hash == before.hash;
                if !follows {
                    note(&transaction, loss(stream, before.seq + 1, first.seq)).await?;
                }
            }
            transaction.commit().await?;
            Ok(appended)
        })
        .await
    }
}

fn registration(stream: &str) -> Event {
    let event = Event::new(EventType::AuditStarted, Arc::default());
    Event { detail: Some(json!({ "stream": stream })), ..event }
}

fn loss(stream: &str, from: u64, before: u64) -> Event {
    let detail =
        json!({ "stream": stream, "from": from, "before": before, "why": "neither in the database nor in the spool" });
    Event { outcome: Outcome::Failed, detail: Some(detail), ..Event::new(EventType::AuditEventsLost, Arc::default()) }
}

/// Records what an operator's command does, in its own transaction: both are done, or neither.
///
/// # Errors
/// Postgres refuses.
pub async fn record(transaction: &Transaction<'_>, event: Event) -> Result<(), StoreError> {
    note(transaction, event).await
}

/// Adds to the stream `control`. Who adds to it waits for whoever does at the moment; the lock is a row's, for any tenant may
/// take an advisory lock and keep it.
async fn note(transaction: &Transaction<'_>, event: Event) -> Result<(), StoreError> {
    let (_, mut head) = lock(transaction, LOCK, CONTROL_STREAM).await?;
    let mut row = Row::unlinked(&CONTROL_STREAM.into(), event);
    head.link(&mut row);
    let any_text = any_text(transaction.client()).await?;
    match append(transaction, APPEND, (CONTROL_STREAM, &[row][..].into(), false), any_text).await? {
        Appended::Through(_) => Ok(()),
        _ => Err(StoreError::Postgres(
            "the stream control of the audit trail doesn't end where its head says".to_owned(),
        )),
    }
}

async fn lock<S: ToStatement + ?Sized>(
    transaction: &Transaction<'_>,
    sql: &S,
    stream: &str,
) -> Result<(bool, Head), StoreError> {
    let row = transaction.query_one(sql, &[&stream]).await.map_err(super::store::missing)?;
    Ok((row.get(0), head(row.get(1), row.get(2))))
}

async fn append<S: ToStatement + ?Sized>(
    transaction: &Transaction<'_>,
    sql: &S,
    (stream, parcel, after_gap): (&str, &Parcel, bool),
    any_text: bool,
) -> Result<Appended, StoreError> {
    let escaped: Parcel;
    let batch = if any_text {
        Batch(parcel)
    } else {
        let rows = parcel.rows().ok_or_else(|| StoreError::Postgres("a record that isn't one".to_owned()))?;
        escaped = rows.iter().map(audit_text::escaped).collect::<Vec<Row>>().as_slice().into();
        Batch(&escaped)
    };
    let row = transaction.query_one(sql, &[&stream, &batch, &after_gap]).await.map_err(super::store::missing)?;
    let at = head(row.get(1), row.get(2));
    Ok(match row.get(0) {
        "through" => Appended::Through(at),
        "gap" => Appended::Gap(at),
        _ => Appended::Fork(at.seq),
    })
}

/// Lines as they are, as one `jsonb` array: what they are made of isn't looked at again on this side.
#[derive(Debug)]
struct Batch<'a>(&'a Parcel);

impl ToSql for Batch<'_> {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        const VERSION: u8 = 1;
        out.reserve(self.0.bytes().len() + self.0.len() + 3);
        out.extend_from_slice(&[VERSION, b'[']);
        for (at, line) in self.0.lines().enumerate() {
            if at > 0 {
                out.extend_from_slice(b",");
            }
            out.extend_from_slice(line);
        }
        out.extend_from_slice(b"]");
        Ok(IsNull::No)
    }

    fn accepts(type_: &Type) -> bool {
        *type_ == Type::JSONB
    }

    tokio_postgres::types::to_sql_checked!();
}

/// Whether the database stores any Unicode text as it is: one in LATIN1 can't, and then texts are escaped.
///
/// # Errors
/// Postgres refuses.
pub(super) async fn any_text(client: &Client) -> Result<bool, StoreError> {
    let row = client.query_one("SELECT pg_catalog.current_setting('server_encoding')", &[]).await?;
    Ok(matches!(row.get(0), "UTF8" | "SQL_ASCII"))
}

/// A head as Postgres has it. A hash that isn't 32 bytes long was tampered with, and equals none.
pub(super) fn head(seq: i64, hash: &[u8]) -> Head {
    Head { seq: u64::try_from(seq).unwrap_or_default(), hash: Hash(hash.try_into().unwrap_or([0xff; 32])) }
}
