//! What lies around a table that is protected: unique constraints without the workspace, references that may cross it, and
//! views.

use tokio_postgres::GenericClient;

use super::plan::Plan;
use super::table::Table;
use crate::control::RoleNames;
use crate::control::schema::{SchemaError, ident};

/// Unique constraints and indexes that lack a column: their names, the statement that widens each and the one that takes that
/// back; none where foreign keys refer to it, or it is the primary key.
const UNIQUE: &str = "\
    SELECT c.relname::text, \
        CASE WHEN i.indisprimary OR EXISTS (SELECT FROM pg_catalog.pg_constraint f WHERE f.contype = 'f' AND f.conindid = i.indexrelid) THEN NULL \
            WHEN k.oid IS NOT NULL THEN pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s', $2::text, k.conname, k.conname, \
                pg_catalog.regexp_replace(pg_catalog.pg_get_constraintdef(k.oid), '\\(', '(' || $3::text || ', ')) \
            ELSE pg_catalog.format('DROP INDEX %I.%I; %s', n.nspname, c.relname, \
                pg_catalog.regexp_replace(pg_catalog.pg_get_indexdef(i.indexrelid), ' USING (\\w+) \\(', ' USING \\1 (' || $3::text || ', ')) END, \
        CASE WHEN k.oid IS NOT NULL THEN pg_catalog.format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %I %s', $2::text, k.conname, k.conname, \
                pg_catalog.pg_get_constraintdef(k.oid)) \
            ELSE pg_catalog.format('DROP INDEX %I.%I; %s', n.nspname, c.relname, pg_catalog.pg_get_indexdef(i.indexrelid)) END, \
        i.indisprimary \
    FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = i.indrelid AND k.contype IN ('p', 'u') \
    WHERE i.indrelid = $1 AND i.indisunique ORDER BY c.relname";

/// Foreign keys between tables that both have a workspace column, which don't contain it. With each what closes it: a unique
/// constraint on the other side, unless there is one, and the same foreign key by workspace. `{0}` names the rows of interest.
pub(in crate::control::schema) const CROSSING: &str = "\
    SELECT pg_catalog.format('%I.%I', cn.nspname, c.relname) AS child, k.conname::text AS name, \
        CASE WHEN EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = k.confrelid AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL \
                AND i.indnkeyatts = pg_catalog.cardinality(k.confkey) + 1 \
                AND (i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1] @> (k.confkey || pa.attnum)) THEN '' \
            ELSE pg_catalog.format('ALTER TABLE %I.%I ADD UNIQUE (%I, %s); ', pn.nspname, p.relname, pa.attname, theirs.list) END \
        || pg_catalog.format('ALTER TABLE %I.%I DROP CONSTRAINT %I, ADD CONSTRAINT %I FOREIGN KEY (%I, %s) REFERENCES %I.%I (%I, %s)%s', \
            cn.nspname, c.relname, k.conname, k.conname, ca.attname, ours.list, pn.nspname, p.relname, pa.attname, theirs.list, \
            pg_catalog.regexp_replace(pg_catalog.substring(pg_catalog.pg_get_constraintdef(k.oid), 'REFERENCES .*?\\([^)]*\\)(.*)$'), \
                'ON DELETE SET (NULL|DEFAULT)', 'ON DELETE SET \\1 (' || ours.list || ')')) AS fix \
    FROM pg_catalog.pg_constraint k \
    JOIN pg_catalog.pg_class c ON c.oid = k.conrelid JOIN pg_catalog.pg_namespace cn ON cn.oid = c.relnamespace \
    JOIN pg_catalog.pg_class p ON p.oid = k.confrelid JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace \
    JOIN pg_catalog.pg_attribute ca ON ca.attrelid = c.oid AND NOT ca.attisdropped AND ca.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype \
        AND ca.attname IN ('workspace_id', 'workspaceId') \
    JOIN pg_catalog.pg_attribute pa ON pa.attrelid = p.oid AND NOT pa.attisdropped AND pa.atttypid = 'pg_catalog.uuid'::pg_catalog.regtype \
        AND pa.attname IN ('workspace_id', 'workspaceId') \
    CROSS JOIN LATERAL (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY u.place) AS list \
        FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY AS u (num, place) JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = u.num) ours \
    CROSS JOIN LATERAL (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY u.place) AS list \
        FROM pg_catalog.unnest(k.confkey) WITH ORDINALITY AS u (num, place) JOIN pg_catalog.pg_attribute a ON a.attrelid = p.oid AND a.attnum = u.num) theirs \
    WHERE k.contype = 'f' AND k.conparentid = 0 AND NOT EXISTS (SELECT FROM ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey)) AS pair (child, parent) \
        WHERE pair.child = ca.attnum AND pair.parent = pa.attnum)";

