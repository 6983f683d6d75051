use super::*;
use crate::sql::{Channel, GuardHit, Object, PinReason, RowBound, Rule, StatementKind};

fn facts(text: &[u8]) -> Facts {
    super::facts(text, &Watched::default())
}

fn touched(text: &str) -> Vec<String> {
    facts(text.as_bytes()).touches.iter().map(|name| name.to_string()).collect()
}

#[test]
fn every_way_to_set_a_setting_names_it() {
    assert_eq!(touched("SET Work_Mem = '1MB'"), ["work_mem"]);
    assert_eq!(touched("set local x.y to 1"), ["x.y"]);
    assert_eq!(touched("reset search_path"), ["search_path"]);
    assert_eq!(touched("set time zone 'UTC'"), ["timezone"]);
    assert_eq!(touched("set names 'latin1'"), ["client_encoding"]);
    assert_eq!(touched("select set_config('a.b', $1, false)"), ["a.b"]);
    assert_eq!(touched("with x as (select pg_catalog.set_config('a.b', 'c', true)) select * from x"), ["a.b"]);
    assert_eq!(touched("begin; set a.b = 1; set a.c = 2; commit"), ["a.b", "a.c"]);
    assert!(touched("set transaction isolation level serializable").is_empty());
    assert!(touched("set transaction_isolation = 'serializable'").is_empty());
    assert_eq!(touched("set transaction_timeout = 100"), ["transaction_timeout"]);
}

#[test]
fn what_cannot_be_carried_pins() {
    for (text, reason) in [
        ("prepare a as select 1", PinReason::Prepare),
        ("listen a", PinReason::Listen),
        ("create temp table a()", PinReason::Temporary),
        ("select 1 into temporary a", PinReason::Temporary),
        ("declare c cursor with hold for select 1", PinReason::HeldCursor),
        ("select pg_try_advisory_lock_shared(1)", PinReason::AdvisoryLock),
        ("set role none", PinReason::Role),
        ("set session authorization default", PinReason::Role),
        ("select set_config(n, 'x', false) from t", PinReason::HiddenSetting),
        ("select set_config('role', 'x', false)", PinReason::Role),
        ("load 'plpgsql'", PinReason::Load),
        ("set set set", PinReason::NotUnderstood),
    ] {
        assert_eq!(facts(text.as_bytes()).pins, Some(reason), "{text}");
    }
}

#[test]
fn what_asks_for_the_server_process_itself_is_found_wherever_it_is_called() {
    let asks = |text: &str| {
        let asks = facts(text.as_bytes()).asks;
        (asks.pid, asks.sequences)
    };
    for text in [
        "select lastval()",
        "SELECT LastVal() AS id",
        "select currval($1)",
        "insert into child values (pg_catalog.currval('parent_id_seq'), 'x')",
        "with x as (insert into t default values returning id) select lastval(), * from x",
        "select U&\"\\006castval\"()",
        "do $$ begin perform lastval(); end $$",
        "begin; insert into t default values; select \"currval\"('s')",
        "prepare p as select lastval()",
        "explain analyze select lastval()",
        "declare c cursor for select lastval()",
        "select (((lastval() no such syntax",
    ] {
        assert_eq!(asks(text), (false, true), "{text}");
    }
    assert_eq!(asks("select pg_backend_pid()"), (true, false));
    assert_eq!(asks("select pg_backend_pid(), lastval()"), (true, true));
    for text in ["select lastval from t", "select currval.x from currval", "select nextval('s')", "select 'lastval()'"]
    {
        assert_eq!(asks(text), (false, false), "{text}");
    }
    assert!(facts(b"discard sequences").discards_sequences && !facts(b"discard all").discards_sequences);
}

#[test]
fn the_harmless_leave_nothing() {
    for text in [
        "/* c */ update a set b = 1",
        "select pg_advisory_xact_lock(1)",
        "select pg_advisory_unlock_all()",
        "declare c cursor for select 1",
        "discard plans",
        "unlisten *",
    ] {
        assert!(facts(text.as_bytes()).leaves_nothing(), "{text}");
    }
}

