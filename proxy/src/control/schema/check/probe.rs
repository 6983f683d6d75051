//! Tries the walls instead of reading about them. Two workspaces that nobody has get a row each in every protected table; then,
//! as a tenant's role and bound to the first one by a true seal, it reads, counts, changes, deletes and fakes what is the
//! other's. All of it is in one transaction, with triggers off, that is rolled back: nothing is left, no sequence moves, and
//! nobody is told. What is changed in it is the made up rows, where the walls hold; in a table that is open everybody's rows are,
//! and stay locked until it is taken back, 5 seconds later at most.

use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::{Finding, Severity};
use crate::control::RoleNames;
use crate::control::schema::{SchemaError, ident, literal};
use crate::domain::WorkspaceId;
use crate::tenant::{ContextNames, Seal, SigningKey};

mod plant;
mod tenant;

use plant::{Place, Planted};
use tenant::{Tenant, Tried};

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

impl Workspace {
    const fn context(&self) -> (&str, &str) {
        (self.id.as_str(), self.seal.as_str())
    }
}

/// The two workspaces: as the first one it is tried what can be done to the other.
struct Pair {
    own: Workspace,
    other: Workspace,
}

/// What decides whose a row of a table is: the column, the other workspace's value and the own one, as SQL.
struct Belonging {
    column: String,
    theirs: String,
    mine: String,
}

impl Pair {
    fn belonging(&self, table: &Table) -> Option<Belonging> {
        if let Some(column) = &table.column {
            let (theirs, mine) = (literal(&self.other.id), literal(&self.own.id));
            return Some(Belonging { column: ident(column), theirs, mine });
        }
        let via = table.via.as_ref()?;
        let value = |workspace: &Workspace| workspace.planted.value(table.oid, via);
        Some(Belonging { column: ident(via), theirs: value(&self.other)?, mine: value(&self.own)? })
    }
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
        let prober = Prober { tenant: Tenant { client, role, names }, client };
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

/// Who tries: the administrator prepares what the tenant's role attempts.
struct Prober<'a> {
    client: &'a Client,
    tenant: Tenant<'a>,
}

