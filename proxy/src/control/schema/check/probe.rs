//! Tries the walls instead of reading about them. Two workspaces that nobody has get a row each in every protected table; then,
//! as a tenant's role and bound to the first one by a true seal, it reads, counts, changes, deletes and fakes what is the
//! other's. All of it is in one transaction, with triggers off, that is rolled back: nothing is left, no sequence moves, and
//! nobody is told.

use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::{Finding, Severity};
use crate::control::RoleNames;
use crate::control::schema::{SchemaError, ident, literal};
use crate::domain::WorkspaceId;
use crate::tenant::{ContextNames, Seal, SigningKey};

mod plant;

use plant::{Place, Planted};

/// The bounds on one try; a table on which it takes longer, or that somebody has locked, is left to the other rules. Names are
/// looked up in no schema of the application's.
const BEGIN: &str = "BEGIN; SET LOCAL statement_timeout = '5s'; SET LOCAL lock_timeout = '1s'; \
    SET LOCAL search_path = pg_catalog, pg_temp";

/// What may be tried on which table: those with a workspace column first, for others go by them.
const TABLES: &str = "\
    SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname), \
        (SELECT a.attname::text FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND NOT a.attisdropped \
            AND a.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype AND a.attname IN ('workspace_id', 'workspaceId') ORDER BY 1 LIMIT 1), \
        coalesce((SELECT a.attname::text FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_policy'::pg_catalog.regclass \
            AND d.objid = p.oid AND d.refobjid = c.oid AND d.refobjsubid > 0 \
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid WHERE p.polrelid = c.oid ORDER BY p.polpermissive, 1 LIMIT 1), \
            (SELECT a.attname::text FROM pg_catalog.pg_constraint k JOIN pg_catalog.pg_class p ON p.oid = k.confrelid AND p.relrowsecurity \
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.conkey[1] \
            WHERE k.conrelid = c.oid AND k.contype = 'f' AND pg_catalog.cardinality(k.conkey) = 1 ORDER BY k.conname LIMIT 1)), \
        c.relkind = 'v', \
        pg_catalog.has_table_privilege($1, c.oid, 'INSERT'), pg_catalog.has_table_privilege($1, c.oid, 'UPDATE'), pg_catalog.has_table_privilege($1, c.oid, 'DELETE') \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE (c.relkind IN ('r', 'p') AND c.relrowsecurity OR c.relkind = 'v') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('cordon', 'information_schema') \
        AND pg_catalog.has_table_privilege($1, c.oid, 'SELECT') AND pg_catalog.has_schema_privilege($1, n.oid, 'USAGE') \
    ORDER BY c.relkind = 'v', 3 IS NULL, \
        (SELECT count(*) FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'f'), c.oid";

/// A table, or a view, and what the tenant's role may do to it.
struct Table {
    oid: u32,
    name: String,
    /// The workspace column.
    column: Option<String>,
    /// The column that its policy goes by, or that refers to a protected table, in a table without one.
    via: Option<String>,
    is_view: bool,
    inserts: bool,
    updates: bool,
    deletes: bool,
}

impl Table {
    fn of(row: &Row) -> Self {
        Self {
            oid: row.get(0),
            name: row.get(1),
            column: row.get(2),
            via: row.get(3),
            is_view: row.get(4),
            inserts: row.get(5),
            updates: row.get(6),
            deletes: row.get(7),
        }
    }

    fn place(&self) -> Place<'_> {
        Place { oid: self.oid, table: &self.name, column: self.column.as_deref() }
    }

    fn finding(&self, id: &'static str, what: String) -> Finding {
        let fix = if self.is_view {
            format!("ALTER VIEW {} SET (security_invoker = true), over protected tables", self.name)
        } else {
            format!("pgcordon protect {}", self.name)
        };
        Finding { id, severity: Severity::Critical, object: self.name.clone(), what: format!("{what} (tried)"), fix }
    }
}

/// A workspace that nobody has, with its seal.
struct Workspace {
    id: String,
    seal: String,
    planted: Planted,
}

