//! `cordon.bind()`, the whole of a bind in one call (`migrations/0012_bind.sql`): that it does what the four did, and that the key which
//! a server process has kept counts no longer than it is one.

use tokio_postgres::Client;

use crate::scratch::{A, APPLICATION, B, Database, every_setting, pid, refusal, set_context, text};
use crate::sealed::as_in_a_plan;

const CONTEXT: &str = "select concat_ws(' ', current_setting('app.workspace_id', true), current_setting('app.workspace_seal', true), \
    current_setting('backtrace_functions'))";
const MARK: &str = "select current_setting('backtrace_functions')";
/// What goes by `cordon.mark()` says so.
const SLOW: &str = "create or replace function cordon.mark() returns bool language plpgsql security definer set search_path = pg_catalog, pg_temp as \
    $$ begin raise exception 'slow' using errcode = 'SLOW1'; end $$";
const ANOTHER_KEY: &str = "insert into cordon.signing_key (secret, inner_pad, outer_pad) \
    select sha256(''), decode(repeat('4e', 64), 'hex'), decode(repeat('24', 64), 'hex')";

fn call(workspace: &str, seal: &str) -> String {
    format!("select cordon.bind('{workspace}|{seal}|0.5')")
}

/// The call with a true seal under the newest key.
async fn true_call(database: &Database, client: &Client, workspace: &str) -> String {
    call(workspace, &database.seal(workspace, pid(client).await, 0).await)
}

#[tokio::test]
async fn it_does_what_the_four_calls_do_and_echoes_what_it_was_given() {
    let database = Database::protected().await;
    let client = database.connect(APPLICATION).await;
    database.admin().await.batch_execute(SLOW).await.unwrap();
    for workspace in [A, B, A] {
        let seal = database.seal(workspace, pid(&client).await, 0).await;
        client.batch_execute("set default_transaction_read_only = on").await.unwrap();
        assert_eq!(text(&client, &call(workspace, &seal)).await, format!("{workspace}|{seal}|0.5"));
        let random = text(&client, "select random()").await;
        assert_eq!(text(&client, CONTEXT).await, format!("{workspace} {seal} {}", workspace.replace('-', "")));
        assert_eq!(text(&client, "select cordon.workspace_id()").await, workspace);
        assert_eq!(text(&client, "select random() from (select setseed(0.5)) s").await, random);
        client.simple_query("discard all").await.unwrap();
        assert_eq!(text(&client, MARK).await, "");
    }
    assert_eq!(text(&client, "select cordon.bind(null)").await, "NULL");
    assert_eq!(text(&client, MARK).await, "");
}

#[tokio::test]
async fn what_isnt_sealed_is_refused_and_changes_nothing() {
    let database = Database::protected().await;
    let client = database.connect(APPLICATION).await;
    let own = pid(&client).await;
    let (good, expired) = (database.seal(A, own, 0).await, database.seal(A, own, 3601).await);
    assert_eq!(refusal(&client, &call(A, &good)).await, "");
    let before = text(&client, CONTEXT).await;
    let others = database.seal(A, own + 1, 0).await;
    let undashed = A.replace('-', "");
    for (workspace, seal) in [
        (A, "99999999999.00"),
        (A, expired.as_str()),
        (A, others.as_str()),
        (A, ""),
        (B, good.as_str()),
        (undashed.as_str(), good.as_str()),
        (&format!("{A}-"), good.as_str()),
        (&format!("|{A}"), good.as_str()),
        ("--", good.as_str()),
    ] {
        // A workspace that is empty has nothing to be marked.
        let refused = if workspace.starts_with('|') { "22P02" } else { "42501" };
        assert_eq!(refusal(&client, &call(workspace, seal)).await, refused, "{workspace} {seal}");
        assert_eq!(text(&client, CONTEXT).await, before, "{workspace} {seal}");
    }
    for (bound, refused) in [("", "22P02"), ("x", "22P02"), ("|", "22P02"), ("||2", "22023"), ("||NaN", "22023")] {
        assert_eq!(refusal(&client, &format!("select cordon.bind('{bound}')")).await, refused, "{bound}");
        assert_eq!(text(&client, CONTEXT).await, before, "{bound}");
    }
    assert_eq!(refusal(&client, &call("", &good)).await, "");
    assert_eq!(text(&client, MARK).await, "");
    set_context(&client, A, &good).await;
    assert_eq!(refusal(&client, &call(A, &good)).await, "");
    // In a transaction that is rolled back it goes with the rest.
    let seal = database.seal(B, own, 0).await;
    client.batch_execute(&format!("begin; {}; rollback", call(B, &seal))).await.unwrap();
    assert_eq!(text(&client, CONTEXT).await, before);
}