impl Prober<'_> {
    async fn all(&self, findings: &mut Vec<Finding>) -> Result<(), SchemaError> {
        let at = || SchemaError::at("the protected tables");
        let tables = self.client.query(TABLES, &[&self.tenant.role]).await.map_err(at())?;
        let tables: Vec<Table> = tables.iter().map(Table::of).collect();
        for table in tables.iter().filter(|table| !table.is_view) {
            findings.extend(self.without_a_seal(table).await?);
        }
        let Some(mut pair) = self.workspaces().await? else {
            let why = "this administrator may not read the key of the seals, or switch triggers off";
            findings.push(not_probed(
                "cordon.signing_key",
                format!("what one workspace can do to another one's rows wasn't tried: {why}"),
                "run pgcordon check with upstream.admin_url of a superuser",
            ));
            return Ok(());
        };
        for table in tables.iter().filter(|table| !table.is_view) {
            findings.extend(self.plant(table, &mut pair).await?);
        }
        for table in &tables {
            findings.extend(self.read(table, &pair).await?);
            findings.extend(self.control(table, &pair).await?);
            if !table.is_view {
                findings.extend(self.fake(table, &pair).await?);
                findings.extend(self.change(table, &pair).await?);
                findings.extend(self.delete(table, &pair).await?);
            }
        }
        findings.extend(self.forged_mark(&pair).await?);
        Ok(())
    }

    /// A key's holder is known by the seal alone.
    async fn without_a_seal(&self, table: &Table) -> Result<Option<Finding>, SchemaError> {
        let any = format!("SELECT FROM {} LIMIT 1", table.name);
        if let Tried::Rows(1..) = self.tenant.ask(("", ""), &any).await? {
            let what = format!("shows rows to the role {} without a workspace", self.tenant.role);
            return Ok(Some(table.finding("open-without-context", what)));
        }
        let Some(column) = &table.column else { return Ok(None) };
        let some = format!("SELECT {0}::text FROM {1} WHERE {0} IS NOT NULL LIMIT 1", ident(column), table.name);
        let some = self.client.query(&some, &[]).await;
        let some = some.map_err(SchemaError::at(format!("a workspace of {}", table.name)))?;
        let Some(workspace) = some.first().map(|row| row.get::<_, String>(0)) else { return Ok(None) };
        if let Tried::Rows(1..) = self.tenant.ask((&workspace, ""), &any).await? {
            let setting = &self.tenant.names.workspace;
            let what = format!("shows a workspace's rows to whoever sets {setting}, without a seal");
            return Ok(Some(table.finding("context-forgeable", what)));
        }
        Ok(None)
    }

    /// Two workspaces; none, if this administrator can't have them.
    async fn workspaces(&self) -> Result<Option<Pair>, SchemaError> {
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
        Ok(Some(Pair { own: workspace(), other: workspace() }))
    }

    /// A row of each workspace, as far as one can be made up.
    async fn plant(&self, table: &Table, pair: &mut Pair) -> Result<Option<Finding>, SchemaError> {
        for (workspace, number) in [(&mut pair.own, 1), (&mut pair.other, 2)] {
            if let Some(why) = workspace.planted.plant(self.client, table.place(), &workspace.id, number).await? {
                let what = format!("no row to try it with can be made up ({why}): only what is there was tried");
                return Ok(Some(not_probed(&table.name, what, NOTHING_NEEDED)));
            }
        }
        Ok(None)
    }

    async fn read(&self, table: &Table, pair: &Pair) -> Result<Option<Finding>, SchemaError> {
        let others = match &table.column {
            Some(column) => {
                let column = ident(column);
                format!("SELECT FROM {} WHERE {column} IS DISTINCT FROM {} LIMIT 1", table.name, literal(&pair.own.id))
            }
            // A view without a workspace column may show what is everybody's.
            None if table.is_view => return Ok(None),
            // One of them may be its own, which was planted.
            None => format!("SELECT FROM {} OFFSET {} LIMIT 1", table.name, u8::from(pair.own.planted.has(table.oid))),
        };
        let Tried::Rows(1..) = self.tenant.ask(pair.own.context(), &others).await? else { return Ok(None) };
        let what = format!("shows rows of other workspaces to the role {}, bound to one", self.tenant.role);
        Ok(Some(table.finding("reads-across", what)))
    }

    /// Its own row must be seen, or the other tries prove nothing.
    async fn control(&self, table: &Table, pair: &Pair) -> Result<Option<Finding>, SchemaError> {
        if !pair.own.planted.has(table.oid) {
            return Ok(None);
        }
        let own = format!("SELECT FROM {} LIMIT 1", table.name);
        let why = match self.tenant.ask(pair.own.context(), &own).await? {
            Tried::Rows(1..) => return Ok(None),
            Tried::Unknown => "not even a workspace's own row could be asked for: it takes too long, or is locked",
            _ => "a workspace's own row isn't shown to it, by a policy more restrictive than pgcordon's perhaps",
        };
        Ok(Some(not_probed(&table.name, format!("{why}, so that little was tried"), NOTHING_NEEDED)))
    }

    /// A new row for the other workspace.
    async fn fake(&self, table: &Table, pair: &Pair) -> Result<Option<Finding>, SchemaError> {
        if !table.inserts || pair.belonging(table).is_none() {
            return Ok(None);
        }
        let fake = pair.other.planted.insert(self.client, table.place(), &pair.other.id, 2).await?;
        let done = self.tenant.ask(pair.own.context(), &fake).await?;
        let what = || table.finding("fakes-across", "takes a new row for another workspace".to_owned());
        Ok(matches!(done, Tried::Rows(_) | Tried::LetThrough).then(what))
    }

    /// The own row for the other workspace, and the other one's rows for the own.
    async fn change(&self, table: &Table, pair: &Pair) -> Result<Vec<Finding>, SchemaError> {
        let mut findings = Vec::new();
        let Some(Belonging { column, theirs, mine }) = pair.belonging(table).filter(|_| table.updates) else {
            return Ok(findings);
        };
        let (name, planted) = (&table.name, u64::from(pair.own.planted.has(table.oid)));
        let moved = format!("UPDATE {name} SET {column} = {theirs}");
        if planted == 1
            && let Tried::Rows(1..) | Tried::LetThrough = self.tenant.ask(pair.own.context(), &moved).await?
        {
            findings.push(table.finding("moves-across", "a workspace's row can be made another one's".to_owned()));
        }
        let taken = format!("UPDATE {name} SET {column} = {mine}");
        let reached = self.tenant.ask(pair.own.context(), &taken).await?;
        if matches!(reached, Tried::Rows(rows) if rows > planted) || matches!(reached, Tried::LetThrough) {
            findings.push(table.finding("updates-across", "rows of other workspaces can be changed".to_owned()));
        }
        Ok(findings)
    }

    async fn delete(&self, table: &Table, pair: &Pair) -> Result<Option<Finding>, SchemaError> {
        if !table.deletes {
            return Ok(None);
        }
        let reached = self.tenant.ask(pair.own.context(), &format!("DELETE FROM {}", table.name)).await?;
        let planted = u64::from(pair.own.planted.has(table.oid));
        let what = || table.finding("deletes-across", "rows of other workspaces can be deleted".to_owned());
        Ok(matches!(reached, Tried::Rows(rows) if rows > planted).then(what))
    }

    /// What says whose workspace a session is bound to must be out of a tenant's reach.
    async fn forged_mark(&self, pair: &Pair) -> Result<Option<Finding>, SchemaError> {
        let mark = literal(&pair.other.id.replace('-', ""));
        let set = format!("SELECT set_config('backtrace_functions', {mark}, false)");
        let tried = self.tenant.ask(("", ""), &set).await?;
        Ok(matches!(tried, Tried::Rows(_)).then(|| Finding {
            id: "mark-granted",
            severity: Severity::Critical,
            object: ident(self.tenant.role),
            what: "may set backtrace_functions, which says whose workspace a session is bound to (tried)".to_owned(),
            fix: format!("REVOKE SET ON PARAMETER backtrace_functions FROM PUBLIC, {}", ident(self.tenant.role)),
        }))
    }
}

/// What is to be done about a table of which little is known.
const NOTHING_NEEDED: &str = "none is needed, if no other finding is about this table";

fn not_probed(object: &str, what: String, fix: &str) -> Finding {
    Finding { id: "not-probed", severity: Severity::Info, object: object.to_owned(), what, fix: fix.to_owned() }
}
