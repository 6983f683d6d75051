//! `cordon.workspace_id()` against those who may call it and set whatever a user may set.

use pgcordon::control::schema::signing;

use crate::scratch::{A, APPLICATION, B, Database, every_setting, pid, refusal, set_context, text};

const ASK: &str = "select cordon.workspace_id()";

#[tokio::test]
async fn the_database_accepts_the_proxys_seal() {
    let database = Database::protected().await;
    assert_eq!(text(&database.bound(A).await, ASK).await, A);
    assert_eq!(text(&database.bound(B).await, ASK).await, B);
}

#[tokio::test]
async fn without_a_context_there_is_no_workspace() {
    let database = Database::protected().await;
    let client = database.connect(APPLICATION).await;
    assert_eq!(text(&client, ASK).await, "NULL");
    set_context(&client, "", "").await;
    assert_eq!(text(&client, ASK).await, "NULL");
    set_context(&client, "", "1.00").await;
    assert_eq!(text(&client, ASK).await, "NULL");
}

#[tokio::test]
async fn a_forged_seal_is_an_error_that_says_nothing() {
    let database = Database::protected().await;
    let client = database.connect(APPLICATION).await;
    let own = pid(&client).await;
    let good = database.seal(A, own, 0).await;
    let (expiry, mac) = good.split_once('.').unwrap();
    let forged = [
        String::new(),
        ".".to_owned(),
        "x".to_owned(),
        format!("{expiry}."),
        format!(".{mac}"),
        format!("{expiry}9.{mac}"),
        format!(" {expiry}.{mac}"),
        format!("{expiry}.{}", mac.to_uppercase()),
        format!("{expiry}.{mac} "),
        format!("{mac}.{expiry}"),
        format!("Infinity.{mac}"),
        format!("{expiry}.{}", "0".repeat(64)),
        format!("{expiry}|{mac}"),
        "1.".repeat(100_000),
        "9".repeat(10_000_000),
        database.seal(A, own + 1, 0).await,
        database.seal(B, own, 0).await,
        database.seal(A, own, 3601).await,
    ];
    for seal in forged {
        set_context(&client, A, &seal).await;
        let error = client.simple_query(ASK).await.expect_err(&seal);
        let error = error.as_db_error().unwrap();
        let shown: String = seal.chars().take(80).collect();
        assert_eq!(error.code().code(), "42501", "{shown}");
        assert_eq!(error.message(), "the workspace context is forged or has expired", "{shown}");
        assert_eq!((error.detail(), error.hint()), (None, None), "{shown}");
    }
    set_context(&client, A, &good).await;
    assert_eq!(text(&client, ASK).await, A);
}

#[tokio::test]
async fn another_spelling_of_the_workspace_is_not_sealed() {
    let database = Database::protected().await;
    let client = database.connect(APPLICATION).await;
    let seal = database.seal(A, pid(&client).await, 0).await;
    for workspace in [&A.to_uppercase(), &format!("{{{A}}}"), &format!("{A}|1"), &format!(" {A}"), "x"] {
        set_context(&client, workspace, &seal).await;
        assert_eq!(refusal(&client, ASK).await, "42501", "{workspace}");
    }
}

#[tokio::test]
async fn two_keys_are_valid_while_they_rotate_and_a_retired_one_is_not() {
    let database = Database::protected().await;
    let bound = database.sealed(A).await;
    let admin = database.admin().await;
    let another = "insert into cordon.signing_key (secret, inner_pad, outer_pad) values \
                   (decode(repeat('01', 32), 'hex'), decode(repeat('37', 32) || repeat('36', 32), 'hex'), decode(repeat('5d', 32) || repeat('5c', 32), 'hex'))";
    admin.batch_execute(another).await.unwrap();
    assert_eq!(text(&bound, ASK).await, A);
    admin.batch_execute("update cordon.signing_key set retired_at = now() where id = 1").await.unwrap();
    assert_eq!(refusal(&bound, ASK).await, "42501");
    let newly = database.bound(A).await;
    assert_eq!(text(&newly, ASK).await, A);
}

