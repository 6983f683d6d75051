//! What a database's catalog says of the things that statements name: a plain value, as of one moment. It knows only what
//! decides over effects, and answers for every way in which a name may be resolved at once: who uses a session's own
//! search path to be exact would be wrong in the next one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::statement::{FunctionName, Relation, Statement};

/// A relation in a catalog.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Table {
    /// The schema.
    pub schema: Box<str>,
    /// The name.
    pub name: Box<str>,
}

type Map<V> = HashMap<Box<str>, V, ahash::RandomState>;
type Set = HashSet<Box<str>, ahash::RandomState>;

/// Every catalog has a number of its own, so that what was derived from one isn't taken for another's.
static VERSIONS: AtomicU64 = AtomicU64::new(1);

/// A database's catalog. The empty one knows nothing, so that whatever is looked up in it may do everything.
#[derive(Debug)]
pub struct Catalog {
    version: u64,
    /// Schemas in which a name without a schema may be found, `pg_catalog` included.
    path: Vec<Box<str>>,
    /// By schema and name.
    relations: Map<Map<Entry>>,
    functions: Map<CatalogFunction>,
    /// Operators with a function of which nothing is known.
    operators: Set,
    /// Some type, cast or ordinary comparison runs a function of which nothing is known.
    odd: bool,
}

/// A relation, and its name with its schema: the audit trail is told it of every write.
#[derive(Debug)]
struct Entry {
    relation: CatalogRelation,
    qualified: Arc<str>,
}

/// A table, view or the like.
#[derive(Clone, Debug, Default)]
pub struct CatalogRelation {
    /// What a view stands for, if it is one that could be understood.
    pub definition: Option<Arc<Statement>>,
    /// Reading it may do more than read: a foreign table, a policy that runs a function of which nothing is known, a view
    /// that wasn't understood.
    pub hides_reads: bool,
    /// INSERT may do more than insert there: triggers, rules, defaults; or it is a view.
    pub hides_inserts: bool,
    /// UPDATE, DELETE or TRUNCATE may do more than that there: triggers, rules, cascades to tables that have them; or it
    /// is a view.
    pub hides_changes: bool,
    /// A row inserted here takes a number from a sequence, if the statement leaves that to the table: a default that calls
    /// `nextval`, an identity column. A hint: nothing says that it is still so.
    pub takes_numbers: bool,
    /// What else is read with it: its partitions and children, and what its policies read.
    pub reads_too: Vec<Table>,
    /// What else may be changed with it: its partitions and children, and what cascades reach.
    pub changes_too: Vec<Table>,
    /// Resources that a row inserted here, or in a partition of it, may count in.
    pub counts: Vec<i32>,
    /// Resources that an UPDATE may make more rows count in.
    pub counts_changed: Vec<i32>,
}

/// All functions of one name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CatalogFunction {
    /// What is known of all functions of the name that were there when the database was made.
    pub builtin: Option<Known>,
    /// What is known of all others, wherever they are.
    pub others: Option<Known>,
    /// One of them that isn't harmless can be called as `row.name`.
    pub by_row: bool,
}

/// What is known of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Known {
    /// It changes nothing.
    Harmless,
    /// It changes no row and no object, but a sequence, a setting, a lock or the like.
    KeepsRows,
    /// Nothing.
    Nothing,
}

/// Functions of Postgres that are volatile and change nothing.
const HARMLESS: [&str; 12] = [
    "clock_timestamp",
    "currval",
    "gen_random_uuid",
    "lastval",
    "pg_current_xact_id",
    "pg_current_xact_id_if_assigned",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "random",
    "timeofday",
    "txid_current",
];
/// Functions of Postgres that change what is no row.
const KEEPS_ROWS: [&str; 20] = [
    "nextval",
    "set_config",
    "setseed",
    "pg_notify",
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
    "pg_advisory_unlock",
    "pg_advisory_unlock_shared",
    "pg_advisory_unlock_all",
    "pg_advisory_xact_lock",
    "pg_advisory_xact_lock_shared",
    "pg_try_advisory_xact_lock",
    "pg_try_advisory_xact_lock_shared",
    "pg_export_snapshot",
    "pg_cancel_backend",
    "pg_terminate_backend",
    "pg_stat_clear_snapshot",
    "pg_log_backend_memory_contexts",
];
/// Stable functions of Postgres that read what their arguments name.
const READS_HIDDEN: [&str; 5] = ["query_to_xml", "table_to_xml", "schema_to_xml", "database_to_xml", "cursor_to_xml"];
/// What ORDER BY, DISTINCT, IN, CASE, USING and the like use without naming it.
const COMPARISONS: [&str; 6] = ["=", "<>", "<", ">", "<=", ">="];

