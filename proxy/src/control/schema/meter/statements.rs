//! The SQL of meters, written from plain values.
//!
//! A trigger runs in a hostile session: a tenant's settings and temporary objects are in force. So every name is qualified, and
//! whether it speaks is decided by `session_user` alone, which no tenant can change. It says how many rows by the
//! statement's transition tables: under row-level security they have one workspace, and it doesn't look which.

use super::super::{SchemaError, ident, literal};
use super::target::{Member, Target};

/// The names of the triggers: of INSERT, DELETE and UPDATE.
pub const TRIGGERS: [&str; 3] = ["pgcordon_meter_insert", "pgcordon_meter_delete", "pgcordon_meter_update"];

/// What one table is metered for.
pub(super) struct Metered {
    pub(super) resource: i32,
    pub(super) is_flow: bool,
    pub(super) filter: Option<String>,
}

impl Metered {
    /// Counts the rows that the filter lets through and for which `whose` holds.
    fn count(&self, whose: Option<&str>) -> String {
        let conditions: Vec<&str> = whose.into_iter().chain(self.filter.as_deref()).collect();
        if conditions.is_empty() {
            return "pg_catalog.count(*)".to_owned();
        }
        format!("pg_catalog.count(*) FILTER (WHERE ({}))", conditions.join(") AND ("))
    }
}

/// A limit as the column has it.
pub(super) fn limit(limit: Option<u64>) -> Result<Option<i64>, SchemaError> {
    let too_big = |_| SchemaError::Refused(format!("a limit is at most {}", i64::MAX));
    limit.map(i64::try_from).transpose().map_err(too_big)
}

fn or_null<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "NULL".to_owned(), |value| value.to_string())
}

pub(super) fn insert_resource(name: &str, per: Option<&str>, limit: Option<i64>) -> String {
    let (name, per, limit) = (literal(name), or_null(per.map(literal)), or_null(limit));
    format!("INSERT INTO cordon.resource (name, per, default_limit) VALUES ({name}, {per}, {limit})")
}

pub(super) fn set_limit(resource: i32, limit: Option<i64>) -> String {
    format!("UPDATE cordon.resource SET default_limit = {} WHERE id = {resource}", or_null(limit))
}

pub(super) fn upsert_meter(resource: i32, target: &Target, filter: Option<&str>) -> String {
    let (relation, count) = (literal(&target.name), literal(&count_sql(target, filter)));
    let filter = or_null(filter.map(literal));
    format!(
        "INSERT INTO cordon.meter (resource_id, relation, filter, count_sql) VALUES ({resource}, {relation}, {filter}, {count}) \
         ON CONFLICT (resource_id, relation) DO UPDATE SET filter = EXCLUDED.filter, count_sql = EXCLUDED.count_sql"
    )
}

/// Meters go with a table that was renamed.
pub(super) fn follow(former: &str, now: &str) -> String {
    let (former, now) = (literal(former), literal(now));
    format!("UPDATE cordon.meter SET relation = {now} WHERE relation = {former}")
}

/// Counts a workspace's rows; `$1` is the workspace.
pub(super) fn count_sql(target: &Target, filter: Option<&str>) -> String {
    let filter = filter.map(|filter| format!(" AND ({filter})")).unwrap_or_default();
    format!("SELECT pg_catalog.count(*) FROM {} AS metered WHERE {}{filter}", target.name, target.belongs)
}

/// Makes the function, as the owner of the schema `cordon`.
pub(super) fn functions(target: &Target, application: &str, metered: &[Metered]) -> Vec<String> {
    let function = &target.function;
    let body = body(target, application, metered);
    let quote = quote(&body);
    // How a filter's constants read mustn't be a tenant's choice.
    let settings = if metered.iter().any(|each| each.filter.is_some()) {
        " SET standard_conforming_strings = on SET array_nulls = on SET transform_null_equals = off"
    } else {
        ""
    };
    vec![
        format!(
            "CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER \
             SET search_path = pg_catalog, pg_temp{settings} AS {quote}{body}{quote}"
        ),
        // Whoever may call it can put it on a temporary table, and report what never was.
        format!("REVOKE ALL ON FUNCTION {function}() FROM PUBLIC"),
    ]
}

/// A dollar quote that doesn't occur in the text.
fn quote(text: &str) -> String {
    let mut quote = "$meter$".to_owned();
    while text.contains(&quote) {
        quote.insert(quote.len() - 1, '_');
    }
    quote
}

