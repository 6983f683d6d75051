//! Functions of the application that notify channels. Those that run with the rights of whoever calls them may not call
//! `pg_notify` any more once that is taken from tenants: they are made to call `cordon.pg_notify`, which notifies the channel
//! of the caller's workspace, and so does `pg_notify` in a client's own text.

use tokio_postgres::Client;

use super::SchemaError;

/// A call of Postgres' own `pg_notify`, with or without its schema. A function of this name in another schema isn't meant.
macro_rules! call {
    () => {
        r#"(^|[^\w."$])("?pg_catalog"?\s*\.\s*)?"?pg_notify"?\s*\("#
    };
}

/// The application's functions whose bodies can be read: not those of extensions, nor pgcordon's own.
macro_rules! functions {
    () => {
        r"pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace JOIN pg_catalog.pg_language l ON l.oid = p.prolang
        WHERE l.lanname IN ('sql', 'plpgsql') AND p.prokind IN ('f', 'p') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'cordon')
            AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.objid = p.oid AND d.deptype = 'e')"
    };
}

/// What makes functions that call `pg_notify` with their caller's rights call `cordon.pg_notify`, a statement for each.
pub(super) async fn rewritten(client: &Client) -> Result<Vec<String>, SchemaError> {
    let sql = concat!(
        "SELECT pg_catalog.regexp_replace(pg_catalog.pg_get_functiondef(p.oid), $re$",
        call!(),
        "$re$, '\\1cordon.pg_notify(', 'gi') FROM ",
        functions!(),
        " AND NOT p.prosecdef AND pg_catalog.pg_get_functiondef(p.oid) ~* $re$",
        call!(),
        "$re$ ORDER BY n.nspname, p.proname, p.oid"
    );
    let rows = client.query(sql, &[]).await.map_err(SchemaError::at("the functions that notify"))?;
    Ok(rows.iter().map(|row| row.get::<_, String>(0).trim_end().to_owned()).collect())
}

/// Follows the names that all rules speak of: functions that call `pg_notify` although their callers may not.
pub(super) const REFUSED: &str = concat!(
    "SELECT 'low', p.oid::regprocedure::text, 'calls pg_notify with the rights of its caller, which tenants no longer may: they get an error',
        h.fix || ': it calls cordon.pg_notify then'
    FROM hardening h, ",
    functions!(),
    " AND h.is_ours = pg_has_role(p.proowner, 'USAGE') AND NOT p.prosecdef AND pg_get_functiondef(p.oid) ~* $re$",
    call!(),
    "$re$ AND EXISTS (SELECT FROM tenant t WHERE NOT has_function_privilege(t.oid, 'pg_catalog.pg_notify(text, text)', 'EXECUTE')
        AND has_function_privilege(t.oid, p.oid, 'EXECUTE'))"
);

/// The same for functions that notify a plain channel, which no workspace hears.
pub(super) const PLAIN: &str = concat!(
    "SELECT 'info', p.oid::regprocedure::text, 'notifies plain channels: system keys hear them, no workspace does',
        'call cordon.pg_notify in it, if workspaces are to hear of what it does'
    FROM ",
    functions!(),
    r" AND (p.prosrc ~* '(^|;|\mbegin|\mthen|\melse|\mloop)\s*notify\s+\w' OR p.prosecdef AND pg_get_functiondef(p.oid) ~* $re$",
    call!(),
    "$re$)"
);

/// Tenants may call `pg_notify`.
pub(super) const OPEN: &str = "SELECT 'low', 'pg_catalog.pg_notify(text, text)', 'the role ' || t.rolname || ' may notify plain channels, which system keys listen to', h.fix
    FROM tenant t, pg_proc p, hardening h WHERE p.oid = 'pg_catalog.pg_notify(text, text)'::regprocedure AND h.is_ours = pg_has_role(p.proowner, 'USAGE')
        AND has_function_privilege(t.oid, p.oid, 'EXECUTE')";