#[test]
fn the_resets_are_told_apart() {
    assert!(facts(b"reset all").resets_all && !facts(b"reset all").discards_all);
    assert!(facts(b"discard all").discards_all);
    assert!(facts(b"deallocate all").deallocates_all);
    let names = |text: &[u8]| (facts(text).deallocates.join(" "), facts(text).prepared.join(" "));
    assert_eq!(names(b"deallocate prepare s1; deallocate s2"), ("s1 s2".to_owned(), String::new()));
    assert_eq!(names(b"execute a(1); explain execute b"), (String::new(), "a b".to_owned()));
    assert_eq!(names(b"create table t as execute c; prepare d as select 1"), (String::new(), "c d".to_owned()));
}

#[test]
fn of_several_changes_of_a_setting_the_last_one_counts() {
    let told = |text: &str| {
        let facts = facts(text.as_bytes());
        let resets = facts.resets.iter().map(|each| format!("{}{}", each.name, if each.is_local { "!" } else { "" }));
        (facts.touches.len(), resets.collect::<Vec<_>>().join(" "), facts.set_behind.join(" "))
    };
    let is = |text: &str, touches: usize, resets: &str, behind: &str| {
        assert_eq!(told(text), (touches, resets.to_owned(), behind.to_owned()), "{text}");
    };
    is("reset Work_Mem", 1, "work_mem", "");
    is("set work_mem to default", 1, "work_mem", "");
    is("set time zone default", 1, "timezone", "");
    is("set local a.b to default", 1, "a.b!", "");
    is("reset a.b; set a.b = 1", 2, "", "");
    is("set a.b = 1; reset a.b", 2, "a.b", "");
    is("reset a.b; reset all", 1, "", "");
    is("set a.b = 1; reset all; set c.d = 1", 2, "", "c.d");
    is("reset all; set c.d = 1; reset c.d", 2, "c.d", "");
    is("set transaction read only", 0, "", "");
}

fn one(text: &str) -> crate::sql::Statement {
    let mut facts = facts(text.as_bytes());
    assert_eq!(facts.statements.len(), 1, "{text}");
    facts.statements.remove(0)
}

fn kinds(text: &str) -> Vec<StatementKind> {
    facts(text.as_bytes()).statements.into_iter().map(|statement| statement.kind).collect()
}

/// `verb relation rows`, with an `upsert` where it is one.
fn writes(text: &str) -> Vec<String> {
    let writes = facts(text.as_bytes()).statements.into_iter().flat_map(|statement| statement.writes);
    let told = writes.map(|write| {
        let rows = match write.rows {
            RowBound::AtMost(rows) => rows.to_string(),
            RowBound::Unknown => "?".to_owned(),
        };
        format!("{} {} {rows}{}", write.verb.as_str(), write.relation, if write.upsert { " upsert" } else { "" })
    });
    told.collect()
}

fn told_hits(text: &str, of_walls: bool) -> Vec<String> {
    let told = |hit: &GuardHit| match hit {
        GuardHit::TouchesContext(what) | GuardHit::NamesSchema(what) | GuardHit::ChangesLargeObject(what) => {
            format!("{} {what}", hit.rule().as_str())
        }
        GuardHit::AltersRole(what) => (*what).to_owned(),
        GuardHit::Calls(rule, what) => format!("{} {what}", rule.as_str()),
        GuardHit::UsesServerFile(what) => format!("server_files {what}"),
        GuardHit::Locks(table) => format!("lock_table {table}"),
        GuardHit::ChangesObject(command, Object::Relation(table)) => format!("{command} {table}"),
        GuardHit::ChangesObject(command, Object::Function(name)) => format!("{command} {name}()"),
        GuardHit::ChangesObject(command, Object::Other) => format!("{command} ?"),
        GuardHit::HidesChannel => "hidden channel".to_owned(),
        _ => hit.rule().as_str().to_owned(),
    };
    let walls = [Rule::Context, Rule::ControlSchema, Rule::Role, Rule::AlterRole, Rule::TwoPhase];
    facts(text.as_bytes()).guard.iter().filter(|hit| walls.contains(&hit.rule()) == of_walls).map(told).collect()
}

/// What of a text touches the walls themselves.
fn hits(text: &str) -> Vec<String> {
    told_hits(text, true)
}