/// Views and the like that read a table directly: name, kind, whether its owner sees every workspace, and whether tenants
/// may read it.
const VIEWS: &str = "\
    SELECT DISTINCT pg_catalog.format('%I.%I', n.nspname, v.relname), v.relkind::text, o.rolsuper OR o.rolbypassrls, \
        coalesce(v.reloptions::text ~* 'security_invoker=(true|on|yes|1)', false), \
        EXISTS (SELECT FROM pg_catalog.unnest($2::text[]) AS tenant WHERE pg_catalog.has_table_privilege(tenant, v.oid, 'SELECT')) \
    FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass \
    JOIN pg_catalog.pg_class v ON v.oid = r.ev_class AND v.relkind IN ('v', 'm') JOIN pg_catalog.pg_namespace n ON n.oid = v.relnamespace \
    JOIN pg_catalog.pg_roles o ON o.oid = v.relowner \
    WHERE d.refobjid = $1 AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND v.oid <> $1 ORDER BY 1";

/// Widens what is unique across workspaces by a column that is new: two workspaces may have the same from now on.
pub(super) async fn widen_unique(
    client: &impl GenericClient,
    table: &Table,
    column: &str,
    plan: &mut Plan,
) -> Result<(), SchemaError> {
    let column = ident(column);
    let rows = client.query(UNIQUE, &[&table.oid, &table.name, &column]).await;
    for row in &rows.map_err(SchemaError::at(format!("what is unique in {}", table.name)))? {
        let (name, widened, undo, is_primary): (String, Option<String>, String, bool) =
            (row.get(0), row.get(1), row.get(2), row.get(3));
        match widened {
            Some(widened) => {
                plan.step(widened, Some(undo));
                plan.note(format!(
                    "{name} is unique within a workspace now: an ON CONFLICT that names its columns must name {column} as well"
                ));
            }
            None if is_primary => {}
            None => plan.note(format!(
                "{name} stays unique across workspaces, for foreign keys refer to it: one workspace can take a value from another"
            )),
        }
    }
    Ok(())
}

/// Says which references of the table, or to it, may cross workspaces, and how to close each.
pub(super) async fn propose_keys(
    client: &impl GenericClient,
    table: &Table,
    plan: &mut Plan,
) -> Result<(), SchemaError> {
    let sql =
        format!("SELECT name, fix FROM ({CROSSING} AND $1 IN (k.conrelid, k.confrelid)) AS crossing ORDER BY name");
    let rows = client.query(&sql, &[&table.oid]).await;
    for row in &rows.map_err(SchemaError::at(format!("the foreign keys of {}", table.name)))? {
        let (name, fix): (String, String) = (row.get(0), row.get(1));
        plan.note(format!("{name} lets a row refer to another workspace's. Proposed: {fix}"));
    }
    Ok(())
}

/// Takes tenants off what shows the table's rows beside its policies.
pub(super) async fn close_views(
    client: &impl GenericClient,
    table: &Table,
    roles: &RoleNames,
    plan: &mut Plan,
) -> Result<(), SchemaError> {
    let tenants = [&roles.application, &roles.read_only];
    let rows = client.query(VIEWS, &[&table.oid, &tenants.as_slice()]).await;
    for row in &rows.map_err(SchemaError::at(format!("the views of {}", table.name)))? {
        let (view, kind, sees_all, is_invoker, is_read): (String, String, bool, bool, bool) =
            (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4));
        if kind == "m" && is_read {
            let tenants = tenants.map(|role| ident(role)).join(", ");
            plan.step(format!("REVOKE ALL ON {view} FROM PUBLIC, {tenants}"), None);
            plan.note(format!("{view} keeps rows of every workspace, and is closed to tenants"));
        } else if kind == "v" && sees_all && !is_invoker {
            plan.step(
                format!("ALTER VIEW {view} SET (security_invoker = true)"),
                Some(format!("ALTER VIEW {view} RESET (security_invoker)")),
            );
        }
    }
    Ok(())
}