#[tokio::test]
async fn nothing_that_a_user_may_shadow_or_set_prints_the_key() {
    let database = Database::protected().await;
    let admin = database.admin().await;
    let keys = "select encode(secret, 'hex') || ' ' || encode(inner_pad, 'hex') || ' ' || encode(outer_pad, 'hex') from cordon.signing_key";
    let keys = text(&admin, keys).await;
    // Everything a user may set, to what is most talkative; then shadows of all that the function names.
    let every_setting = every_setting(&admin).await;
    let script = format!(
        "create function pg_temp.tell(bytea) returns bool language plpgsql as $$ begin raise warning 'told %', encode($1, 'hex'); return true; end $$;
         create function pg_temp.tell(text) returns bool language plpgsql as $$ begin raise warning 'told %', $1; return true; end $$;
         create function pg_temp.sha256(bytea) returns bytea language plpgsql as $$ begin raise warning 'told %', encode($1, 'hex'); return pg_catalog.sha256($1); end $$;
         create function pg_temp.encode(bytea, text) returns text language plpgsql as $$ begin raise warning 'told %', $1; return 'x'; end $$;
         create function pg_temp.join_bytes(bytea, bytea) returns bytea language plpgsql as $$ begin raise warning 'told % %', $1, $2; return $1; end $$;
         create function pg_temp.same(bytea, bytea) returns bool language sql as 'select true';
         create operator pg_temp.|| (leftarg = bytea, rightarg = bytea, function = pg_temp.join_bytes);
         create operator pg_temp.= (leftarg = bytea, rightarg = bytea, function = pg_temp.same);
         create domain pg_temp.bytea as pg_catalog.bytea check (pg_temp.tell(value));
         create domain pg_temp.text as pg_catalog.text check (pg_temp.tell(value));
         create type pg_temp.record as (inner_pad pg_catalog.bytea, outer_pad pg_catalog.bytea);
         create temp table signing_key (id int, secret pg_catalog.bytea, inner_pad pg_catalog.bytea, outer_pad pg_catalog.bytea, retired_at timestamptz);
         set search_path = pg_temp, pg_catalog, cordon;
         set plpgsql.print_strict_params = on; set plpgsql.extra_errors = 'all'; set plpgsql.extra_warnings = 'all';
         set plpgsql.check_asserts = on; set plan_cache_mode = force_custom_plan; set force_parallel_mode = regress;
         set app.workspace_id = '{A}'; set app.workspace_seal = '1.00'; {every_setting};
         select cordon.workspace_id(); select cordon.mark();"
    );
    let mut last = String::new();
    for seal in ["1.00", "99999999999.00"] {
        let said = database.psql(APPLICATION, &script.replace("1.00", seal));
        for secret in keys.split(' ') {
            assert!(!said.contains(secret), "the key leaks: {said}");
            assert!(!said.contains(&as_in_a_plan(secret)), "the key leaks into a plan: {said}");
        }
        assert!(!said.contains("told "), "a shadow was called: {said}");
        last = said;
    }
    assert!(last.contains("the workspace context is forged or has expired"), "{last}");
    assert!(last.contains("inner_pad") && last.contains("PLANNEDSTMT"), "the server isn't talkative: {last}");
}