/// What of a text breaks another rule.
fn broken(text: &str) -> Vec<String> {
    told_hits(text, false)
}

#[test]
fn every_statement_of_a_string_is_told_in_order() {
    use StatementKind as Kind;
    assert_eq!(
        kinds("begin; savepoint A; insert into t values (1); rollback to a; release a;; commit and chain; select 1"),
        [
            Kind::Begin,
            Kind::Savepoint("a".into()),
            Kind::Insert,
            Kind::RollbackTo("a".into()),
            Kind::Release("a".into()),
            Kind::Commit { chain: true },
            Kind::Select
        ]
    );
    for (text, kind) in [
        ("start transaction", Kind::Begin),
        ("end", Kind::Commit { chain: false }),
        ("abort and chain", Kind::Rollback { chain: true }),
        ("prepare transaction 'x'", Kind::PrepareTransaction),
        ("commit prepared 'x'", Kind::Other),
        ("values (1)", Kind::Select),
        ("table t", Kind::Select),
        ("with x as (insert into t values (1) returning 1) select 1", Kind::Select),
        ("select 1 into t", Kind::Ddl),
        ("create table t as select 1", Kind::Ddl),
        ("copy t from stdin", Kind::CopyIn),
        ("copy (select 1) to stdout", Kind::CopyOut),
        ("merge into t using s on true when matched then delete", Kind::Merge),
        ("call p()", Kind::Call),
        ("do 'begin end'", Kind::Do),
        ("truncate t", Kind::Truncate),
        ("set a.b = 1", Kind::Session),
        ("show all", Kind::Session),
        ("explain select 1", Kind::Explain),
        ("prepare p as select 1", Kind::Prepare("p".into())),
        ("execute p", Kind::Execute("p".into())),
        ("fetch c", Kind::Cursor),
        ("lock table t", Kind::Other),
        ("grant select on t to x", Kind::Ddl),
    ] {
        assert_eq!(kinds(text), [kind], "{text}");
    }
    assert!(kinds("").is_empty() && kinds(" ; ; ").is_empty());
}

#[test]
fn writes_are_seen_wherever_they_stand() {
    for (text, expected) in [
        ("insert into T values (1), (2)", "insert t 2"),
        ("insert into s.\"T\" default values", "insert s.T 1"),
        (
            "insert into t values (now(), gen_random_uuid(), lower($1), (select generate_series(1, 9) limit 1))",
            "insert t 1",
        ),
        ("insert into t values (generate_series(1, 9))", "insert t ?"),
        ("insert into t values (mine())", "insert t ?"),
        ("insert into t select $1, $2 where not exists (select from t)", "insert t 1"),
        ("insert into t select unnest($1)", "insert t ?"),
        ("insert into t select 1 group by grouping sets ((), ())", "insert t ?"),
        ("insert into t select 1 union all select 2", "insert t ?"),
        ("insert into t select * from s", "insert t ?"),
        ("insert into t select * from s limit 3", "insert t 3"),
        ("insert into t select * from s order by 1 fetch first 3 rows with ties", "insert t ?"),
        ("insert into t values (1) on conflict do nothing", "insert t 1 upsert"),
        ("insert into t values (1) on conflict (id) do update set a = 1", "insert t 1 upsert"),
        ("update t set a = 1 from s", "update t 0"),
        ("delete from t using s", "delete t 0"),
        ("merge into t using s on true when not matched then insert values (1)", "merge t ?"),
        ("copy t (a) from stdin", "copy t ?"),
        ("truncate t", "truncate t 0"),
        ("with x as (insert into t values (1) returning *) select * from x", "insert t 1"),
        ("with x as (delete from t returning *) insert into u select * from x", "delete t 0, insert u ?"),
        ("explain analyze insert into t values (1)", "insert t 1"),
        ("explain (analyze off) insert into t values (1)", ""),
        ("explain insert into t values (1)", ""),
        ("prepare p as insert into t values (1)", "insert t ?"),
        ("copy (insert into t values (1) returning 1) to stdout", "insert t 1"),
        ("insert into t values (1); insert into u values (1)", "insert t 1, insert u 1"),
    ] {
        assert_eq!(writes(text).join(", "), expected, "{text}");
    }
}

