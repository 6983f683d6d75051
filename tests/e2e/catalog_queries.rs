//! What graphical tools and drivers ask the catalog: a tenant is told what Postgres tells its role directly.

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::Wire;

/// In the manner of pgAdmin, DBeaver, JDBC's metadata, Npgsql's and SQLAlchemy's reflection.
const QUERIES: [&str; 22] = [
    "select db.oid, db.datname, pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datallowconn, \
        has_database_privilege(db.oid, 'CREATE'), db.datistemplate from pg_database db order by datname",
    "select nsp.oid, nsp.nspname, has_schema_privilege(nsp.oid, 'CREATE'), has_schema_privilege(nsp.oid, 'USAGE'), des.description \
        from pg_namespace nsp left join pg_description des on des.objoid = nsp.oid and des.classoid = 'pg_namespace'::regclass \
        where nspname !~ '^pg_(toast|temp)' order by nspname",
    "select c.oid, c.relname, c.relkind, c.relowner::regrole, c.relhastriggers, c.relrowsecurity, c.reltuples > -2, \
        pg_get_expr(c.relpartbound, c.oid), obj_description(c.oid, 'pg_class') from pg_class c \
        left join pg_namespace n on n.oid = c.relnamespace where n.nspname = 'public' and c.relkind in ('r', 'p', 'v', 'm', 'f') order by 2",
    "select a.attname, a.attnum, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attidentity, \
        a.attgenerated, col_description(a.attrelid, a.attnum), t.typname from pg_attribute a join pg_type t on t.oid = a.atttypid \
        left join pg_attrdef d on (d.adrelid, d.adnum) = (a.attrelid, a.attnum) \
        where a.attrelid = '\"Segment\"'::regclass and a.attnum > 0 and not a.attisdropped order by a.attnum",
    "select conname, contype, pg_get_constraintdef(oid, true), confrelid::regclass, conkey, confkey, condeferrable from pg_constraint \
        where conrelid = '\"Segment\"'::regclass order by conname",
    "select i.indexrelid::regclass, i.indisunique, i.indisprimary, pg_get_indexdef(i.indexrelid), am.amname, pg_get_indexdef(i.indexrelid, 1, true) \
        from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am am on am.oid = c.relam \
        where i.indrelid = '\"Segment\"'::regclass order by 1",
    "select tgname, pg_get_triggerdef(oid), tgenabled from pg_trigger where not tgisinternal order by tgname",
    "select polname, polcmd, polroles::regrole[], pg_get_expr(polqual, polrelid) from pg_policy order by polrelid, polname limit 5",
    "select p.oid::regprocedure, l.lanname, pg_get_function_result(p.oid), pg_get_function_arguments(p.oid), p.provolatile, p.prosecdef \
        from pg_proc p join pg_language l on l.oid = p.prolang join pg_namespace n on n.oid = p.pronamespace \
        where n.nspname in ('public', 'cordon') order by 1",
    "select t.oid, t.typname, t.typtype, t.typcategory, e.enumlabel from pg_type t left join pg_enum e on e.enumtypid = t.oid \
        where t.typnamespace = 'public'::regnamespace order by t.typname, e.enumsortorder",
    "select relname, has_table_privilege(oid, 'SELECT'), has_table_privilege(oid, 'INSERT, UPDATE'), has_table_privilege(oid, 'TRUNCATE'), \
        has_any_column_privilege(oid, 'REFERENCES') from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' order by 1",
    "select rolname, rolsuper, rolinherit, rolcreaterole, rolcanlogin, rolconnlimit, pg_has_role(oid, 'MEMBER') from pg_roles \
        where rolname !~ '^pg_' order by 1",
    "select name, setting, unit, category, vartype, boot_val, pending_restart from pg_settings \
        where name in ('server_version', 'standard_conforming_strings', 'default_transaction_isolation', 'max_identifier_length') order by 1",
    "select table_schema, table_name, table_type, is_insertable_into from information_schema.tables where table_schema = 'public' order by 2",
    "select column_name, data_type, is_nullable, column_default, udt_name, is_identity from information_schema.columns \
        where table_name = 'JourneyStep' order by ordinal_position",
    "select tc.constraint_name, kcu.column_name from information_schema.table_constraints tc \
        join information_schema.key_column_usage kcu using (constraint_schema, constraint_name) order by 1, 2",
    "select extname, extversion, extrelocatable from pg_extension order by 1",
    "select collname, collprovider from pg_collation where collname in ('C', 'default') order by 1",
    "select spcname, pg_get_userbyid(spcowner), pg_tablespace_location(oid) from pg_tablespace order by 1",
    "select pg_get_viewdef('pg_tables'::regclass, true), pg_get_ruledef(oid) is null from pg_rewrite where ev_class = 'pg_tables'::regclass",
    "select pg_size_pretty(pg_total_relation_size('\"Country\"')), pg_relation_size('\"Country\"'), pg_indexes_size('\"Country\"')",
    "select current_database(), current_schema(), current_schemas(true), current_user, session_user, \
        pg_is_in_recovery(), has_database_privilege(current_database(), 'TEMP')",
];

#[test]
fn a_tenant_is_told_what_its_role_is_told_directly() {
    let dev = Dev::start(&["--pool-size", "2"]);
    let (mut tenant, mut direct) = (Wire::open(dev.acme()), dev.admin());
    direct.query("set session authorization pgcordon_app");
    for sql in QUERIES {
        let (told, expected) = (tenant.rows(sql), direct.rows(sql));
        assert!(!expected.is_empty(), "{sql}");
        assert_eq!(told, expected, "{sql}");
    }
}

/// The dashboards of such tools ask for everybody's sessions: what hardening refuses is refused in the same words.
#[test]
fn what_is_everybodys_is_refused_as_directly() {
    let dev = Dev::start(&["--pool-size", "2"]);
    let (mut tenant, mut direct) = (Wire::open(dev.acme()), dev.admin());
    direct.query("set session authorization pgcordon_app");
    for sql in [
        "select pid, usename, state, query from pg_stat_activity where datname = current_database()",
        "select pid, locktype, mode, granted from pg_locks",
        "select sum(xact_commit) from pg_stat_database",
        "select seq_scan, n_live_tup from pg_stat_user_tables",
        "select pg_database_size(current_database())",
    ] {
        let (told, expected) = (tenant.query(sql), direct.query(sql));
        assert_eq!(told, "E(42501) Z(I)", "{sql}");
        assert_eq!(told, expected, "{sql}");
    }
}