/// The first bytes as `debug_print_plan` shows them: signed, in decimal.
pub(crate) fn as_in_a_plan(hex: &str) -> String {
    let byte = |at: usize| u8::from_str_radix(&hex[at..at + 2], 16).unwrap().cast_signed().to_string();
    (0..16).step_by(2).map(byte).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn a_shadowed_equality_doesnt_make_a_forged_seal_true() {
    let database = Database::protected().await;
    let client = database.connect(APPLICATION).await;
    client
        .batch_execute(
            "create function pg_temp.same(bytea, bytea) returns bool language sql as 'select true';
             create operator pg_temp.= (leftarg = bytea, rightarg = bytea, function = pg_temp.same);
             create function pg_temp.pg_backend_pid() returns int language sql as 'select 1';
             create function pg_temp.workspace_id() returns uuid language sql as $$ select '00000000-0000-0000-0000-00000000000a'::uuid $$;
             set search_path = pg_temp, pg_catalog",
        )
        .await
        .unwrap();
    set_context(&client, A, "99999999999.00").await;
    assert_eq!(refusal(&client, ASK).await, "42501");
    assert_eq!(refusal(&client, "select * from public.note").await, "42501");
}

#[tokio::test]
async fn a_parallel_plan_sees_the_workspace_of_its_leader() {
    let database = Database::protected().await;
    let admin = database.admin().await;
    let rows = format!(
        "insert into note (workspace_id, body) select case when i % 2 = 0 then '{A}' else '{B}' end::uuid, 'x' from generate_series(1, 40000) i; analyze note"
    );
    admin.batch_execute(&rows).await.unwrap();
    let client = database.bound(A).await;
    client
        .batch_execute(
            "set parallel_setup_cost = 0; set parallel_tuple_cost = 0; set min_parallel_table_scan_size = 0; set enable_indexscan = off; set enable_bitmapscan = off; set enable_indexonlyscan = off",
        )
        .await
        .unwrap();
    let plan = client.simple_query("explain (costs off) select count(*) from note").await.unwrap();
    assert!(format!("{plan:?}").contains("Gather"), "{plan:?}");
    assert_eq!(text(&client, "select count(*) from note").await, "20000");
}

const MARK: &str = "select current_setting('backtrace_functions')";

#[tokio::test]
async fn a_seal_is_verified_once_for_each_bind_and_the_mark_is_gone_with_the_context() {
    let database = Database::protected().await;
    let client = database.bound(A).await;
    let plan = client.simple_query("explain (verbose, costs off) select * from note").await.unwrap();
    assert!(format!("{plan:?}").contains("backtrace_functions"), "it isn't inlined: {plan:?}");
    // Nobody asks for the seal again.
    database.admin().await.batch_execute("update cordon.signing_key set retired_at = now()").await.unwrap();
    assert_eq!(text(&client, ASK).await, A);
    assert_eq!(refusal(&client, "begin; savepoint s; reset all; rollback").await, "");
    assert_eq!(text(&client, ASK).await, A);
    for ending in ["reset all", "discard all"] {
        let client = database.connect(APPLICATION).await;
        database.admin().await.batch_execute("update cordon.signing_key set retired_at = null").await.unwrap();
        set_context(&client, A, &database.seal(A, pid(&client).await, 0).await).await;
        assert_eq!(text(&client, "select cordon.mark()").await, "t");
        client.simple_query(ending).await.unwrap();
        assert_eq!(text(&client, MARK).await, "", "{ending}");
        assert_eq!(text(&client, ASK).await, "NULL", "{ending}");
    }
}

#[tokio::test]
async fn only_a_true_seal_is_marked_and_no_tenant_can_mark_anything_else() {
    let database = Database::protected().await;
    let client = database.bound(A).await;
    let mark = text(&client, MARK).await;
    let hex = B.replace('-', "");
    for forging in [
        format!("set backtrace_functions = '{hex}'"),
        format!("set local backtrace_functions = '{hex}'"),
        format!("select set_config('backtrace_functions', '{hex}', false)"),
        "reset backtrace_functions".to_owned(),
        format!("update pg_settings set setting = '{hex}' where name = 'backtrace_functions'"),
        format!("alter role pgcordon_app set backtrace_functions = '{hex}'"),
        format!("alter database {} set backtrace_functions = '{hex}'", database.name()),
        format!(
            "create function pg_temp.f() returns uuid language sql set backtrace_functions = '{hex}' as 'select cordon.workspace_id()'"
        ),
        "grant set on parameter backtrace_functions to pgcordon_app".to_owned(),
        "set role cordon".to_owned(),
    ] {
        assert_eq!(refusal(&client, &forging).await, "42501", "{forging}");
        assert_eq!(text(&client, MARK).await, mark, "{forging}");
    }
    // Another workspace with the seal of one's own, and with none.
    let own = database.seal(A, pid(&client).await, 0).await;
    for seal in [own.as_str(), "", "1.00", "99999999999.00"] {
        set_context(&client, B, seal).await;
        assert_eq!(refusal(&client, "select cordon.mark()").await, "42501", "{seal}");
        assert_eq!(refusal(&client, ASK).await, "42501", "{seal}");
        assert_eq!(text(&client, MARK).await, mark, "{seal}");
    }
    set_context(&client, A, "").await;
    assert_eq!(text(&client, ASK).await, A, "the mark is what counts");
    let options = format!("-c backtrace_functions={hex}");
    assert_eq!(database.refused_start(APPLICATION, &options).await, "42501");
}

#[tokio::test]
async fn shadows_change_nothing_for_who_is_marked() {
    let database = Database::protected().await;
    let client = database.bound(A).await;
    client
        .batch_execute(&format!(
            "create function pg_temp.current_setting(text, boolean) returns text language sql as $$ select '{B}' $$;
             create function pg_temp.replace(text, text, text) returns text language sql as $$ select '' $$;
             create function pg_temp.same(text, text) returns bool language sql as 'select true';
             create operator pg_temp.= (leftarg = text, rightarg = text, function = pg_temp.same);
             create domain pg_temp.uuid as pg_catalog.uuid check (false);
             create function pg_temp.sealed_workspace_id() returns pg_catalog.uuid language sql as $$ select '{B}'::pg_catalog.uuid $$;
             set search_path = pg_temp, pg_catalog, cordon"
        ))
        .await
        .unwrap();
    assert_eq!(text(&client, ASK).await, A);
    set_context(&client, B, "99999999999.00").await;
    assert_eq!(refusal(&client, ASK).await, "42501");
}

#[tokio::test]
async fn where_nobody_may_mark_each_statement_goes_by_the_seal() {
    let database = Database::protected().await;
    let admin = database.admin().await;
    let seal = database.seal(A, pid(&admin).await, 0).await;
    // The right is the whole server's: nobody else sees it gone.
    let revoking = format!(
        "begin; revoke set on parameter backtrace_functions from cordon; set local session authorization {APPLICATION}"
    );
    admin.batch_execute(&revoking).await.unwrap();
    set_context(&admin, A, &seal).await;
    assert_eq!(text(&admin, "select cordon.mark()").await, "f");
    assert_eq!(text(&admin, MARK).await, "");
    assert_eq!(text(&admin, ASK).await, A);
    set_context(&admin, B, "99999999999.00").await;
    assert_eq!(refusal(&admin, ASK).await, "42501");
    admin.batch_execute("rollback").await.unwrap();
}

#[tokio::test]
async fn keys_are_replaced_in_two_steps_and_never_three_at_once() {
    let database = Database::protected().await;
    let mut admin = database.admin().await;
    let before = database.sealed(A).await;
    let first = signing::valid(&admin).await.unwrap();
    let second = signing::rotate(&mut admin).await.unwrap();
    assert_eq!((first.len(), second.id > first[0].id), (1, true));
    assert_eq!(text(&before, ASK).await, A, "what was sealed before is still good");
    assert_eq!(text(&database.sealed(B).await, ASK).await, B, "and so is what is sealed now");
    let third = signing::rotate(&mut admin).await.expect_err("a third key").to_string();
    assert!(third.contains("both valid") && third.contains("pgcordon seal retire"), "{third}");
    let early = signing::retire(&mut admin, false).await.expect_err("too early").to_string();
    assert!(early.contains("--now"), "{early}");
    admin.batch_execute("update cordon.signing_key set created_at = created_at - interval '1 hour'").await.unwrap();
    assert_eq!(signing::retire(&mut admin, false).await.unwrap(), [first[0].id]);
    assert_eq!(refusal(&before, ASK).await, "42501");
    assert_eq!(signing::retire(&mut admin, true).await.unwrap(), Vec::<i32>::new());
    assert_eq!(signing::valid(&admin).await.unwrap().len(), 1);
}