#[test]
fn what_is_read_and_called_is_told_and_the_names_of_a_with_are_none() {
    let told = one("with recursive a as (select * from x union select * from a), b as (select f() from s.y) \
                    select g(z.k), z.h from a join b on true, lateral (select pg_catalog.lower('a')) l, z where exists (select from w) for update");
    let reads: Vec<String> = told.reads.iter().map(ToString::to_string).collect();
    assert_eq!(reads, ["x", "s.y", "z", "w"]);
    let functions: Vec<&str> = told.functions.iter().map(|function| &*function.name).collect();
    assert_eq!(functions, ["f", "g", "lower"]);
    assert_eq!(told.attributes, ["k".into(), "h".into()]);
    assert!(told.locks_rows && !told.hidden);
    // Without RECURSIVE the name inside is the table's.
    assert_eq!(one("with t as (select * from t) select * from t").reads.len(), 1);
    assert_eq!(one("with t as (select 1) insert into t select * from t").reads, []);
    assert_eq!(one("with t as (select 1) select * from s.t").reads.len(), 1);
}

#[test]
fn what_hides_its_doing_says_so() {
    for text in [
        "execute p",
        "call p()",
        "do 'begin end'",
        "fetch c",
        "create table t ()",
        "set constraints all immediate",
        "select * into t from s",
        "explain analyze execute p",
        "copy t from program 'x'",
        "commit prepared 'x'",
    ] {
        assert!(one(text).hidden, "{text}");
    }
    for text in [
        "select a.b[1:2].c, array[1, 2], row(1, 2), case when a then b else c end, coalesce(a, b), greatest(a, b), \
         x::int, x collate \"C\", not a or b is null and c is true, count(*) filter (where a) over (partition by b order by c using <), \
         xmlelement(name a, xmlattributes(b)), current_user, interval '1 day', $1, grouping(a) \
         from t tablesample system (1), rows from (generate_series(1, 2), unnest($1)) as x(a, b), unnest($2) with ordinality, \
         xmltable('/a' passing b columns c int path 'd') group by grouping sets ((a), rollup(b)) having true window w as () limit 1 offset 2",
        "update t set (a, b) = (select 1, 2), c[1] = default where current of c returning *",
        "insert into t (a, b) overriding system value values (default, 1) on conflict (lower(a) collate \"C\") where b do update set a = excluded.a where true returning a",
        "merge into t using s on t.a = s.a when matched and true then update set a = 1 when not matched then insert (a) values (1)",
    ] {
        assert!(!one(text).hidden, "{text}");
    }
}

