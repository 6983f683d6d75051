//! Reading the audit trail back out of Postgres: for people, for an export, and to hold it against its chain.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use tokio_postgres::{Client, IsolationLevel, Transaction};
use uuid::Uuid;

use super::audit_sink::{CONTROL_STREAM, any_text, head};
use super::store::missing;
use super::{StoreError, audit_text};
use crate::audit::{Hash, Head, Row};

/// How many records are fetched at once.
const FETCH: i32 = 2000;
/// The columns, as [`row`] reads them. An `at` that is no time any more was tampered with.
const COLUMNS: &str = "stream, seq, \
    CASE WHEN pg_catalog.isfinite(at) THEN (extract(epoch FROM at) * 1000000)::bigint ELSE -1 END AS at_us, \
    workspace_id, key_id, event_type, severity, relation, resource, statement, rows, outcome, sqlstate, duration_us, \
    client_addr::text AS client_addr, client_user, application_name, detail, prev_hash, hash";

/// Which records.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Of this workspace.
    pub workspace: Option<Uuid>,
    /// Of this type.
    pub event_type: Option<String>,
}

/// The trail as of one moment.
pub struct Reading<'a> {
    transaction: Transaction<'a>,
    any_text: bool,
}

impl<'a> Reading<'a> {
    /// Begins to read.
    ///
    /// # Errors
    /// Postgres refuses.
    pub async fn begin(client: &'a mut Client) -> Result<Self, StoreError> {
        let any_text = any_text(client).await?;
        let begin = client.build_transaction().isolation_level(IsolationLevel::RepeatableRead).read_only(true);
        Ok(Self { transaction: begin.start().await?, any_text })
    }

    /// The streams and their heads.
    ///
    /// # Errors
    /// Postgres refuses.
    pub async fn heads(&self) -> Result<Vec<(Arc<str>, Head)>, StoreError> {
        let sql = "SELECT stream, seq, hash FROM cordon.audit_stream ORDER BY stream COLLATE \"C\"";
        let rows = self.transaction.query(sql, &[]).await.map_err(missing)?;
        Ok(rows.iter().map(|row| (row.get::<_, &str>(0).into(), head(row.get(1), row.get(2)))).collect())
    }

    /// The streams that have records.
    ///
    /// # Errors
    /// Postgres refuses.
    pub async fn streams(&self) -> Result<BTreeSet<Arc<str>>, StoreError> {
        // As quick for a million records as for one: from each stream to the next by the index.
        let sql = "WITH RECURSIVE s AS ( \
                SELECT min(stream) AS stream FROM cordon.audit_event \
                UNION ALL SELECT (SELECT min(e.stream) FROM cordon.audit_event e WHERE e.stream > s.stream) FROM s WHERE s.stream IS NOT NULL \
            ) SELECT stream FROM s WHERE stream IS NOT NULL";
        let rows = self.transaction.query(sql, &[]).await.map_err(missing)?;
        Ok(rows.iter().map(|row| row.get::<_, &str>(0).into()).collect())
    }

    /// The streams whose registration is in the stream `control`.
    ///
    /// # Errors
    /// Postgres refuses.
    pub async fn registered(&self) -> Result<BTreeSet<Arc<str>>, StoreError> {
        let sql = "SELECT detail ->> 'stream' FROM cordon.audit_event \
                   WHERE stream = $1 AND event_type = 'AUDIT_STARTED' AND detail ->> 'stream' IS NOT NULL";
        let rows = self.transaction.query(sql, &[&CONTROL_STREAM]).await.map_err(missing)?;
        Ok(rows.iter().map(|row| row.get::<_, &str>(0).into()).collect())
    }

    /// The records of a stream in order, one after the other.
    ///
    /// # Errors
    /// Postgres refuses, or `each` does.
    pub async fn rows<E: From<StoreError>>(
        &self,
        stream: &str,
        filter: &Filter,
        mut each: impl FnMut(Row) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = format!(
            "SELECT {COLUMNS} FROM cordon.audit_event WHERE stream = $1 \
             AND ($2::uuid IS NULL OR workspace_id = $2) AND ($3::text IS NULL OR event_type = $3) ORDER BY seq, at"
        );
        let portal = self.transaction.bind(&sql, &[&stream, &filter.workspace, &filter.event_type]).await;
        let portal = portal.map_err(|error| E::from(missing(error)))?;
        loop {
            let rows = self.transaction.query_portal(&portal, FETCH).await.map_err(|error| E::from(missing(error)))?;
            if rows.is_empty() {
                return Ok(());
            }
            for read in &rows {
                each(row(read, self.any_text))?;
            }
        }
    }
}