/// What came of a try.
enum Tried {
    /// So many rows.
    Rows(u64),
    /// Row-level security, or a missing privilege, kept it off.
    Refused,
    /// A constraint kept it off, which Postgres looks at behind the policies.
    LetThrough,
    /// Something else: nothing is known.
    Unknown,
}

/// Tries everything, in a transaction of its own that is rolled back.
pub(super) async fn probe(
    client: &Client,
    roles: &RoleNames,
    names: &ContextNames,
) -> Result<Vec<Finding>, SchemaError> {
    let at = || SchemaError::at("a transaction to try the walls in");
    client.batch_execute(BEGIN).await.map_err(at())?;
    let mut findings = Vec::new();
    let mut tried = Ok(());
    for role in [&roles.application, &roles.read_only] {
        let prober = Prober { client, role, names };
        client.batch_execute("SAVEPOINT role").await.map_err(at())?;
        tried = prober.all(&mut findings).await;
        if tried.is_err() {
            break;
        }
        client.batch_execute("ROLLBACK TO role").await.map_err(at())?;
    }
    client.batch_execute("ROLLBACK").await.map_err(at())?;
    tried?;
    // Both roles mostly find the same.
    findings.sort_by(|one, other| (one.id, &one.object).cmp(&(other.id, &other.object)));
    findings.dedup_by(|one, other| (one.id, &one.object) == (other.id, &other.object));
    Ok(findings)
}

/// Who tries.
struct Prober<'a> {
    client: &'a Client,
    role: &'a str,
    names: &'a ContextNames,
}