#[test]
fn visible_attempts_are_seen_in_every_spelling() {
    for (text, expected) in [
        ("set app.workspace_id = 'x'", "context app.workspace_id"),
        ("SET LOCAL \"App\".\"WORKSPACE_seal\" TO 'x'", "context app.workspace_seal"),
        ("reset app.workspace_id", "context app.workspace_id"),
        ("set app.workspace_id from current", "context app.workspace_id"),
        ("set U&\"\\0061pp\".workspace_id = 'x'", "context app.workspace_id"),
        ("select set_config('app.Workspace_id', 'x', true)", "context app.workspace_id"),
        ("select pg_catalog.set_config('app.' || 'workspace_id'::text, 'x', true)", "context app.workspace_id"),
        ("select 1 from t where set_config(E'\\x61pp.workspace_id', 'x', true) is null", "context app.workspace_id"),
        (
            "select set_config(new_value => 'x', is_local => true, setting_name => 'app.workspace_id')",
            "context app.workspace_id",
        ),
        ("alter role current_user set app.workspace_id = 'x'", "ALTER ROLE, context app.workspace_id"),
        ("alter database d reset app.workspace_id", "ALTER DATABASE, context app.workspace_id"),
        (
            "create function f() returns int language sql set app.workspace_id = 'x' as 'select 1'",
            "context app.workspace_id",
        ),
        ("select * from cordon.signing_key", "control_schema cordon.signing_key"),
        ("select * from CORDON.signing_key", "control_schema cordon.signing_key"),
        ("select * from U&\"\\0063ordon\".signing_key", "control_schema cordon.signing_key"),
        ("select cordon.signing_key.secret from x", "control_schema cordon.signing_key"),
        ("select cordon.signing_key.* from x", "control_schema cordon.signing_key"),
        ("insert into cordon.workspace values (1)", "control_schema cordon.workspace"),
        ("select cordon.deny('x')", "control_schema cordon.deny"),
        ("select 'cordon.signing_key'::regclass", "control_schema cordon.signing_key"),
        ("select cast('\"cordon\".x' as pg_catalog.regclass)", "control_schema \"cordon\".x"),
        ("select to_regclass('cor' || 'don.x')", "control_schema cordon.x"),
        ("select 'cordon'::regnamespace", "control_schema cordon"),
        (
            "select query_to_xml('select * from cordon.signing_key', true, true, '')",
            "control_schema select * from cordon.signing_key",
        ),
        ("select schema_to_xml('cordon', true, true, '')", "control_schema cordon"),
        ("set search_path = public, cordon", "control_schema cordon"),
        ("select set_config('search_path', 'public, \"cordon\"', false)", "control_schema cordon"),
        ("select x::cordon.t", "control_schema cordon.t"),
        ("set role x", "role"),
        ("SET SESSION ROLE 'x'", "role"),
        ("set session authorization x", "role"),
        ("set \"Role\" = 'x'", "role"),
        ("select set_config('role', $1, false)", "role"),
        ("alter user x password 'y'", "ALTER ROLE"),
        ("create group x", "CREATE ROLE"),
        ("grant x to y", "GRANT ROLE"),
        ("alter role x rename to y", "ALTER ROLE"),
        ("alter database x owner to y", "ALTER DATABASE"),
        ("drop owned by x", "DROP OWNED"),
        ("prepare transaction 'x'", "two_phase"),
        ("drop table cordon.workspace", "control_schema cordon.workspace"),
        ("grant usage on schema cordon to x", "control_schema cordon"),
        ("drop schema if exists cordon cascade", "control_schema cordon"),
        ("create policy p on t using (id = cordon.mine())", "control_schema cordon.mine"),
        ("alter function U&\"\\0063ordon\".\"workspace_id\"() reset all", "control_schema cordon.workspace_id"),
        ("do $$ begin perform set_config('App.workspace_id', 'x', false); end $$", "context app.workspace_id"),
        ("do 'begin set local app.workspace_seal = 1; end'", "context app.workspace_seal"),
        ("do $$ begin execute 'set role ' || x; end $$", "role"),
        ("do $$ begin if true then set session authorization x; end if; end $$", "role"),
        ("do $$ begin execute $x$ select * from cordon.signing_key $x$; end $$", "control_schema cordon.signing_key"),
        ("create function f() returns void language plpgsql as $$ begin alter user x superuser; end $$", "ALTER ROLE"),
    ] {
        assert_eq!(hits(text).join(", "), expected, "{text}");
    }
}

#[test]
fn ordinary_statements_are_no_attempts() {
    for text in [
        "select cordon.workspace_id()",
        "insert into note (body) values ('cordon.signing_key'), ('set role x'), ('app.workspace_id')",
        "select cordon.id, cordon.* from public.fence cordon",
        "select cordon from cordon",
        "select role, \"user\" from member where role = 'role'",
        "set local statement_timeout = 5",
        "reset role",
        "set role none",
        "set session authorization default",
        "select set_config('role', 'none', false)",
        "select current_setting('app.workspace_id')",
        "set app.workspace_ids = 'x'",
        "select nextval('accordon.x'), nextval('cordon_seq'), 'cordons.x'::regclass, 'public.cordon'::regclass",
        "alter table role rename to user_role",
        "update t set app = 1",
        "create policy p on t using (workspace_id = (select cordon.workspace_id()))",
        "create view v as select cordon.id from fence cordon",
        "create table cordon (id int)",
        "do $$ begin update member set role = 'x'; insert into log values ('set role y'); reset role; set local role none; end $$",
        "do $$ declare cordon record; begin for cordon in select 1 loop raise notice '%', cordon; end loop; end $$",
        "create user mapping for x server y",
    ] {
        assert_eq!(hits(text), [""; 0], "{text}");
    }
}