/// The last records, the newest last.
///
/// # Errors
/// Postgres refuses.
pub async fn last(client: &Client, filter: &Filter, count: i64) -> Result<Vec<Row>, StoreError> {
    let sql = format!(
        "SELECT {COLUMNS} FROM cordon.audit_event \
         WHERE ($1::uuid IS NULL OR workspace_id = $1) AND ($2::text IS NULL OR event_type = $2) \
         ORDER BY at DESC, stream DESC, seq DESC LIMIT $3"
    );
    let rows = client.query(&sql, &[&filter.workspace, &filter.event_type, &count]).await.map_err(missing)?;
    let any_text = any_text(client).await?;
    Ok(rows.iter().rev().map(|read| row(read, any_text)).collect())
}

/// How far each stream was seen.
pub type Seen = std::collections::BTreeMap<String, i64>;

/// How far each stream goes now.
///
/// # Errors
/// Postgres refuses.
pub async fn seen(client: &Client) -> Result<Seen, StoreError> {
    let rows = client.query("SELECT stream, seq FROM cordon.audit_stream", &[]).await.map_err(missing)?;
    Ok(rows.iter().map(|row| (row.get(0), row.get(1))).collect())
}

/// What came since, by time; `seen` is moved on. Streams are followed by number: no record is missed because another stream's
/// clock is ahead.
///
/// # Errors
/// Postgres refuses.
pub async fn since(client: &Client, filter: &Filter, seen_before: &mut Seen) -> Result<Vec<Row>, StoreError> {
    let now = seen(client).await?;
    let any_text = any_text(client).await?;
    let mut fresh = Vec::new();
    for (stream, head) in now {
        let from = seen_before.get(&stream).copied().unwrap_or_default();
        if head > from {
            let sql = format!(
                "SELECT {COLUMNS} FROM cordon.audit_event WHERE stream = $1 AND seq > $2 AND seq <= $3 \
                 AND ($4::uuid IS NULL OR workspace_id = $4) AND ($5::text IS NULL OR event_type = $5) ORDER BY seq"
            );
            let rows = client
                .query(&sql, &[&stream, &from, &head, &filter.workspace, &filter.event_type])
                .await
                .map_err(missing)?;
            fresh.extend(rows.iter().map(|read| row(read, any_text)));
        }
        seen_before.insert(stream, head);
    }
    fresh.sort_by_key(|row| row.at_us);
    Ok(fresh)
}

/// A record as it stands in Postgres. What can't be what we wrote becomes something that fits no hash.
fn row(read: &tokio_postgres::Row, any_text: bool) -> Row {
    let text = |column: &str| read.get::<_, Option<&str>>(column).map(Arc::<str>::from);
    let word = |column: &str| Cow::Owned(read.get::<_, String>(column));
    let number =
        |column: &str| read.get::<_, Option<i64>>(column).map(|value| u64::try_from(value).unwrap_or(u64::MAX));
    let hash = |column: &str| Hash(read.get::<_, &[u8]>(column).try_into().unwrap_or([0xff; 32]));
    let row = Row {
        stream: read.get::<_, &str>("stream").into(),
        seq: u64::try_from(read.get::<_, i64>("seq")).unwrap_or_default(),
        at_us: read.get("at_us"),
        workspace_id: read.get("workspace_id"),
        key_id: text("key_id"),
        event_type: word("event_type"),
        severity: word("severity"),
        relation: text("relation"),
        resource: text("resource"),
        statement: text("statement"),
        rows: number("rows"),
        outcome: word("outcome"),
        sqlstate: text("sqlstate"),
        duration_us: number("duration_us"),
        client_addr: read.get::<_, Option<&str>>("client_addr").map(address),
        client_user: text("client_user"),
        application_name: text("application_name"),
        detail: read.get("detail"),
        prev_hash: hash("prev_hash"),
        hash: hash("hash"),
    };
    if any_text { row } else { audit_text::unescaped(&row) }
}

/// An `inet` as text, which names the network it is in: only a single host is what we wrote.
fn address(text: &str) -> IpAddr {
    let host = text.strip_suffix("/32").or_else(|| text.strip_suffix("/128")).unwrap_or(text);
    host.parse().unwrap_or(IpAddr::V4(std::net::Ipv4Addr::BROADCAST))
}