/// What becomes of the key that everything was sealed with, and what is made of it first.
const ENDS: [(&str, &str); 7] = [
    ("select", "update cordon.signing_key set retired_at = now()"),
    ("select", "delete from cordon.signing_key"),
    ("select", "truncate cordon.signing_key"),
    ("select", "set session_replication_role = replica; update cordon.signing_key set retired_at = now()"),
    (
        "select",
        "update cordon.signing_key set inner_pad = decode(repeat('4e', 64), 'hex'), outer_pad = decode(repeat('24', 64), 'hex')",
    ),
    (ANOTHER_KEY, "update cordon.signing_key set retired_at = now() where id = 1"),
    (
        "update cordon.signing_key set retired_at = now()",
        "begin; update cordon.signing_key set retired_at = null; rollback; \
         begin; savepoint a; update cordon.signing_key set retired_at = null; rollback to a; commit",
    ),
];

#[tokio::test]
async fn a_kept_key_counts_no_longer_than_it_is_one() {
    for (first, end) in ENDS {
        let database = Database::protected().await;
        let (client, admin) = (database.connect(APPLICATION).await, database.admin().await);
        let call = true_call(&database, &client, A).await;
        assert_eq!(refusal(&client, &call).await, "", "{end}");
        client.simple_query("discard all").await.unwrap();
        // An old snapshot, in a process that has kept nothing yet and in one that has.
        let late = database.connect(APPLICATION).await;
        let late_call = true_call(&database, &late, A).await;
        admin.batch_execute(first).await.unwrap();
        for each in [&client, &late] {
            each.batch_execute("begin isolation level repeatable read; select 1").await.unwrap();
        }
        admin.batch_execute(end).await.unwrap();
        admin.batch_execute(SLOW).await.unwrap();
        for (each, call) in [(&client, &call), (&late, &late_call)] {
            for ending in ["rollback", "discard all", "discard plans"] {
                assert_eq!(refusal(each, call).await, "SLOW1", "{end}: {ending}");
                each.batch_execute("rollback").await.unwrap();
                each.simple_query(ending).await.unwrap();
                assert_eq!(text(each, MARK).await, "", "{end}: {ending}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_ends_counts_until_its_end_is_committed_and_no_longer() {
    let database = Database::protected().await;
    let (client, admin) = (database.connect(APPLICATION).await, database.admin().await);
    let call = true_call(&database, &client, A).await;
    admin.batch_execute("begin; update cordon.signing_key set retired_at = now()").await.unwrap();
    assert_eq!(refusal(&client, &call).await, "");
    assert_eq!(text(&client, MARK).await, A.replace('-', ""));
    admin.batch_execute("commit").await.unwrap();
    assert_eq!(refusal(&client, &call).await, "42501");
    // Behind one that was rolled back, the newest is kept again when the schema is migrated.
    admin.batch_execute("update cordon.signing_key set retired_at = null").await.unwrap();
    admin.batch_execute(&format!("begin; {ANOTHER_KEY}; rollback")).await.unwrap();
    assert_eq!(refusal(&client, &call).await, "");
    admin.batch_execute(SLOW).await.unwrap();
    assert_eq!(refusal(&client, &call).await, "SLOW1");
    database.migrate().await.unwrap();
    assert_eq!(refusal(&client, &call).await, "");
}

#[tokio::test]
async fn both_of_two_keys_bind_and_the_newer_without_being_asked_for() {
    let database = Database::protected().await;
    let (client, admin) = (database.connect(APPLICATION).await, database.admin().await);
    let call = true_call(&database, &client, A).await;
    assert_eq!(refusal(&client, &call).await, "");
    admin.batch_execute(ANOTHER_KEY).await.unwrap();
    let pads = "decode(repeat('4e', 64), 'hex') as inner_pad, decode(repeat('24', 64), 'hex') as outer_pad";
    let newer = format!(
        "select cordon.bind('{B}|99999999999.' || encode(sha256(outer_pad || sha256(inner_pad || \
            convert_to('{B}|' || pg_backend_pid() || '|99999999999', 'UTF8'))), 'hex') || '|0') from (select {pads}) as keys"
    );
    for (sql, workspace) in [(&newer, B), (&call, A), (&newer, B)] {
        assert_eq!(refusal(&client, sql).await, "", "{workspace}");
        assert_eq!(text(&client, MARK).await, workspace.replace('-', ""));
        client.simple_query("discard all").await.unwrap();
    }
    admin.batch_execute(SLOW).await.unwrap();
    assert_eq!((refusal(&client, &newer).await, refusal(&client, &call).await), (String::new(), "SLOW1".to_owned()));
}

#[tokio::test]
async fn where_nobody_may_mark_it_binds_all_the_same() {
    let database = Database::protected().await;
    let admin = database.admin().await;
    let call = true_call(&database, &admin, A).await;
    let revoking = format!(
        "begin; revoke set on parameter backtrace_functions from cordon; set local session authorization {APPLICATION}"
    );
    admin.batch_execute(&revoking).await.unwrap();
    assert_eq!(refusal(&admin, &call).await, "");
    assert_eq!(text(&admin, MARK).await, "");
    assert_eq!(text(&admin, "select cordon.workspace_id()").await, A);
    admin.batch_execute("rollback").await.unwrap();
}

#[tokio::test]
async fn no_function_that_converts_to_any_type_binds_or_tells_the_key_to_its_caller() {
    let database = Database::protected().await;
    let admin = database.admin().await;
    let epoch = text(&admin, "select encode(int8send(last_value), 'hex') from cordon.epoch_in_force").await;
    let pads = format!("{}{}", "4e".repeat(64), "24".repeat(64));
    // A key of one's own, as if it were the one that is kept.
    let seal = format!(
        "select set_config('app.workspace_id', '{B}', false), set_config('app.workspace_seal', '99999999999.' || encode(sha256(substring(pads, 65) || \
            sha256(substring(pads, 1, 64) || convert_to('{B}|' || pg_backend_pid() || '|99999999999', 'UTF8'))), 'hex'), false) \
         from (select '\\x{pads}'::bytea) as own (pads)"
    );
    let deputy = "language plpgsql security definer set search_path = pg_catalog, pg_temp as \
        $$ declare converted text; begin execute format('select %L::%s::text', value, type) into converted; return converted; end $$";
    for owner in ["postgres", "bound_deputy"] {
        let making = format!(
            "begin; create role bound_deputy; grant cordon to bound_deputy; grant create, usage on schema public to bound_deputy;
             create function public.converted(value text, type regtype) returns text {deputy};
             alter function public.converted owner to {owner}; set local session authorization {APPLICATION}"
        );
        admin.batch_execute(&making).await.unwrap();
        admin.batch_execute(&seal).await.unwrap();
        for (value, kind) in [(format!("\\x{epoch}{pads}"), "cordon.keeping"), (format!("{B}|x|0"), "cordon.binding")] {
            assert_eq!(text(&admin, &format!("select public.converted('{value}', '{kind}')")).await, value, "{owner}");
            assert_eq!(text(&admin, MARK).await, "", "{owner}: {kind}");
        }
        assert_eq!(refusal(&admin, "select cordon.workspace_id()").await, "42501", "{owner}");
        admin.batch_execute("rollback").await.unwrap();
    }
    admin.batch_execute(&seal).await.unwrap();
    admin.batch_execute(&format!("select '\\x{epoch}{pads}'::bytea::cordon.keeping")).await.unwrap();
    assert_eq!(text(&admin, MARK).await, "");
}

#[tokio::test]
async fn a_tenant_reaches_neither_the_kept_key_nor_the_epoch() {
    let database = Database::protected().await;
    let client = database.connect(APPLICATION).await;
    for sql in [
        "select cordon.kept_key()",
        "select '\\x00'::bytea::cordon.keeping",
        "select 'x'::cordon.binding",
        "select nextval('cordon.epoch_in_force')",
        "select setval('cordon.epoch_in_force', 1)",
        "select last_value from cordon.epoch_in_force",
        "alter sequence cordon.epoch_in_force restart",
        "select * from cordon.key_epoch",
        "insert into cordon.key_epoch values (1, 1)",
        "begin; lock cordon.epoch_in_force",
        "select cordon.another_epoch()",
    ] {
        let refused = refusal(&client, sql).await;
        client.batch_execute("rollback").await.unwrap();
        assert!(["42501", "0A000", "42809", ""].contains(&refused.as_str()), "{sql}: {refused}");
        // These pass, and do nothing.
        assert!(!refused.is_empty() || sql.contains("cordon.keeping"), "{sql}");
    }
    // What it tried first in a process is nothing to who comes then, and the other way round.
    let call = true_call(&database, &client, A).await;
    assert_eq!(refusal(&client, &call).await, "");
    client.simple_query("discard all").await.unwrap();
    for sql in
        ["select 'x|y|0'::cordon.binding", "create temp table t (a cordon.binding); insert into t values ('x|y|0')"]
    {
        let _ = refusal(&client, sql).await;
        assert_eq!(text(&client, CONTEXT).await.trim(), "", "{sql}");
    }
    assert_eq!(refusal(&client, &call).await, "");
}

#[tokio::test]
async fn nothing_that_a_user_may_shadow_or_set_changes_it_or_prints_the_key() {
    let database = Database::protected().await;
    let admin = database.admin().await;
    crate::scratch::let_bind(&admin).await;
    let keys = "select encode(secret, 'hex') || ' ' || encode(inner_pad, 'hex') || ' ' || encode(outer_pad, 'hex') from cordon.signing_key";
    let keys = text(&admin, keys).await;
    let shadows = format!(
        "create function pg_temp.told(text) returns bool language plpgsql as $$ begin raise warning 'told %', $1; return true; end $$;
         create function pg_temp.split_part(text, text, int) returns text language sql as $$ select '{B}' $$;
         create function pg_temp.set_config(text, text, bool) returns text language plpgsql as $$ begin raise warning 'told %', $1; return ''; end $$;
         create function pg_temp.kept_key() returns bytea language plpgsql as $$ begin raise warning 'told'; return ''; end $$;
         create function pg_temp.int8send(bigint) returns bytea language plpgsql as $$ begin raise warning 'told %', $1; return ''; end $$;
         create function pg_temp.same(text, text) returns bool language plpgsql as $$ begin raise warning 'told %', $1; return true; end $$;
         create operator pg_temp.= (leftarg = text, rightarg = text, function = pg_temp.same);
         create domain pg_temp.text as pg_catalog.text check (pg_temp.told(value));
         create domain pg_temp.binding as pg_catalog.text check (pg_temp.told(value));
         create domain pg_temp.bound as pg_catalog.text check (pg_temp.told(value));
         create temp table bound (bound pg_catalog.text);
         create temp table signing_key (id int, epoch int8, inner_pad pg_catalog.bytea, outer_pad pg_catalog.bytea, retired_at timestamptz);
         set search_path = pg_temp, pg_catalog, cordon"
    );
    let every_setting = every_setting(&admin).await;
    let script = format!(
        "select public.bind_to('{A}'); {shadows}; set plpgsql.print_strict_params = on; set plpgsql.extra_errors = 'all'; set plpgsql.extra_warnings = 'all';
         set plpgsql.check_asserts = on; set plan_cache_mode = force_custom_plan; {every_setting};
         select cordon.bind('{A}|99999999999.00|0');
         select cordon.bind(pg_catalog.concat(pg_catalog.current_setting('app.workspace_id'), '|', pg_catalog.current_setting('app.workspace_seal'), '|0'));
         select pg_catalog.concat('marked ', pg_catalog.current_setting('backtrace_functions'));
         explain (verbose, analyze) select cordon.bind('{A}|99999999999.00|0');
         explain (verbose) select 'x'::cordon.binding, '\\x00'::bytea::cordon.keeping;"
    );
    let said = database.psql(APPLICATION, &script);
    for secret in keys.split(' ') {
        assert!(!said.contains(secret), "the key leaks");
        assert!(!said.contains(&as_in_a_plan(secret)), "the key leaks into a plan");
    }
    let told: Vec<_> = said.lines().filter(|line| line.contains("WARNING:  told")).collect();
    assert!(told.is_empty(), "a shadow was called: {told:?}");
    assert!(said.contains(&format!("marked {}", A.replace('-', ""))), "it isn't bound");
    assert!(said.contains("inner_pad") && said.contains("PLANNEDSTMT"), "the server isn't talkative");
}

#[tokio::test]
async fn a_key_that_is_ended_meanwhile_isnt_given_an_epoch() {
    let database = Database::protected().await;
    let (client, admin, other) = (database.connect(APPLICATION).await, database.admin().await, database.admin().await);
    let call = true_call(&database, &client, A).await;
    other.batch_execute("begin; update cordon.signing_key set retired_at = now()").await.unwrap();
    let retired = ANOTHER_KEY.replace("outer_pad)", "outer_pad, retired_at)") + ", now()";
    // Had it not waited for who ends the key, that would count again, and in a process that had kept it then, for good.
    admin.batch_execute("set lock_timeout = '100ms'").await.unwrap();
    assert_eq!(refusal(&admin, &retired).await, "55P03");
    assert_eq!(refusal(&client, &call).await, "", "it hasn't ended yet");
    other.batch_execute("commit").await.unwrap();
    assert_eq!(refusal(&client, &call).await, "42501");
}
