//! What is looked for. Each rule is a query over the catalogs whose rows are findings: severity, object, what, fix.

use super::super::notifying;

/// A rule.
pub(super) struct Rule {
    /// The stable name of its findings.
    pub(super) id: &'static str,
    /// Follows [`WHO`].
    pub(super) sql: &'static str,
}

/// The fix that an administrator can do himself.
pub(super) const HARDEN: &str = "pgcordon harden";
macro_rules! harden_as_superuser {
    () => {
        "pgcordon harden, with upstream.admin_url of a superuser: this administrator may not change it"
    };
}
/// The fix where this administrator would be refused: Postgres' own functions are the bootstrap superuser's.
pub(super) const HARDEN_AS_SUPERUSER: &str = harden_as_superuser!();

/// What all rules speak of. `tenant` are the roles that tenants' statements run as; `reached` are the application's
/// tables with what tenants may do to them; `belonging` are the columns that say whose a row is, its own or a foreign key's; `hardening` is the fix by whether this
/// administrator may do it; `unmetered` are tables that lack a meter's trigger; `wall` are those with a policy that nothing can open.
pub(super) const WHO: &str = concat!(
    r#"
WITH who (owner, application, read_only, system, cordon, control) AS (
    VALUES ($1::text, $2::text, $3::text, $4::text, $5::text, $6::text)),
tenant AS (SELECT r.* FROM pg_roles r, who WHERE r.rolname IN (who.application, who.read_only)),
space AS (SELECT oid, nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'cordon')),
relation AS (
    SELECT c.*, s.nspname, format('%I.%I', s.nspname, c.relname) AS name,
        (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid AND a.atttypid = 'uuid'::regtype AND NOT a.attisdropped
            AND a.attname IN ('workspace_id', 'workspaceId') ORDER BY 1 LIMIT 1) AS workspace_column,
        EXISTS (SELECT FROM tenant t WHERE has_schema_privilege(t.oid, s.oid, 'USAGE')
            AND (has_any_column_privilege(t.oid, c.oid, 'SELECT') OR has_any_column_privilege(t.oid, c.oid, 'INSERT')
                OR has_any_column_privilege(t.oid, c.oid, 'UPDATE') OR has_table_privilege(t.oid, c.oid, 'DELETE'))) AS is_reached,
        EXISTS (SELECT FROM tenant t WHERE has_any_column_privilege(t.oid, c.oid, 'INSERT')
            OR has_any_column_privilege(t.oid, c.oid, 'UPDATE') OR has_table_privilege(t.oid, c.oid, 'DELETE')) AS is_written
    FROM pg_class c JOIN space s ON s.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')),
app_table AS (SELECT * FROM relation WHERE relkind IN ('r', 'p')),
wall AS (
    SELECT p.polrelid FROM pg_policy p
    WHERE NOT p.polpermissive AND p.polcmd = '*' AND p.polroles = '{0}'
        AND coalesce(pg_get_expr(p.polwithcheck, p.polrelid), pg_get_expr(p.polqual, p.polrelid)) = pg_get_expr(p.polqual, p.polrelid)
        AND (pg_get_expr(p.polqual, p.polrelid) ~ '^\([^()]+ = \( SELECT cordon\.workspace_id\(\) AS workspace_id\)\)$'
            OR p.polname = 'pgcordon_workspace' AND pg_get_expr(p.polqual, p.polrelid) ~ '^\(EXISTS \( SELECT\s+FROM \S+ parent\s+WHERE \(parent\.[^()]+ = [^()]+\)\)\)$')),
belonging AS (
    SELECT t.oid, a.attname, a.attnum FROM app_table t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attname = t.workspace_column
    UNION SELECT p.polrelid, a.attname, a.attnum FROM pg_policy p JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid
        AND d.refclassid = 'pg_class'::regclass AND d.refobjid = p.polrelid
        JOIN pg_attribute a ON a.attrelid = p.polrelid AND a.attnum = d.refobjsubid AND a.attnum > 0 WHERE p.polname = 'pgcordon_workspace'),
hardening (is_ours, fix) AS (VALUES (true, 'pgcordon harden'),
    (false, '"#,
    harden_as_superuser!(),
    r#"')),
bypass AS (SELECT oid, rolname FROM pg_roles WHERE rolsuper OR rolbypassrls),
metered AS (
    SELECT f.relation_oid AS oid, format('%I.%I', f.schema, f.name) AS name, m.relation AS root, bool_or(r.per IS NULL) AS has_stock,
        bool_or(m.filter IS NOT NULL) AS has_filter, min(format('pgcordon meter %L --table %s', r.name, m.relation)) AS fix
    FROM cordon.metered f JOIN cordon.meter m ON m.id = f.meter_id JOIN cordon.resource r ON r.id = m.resource_id GROUP BY 1, 2, 3),
unmetered AS (
    SELECT m.oid, m.name, m.root, m.name = m.root AS is_root, m.fix, min(w.name) AS trigger
    FROM metered m CROSS JOIN LATERAL (VALUES ('pgcordon_meter_insert', true, 4), ('pgcordon_meter_delete', m.has_stock, 8),
        ('pgcordon_meter_update', m.has_filter, 16)) AS w (name, is_wanted, type)
    WHERE w.is_wanted AND NOT EXISTS (SELECT FROM pg_trigger t JOIN pg_proc p ON p.oid = t.tgfoid WHERE t.tgrelid = m.oid AND t.tgname = w.name
        AND t.tgenabled = 'A' AND t.tgtype = w.type AND t.tgqual IS NULL AND p.pronamespace = 'cordon'::regnamespace AND p.proname = 'meter_' || md5(m.root))
    GROUP BY 1, 2, 3, 4, 5)
"#
);

/// The rules.
pub(super) const ALL: &[Rule] = &[
    Rule {
        id: "table-without-policy",
        sql: "SELECT CASE WHEN is_reached THEN 'critical' ELSE 'info' END, name,
                'has the workspace column ' || quote_ident(workspace_column) || ' and no row-level security'
                    || CASE WHEN is_reached THEN '' ELSE ', but tenants may not use it' END,
                'pgcordon protect ' || name
            FROM app_table WHERE workspace_column IS NOT NULL AND NOT relrowsecurity AND (is_reached OR NOT relispartition)",
    },
    Rule {
        id: "policy-not-enabled",
        sql: "SELECT 'critical', name, 'has policies, but row-level security is off', 'ALTER TABLE ' || name || ' ENABLE ROW LEVEL SECURITY'
            FROM app_table t WHERE workspace_column IS NULL AND NOT relrowsecurity AND is_reached
                AND EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = t.oid)",
    },
    Rule {
        id: "no-sealed-policy",
        sql: "SELECT 'critical', name, 'no restrictive policy for all commands and roles holds its rows to cordon.workspace_id(): what a tenant can set, or another policy, opens it',
                'pgcordon protect ' || name
            FROM app_table t WHERE relrowsecurity AND is_reached AND t.oid NOT IN (SELECT polrelid FROM wall)",
    },
    Rule {
        id: "rls-not-forced",
        sql: "SELECT 'high', name, 'its owner passes by its policies, and so do the owner''s views and SECURITY DEFINER functions',
                'ALTER TABLE ' || name || ' FORCE ROW LEVEL SECURITY'
            FROM app_table WHERE relrowsecurity AND NOT relforcerowsecurity",
    },
    Rule {
        id: "shared-table-written",
        sql: "SELECT 'high', name, 'has no workspace column, and tenants may change it: each sees what the others write',
                'REVOKE INSERT, UPDATE, DELETE ON ' || name || ' FROM PUBLIC, ' || (SELECT string_agg(quote_ident(rolname), ', ') FROM tenant)
            FROM app_table t WHERE workspace_column IS NULL AND NOT relrowsecurity AND is_written AND is_reached
                AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = t.oid)",
    },
    Rule {
        id: "truncate-granted",
        sql: "SELECT 'critical', r.name, 'the role ' || t.rolname || ' may TRUNCATE it, which asks no policy',
                'REVOKE TRUNCATE ON ' || r.name || ' FROM PUBLIC, ' || quote_ident(t.rolname)
            FROM app_table r, tenant t WHERE has_table_privilege(t.oid, r.oid, 'TRUNCATE')",
    },
    Rule {
        id: "maintain-granted",
        // A privilege since Postgres 17, and unknown to has_table_privilege before that.
        sql: "SELECT 'medium', r.name, 'the role ' || t.rolname || ' may CLUSTER, REINDEX and lock it, and change its statistics, for all workspaces',
                'REVOKE MAINTAIN ON ' || r.name || ' FROM PUBLIC, ' || quote_ident(t.rolname)
            FROM app_table r JOIN pg_class c USING (oid), tenant t
            WHERE EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.privilege_type = 'MAINTAIN' AND a.grantee IN (0, t.oid))",
    },
    Rule {
        id: "trigger-granted",
        sql: "SELECT 'high', r.name, 'the role ' || t.rolname || ' may put triggers on it or refer to it, and so see other workspaces'' rows',
                'REVOKE TRIGGER, REFERENCES ON ' || r.name || ' FROM PUBLIC, ' || quote_ident(t.rolname)
            FROM app_table r, tenant t WHERE has_table_privilege(t.oid, r.oid, 'TRIGGER') OR has_any_column_privilege(t.oid, r.oid, 'REFERENCES')",
    },
    Rule {
        id: "role-owns",
        sql: "SELECT CASE WHEN r.rolname = who.system THEN 'high' ELSE 'critical' END, quote_ident(r.rolname),
                'owns ' || count(*) || ' objects, ' || min(pg_describe_object(d.classid, d.objid, d.objsubid)) || ' among them',
                'REASSIGN OWNED BY ' || quote_ident(r.rolname) || ' TO ' || quote_ident(who.owner)
            FROM pg_shdepend d JOIN pg_roles r ON d.refclassid = 'pg_authid'::regclass AND r.oid = d.refobjid, who
            WHERE d.deptype = 'o' AND d.dbid IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))
                AND r.rolname IN (who.application, who.read_only, who.system)
            GROUP BY r.rolname, who.system, who.owner",
    },
    Rule {
        id: "role-powerful",
        sql: "SELECT 'critical', quote_ident(r.rolname), 'is a superuser, passes by row-level security, or makes roles, databases or replicas',
                'ALTER ROLE ' || quote_ident(r.rolname) || ' NOSUPERUSER NOBYPASSRLS NOCREATEROLE NOCREATEDB NOREPLICATION'
            FROM pg_roles r, who WHERE r.rolname IN (who.application, who.read_only, who.owner, who.cordon, who.control)
                AND (r.rolsuper OR r.rolbypassrls OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication)",
    },
    Rule {
        id: "role-member",
        sql: "SELECT 'critical', quote_ident(r.rolname), 'is a member of ' || g.rolname || ', and may act as it',
                'REVOKE ' || quote_ident(g.rolname) || ' FROM ' || quote_ident(r.rolname)
            FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.member JOIN pg_roles g ON g.oid = m.roleid, who
            WHERE r.rolname IN (who.application, who.read_only, who.owner, who.cordon)",
    },
    Rule {
        id: "role-settings",
        sql: "SELECT 'high', quote_ident(r.rolname), 'has settings of its own: ' || array_to_string(s.setconfig, ', ') || '. Whoever runs as it may have put them there',
                'ALTER ROLE ' || quote_ident(r.rolname) || coalesce(' IN DATABASE ' || quote_ident(d.datname), '') || ' RESET ALL'
            FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase, who
            WHERE r.rolname IN (who.application, who.read_only, who.system)",
    },
    Rule {
        id: "view-of-its-owner",
        sql: "SELECT CASE WHEN relowner IN (SELECT oid FROM bypass) THEN 'critical' ELSE 'low' END, name,
                'tenants read it with the rights of ' || pg_get_userbyid(relowner)
                    || CASE WHEN relowner IN (SELECT oid FROM bypass) THEN ', who sees every workspace' ELSE '' END,
                'ALTER VIEW ' || name || ' SET (security_invoker = true)'
            FROM relation WHERE relkind = 'v' AND is_reached
                AND NOT coalesce(reloptions::text ~* 'security_invoker=(true|on|yes|1)', false)",
    },
    Rule {
        id: "rows-beside-policies",
        sql: "SELECT 'critical', name, CASE relkind WHEN 'm' THEN 'a materialized view keeps rows of every workspace, and has no policies' ELSE 'a foreign table has no policies here' END,
                'REVOKE ALL ON ' || name || ' FROM PUBLIC, ' || (SELECT string_agg(quote_ident(rolname), ', ') FROM tenant)
            FROM relation WHERE relkind IN ('m', 'f') AND is_reached",
    },
    Rule {
        id: "security-definer",
        sql: "SELECT CASE WHEN p.proowner IN (SELECT oid FROM bypass) THEN 'critical' WHEN NOT coalesce(p.proconfig::text ~ 'search_path=', false) THEN 'high' ELSE 'info' END,
                p.oid::regprocedure::text,
                'tenants run it with the rights of ' || pg_get_userbyid(p.proowner)
                    || CASE WHEN p.proowner IN (SELECT oid FROM bypass) THEN ', who sees every workspace' WHEN NOT coalesce(p.proconfig::text ~ 'search_path=', false) THEN ', and it looks names up where they say' ELSE '' END,
                'REVOKE EXECUTE ON FUNCTION ' || p.oid::regprocedure || ' FROM PUBLIC, ' || (SELECT string_agg(quote_ident(rolname), ', ') FROM tenant)
            FROM pg_proc p JOIN space s ON s.oid = p.pronamespace WHERE p.prosecdef
                AND EXISTS (SELECT FROM tenant t WHERE has_function_privilege(t.oid, p.oid, 'EXECUTE') AND has_schema_privilege(t.oid, s.oid, 'USAGE'))",
    },
    Rule {
        id: "cordon-open",
        sql: "SELECT 'critical', format('cordon.%I', c.relname), 'the role ' || t.rolname || ' may use control data: keys, the key of the seals, or whether it counts',
                format('REVOKE ALL ON cordon.%I FROM PUBLIC, %I', c.relname, t.rolname)
            FROM pg_class c, (SELECT oid, rolname FROM tenant UNION ALL SELECT r.oid, r.rolname FROM pg_roles r, who WHERE r.rolname IN (who.system, who.owner)) t
            WHERE c.relnamespace = 'cordon'::regnamespace AND (c.relkind = 'r'
                AND (has_any_column_privilege(t.oid, c.oid, 'SELECT, INSERT, UPDATE') OR has_table_privilege(t.oid, c.oid, 'DELETE, TRUNCATE, TRIGGER'))
                OR c.relkind = 'S' AND has_sequence_privilege(t.oid, c.oid, 'UPDATE, USAGE'))",
    },
    Rule {
        id: "mark-granted",
        sql: "SELECT 'critical', quote_ident(r.rolname), 'may set backtrace_functions, which says whose workspace a session is bound to',
                'REVOKE SET ON PARAMETER backtrace_functions FROM PUBLIC, ' || quote_ident(r.rolname)
            FROM pg_roles r, who WHERE r.rolname IN (who.application, who.read_only, who.owner, who.control) AND NOT r.rolsuper
                AND has_parameter_privilege(r.oid, 'backtrace_functions', 'SET')",
    },
    Rule {
        id: "mark-missing",
        sql: "SELECT 'info', quote_ident(who.cordon), 'may not set backtrace_functions: each statement verifies its seal, which about halves the rate of short ones',
                'GRANT SET ON PARAMETER backtrace_functions TO ' || quote_ident(who.cordon)
            FROM who WHERE NOT has_parameter_privilege(who.cordon, 'backtrace_functions', 'SET')",
    },
    Rule {
        id: "key-not-kept",
        sql: "SELECT 'low', 'cordon.signing_key', 'the newest key isn''t the one that server processes keep: each change of workspace plans its bind anew, which about doubles what it costs',
                'pgcordon migrate'
            FROM cordon.signing_key k WHERE k.retired_at IS NULL AND k.id = (SELECT max(id) FROM cordon.signing_key WHERE retired_at IS NULL)
                AND NOT EXISTS (SELECT FROM cordon.key_epoch e WHERE e.key_id = k.id AND e.epoch = pg_sequence_last_value('cordon.epoch_in_force'))",
    },
    Rule {
        id: "create-granted",
        sql: "SELECT 'high', quote_ident(s.nspname), 'the role ' || t.rolname || ' may create objects in this schema, and with them shadow others',
                format('REVOKE CREATE ON SCHEMA %I FROM PUBLIC, %I', s.nspname, t.rolname)
            FROM pg_namespace s, tenant t WHERE s.nspname !~ '^pg_(toast|temp)' AND has_schema_privilege(t.oid, s.oid, 'CREATE')
            UNION ALL SELECT 'high', quote_ident(current_database()), 'the role ' || t.rolname || ' may create schemas',
                format('REVOKE CREATE ON DATABASE %I FROM PUBLIC, %I', current_database(), t.rolname)
            FROM tenant t WHERE has_database_privilege(t.oid, current_database(), 'CREATE')",
    },
    Rule {
        id: "default-privileges",
        sql: "SELECT 'medium', quote_ident(pg_get_userbyid(d.defaclrole)), 'what it creates is open to tenants before it is protected',
                format('ALTER DEFAULT PRIVILEGES FOR ROLE %I %s REVOKE ALL ON TABLES FROM PUBLIC, %s', pg_get_userbyid(d.defaclrole),
                    coalesce((SELECT format('IN SCHEMA %I', nspname) FROM pg_namespace n WHERE n.oid = d.defaclnamespace), ''),
                    (SELECT string_agg(quote_ident(rolname), ', ') FROM tenant))
            FROM pg_default_acl d WHERE d.defaclobjtype = 'r'
                AND EXISTS (SELECT FROM aclexplode(d.defaclacl) a WHERE a.grantee = 0 OR a.grantee IN (SELECT oid FROM tenant))",
    },
    Rule {
        id: "unique-across-workspaces",
        sql: "SELECT CASE WHEN i.indisprimary THEN 'info' ELSE 'medium' END, format('%I.%I', t.nspname, c.relname),
                'is unique across workspaces: one learns from the error what another has, and can take it away',
                CASE WHEN t.workspace_column IS NOT NULL THEN 'make the workspace column ' || quote_ident(t.workspace_column) || ' its first column'
                    ELSE 'make ' || quote_ident(min(b.attname)) || ', by which its rows belong to a workspace, its first column' END
            FROM pg_index i JOIN app_table t ON t.oid = i.indrelid JOIN pg_class c ON c.oid = i.indexrelid JOIN belonging b ON b.oid = t.oid
            WHERE i.indisunique AND NOT t.relispartition AND (t.workspace_column IS NOT NULL OR t.is_written)
            GROUP BY i.indexrelid, i.indisprimary, t.nspname, c.relname, t.workspace_column
            HAVING NOT bool_or(b.attnum = ANY ((i.indkey::int2[])[0:i.indnkeyatts - 1]))",
    },
    Rule {
        id: "foreign-key-across-workspaces",
        // What stands for {crossing} is what `protect` proposes.
        sql: "SELECT 'medium', k.child || ' ' || quote_ident(k.name),
                'a row may refer to another workspace''s row: the check asks no policy, and tells whether that row exists', k.fix
            FROM ({crossing}) AS k JOIN app_table t ON t.name = k.child",
    },
    Rule {
        id: "index-missing",
        sql: "SELECT 'low', name, 'no index begins with its workspace column: every statement reads every workspace''s rows',
                format('CREATE INDEX CONCURRENTLY ON %s (%I)', name, workspace_column)
            FROM app_table t WHERE workspace_column IS NOT NULL AND relrowsecurity AND NOT EXISTS (
                SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                WHERE i.indrelid = t.oid AND a.attname = t.workspace_column AND i.indisvalid AND i.indpred IS NULL)",
    },
    Rule {
        id: "two-phase-commit",
        sql: "SELECT 'medium', 'max_prepared_transactions', 'a prepared transaction outlives its connection and holds locks that nobody sees', 'set it to 0 and restart'
            FROM pg_settings WHERE name = 'max_prepared_transactions' AND setting <> '0'",
    },
    Rule {
        id: "session-state-extension",
        sql: "SELECT 'high', quote_ident(extname), 'keeps state in a session that DISCARD ALL leaves behind for the next workspace', format('DROP EXTENSION %I', extname)
            FROM pg_extension WHERE extname IN ('plperl', 'plperlu', 'plpython3u', 'plpythonu', 'pltcl', 'pltclu', 'plv8', 'dblink', 'orafce', 'pg_variables')",
    },
    Rule {
        id: "language-open",
        sql: "SELECT 'low', quote_ident(l.lanname), 'the role ' || t.rolname || ' may run DO blocks in it, which no reader of statements understands', h.fix
            FROM pg_language l, tenant t, hardening h WHERE h.is_ours = pg_has_role(l.lanowner, 'USAGE') AND l.lanpltrusted AND l.lanname <> 'sql' AND has_language_privilege(t.oid, l.oid, 'USAGE')",
    },
    Rule { id: "notify-open", sql: notifying::OPEN },
    Rule { id: "notify-refused", sql: notifying::REFUSED },
    Rule { id: "notify-plain", sql: notifying::PLAIN },
    Rule {
        id: "temp-granted",
        sql: "SELECT 'low', quote_ident(current_database()), 'the role ' || t.rolname || ' may create temporary tables and fill the disk', h.fix
            FROM tenant t, pg_database d, hardening h WHERE d.datname = current_database() AND h.is_ours = pg_has_role(d.datdba, 'USAGE') AND has_database_privilege(t.oid, current_database(), 'TEMPORARY')",
    },
    Rule {
        id: "meter-missing",
        sql: "SELECT 'high', m.name, 'is metered, and its trigger ' || m.trigger || ' is missing, disabled or changed: what tenants do isn''t counted', m.fix
            FROM unmetered m WHERE m.is_root",
    },
    Rule {
        id: "partition-without-meter",
        sql: "SELECT CASE WHEN t.is_written THEN 'high' ELSE 'info' END, m.name,
                'is a partition or child of the metered ' || m.root || ', and has no working ' || m.trigger || ' of its own'
                    || CASE WHEN t.is_written THEN ': what tenants do to it by its own name isn''t counted' ELSE '; tenants may not change it by its own name' END, m.fix
            FROM unmetered m JOIN app_table t ON t.oid = m.oid WHERE NOT m.is_root",
    },
    Rule {
        id: "meter-of-nothing",
        sql: "SELECT 'high', m.relation, 'is metered as ' || r.name || ', and there is no such table: it was renamed, or is gone. Nobody can count its rows',
                format('pgcordon meter %L --table with its new name, or DELETE FROM cordon.meter WHERE id = %s', r.name, m.id)
            FROM cordon.meter m JOIN cordon.resource r ON r.id = m.resource_id
            WHERE NOT EXISTS (SELECT FROM cordon.metered f WHERE f.meter_id = m.id)",
    },
    Rule {
        id: "meter-left-behind",
        sql: "SELECT 'low', t.name, 'reports what happens to it, and no resource counts it any more', format('DROP TRIGGER %I ON %s', g.tgname, t.name)
            FROM app_table t JOIN pg_trigger g ON g.tgrelid = t.oid JOIN pg_proc p ON p.oid = g.tgfoid
            WHERE p.pronamespace = 'cordon'::regnamespace AND p.proname ~ '^meter_' AND t.oid NOT IN (SELECT relation_oid FROM cordon.metered)",
    },
    Rule {
        id: "meter-function",
        sql: "SELECT 'critical', p.oid::regprocedure::text, 'isn''t as pgcordon made it: a tenant could forge what it reports, or read the key of the seals',
                CASE WHEN p.proname ~ '^meter_' THEN 'pgcordon meter for its table, again' ELSE 'restore it from the migration of this version' END
            FROM pg_proc p, who WHERE p.pronamespace = 'cordon'::regnamespace AND (p.proname ~ '^meter_[0-9a-f]{32}$' OR p.proname IN ('report', 'forget_dropped'))
                AND (pg_get_userbyid(p.proowner) = who.cordon AND p.proconfig @> '{\"search_path=pg_catalog, pg_temp\"}' AND p.prosecdef = (p.proname <> 'report')
                    AND (p.proname = 'forget_dropped' OR p.prosrc LIKE E'\\n#print_strict_params off\\n%')
                    AND NOT EXISTS (SELECT FROM tenant t WHERE has_function_privilege(t.oid, p.oid, 'EXECUTE'))) IS NOT TRUE",
    },
];
