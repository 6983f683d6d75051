//! Filters: read by Postgres itself, so that what counts is what it understood, with every name qualified.
//!
//! A filter runs inside the trigger with the rights of the role that owns the schema `cordon`. So it may call what is compiled
//! into Postgres or an extension, and no function that somebody wrote in a language of the database.

use tokio_postgres::Transaction;

use super::super::SchemaError;
use super::target::Target;

/// What a filter depends on that isn't Postgres' own: functions, and the functions of operators, in a language of the database,
/// and domains, whose checks are such functions.
const FOREIGN: &str = "\
    SELECT pg_catalog.pg_describe_object(d.refclassid, d.refobjid, 0) FROM pg_catalog.pg_depend d \
    LEFT JOIN pg_catalog.pg_operator o ON d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND o.oid = d.refobjid \
    LEFT JOIN pg_catalog.pg_proc p ON p.oid = CASE WHEN d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass THEN d.refobjid ELSE o.oprcode END \
    LEFT JOIN pg_catalog.pg_language l ON l.oid = p.prolang \
    LEFT JOIN pg_catalog.pg_type t ON d.refclassid = 'pg_catalog.pg_type'::pg_catalog.regclass AND t.oid = d.refobjid \
    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = $1 \
        AND (l.lanname NOT IN ('internal', 'c') OR t.typtype = 'd') LIMIT 1";

/// The filter as Postgres writes it. An index over an empty copy of the table reads it: that refuses what isn't a condition
/// on one row alone, subqueries and whatever isn't immutable.
pub(super) async fn normalized(work: &Transaction<'_>, target: &Target, filter: &str) -> Result<String, SchemaError> {
    let refused = |error: &tokio_postgres::Error| {
        SchemaError::Refused(format!(
            "{}: the filter {filter:?} can't be metered: {}; it must be a condition on a row's own columns that never changes \
             by itself",
            target.name,
            crate::control::store::describe(error)
        ))
    };
    let at = || SchemaError::at(format!("the filter of {}", target.name));
    let probe = format!("SAVEPOINT filter; CREATE TEMPORARY TABLE {} (LIKE {})", target.bare_name, target.name);
    work.batch_execute(&probe).await.map_err(at())?;
    let index = format!("CREATE INDEX pgcordon_filter ON pg_temp.{} ((true)) WHERE ({filter}\n)", target.bare_name);
    // Through the extended protocol, which takes one statement.
    work.execute(&index, &[]).await.map_err(|error| refused(&error))?;
    let foreign =
        "SELECT i.oid FROM pg_catalog.pg_class i WHERE i.oid = 'pg_temp.pgcordon_filter'::pg_catalog.regclass";
    let index: u32 = work.query_one(foreign, &[]).await.map_err(at())?.get(0);
    if let Some(row) = work.query_opt(FOREIGN, &[&index]).await.map_err(at())? {
        return Err(SchemaError::Refused(format!(
            "{}: the filter {filter:?} uses {}, which would run with the rights of the schema cordon: only what comes with \
             Postgres or an extension may",
            target.name,
            row.get::<_, String>(0)
        )));
    }
    // Nothing of the administrator's settings may decide how it reads in a tenant's session.
    let plain = "SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL DateStyle = 'ISO'; SET LOCAL IntervalStyle = 'postgres'; \
                 SET LOCAL TimeZone = 'UTC'; SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; \
                 SET LOCAL quote_all_identifiers = off; SET LOCAL standard_conforming_strings = on";
    work.batch_execute(plain).await.map_err(at())?;
    let text =
        "SELECT pg_catalog.pg_get_expr(i.indpred, i.indrelid) FROM pg_catalog.pg_index i WHERE i.indexrelid = $1";
    let text: Option<String> = work.query_one(text, &[&index]).await.map_err(at())?.get(0);
    work.batch_execute("ROLLBACK TO filter; RELEASE filter").await.map_err(at())?;
    // A condition that is always true leaves no predicate behind.
    Ok(text.unwrap_or_else(|| "true".to_owned()))
}
