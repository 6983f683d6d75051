//! Answers what is asked about server processes, on a connection of the control role that is opened when it is needed and closed
//! when it hasn't been for a while. `pgcordon migrate` gives that role what it takes. Since when a process waits for a lock is known
//! from Postgres 14 on (docs, pg_locks: waitstart).

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use super::ControlTarget;
use crate::pool::signals::{LockWait, Question, Terminated};

/// For how long the connection is kept without a question.
const KEPT: Duration = Duration::from_secs(60);
/// How long an answer may take.
const ANSWERED: Duration = Duration::from_secs(5);

/// A process' number may be another one's by now, but hardly of the same role.
const TERMINATE: &str = "\
    SELECT pg_catalog.pg_terminate_backend(a.pid) FROM pg_catalog.pg_stat_get_activity($1) AS a \
    WHERE a.usesysid = (SELECT r.oid FROM pg_catalog.pg_roles AS r WHERE r.rolname = $2)";

/// Who waits, for how long, and which of those that Postgres says it waits for are in its way with a lock on the same table that
/// conflicts with writing. Such a lock is taken by LOCK TABLE and by changes of the table, never by a statement on rows.
const LOCKS: &str = "\
    WITH lock AS MATERIALIZED (SELECT * FROM pg_catalog.pg_lock_status()) \
    SELECT w.pid, extract(epoch FROM pg_catalog.clock_timestamp() - w.waitstart)::float8, \
        ARRAY(SELECT DISTINCT b.pid FROM lock AS b WHERE b.locktype = 'relation' AND w.locktype = 'relation' \
            AND b.database = w.database AND b.relation = w.relation AND b.pid <> w.pid \
            AND b.mode IN ('ShareUpdateExclusiveLock', 'ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock') \
            AND b.pid = ANY (pg_catalog.pg_blocking_pids(w.pid)) \
            AND w.mode IN ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')) \
    FROM lock AS w WHERE NOT w.granted AND w.pid = ANY ($1) AND w.waitstart IS NOT NULL";

/// Answers until nobody is left to ask.
pub async fn answer(target: ControlTarget, mut questions: mpsc::Receiver<Question>) {
    let mut client = None;
    loop {
        let question = match timeout(KEPT, questions.recv()).await {
            Ok(Some(question)) => question,
            Ok(None) => return,
            Err(_) => {
                client = None;
                continue;
            }
        };
        let answering = async {
            if client.as_ref().is_none_or(Client::is_closed) {
                client = Some(super::connect(&target).await?);
            }
            Ok::<_, super::StoreError>(client.as_ref())
        };
        let connected = match timeout(ANSWERED, answering).await {
            Ok(Ok(connected)) => connected,
            Ok(Err(error)) => {
                tracing::debug!(%error, "nobody can be asked about server processes");
                None
            }
            Err(_) => None,
        };
        match question {
            Question::Terminate { pid, role, answer } => {
                let _ = answer
                    .send(bounded(connected.map(|client| terminate(client, pid, &role)), Terminated::Unknown).await);
            }
            Question::Locks { pids, answer } => {
                let _ = answer.send(bounded(connected.map(|client| locks(client, &pids)), Vec::new()).await);
            }
        }
    }
}

async fn bounded<T>(answering: Option<impl Future<Output = T>>, unknown: T) -> T {
    match answering {
        Some(answering) => timeout(ANSWERED, answering).await.unwrap_or(unknown),
        None => unknown,
    }
}

async fn terminate(client: &Client, pid: i32, role: &str) -> Terminated {
    match client.query(TERMINATE, &[&pid, &role]).await {
        Ok(rows) if rows.is_empty() => Terminated::Gone,
        Ok(_) => Terminated::Signalled,
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Terminated::NotAllowed,
        Err(_) => Terminated::Unknown,
    }
}

async fn locks(client: &Client, pids: &[i32]) -> Vec<LockWait> {
    match client.query(LOCKS, &[&pids]).await {
        Ok(rows) => rows
            .iter()
            .map(|row| LockWait {
                pid: row.get(0),
                waited: Duration::try_from_secs_f64(row.get(1)).unwrap_or_default(),
                table_lockers: row.get(2),
            })
            .collect(),
        Err(error) => {
            tracing::debug!(error = %super::store::describe(&error), "who waits for locks can't be asked");
            Vec::new()
        }
    }
}