impl Prober<'_> {
    async fn all(&self, findings: &mut Vec<Finding>) -> Result<(), SchemaError> {
        let at = || SchemaError::at("the protected tables");
        let tables = self.client.query(TABLES, &[&self.role]).await.map_err(at())?;
        let tables: Vec<Table> = tables.iter().map(Table::of).collect();
        for table in tables.iter().filter(|table| !table.is_view) {
            findings.extend(self.without_a_seal(table).await?);
        }
        let Some((mut own, mut other)) = self.workspaces().await? else {
            findings.push(unable("this administrator may not read the key of the seals, or switch triggers off"));
            return Ok(());
        };
        for table in tables.iter().filter(|table| !table.is_view) {
            for (workspace, number) in [(&mut own, 1), (&mut other, 2)] {
                if let Some(why) = workspace.planted.plant(self.client, table.place(), &workspace.id, number).await? {
                    let what = format!("no row to try it with can be made up ({why}): only what is there was tried");
                    findings.push(Finding {
                        id: "not-probed",
                        severity: Severity::Info,
                        object: table.name.clone(),
                        what,
                        fix: "none is needed, if no other finding is about this table".to_owned(),
                    });
                    break;
                }
            }
        }
        for table in &tables {
            self.read(table, &own, &other, findings).await?;
            self.write(table, &own, &other, findings).await?;
        }
        findings.extend(self.forged_mark(&other).await?);
        Ok(())
    }

    /// A key's holder is known by the seal alone.
    async fn without_a_seal(&self, table: &Table) -> Result<Option<Finding>, SchemaError> {
        if let Tried::Rows(1..) = self.ask(("", ""), &format!("SELECT FROM {} LIMIT 1", table.name)).await? {
            let what = format!("shows rows to the role {} without a workspace", self.role);
            return Ok(Some(table.finding("open-without-context", what)));
        }
        let Some(column) = &table.column else { return Ok(None) };
        let some = format!("SELECT {0}::text FROM {1} WHERE {0} IS NOT NULL LIMIT 1", ident(column), table.name);
        let some = self.client.query(&some, &[]).await;
        let some = some.map_err(SchemaError::at(format!("a workspace of {}", table.name)))?;
        let Some(workspace) = some.first().map(|row| row.get::<_, String>(0)) else { return Ok(None) };
        if let Tried::Rows(1..) = self.ask((&workspace, ""), &format!("SELECT FROM {} LIMIT 1", table.name)).await? {
            let what = format!("shows a workspace's rows to whoever sets {}, without a seal", self.names.workspace);
            return Ok(Some(table.finding("context-forgeable", what)));
        }
        Ok(None)
    }

    /// Two workspaces; none, if this administrator can't have them.
    async fn workspaces(&self) -> Result<Option<(Workspace, Workspace)>, SchemaError> {
        let at = || SchemaError::at("the key of the seals");
        self.client.batch_execute("SAVEPOINT able").await.map_err(at())?;
        let able = self.client.batch_execute("SET LOCAL session_replication_role = 'replica'").await;
        let key = "SELECT id, secret, pg_backend_pid(), floor(extract(epoch FROM clock_timestamp()))::bigint \
            FROM cordon.signing_key WHERE retired_at IS NULL ORDER BY id DESC LIMIT 1";
        let key = match able {
            Ok(()) => self.client.query_opt(key, &[]).await.unwrap_or_default(),
            Err(_) => None,
        };
        let end = if key.is_some() { "RELEASE able" } else { "ROLLBACK TO able; RELEASE able" };
        self.client.batch_execute(end).await.map_err(at())?;
        let Some(row) = key else { return Ok(None) };
        let (key, pid, now) = (SigningKey::new(row.get(0), row.get(1)), row.get(2), row.get(3));
        let workspace = || {
            let id = Uuid::new_v4();
            let seal = Seal::new(&key, WorkspaceId::new(id), pid, now).as_str().to_owned();
            Workspace { id: id.to_string(), seal, planted: Planted::default() }
        };
        Ok(Some((workspace(), workspace())))
    }

    async fn read(
        &self,
        table: &Table,
        own: &Workspace,
        other: &Workspace,
        findings: &mut Vec<Finding>,
    ) -> Result<(), SchemaError> {
        let context = (own.id.as_str(), own.seal.as_str());
        let others = match &table.column {
            Some(column) => {
                let column = ident(column);
                format!("SELECT FROM {} WHERE {column} IS DISTINCT FROM {} LIMIT 2", table.name, literal(&own.id))
            }
            // A view without a workspace column may show what is everybody's.
            None if table.is_view => return Ok(()),
            // Its own row, which was planted, comes in front.
            None => format!("SELECT FROM {} OFFSET {} LIMIT 2", table.name, u8::from(own.planted.has(table.oid))),
        };
        if let Tried::Rows(1..) = self.ask(context, &others).await? {
            let what = format!("shows rows of other workspaces to the role {}, bound to one", self.role);
            findings.push(table.finding("reads-across", what));
        } else if own.planted.has(table.oid)
            && other.planted.has(table.oid)
            && !matches!(
                self.ask(context, &format!("SELECT FROM {} LIMIT 1", table.name)).await?,
                Tried::Rows(1) | Tried::Unknown
            )
        {
            findings.push(Finding {
                id: "own-rows-hidden",
                severity: Severity::Low,
                object: table.name.clone(),
                what: format!("a workspace's own row isn't shown to the role {} (tried)", self.role),
                fix: "look at its policies: one more restrictive than pgcordon's may be meant".to_owned(),
            });
        }
        Ok(())
    }

    async fn write(
        &self,
        table: &Table,
        own: &Workspace,
        other: &Workspace,
        findings: &mut Vec<Finding>,
    ) -> Result<(), SchemaError> {
        let context = (own.id.as_str(), own.seal.as_str());
        let (name, planted) = (&table.name, u64::from(own.planted.has(table.oid)));
        // What decides whose a row is, and what makes it the other's.
        let theirs = match (&table.column, &table.via) {
            (Some(column), _) => Some((ident(column), literal(&other.id), literal(&own.id))),
            (None, Some(via)) => other
                .planted
                .value(table.oid, via)
                .zip(own.planted.value(table.oid, via))
                .map(|(theirs, mine)| (ident(via), theirs, mine)),
            (None, None) => None,
        };
        if let Some((column, theirs, mine)) = theirs {
            if table.inserts && !table.is_view {
                let fake = other.planted.insert(self.client, table.place(), &other.id, 2).await?;
                if let Tried::Rows(_) | Tried::LetThrough = self.ask(context, &fake).await? {
                    findings.push(table.finding("fakes-across", "takes a new row for another workspace".to_owned()));
                }
            }
            if table.updates && !table.is_view {
                let moved = format!("UPDATE {name} SET {column} = {theirs}");
                if planted == 1
                    && let Tried::Rows(1..) | Tried::LetThrough = self.ask(context, &moved).await?
                {
                    let what = "a workspace's row can be made another one's".to_owned();
                    findings.push(table.finding("moves-across", what));
                }
                let taken = format!("UPDATE {name} SET {column} = {mine}");
                let reached = self.ask(context, &taken).await?;
                if matches!(reached, Tried::Rows(rows) if rows > planted) || matches!(reached, Tried::LetThrough) {
                    let what = "rows of other workspaces can be changed".to_owned();
                    findings.push(table.finding("updates-across", what));
                }
            }
        }
        if table.deletes && !table.is_view {
            let reached = self.ask(context, &format!("DELETE FROM {name}")).await?;
            if matches!(reached, Tried::Rows(rows) if rows > planted) {
                findings.push(table.finding("deletes-across", "rows of other workspaces can be deleted".to_owned()));
            }
        }
        Ok(())
    }

    /// What says whose workspace a session is bound to must be out of a tenant's reach.
    async fn forged_mark(&self, other: &Workspace) -> Result<Option<Finding>, SchemaError> {
        let mark = literal(&other.id.replace('-', ""));
        let tried = self.ask(("", ""), &format!("SELECT set_config('backtrace_functions', {mark}, false)")).await?;
        Ok(matches!(tried, Tried::Rows(_)).then(|| Finding {
            id: "mark-granted",
            severity: Severity::Critical,
            object: ident(self.role),
            what: "may set backtrace_functions, which says whose workspace a session is bound to (tried)".to_owned(),
            fix: format!("REVOKE SET ON PARAMETER backtrace_functions FROM PUBLIC, {}", ident(self.role)),
        }))
    }

    /// Runs a statement as the tenant's role in this context and takes it back.
    async fn ask(&self, (workspace, seal): (&str, &str), sql: &str) -> Result<Tried, SchemaError> {
        let at = || SchemaError::at(format!("a try as {}", self.role));
        let prepare = format!("SAVEPOINT probe; SET LOCAL ROLE {}", ident(self.role));
        self.client.batch_execute(&prepare).await.map_err(at())?;
        for (setting, value) in [(&self.names.workspace, workspace), (&self.names.seal, seal)] {
            let values: [&(dyn ToSql + Sync); 2] = [setting, &value];
            self.client.query("SELECT set_config($1, $2, true)", &values).await.map_err(at())?;
        }
        if !seal.is_empty() {
            self.client.query("SELECT cordon.mark()", &[]).await.map_err(at())?;
        }
        let done = self.client.execute(sql, &[]).await;
        self.client.batch_execute("ROLLBACK TO probe; RELEASE probe").await.map_err(at())?;
        Ok(match done {
            Ok(rows) => Tried::Rows(rows),
            Err(error) => match error.code() {
                Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Tried::Refused,
                // A row for which there is no partition is told with this one, in front of the policies.
                Some(&SqlState::CHECK_VIOLATION) => Tried::Unknown,
                Some(code) if code.code().starts_with("23") => Tried::LetThrough,
                _ => Tried::Unknown,
            },
        })
    }
}

fn unable(why: &str) -> Finding {
    Finding {
        id: "not-probed",
        severity: Severity::Info,
        object: "cordon.signing_key".to_owned(),
        what: format!("what one workspace can do to another one's rows wasn't tried: {why}"),
        fix: "run pgcordon check with upstream.admin_url of a superuser".to_owned(),
    }
}