impl Known {
    /// Of a function that was there when the database was made.
    pub fn builtin(name: &str, volatile: bool) -> Self {
        match volatile {
            _ if READS_HIDDEN.iter().any(|start| name.starts_with(start)) => Self::Nothing,
            false => Self::Harmless,
            true if HARMLESS.contains(&name) => Self::Harmless,
            true if KEEPS_ROWS.contains(&name) => Self::KeepsRows,
            true => Self::Nothing,
        }
    }
}

impl Default for Catalog {
    fn default() -> Self {
        Self {
            version: VERSIONS.fetch_add(1, Ordering::Relaxed),
            path: Vec::new(),
            relations: Map::default(),
            functions: Map::default(),
            operators: Set::default(),
            odd: true,
        }
    }
}

impl Catalog {
    /// A catalog in which names without a schema may be found in these schemas.
    pub fn new(path: impl IntoIterator<Item = Box<str>>) -> Self {
        Self { path: path.into_iter().collect(), odd: false, ..Self::default() }
    }

    /// A number that no other catalog has.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Adds a relation, or replaces what is known of it.
    pub fn relation(&mut self, schema: &str, name: &str, relation: CatalogRelation) {
        let entry = Entry { relation, qualified: format!("{schema}.{name}").into() };
        self.relations.entry(schema.into()).or_default().insert(name.into(), entry);
    }

    /// Adds what is known of the functions of one name.
    pub fn function(&mut self, name: &str, function: CatalogFunction) {
        self.functions.insert(name.into(), function);
    }

    /// An operator has a function of which nothing is known.
    pub fn unknown_operator(&mut self, name: &str) {
        self.odd |= COMPARISONS.contains(&name);
        self.operators.insert(name.into());
    }

    /// A type or cast runs a function of which nothing is known: nothing can be proven any more.
    pub const fn unknown_type(&mut self) {
        self.odd = true;
    }

    /// Whether nothing can be proven with it.
    pub(super) const fn is_odd(&self) -> bool {
        self.odd
    }

    /// All relations that a name may stand for.
    pub(super) fn candidates<'a>(
        &'a self,
        name: &'a Relation,
    ) -> impl Iterator<Item = (&'a str, &'a CatalogRelation)> + 'a {
        let in_schema = |schema: &'a str| Some((schema, &self.relations.get(schema)?.get(&name.name)?.relation));
        let path = if name.schema.is_none() { self.path.as_slice() } else { &[] };
        name.schema.as_deref().into_iter().chain(path.iter().map(|schema| &**schema)).filter_map(in_schema)
    }

    /// Whether there is a relation that a name may stand for, in whatever schema where it names none.
    pub fn has_relation(&self, name: &Relation) -> bool {
        let known = |relations: &Map<Entry>| relations.contains_key(&name.name);
        match &name.schema {
            Some(schema) => self.relations.get(schema).is_some_and(known),
            None => self.relations.values().any(known),
        }
    }

    /// Whether there is a function of this name that Postgres doesn't come with.
    pub fn has_own_function(&self, name: &str) -> bool {
        self.functions.get(name).is_some_and(|all| all.others.is_some())
    }

    /// The relation that a name without a schema stands for, with its schema, if it can't be another.
    pub fn qualified(&self, name: &Relation) -> Option<&Arc<str>> {
        let mut found = self.path.iter().filter_map(|schema| self.relations.get(schema)?.get(&name.name));
        let first = found.next()?;
        found.next().is_none().then_some(&first.qualified)
    }

    /// What is known of every function that a call may run.
    pub(super) fn called(&self, call: &FunctionName) -> Known {
        match call.schema.as_deref() {
            Some(super::guard_hit::SCHEMA) if &*call.name == "workspace_id" => return Known::Harmless,
            Some(super::guard_hit::SCHEMA) if &*call.name == super::guard_functions::NOTIFY => return Known::KeepsRows,
            Some("pg_catalog") | None => {}
            // In a schema of somebody's own.
            Some(_) => return self.functions.get(&call.name).and_then(|all| all.others).unwrap_or(Known::Nothing),
        }
        let Some(all) = self.functions.get(&call.name) else { return Known::Nothing };
        let others = if call.schema.is_none() { all.others } else { None };
        all.builtin.max(others).unwrap_or(Known::Nothing)
    }

    /// Whether `row.name` may run a function of which nothing is known.
    pub(super) fn hides_attribute(&self, name: &str) -> bool {
        self.functions.get(name).is_some_and(|all| all.by_row)
    }

    /// Whether nothing is known of the function behind an operator.
    pub(super) fn hides_operator(&self, name: &str) -> bool {
        self.operators.contains(name)
    }
}