/// What an INSERT adds is the session's own: the policy has checked it. What goes is not always: a cascade asks no policy, and
/// reaches rows of other workspaces that refer to this one's. So a row counts as gone only where it is known for its own.
fn body(target: &Target, application: &str, metered: &[Metered]) -> String {
    let list = |item: &dyn Fn(&Metered) -> String| metered.iter().map(item).collect::<Vec<_>>().join(", ");
    let zero = || "0::pg_catalog.int8".to_owned();
    let column = target.column.as_deref().map(ident);
    let own = column.as_ref().map(|column| format!("{column} OPERATOR(pg_catalog.=) pgcordon_own"));
    // Without a workspace, for one can be forgotten in mid-statement, all that comes counts and nothing that goes.
    let own_or_unknown = own.as_ref().map(|own| format!("{own} OR pgcordon_own IS NULL"));
    let (prepare, is_own) = match own {
        Some(_) => ("pgcordon_own := cordon.workspace_at_end();\n        ", String::new()),
        None => ("", format!("\n            AND {NO_CASCADE}")),
    };
    let resources = list(&|each| each.resource.to_string());
    let inserted = list(&|each| each.count(None));
    let deleted = list(&|each| match each.is_flow {
        true => zero(),
        false => format!("0 OPERATOR(pg_catalog.-) {}", each.count(own.as_deref())),
    });
    let updated = list(&|each| match &each.filter {
        Some(_) => format!(
            "(SELECT {} FROM new_rows) OPERATOR(pg_catalog.-) (SELECT {} FROM old_rows)",
            each.count(own_or_unknown.as_deref()),
            each.count(own.as_deref())
        ),
        None => zero(),
    });
    format!(
        "
#print_strict_params off
#variable_conflict use_column
-- Made by pgcordon meter for {comment}; its next run makes it anew.
DECLARE
    changed pg_catalog.int8[];
    stack pg_catalog.text;
    certain pg_catalog.bool := false;
    pgcordon_own pg_catalog.uuid;
BEGIN
    IF session_user OPERATOR(pg_catalog.<>) {application}::pg_catalog.name THEN
        IF NOT EXISTS (SELECT FROM cordon.api_key AS k WHERE k.role OPERATOR(pg_catalog.=) session_user::pg_catalog.text
            AND k.kind OPERATOR(pg_catalog.<>) 'system')
        THEN
            RETURN NULL;
        END IF;
    END IF;
    IF TG_OP OPERATOR(pg_catalog.=) 'INSERT' THEN
        changed := (SELECT ARRAY[{inserted}] FROM new_rows);
    ELSE
        {prepare}IF TG_OP OPERATOR(pg_catalog.=) 'DELETE' THEN
            changed := (SELECT ARRAY[{deleted}] FROM old_rows);
        ELSE
            changed := ARRAY[{updated}];
        END IF;
        -- One line is this function alone: nothing between it and the client's own statement that could catch an
        -- exception, and undo what is told here. A MERGE that moves rows between partitions shows half of it.
        GET DIAGNOSTICS stack = PG_CONTEXT;
        certain := TG_ARGV[0] OPERATOR(pg_catalog.=) 'plain' AND pg_catalog.strpos(stack, pg_catalog.chr(10)) OPERATOR(pg_catalog.=) 0{is_own};
    END IF;
    PERFORM cordon.report(ARRAY[{resources}], changed, certain);
    RETURN NULL;
END
",
        comment = target.name.replace(['\n', '\r'], " "),
        application = literal(application),
    )
}

/// Of a table whose rows belong to a parent's workspace it can't be told whose they were once the parent is gone: what goes is
/// certain only where no cascade can take it.
const NO_CASCADE: &str = "\
    NOT EXISTS (SELECT FROM pg_catalog.pg_constraint AS k WHERE k.conrelid OPERATOR(pg_catalog.=) TG_RELID
                AND k.contype OPERATOR(pg_catalog.=) 'f'::pg_catalog.\"char\"
                AND (k.confdeltype OPERATOR(pg_catalog.<>) ALL ('{a,r}'::pg_catalog.\"char\"[])
                    OR k.confupdtype OPERATOR(pg_catalog.<>) ALL ('{a,r}'::pg_catalog.\"char\"[])))";

/// Puts the triggers on a table, as an administrator, and takes away what isn't needed any more.
pub(super) fn triggers(member: &Member, function: &str, metered: &[Metered]) -> Vec<String> {
    let table = &member.name;
    let kind = if member.is_partitioned { "partitioned" } else { "plain" };
    let any_stock = metered.iter().any(|each| !each.is_flow);
    let any_filter = metered.iter().any(|each| each.filter.is_some());
    let new = "NEW TABLE AS new_rows";
    let old = "OLD TABLE AS old_rows";
    let [insert, delete, update] = TRIGGERS;
    let wanted = [
        (insert, "INSERT", new.to_owned(), true),
        (delete, "DELETE", old.to_owned(), any_stock),
        (update, "UPDATE", format!("{old} {new}"), any_filter),
    ];
    let mut statements = Vec::new();
    for (name, event, rows, is_wanted) in wanted {
        if is_wanted {
            statements.push(format!(
                "CREATE OR REPLACE TRIGGER {name} AFTER {event} ON {table} REFERENCING {rows} FOR EACH STATEMENT \
                 EXECUTE FUNCTION {function}('{kind}')"
            ));
            // Also where replication's role is set: that is no reason to insert unseen.
            statements.push(format!("ALTER TABLE {table} ENABLE ALWAYS TRIGGER {}", ident(name)));
        } else if member.triggers.iter().any(|has| has == name) {
            statements.push(format!("DROP TRIGGER {name} ON {table}"));
        }
    }
    statements
}