#[test]
fn what_breaks_a_rule_is_told_with_what_it_is_about() {
    for (text, expected) in [
        ("set row_security = off", "row_security"),
        ("select set_config('Row_Security', $1, true)", "row_security"),
        ("alter table only t add column x int", "ALTER TABLE t"),
        ("alter table s.t rename x to y", "ALTER TABLE s.t"),
        ("alter table t set schema s", "ALTER TABLE t"),
        ("alter sequence q restart", "ALTER SEQUENCE q"),
        ("alter policy p on t using (true)", "ALTER POLICY t"),
        ("alter function f() owner to x", "ALTER FUNCTION f()"),
        ("alter function f() strict", "ALTER FUNCTION f()"),
        ("alter type x add value 'y'", "ALTER TYPE ?"),
        ("alter default privileges grant select on tables to public", "ALTER DEFAULT PRIVILEGES ?"),
        ("drop table t, s.u cascade", "DROP TABLE t, DROP TABLE s.u"),
        ("drop table if exists t", "DROP TABLE t"),
        ("drop trigger a on s.t", "DROP TRIGGER s.t"),
        ("drop policy if exists p on t", "DROP POLICY t"),
        ("drop function if exists f(int)", "DROP FUNCTION f()"),
        ("drop index i", "DROP INDEX ?"),
        ("drop schema s", "DROP SCHEMA ?"),
        ("truncate t, u", "TRUNCATE t, TRUNCATE u"),
        ("comment on column s.t.c is 'x'", "COMMENT ON TABLE s.t"),
        ("comment on function f() is 'x'", "COMMENT ON FUNCTION f()"),
        ("security label on table t is 'x'", "SECURITY LABEL ON TABLE t"),
        ("grant select on t to public", "GRANT t"),
        ("revoke all on all tables in schema public from x", "REVOKE ?"),
        ("grant execute on function f() to public", "GRANT f()"),
        ("create index on t (a)", "CREATE INDEX t"),
        ("create trigger a before insert on t execute function f()", "CREATE TRIGGER t"),
        ("create policy p on t using (true)", "CREATE POLICY t"),
        ("create rule r as on insert to t do instead nothing", "CREATE RULE t"),
        ("create statistics on a, b from t", "CREATE STATISTICS t"),
        ("reindex table t", "REINDEX t"),
        ("reindex database d", "REINDEX ?"),
        ("cluster t using i", "CLUSTER t"),
        ("refresh materialized view m", "REFRESH MATERIALIZED VIEW m"),
        ("do 'begin end'", "do"),
        ("select query_to_xml('select 1', true, true, '')", "dynamic_sql query_to_xml"),
        ("select * from PG_CATALOG.\"ts_stat\"($1)", "dynamic_sql ts_stat"),
        ("select ts_rewrite('a'::tsquery, 'select 1')", "dynamic_sql ts_rewrite"),
        ("select * from public.crosstab('select 1') as t (a int)", "dynamic_sql crosstab"),
        ("select xpath('//a', '<a/>')", "dynamic_sql xpath"),
        ("select 1 where xmlexists('//a' passing ('<a/>'::xml))", "dynamic_sql xmlexists"),
        ("select * from t, xmltable('//a' passing (t.x) columns b text path '.')", "dynamic_sql xmltable"),
        ("select lo_from_bytea(0, 'x')", "large_objects lo_from_bytea"),
        ("with x as (select lo_get(1)) insert into t select * from x", "large_objects lo_get"),
        ("alter large object 1 owner to x", "large_objects ALTER LARGE OBJECT"),
        ("grant select on large object 1 to x", "large_objects GRANT ON LARGE OBJECT"),
        ("comment on large object 1 is 'x'", "large_objects COMMENT ON LARGE OBJECT"),
        ("copy t to '/tmp/x'", "server_files COPY with a file"),
        ("copy t from program 'x'", "server_files COPY with a program"),
        ("select U&\"pg!005fread_file\" uescape '!' ('x')", "server_files pg_read_file"),
        ("load '/tmp/x.so'", "server_files LOAD"),
        ("select pg_terminate_backend(pid) from pg_stat_activity", "signals pg_terminate_backend"),
        ("select 1 order by pg_reload_conf()", "signals pg_reload_conf"),
        ("lock t", "lock_table t"),
        ("lock table only s.t in share update exclusive mode nowait", "lock_table s.t"),
        ("explain select 1", "explain"),
        ("explain analyze select 1", "explain"),
        ("explain (costs off, analyze) select 1", "explain"),
        ("explain (costs off, costs on) execute p", "explain"),
        ("explain (costs) select pg_ls_dir('.')", "explain, server_files pg_ls_dir"),
        ("listen a", "channels"),
        ("select pg_notify('a', '')", "channels"),
    ] {
        assert_eq!(broken(text).join(", "), expected, "{text}");
    }
}

