//! Visible attempts on the walls. They are told from the text, so they are no wall themselves: what is denied by them gets
//! a good error and leaves evidence, and what hides from them meets the database's own refusal.

use super::guard_rule::Rule;
use super::statement::Relation;

/// The schema of pgcordon's own objects.
pub const SCHEMA: &str = "cordon";

/// Types whose input looks a name up.
pub(super) const NAME_TYPES: [&str; 11] = [
    "regclass",
    "regproc",
    "regprocedure",
    "regoper",
    "regoperator",
    "regtype",
    "regnamespace",
    "regrole",
    "regconfig",
    "regdictionary",
    "regcollation",
];
/// Functions of Postgres that are handed a relation, a schema or a query as text.
pub(super) const NAME_FUNCTIONS: [&str; 38] = [
    "to_regclass",
    "to_regproc",
    "to_regprocedure",
    "to_regoper",
    "to_regoperator",
    "to_regtype",
    "to_regnamespace",
    "nextval",
    "currval",
    "setval",
    "pg_get_serial_sequence",
    "pg_relation_size",
    "pg_total_relation_size",
    "pg_table_size",
    "pg_indexes_size",
    "pg_relation_filenode",
    "pg_relation_filepath",
    "pg_get_viewdef",
    "pg_get_functiondef",
    "pg_sequence_last_value",
    "row_security_active",
    "has_table_privilege",
    "has_column_privilege",
    "has_any_column_privilege",
    "has_sequence_privilege",
    "has_schema_privilege",
    "has_function_privilege",
    "query_to_xml",
    "query_to_xmlschema",
    "query_to_xml_and_xmlschema",
    "table_to_xml",
    "table_to_xmlschema",
    "table_to_xml_and_xmlschema",
    "schema_to_xml",
    "schema_to_xmlschema",
    "schema_to_xml_and_xmlschema",
    "ts_stat",
    "ts_rewrite",
];

/// What the texts of tenants are watched for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The settings that carry the context, in lower case.
    pub context: Vec<Box<str>>,
}

impl Default for Watched {
    fn default() -> Self {
        Self::context(["app.workspace_id", "app.workspace_seal"])
    }
}

impl Watched {
    /// Watches for these settings of the context.
    pub fn context<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self { context: names.into_iter().map(|name| name.to_ascii_lowercase().into()).collect() }
    }

    /// Whether a setting, in any case, is one of the context's.
    pub(super) fn is_context(&self, setting: &str) -> bool {
        self.context.iter().any(|name| name.eq_ignore_ascii_case(setting))
    }
}

/// One visible attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GuardHit {
    /// It sets, resets or plants a setting of the context: the setting's name, in lower case.
    TouchesContext(Box<str>),
    /// It names something in the schema cordon, other than by a call that everybody may make: what it names.
    NamesSchema(Box<str>),
    /// It takes on another role: SET ROLE, SET SESSION AUTHORIZATION, or `set_config` of either.
    ChangesRole,
    /// It creates, alters or drops roles or databases, or plants settings for them: Postgres' name of the command.
    AltersRole(&'static str),
    /// PREPARE TRANSACTION.
    PreparesTransaction,
    /// It gives row_security another value than `on`.
    SetsRowSecurity,
    /// It alters, drops or grants an object, or makes something on one: the command, and what it is about.
    ChangesObject(Box<str>, Object),
    /// DO.
    RunsDo,
    /// It calls a function that a rule is about.
    Calls(Rule, &'static str),
    /// ALTER, COMMENT, GRANT and the like of a large object: the command.
    ChangesLargeObject(Box<str>),
    /// It reads or writes a file or program of the server: the command.
    UsesServerFile(&'static str),
    /// LOCK TABLE, in a mode that others' reads or writes, or autovacuum, wait for: the table.
    Locks(Relation),
    /// EXPLAIN that shows estimates, or what was counted while it ran.
    Explains,
    /// LISTEN, UNLISTEN, NOTIFY or `pg_notify`, found where it stands.
    NamesChannel,
    /// The same may be in it, and can't be found.
    HidesChannel,
}

/// Whether a value of row_security is the one that it has anyway: pg_dump gives it that.
pub fn is_switched_on(value: &str) -> bool {
    ["on", "true", "yes", "1"].iter().any(|on| value.eq_ignore_ascii_case(on))
}

/// What is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Object {
    /// A table or the like.
    Relation(Relation),
    /// A function or the like, by its name alone.
    Function(Box<str>),
    /// Something of which no catalog knows whether it is there.
    Other,
}

impl GuardHit {
    /// The rule that it breaks.
    pub const fn rule(&self) -> Rule {
        match self {
            Self::TouchesContext(_) => Rule::Context,
            Self::NamesSchema(_) => Rule::ControlSchema,
            Self::ChangesRole => Rule::Role,
            Self::AltersRole(_) => Rule::AlterRole,
            Self::PreparesTransaction => Rule::TwoPhase,
            Self::SetsRowSecurity => Rule::RowSecurity,
            Self::ChangesObject(..) => Rule::Ddl,
            Self::RunsDo => Rule::Do,
            Self::Calls(rule, _) => *rule,
            Self::ChangesLargeObject(_) => Rule::LargeObjects,
            Self::UsesServerFile(_) => Rule::ServerFiles,
            Self::Locks(_) => Rule::LockTable,
            Self::Explains => Rule::Explain,
            Self::NamesChannel | Self::HidesChannel => Rule::Channels,
        }
    }
}