#[test]
fn honest_statements_break_no_rule() {
    for text in [
        "set row_security = on",
        "reset row_security",
        "set local row_security to default",
        "create temp table x (id int)",
        "create table if not exists t (id int)",
        "create extension if not exists pgcrypto",
        "create function f() returns int language sql as 'select 1'",
        "drop table pg_temp.x",
        "create index on pg_temp_3.x (id)",
        "drop index if exists i",
        "drop schema if exists s",
        "drop extension if exists e",
        "drop function pg_temp.f()",
        "analyze t",
        "vacuum t",
        "cluster",
        "copy t from stdin",
        "copy (select 1) to stdout",
        "load 'auto_explain'",
        "load '$libdir/plugins/x'",
        "lock t in row exclusive mode",
        "lock pg_temp.x",
        "explain (costs off) select 1",
        "explain (verbose, costs 0, analyze false) select 1",
        "select ts_rewrite('a'::tsquery, 'a'::tsquery, 'b'::tsquery)",
        "select shop.lo_get(1), shop.pg_notify('x')",
        "unlisten *",
        "select 'pg_notify(x)', 'listen a'",
        "select lower(name), xmlelement(name a) from t for update",
        "insert into t values (1) on conflict do nothing",
    ] {
        assert_eq!(broken(text), [""; 0], "{text}");
    }
}

/// The text with each mention marked.
fn marked(text: &str) -> String {
    let facts = facts(text.as_bytes());
    let mut out = text.to_owned();
    for mention in facts.channels.iter().rev() {
        let what = match &mention.channel {
            Channel::Listen(name) => format!("<listen {name}>"),
            Channel::Named(name) => format!("<{name}>"),
            Channel::Call => "<call>".to_owned(),
        };
        out.replace_range(mention.start..mention.end, &what);
    }
    out
}

#[test]
fn channels_are_found_where_they_stand() {
    for (text, expected) in [
        ("listen News", "listen <listen news>"),
        ("LISTEN \"a\"\"B\"; /* listen x */ unlisten é", "LISTEN <listen a\"B>; /* listen x */ unlisten <é>"),
        ("begin; notify u&\"\\0061\", e'\\x61'; commit", "begin; notify <a>, e'\\x61'; commit"),
        ("notify u&\"!0061\" uescape '!', 'x'", "notify <a>, 'x'"),
        (
            "select pg_notify('a', pg_catalog . pg_notify('b', ''))",
            "select <call>pg_notify('a', <call> . pg_notify('b', ''))",
        ),
        ("prepare p as select \"pg_notify\"($1, $2)", "prepare p as select <call>\"pg_notify\"($1, $2)"),
        ("select * from pg_notify('a', '')", "select * from <call>pg_notify('a', '')"),
        (
            "insert into t select 1 where pg_notify('a', '') is null",
            "insert into t select 1 where <call>pg_notify('a', '') is null",
        ),
        ("unlisten *", "unlisten *"),
        ("select cordon.pg_notify('a', '')", "select cordon.pg_notify('a', '')"),
    ] {
        assert_eq!(marked(text), expected, "{text}");
    }
    // Of rows that are counted instead of parsed none is left out when a place behind them matters.
    let rows = ", (1)".repeat(500);
    let text = format!("insert into t values (1){rows} returning pg_notify('a', '')");
    assert!(marked(&text).ends_with("returning <call>pg_notify('a', '')"));
    assert_eq!(marked(&text).len(), text.len() + "<call>".len());
}

#[test]
fn a_channel_that_cant_be_found_is_told() {
    let long = format!("select '{}'; listen a", "x".repeat(70_000));
    for text in [long.as_bytes(), b"selec 1; listen a", b"notify a, '\xe9'", b"listen a; listen \"\""] {
        assert!(facts(text).guard.contains(&GuardHit::HidesChannel), "{}", String::from_utf8_lossy(&text[..9]));
    }
    for text in [&b"listen \"\""[..], b"selec 'listen a'", b"notify"] {
        assert_eq!(facts(text).guard, [], "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn the_rows_of_a_long_insert_are_counted() {
    let text = format!("insert into t (a, b) values {}(1, 'x') on conflict do nothing", "(1, 'x'), ".repeat(100_000));
    assert_eq!(writes(&text), ["insert t 100001 upsert"]);
}

#[test]
fn texts_that_would_cost_too_much_are_not_understood_and_harm_nobody() {
    let repeated =
        |open: &str, close: &str, times: usize| format!("select {}1{}", open.repeat(times), close.repeat(times));
    for text in [
        repeated("(", ")", 100_000),
        repeated("", "+1", 100_000),
        repeated("(select ", ")", 500_000),
        repeated("", " union select 1", 100_000),
        format!("select '{}'", "x".repeat(10 << 20)),
    ] {
        // As small a stack as a core's thread has.
        let thread = std::thread::Builder::new().stack_size(2 << 20);
        let told = thread.spawn(move || facts(text.as_bytes())).expect("a thread").join().expect("no overflow");
        assert_eq!(Facts { normalized: None, ..told }, Facts::hidden());
    }
    for times in 1..50 {
        // Up to the very limit the parser has stack enough.
        for (open, close) in [("not ", ""), ("(select ", ")"), ("@ ", ""), ("", "::x"), ("", " is null"), ("", "+1")] {
            let text = repeated(open, close, times * 20);
            let thread = std::thread::Builder::new().stack_size(2 << 20);
            thread.spawn(move || facts(text.as_bytes())).expect("a thread").join().expect("no overflow");
        }
    }
}

#[test]
fn databases_that_must_be_free_of_sessions_are_named() {
    for (text, expected) in [
        ("drop database \"My App\"", &["My App"][..]),
        ("drop database if exists a with (force)", &["a"]),
        ("alter database a rename to b", &["a"]),
        ("alter database a set tablespace fast", &["a"]),
        ("create database a template b owner c", &["b"]),
        ("create database a with template = 'b'", &["b"]),
        ("create database a", &["template1"]),
        ("alter database a set work_mem = '1MB'", &[]),
        ("alter database a with connection limit 5", &[]),
        ("alter table a rename to b", &[]),
        ("drop table a", &[]),
    ] {
        let empties = facts(text.as_bytes()).empties;
        assert_eq!(empties.iter().map(|name| &**name).collect::<Vec<_>>(), expected, "{text}");
    }
}

#[test]
fn a_single_statement_of_a_newer_grammar_has_its_kind_and_hides_the_rest() {
    for (text, kind) in [
        ("insert into a values (1) returning with (new as n) n.b", StatementKind::Insert),
        ("/* ; */ INSERT INTO a VALUES (';') RETURNING WITH (NEW AS n) n.b ; ", StatementKind::Insert),
        ("update a set b = 1 returning with (old as o) o.b", StatementKind::Update),
        ("with x as (delete from a) insert into b select 1 returning with (new as n) *", StatementKind::Insert),
        ("with x as (insert into a values (1) returning with (new as n) *) select * from x", StatementKind::Select),
        ("with x as (insert into a values (1)) nonsense", StatementKind::Unknown),
        ("insert into a values (1) returning with (new as n) *; commit", StatementKind::Unknown),
        ("commit; insert into a values (1) returning with (new as n) *", StatementKind::Unknown),
        ("insert into a values ('\\') returning with (new as n) *", StatementKind::Unknown),
        ("insert into a values ('", StatementKind::Unknown),
        ("copy a from stdin with (nonsense nonsense nonsense)", StatementKind::Unknown),
        ("set set set", StatementKind::Unknown),
    ] {
        let facts = facts(text.as_bytes());
        let [one] = facts.statements.as_slice() else { panic!("{text}: {facts:?}") };
        assert!(one.hidden && one.kind == kind, "{text}: {one:?}");
    }
}
