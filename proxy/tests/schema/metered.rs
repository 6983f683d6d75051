//! What meters report: exactly what a statement did, however it did it, and nothing that a tenant wants it to.

use pgcordon::control::schema::meter::Options;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::scratch::{A, APPLICATION, B, Database, every_setting, let_bind, pid, refusal, set_context, text};
use crate::tenant::{Tenant, named};

/// Statements in order, each with what it reports. Resource 1 is `seg`, 2 `child`, 3 `parted`, 4 `heir`, 5 `step`.
const STATEMENTS: &[(&str, &str)] = &[
    ("insert into seg (id, workspace_id) values (1, $A)", "1:+1"),
    ("insert into seg (id, workspace_id) select g, $A from generate_series(2, 4) g returning id", "1:+3"),
    ("insert into seg (id, workspace_id) select 5, $A where false", ""),
    // An upsert that inserts and one that updates both answer INSERT 0 1.
    ("insert into seg (id, workspace_id) values (1, $A), (5, $A) on conflict (id) do update set name = 'q'", "1:+1"),
    ("insert into seg (id, workspace_id) values (1, $A), (6, $A) on conflict do nothing", "1:+1"),
    ("insert into seg (id, workspace_id) values (1, $A) on conflict do nothing", ""),
    ("update seg set name = null, state = 'off'", ""),
    // Two parts of one statement are one report; a delete beside an insert is told apart.
    (
        "with a as (insert into seg (id, workspace_id) values (7, $A) returning id), \
         b as (insert into seg (id, workspace_id) values (8, $A), (9, $A) returning id) select count(*) from a, b",
        "1:+3",
    ),
    (
        "with a as (insert into seg (id, workspace_id) values (10, $A) returning id), b as (delete from seg where id = 9 returning id) \
         update seg set name = 'k' where id = 3",
        "1:+1 | 1:-1",
    ),
    (
        "merge into seg using (values (1), (8), (11)) v (id) on seg.id = v.id when matched and seg.id = 8 then delete \
         when matched then update set name = 'm' when not matched then insert (id, workspace_id) values (v.id, $A)",
        "1:+1 | 1:-1",
    ),
    (
        "prepare p as insert into seg (id, workspace_id) values (12, $A); execute p; prepare d as delete from seg where id = 12; execute d",
        "1:+1 | 1:-1",
    ),
    ("explain (analyze, costs off) insert into seg (id, workspace_id) values (12, $A)", "1:+1"),
    ("explain insert into seg (id, workspace_id) values (13, $A)", ""),
    // Cascades belong to the statement that caused them, in their own table and in others.
    (
        "insert into seg (id, workspace_id, parent) values (20, $A, null), (21, $A, 20), (22, $A, 21), (23, $A, 20)",
        "1:+4",
    ),
    ("insert into child (workspace_id, seg_id) select $A, 20 + g from generate_series(0, 3) g", "2:+4"),
    ("insert into step (child_id) select id from child, generate_series(1, 2)", "5:+8"),
    ("delete from seg where id = 20", "1:-4 | 2:-4 | 5:~8"),
    // Partitions, by way of the parent and by their own names.
    ("insert into parted values (1, $A, 1), (2, $A, 2), (30, $A, 2)", "3:+3"),
    ("insert into parted_1 values (4, $A, 1)", "3:+1"),
    ("insert into parted_2 values (5, $A, 2), (50, $A, 2)", "3:+2"),
    ("insert into parted_2_low values (6, $A, 2)", "3:+1"),
    ("update parted set k = 1 where id in (2, 30)", ""),
    ("update parted_2 set id = 60 where id = 5", ""),
    ("insert into parted values (4, $A, 1), (7, $A, 1) on conflict (id, k) do update set workspace_id = $A", "3:+1"),
    ("delete from parted_1 where id = 4", "3:-1"),
    ("delete from parted", "3:~7"),
    ("insert into heir values (1, $A)", "4:+1"),
    ("insert into heir_child values (2, $A, 3), (3, $A, 3)", "4:+2"),
    ("delete from only heir", "4:-1"),
    ("delete from heir where id = 2", "4:-1"),
    // A string of many is many reports; what a savepoint or a rollback undoes was told before.
    (
        "insert into seg (id, workspace_id) values (30, $A); insert into seg (id, workspace_id) values (31, $A)",
        "1:+1 | 1:+1",
    ),
    (
        "begin; insert into seg (id, workspace_id) values (32, $A); savepoint s; delete from seg; rollback to s; commit",
        "1:+1 | 1:-13",
    ),
    ("declare c cursor with hold for select insert_one(g) from generate_series(40, 42) g", "1:+1 | 1:+1 | 1:+1"),
    ("create temporary table made as select insert_one(g) from generate_series(43, 44) g", "1:+1 | 1:+1"),
    ("select insert_one(45)", "1:+1"),
    ("call insert_and_commit(46, 48)", "1:+1 | 1:+1 | 1:+1"),
    ("insert into deferring values (49)", "1:+1"),
    ("insert into by_rule values (60)", "1:+1"),
    ("insert into on_view (id, workspace_id) values (61, $A)", "1:+1"),
    ("update on_view set state = 'v'", ""),
];

const FUNCTIONS: &str = "\
create function insert_one(n int) returns int language plpgsql as $$ begin
    insert into seg (id, workspace_id) values (n, cordon.workspace_id()); return n; end $$;
create procedure insert_and_commit(a int, b int) language plpgsql as $$ begin
    for n in a .. b loop insert into seg (id, workspace_id) values (n, cordon.workspace_id()); commit; end loop; end $$;
create table deferring (id int); create table by_rule (id int);
create function insert_at_commit() returns trigger language plpgsql as $$ begin perform insert_one(new.id); return null; end $$;
create constraint trigger t after insert on deferring deferrable initially deferred for each row execute function insert_at_commit();
create rule r as on insert to by_rule do also insert into seg (id, workspace_id) values (new.id, cordon.workspace_id());
create view on_view with (security_invoker = true) as select * from seg where id > 50;
grant all on deferring, by_rule, on_view to pgcordon_app;";

async fn family() -> Database {
    let database = Database::protected().await.with_family().await;
    for (at, table) in ["seg", "child", "parted", "heir", "step"].into_iter().enumerate() {
        assert_eq!(database.metered(table, &[table]).await, i32::try_from(at).unwrap() + 1);
    }
    database.admin().await.batch_execute(FUNCTIONS).await.unwrap();
    database
}

fn of_a(sql: &str) -> String {
    sql.replace("$A", &format!("'{A}'::uuid"))
}

#[tokio::test]
async fn each_statement_reports_what_it_did() {
    let database = family().await;
    let tenant = database.tenant(A).await;
    for (sql, expected) in STATEMENTS {
        assert_eq!(tenant.reports(&of_a(sql)).await, *expected, "{sql}");
    }
}

#[tokio::test]
async fn a_portal_with_a_row_limit_has_reported_everything_by_its_first_rows() {
    let database = family().await;
    let mut tenant = database.tenant(A).await;
    // Postgres itself refuses COPY FROM under row-level security, so a tenant has only what follows.
    assert_eq!(refusal(&tenant.client, "copy seg (id, workspace_id) from stdin").await, "0A000");

    let transaction = tenant.client.transaction().await.unwrap();
    let returning = of_a("insert into seg (id, workspace_id) select g, $A from generate_series(3, 6) g returning id");
    let portal = transaction.bind(&returning, &[]).await.unwrap();
    assert_eq!(transaction.query_portal(&portal, 1).await.unwrap().len(), 1);
    drop(portal);
    transaction.rollback().await.unwrap();
    assert_eq!(tenant.told(), "1:+4", "it ran to its end");

    // A function is called as its rows are fetched.
    let transaction = tenant.client.transaction().await.unwrap();
    let portal = transaction.bind("select insert_one(g) from generate_series(7, 10) g", &[]).await.unwrap();
    assert_eq!(transaction.query_portal(&portal, 1).await.unwrap().len(), 1);
    assert_eq!(transaction.query_portal(&portal, 2).await.unwrap().len(), 2);
    drop(portal);
    transaction.commit().await.unwrap();
    assert_eq!(tenant.told(), "1:+1 | 1:+1 | 1:+1");
}

/// Ways to delete and take it back unseen. Each is reported, and none as certain.
const UNDONE: &[&str] = &[
    "select undo()",
    "delete from seg where id = -1 or id = 1 and undo()",
    "with a as (select undo()) delete from seg where id = 1 and exists (select from a)",
    "update seg set state = 'x' where undo()",
    "do $$ begin begin delete from seg; raise exception 'x'; exception when others then null; end; end $$",
    "do $$ declare c refcursor; i int; begin begin open c for delete from seg returning id; fetch c into i; perform 1 / 0; \
     exception when others then null; end; end $$",
    "do $$ declare r record; begin begin for r in delete from seg returning id loop null; end loop; perform 1 / 0; \
     exception when others then null; end; end $$",
    "do $$ begin begin execute 'delete from seg'; perform 1 / 0; exception when others then null; end; end $$",
    "do $$ begin begin execute 'delete from only seg where id = 1'; perform 1 / 0; exception when others then null; end; end $$",
    "do $$ begin begin perform by_sql(); perform 1 / 0; exception when others then null; end; end $$",
    "do $$ begin begin execute 'prepare q as delete from seg'; execute 'execute q'; perform 1 / 0; exception when others then null; end; end $$",
    "call undo_and_commit()",
    "insert into trap values (1)",
    "delete from trap",
];

const UNDOING: &str = "\
create function pg_temp.open_one() returns refcursor language plpgsql as $$ declare c refcursor := 'one'; begin
    open c for delete from seg where id = 6 returning id; return c; end $$;
create function pg_temp.undo() returns bool language plpgsql as $$ begin
    begin delete from seg; perform 1 / 0; exception when others then return true; end; end $$;
create temporary table trap (id int);
create function pg_temp.spring() returns trigger language plpgsql as $$ begin
    begin delete from seg; perform 1 / 0; exception when others then null; end; return null; end $$;
create trigger t after insert or delete on trap for each statement execute function pg_temp.spring();
create function pg_temp.by_sql() returns int language sql as 'delete from seg; select 1';
create procedure pg_temp.undo_and_commit() language plpgsql as $$ begin
    begin delete from seg; perform 1 / 0; exception when others then null; end; commit; delete from seg where id = -1; end $$;";

#[tokio::test]
async fn a_delete_that_something_could_have_undone_is_never_certain() {
    let database = family().await;
    let tenant = database.tenant(A).await;
    tenant.client.batch_execute(UNDOING).await.unwrap();
    for undone in UNDONE {
        let undone = ["undo()", "by_sql()", "undo_and_commit()"]
            .iter()
            .fold((*undone).to_owned(), |sql, function| sql.replace(function, &format!("pg_temp.{function}")));
        tenant.reports(&of_a("delete from seg; insert into seg (id, workspace_id) values (1, $A), (2, $A)")).await;
        let told = tenant.reports(&undone).await;
        let left: i64 = text(&tenant.client, "select count(*) from seg").await.parse().unwrap();
        let certain: i64 = if told.contains(":-") { told.rsplit(":-").next().unwrap().parse().unwrap() } else { 0 };
        assert_eq!(certain, 2 - left, "{undone}: {told}");
        assert!(told.contains("1:~"), "{undone}: {told}");
    }
    // What the client itself deletes is, in every way that has no function between.
    tenant
        .reports(&of_a("delete from seg; insert into seg (id, workspace_id) select g, $A from generate_series(1, 6) g"))
        .await;
    for certain in [
        "delete from seg where id = 1",
        "with a as (delete from seg where id = 2 returning id) select * from a",
        "prepare once as delete from seg where id = 3; execute once",
        "explain analyze delete from seg where id = 4",
        "begin; select pg_temp.open_one(); fetch all from one; commit",
        "copy (delete from seg where id = 5 returning id) to stdout",
    ] {
        if certain.starts_with("copy") {
            let copied = tenant.client.copy_out(certain).await.unwrap();
            futures_util::TryStreamExt::try_collect::<Vec<_>>(copied).await.unwrap();
            assert_eq!(tenant.told(), "1:-1", "{certain}");
        } else {
            assert_eq!(tenant.reports(certain).await, "1:-1", "{certain}");
        }
    }
}

#[tokio::test]
async fn a_merge_that_moves_rows_between_partitions_deletes_nothing_for_certain() {
    let database = family().await;
    let tenant = database.tenant(A).await;
    tenant.reports(&of_a("insert into parted select g, $A, 1 from generate_series(1, 5) g")).await;
    // Postgres hands the moved rows to the DELETE trigger alone, though they are all still there.
    let merge = "merge into parted p using generate_series(1, 5) v (id) on p.id = v.id when matched and p.id < 0 then delete when matched then update set k = 2";
    assert_eq!(tenant.reports(merge).await, "3:~5");
    assert_eq!(text(&tenant.client, "select count(*) from parted").await, "5");
}

#[tokio::test]
async fn what_a_block_has_committed_stays_when_it_fails_afterwards() {
    // The proxy mustn't take this error for a rollback of what was reported.
    let database = family().await;
    let tenant = database.tenant(A).await;
    let insert = of_a("insert into seg (id, workspace_id) values (1, $A)");
    let block = format!("do $$ begin {insert}; commit; raise exception 'x'; end $$");
    assert_eq!(refusal(&tenant.client, &block).await, "P0001");
    assert_eq!(tenant.told(), "1:+1");
    assert_eq!(text(&tenant.client, "select count(*) from seg").await, "1");
}

#[tokio::test]
async fn no_setting_of_a_tenants_silences_a_meter() {
    let database = family().await;
    let tenant = database.tenant(A).await;
    let admin = database.admin().await;
    let encodings = "select pg_encoding_to_char(i) from generate_series(0, 41) i where pg_encoding_to_char(i) not in ('', 'EUC_JIS_2004', 'MULE_INTERNAL')";
    let encodings = admin.query(encodings, &[]).await.unwrap();
    let settings = encodings.iter().map(|row| format!("set client_encoding = '{}'", row.get::<_, String>(0)));
    let settings = settings.chain(
        [
            "set client_min_messages = error",
            "set client_min_messages = fatal",
            "set session_replication_role = replica",
            "set lc_messages = 'C'",
            "set standard_conforming_strings = off",
            "set transform_null_equals = on",
            "set array_nulls = off",
            "set quote_all_identifiers = on",
            "set row_security = off",
            "set search_path = pg_temp, pg_catalog",
            "set plpgsql.extra_errors = 'all'",
            "set plpgsql.variable_conflict = error",
            "set plpgsql.print_strict_params = on",
            "set plan_cache_mode = force_custom_plan",
            "set force_parallel_mode = regress",
            "set work_mem = '64kB'",
            "set exit_on_error = off",
            "set app.workspace_seal = ''",
            "set log_min_messages = fatal",
            "set check_function_bodies = off",
            "set role none",
            "set session authorization default",
        ]
        .map(str::to_owned),
    );
    for setting in settings {
        let _ = tenant.client.batch_execute(&setting).await;
        tenant.told();
        // The deferred check is after the trigger; what was reported before an error was reported.
        let insert =
            of_a("insert into public.seg (id, workspace_id) select coalesce(max(id), 0) + 1, $A from public.seg");
        let done = tenant.client.batch_execute(&insert).await;
        let told = tenant.told();
        let refused = done.is_err() && told.is_empty();
        assert!(
            refused == (setting.contains("app.workspace_seal") || setting.contains("row_security"))
                && (refused || told == "1:+1"),
            "{setting}: {told} {done:?}"
        );
        tenant.client.batch_execute("reset all").await.unwrap();
        set_context(&tenant.client, A, &database.seal(A, tenant.pid, 0).await).await;
    }
    for refused in [
        "set session authorization pgcordon_system",
        "set role pgcordon_owner",
        "alter table seg disable trigger all",
        "alter table seg disable trigger pgcordon_meter_insert",
        "drop trigger pgcordon_meter_insert on seg",
    ] {
        assert_eq!(refusal(&tenant.client, refused).await, "42501", "{refused}");
    }
}

#[tokio::test]
async fn a_cascade_into_another_workspace_makes_no_room_in_this_one() {
    let database = family().await;
    let (mine, other) = (database.tenant(A).await, database.tenant(B).await);
    mine.reports(&of_a(
        "insert into seg (id, workspace_id) values (1, $A); insert into child (workspace_id, seg_id) values ($A, 1)",
    ))
    .await;
    // A foreign key asks no policy: an accomplice's rows may hang on this workspace's.
    let theirs = format!(
        "insert into child (workspace_id, seg_id) select '{B}', 1 from generate_series(1, 5); insert into step (child_id) select id from child"
    );
    assert_eq!(other.reports(&theirs).await, "2:+5 | 5:+5");
    assert_eq!(mine.reports("delete from seg").await, "1:-1 | 2:-1 | 5:~5");
    assert_eq!(text(&other.client, "select count(*) from child").await, "0");
}

#[tokio::test]
async fn a_filter_counts_no_row_of_another_workspace_that_a_cascade_changes() {
    let database = Database::protected().await.with_family().await;
    database.admin().await.batch_execute("alter table child drop constraint child_seg_id_fkey, add foreign key (seg_id) references seg on delete set null").await.unwrap();
    database
        .meter(&Options { filter: Some("seg_id is not null".to_owned()), ..named("bound", &["child"]) })
        .await
        .unwrap();
    let (mine, other) = (database.tenant(A).await, database.tenant(B).await);
    mine.reports(&of_a("insert into seg (id, workspace_id) values (1, $A)")).await;
    assert_eq!(mine.reports(&of_a("insert into child (workspace_id, seg_id) values ($A, 1)")).await, "1:+1");
    let theirs = format!("insert into child (workspace_id, seg_id) select '{B}', 1 from generate_series(1, 5)");
    assert_eq!(other.reports(&theirs).await, "1:+5");
    assert_eq!(mine.reports("delete from seg").await, "1:-1");
}

/// Clearing the seal after the rows were checked and before the trigger runs: a statement can do that.
#[tokio::test]
async fn a_statement_that_forgets_its_own_workspace_is_metered_all_the_same() {
    let database = family().await;
    let tenant = database.tenant(A).await;
    let sql = "with a as (insert into seg (id, workspace_id) values (1, $A) returning id) \
               select set_config('app.workspace_id', '', false), set_config('app.workspace_seal', '', false) from a";
    assert_eq!(tenant.reports(&of_a(sql)).await, "1:+1");
    for forgets in [
        "with a as (delete from seg returning id) select set_config('app.workspace_seal', '', false) from a",
        "with a as (delete from seg returning id) select set_config('app.workspace_seal', '1.00', false) from a",
        "with a as (delete from seg returning id) select set_config('app.workspace_id', '', false) from a",
    ] {
        set_context(&tenant.client, A, &database.seal(A, tenant.pid, 0).await).await;
        tenant.reports(&of_a("insert into seg (id, workspace_id) values (1, $A) on conflict do nothing")).await;
        assert_eq!(tenant.reports(forgets).await, "", "what goes makes no room then: {forgets}");
    }
    database.meter(&Options { filter: Some("state = 'on'".to_owned()), ..named("on", &["seg"]) }).await.unwrap();
    set_context(&tenant.client, A, &database.seal(A, tenant.pid, 0).await).await;
    tenant.reports(&of_a("insert into seg (id, workspace_id, state) values (5, $A, 'off'), (6, $A, 'on')")).await;
    let sql = "with a as (update seg set state = case state when 'on' then 'off' else 'on' end returning id) select set_config('app.workspace_id', '', false) from a";
    assert_eq!(tenant.reports(sql).await, "6:+1", "and all that comes counts");
}

#[tokio::test]
async fn a_tenant_can_neither_call_a_meter_nor_put_one_on_a_table_of_its_own() {
    let database = family().await;
    let tenant = database.tenant(A).await;
    let function = text(&database.admin().await, "select 'cordon.meter_' || md5('public.seg')").await;
    tenant.client.batch_execute("create temporary table own (id int)").await.unwrap();
    for (sql, code) in [
        (format!("select {function}()"), "42501"),
        ("select cordon.report(array[1], array[-5::bigint], true)".to_owned(), "42501"),
        ("select cordon.forget_dropped()".to_owned(), "42501"),
        (
            format!(
                "create trigger t after delete on own referencing old table as old_rows for each statement execute function {function}('plain')"
            ),
            "42501",
        ),
        ("select * from cordon.meter".to_owned(), "42501"),
        ("select * from cordon.metered".to_owned(), "42501"),
        ("insert into cordon.quota values (gen_random_uuid(), 1, null)".to_owned(), "42501"),
        ("create temporary table heirs () inherits (seg)".to_owned(), "42501"),
    ] {
        assert_eq!(refusal(&tenant.client, &sql).await, code, "{sql}");
    }
}

#[tokio::test]
async fn what_a_tenant_raises_itself_is_forged() {
    let database = family().await;
    let (tenant, other) = (database.tenant(A).await, database.tenant(B).await);
    let raise = |detail: &str| {
        format!(
            "do $$ begin raise info using errcode = 'CM100', message = 'pgcordon meter', detail = '{detail}'; end $$"
        )
    };
    assert_eq!(tenant.reports(&raise("1:-5")).await, "Forged");
    let zeros = "0".repeat(64);
    assert_eq!(tenant.reports(&raise(&format!("{zeros} 1:-5"))).await, "Forged");
    // The tag of another backend isn't this one's.
    other.reports(&format!("insert into seg (id, workspace_id) values (1, '{B}')")).await;
    assert_ne!(tenant.pid, other.pid);
    assert_eq!(tenant.reports(&of_a("insert into seg (id, workspace_id) values (2, $A)")).await, "1:+1");
}

#[tokio::test]
async fn a_new_key_makes_the_tag_when_it_is_a_minute_old_or_alone() {
    let database = family().await;
    let admin = database.admin().await;
    // Another key's pads, so that its tag is another.
    let newer = "insert into cordon.signing_key (secret, inner_pad, outer_pad) \
                 select sha256(secret), decode(repeat('36', 64), 'hex'), decode(repeat('5c', 64), 'hex') from cordon.signing_key";
    let (before, insert) =
        (database.tenant(A).await, |id: i32| of_a(&format!("insert into seg (id, workspace_id) values ({id}, $A)")));
    assert_eq!(before.reports(&insert(1)).await, "1:+1");
    admin.batch_execute(newer).await.unwrap();
    assert_eq!(before.reports(&insert(2)).await, "1:+1", "not every proxy has heard of it yet");
    let age = |id: i32| format!("update cordon.signing_key set created_at = now() - interval '61 s' where id = {id}");
    admin.batch_execute(&age(1)).await.unwrap();
    assert_eq!(before.reports(&insert(3)).await, "1:+1");
    admin.batch_execute(&age(2)).await.unwrap();
    assert_eq!(before.reports(&insert(4)).await, "Forged", "a proxy that hasn't heard of it knows that it can't know");
    admin.batch_execute("update cordon.signing_key set retired_at = now() where id = 2").await.unwrap();
    assert_eq!(before.reports(&insert(5)).await, "1:+1");
    admin.batch_execute("update cordon.signing_key set retired_at = now()").await.unwrap();
    let refused = refusal(&before.client, "delete from seg").await;
    assert_eq!(refused, "42501", "without a key there is no workspace either");
}

#[tokio::test]
async fn only_tenants_are_metered_under_whatever_role_their_keys_run() {
    let database = family().await;
    let admin = database.admin().await;
    let insert = |id: i32| format!("insert into seg (id, workspace_id) values ({id}, '{A}')");
    let system = database.heard("pgcordon_system").await;
    assert_eq!(system.reports(&format!("{}; delete from seg", insert(1))).await, "");
    let superuser = database.heard("postgres").await;
    assert_eq!(superuser.reports(&insert(2)).await, "");
    admin
        .batch_execute("create role big_customer login; grant select, insert, delete on seg to big_customer; grant usage on schema public to big_customer")
        .await
        .unwrap();
    let customer = database.heard("big_customer").await;
    set_context(&customer.client, A, &database.seal(A, customer.pid, 0).await).await;
    assert_eq!(customer.reports(&insert(3)).await, "", "no key runs as it");
    let key = "insert into cordon.workspace (id, name) values ('00000000-0000-0000-0000-00000000000a', 'acme'); \
               insert into cordon.api_key (key_id, workspace_id, kind, role, verifier) \
               values ('k', '00000000-0000-0000-0000-00000000000a', 'workspace', 'big_customer', 'SCRAM-SHA-256$x'), ('s', null, 'system', 'postgres', 'SCRAM-SHA-256$x')";
    admin.batch_execute(key).await.unwrap();
    assert_eq!(customer.reports(&insert(4)).await, "1:+1");
    assert_eq!(superuser.reports(&insert(5)).await, "", "a system key's role isn't a tenant's");
    // A tenant's role with replication's settings is metered too: nobody means to insert unseen.
    let replica = database.heard("postgres").await;
    replica
        .client
        .batch_execute(&format!("set session_replication_role = replica; set session authorization {APPLICATION}"))
        .await
        .unwrap();
    set_context(&replica.client, A, &database.seal(A, pid(&replica.client).await, 0).await).await;
    assert_eq!(replica.reports(&insert(6)).await, "1:+1");
    drop(customer);
    let gone = "drop owned by big_customer; drop role big_customer";
    admin.batch_execute(gone).await.unwrap();
}

#[tokio::test]
async fn a_filter_counts_what_comes_and_goes_by_updates_too() {
    let database = Database::protected().await.with_family().await;
    let filtered =
        |resource: &str, filter: &str| Options { filter: Some(filter.to_owned()), ..named(resource, &["seg"]) };
    database.meter(&filtered("on", "state = 'on'")).await.unwrap();
    database.metered("all", &["seg"]).await;
    let tenant = database.tenant(A).await;
    for (sql, expected) in [
        ("insert into seg (id, workspace_id, state) values (1, $A, 'on'), (2, $A, 'off'), (3, $A, 'off')", "1:+1 2:+3"),
        ("update seg set state = 'on' where id = 2", "1:+1"),
        ("update seg set state = 'off' where id = 1; update seg set state = state", "1:-1"),
        ("update seg set state = case state when 'on' then 'off' else 'on' end", "1:+1"),
        ("insert into seg (id, workspace_id) values (1, $A) on conflict (id) do update set state = 'off'", "1:-1"),
        (
            "insert into seg (id, workspace_id) values (2, $A), (4, $A) on conflict (id) do update set state = 'on'",
            "1:+1 2:+1 | 1:+1",
        ),
        (
            "merge into seg using (values (1), (2), (9)) v (id) on seg.id = v.id when matched and v.id = 2 then delete \
             when matched then update set state = 'on' when not matched then insert (id, workspace_id) values (v.id, $A)",
            "1:-1 2:-1 | 1:+1 | 1:+1 2:+1",
        ),
        ("delete from seg", "1:-4 2:-4"),
    ] {
        let mut told = tenant.reports(&of_a(sql)).await.split(" | ").map(str::to_owned).collect::<Vec<_>>();
        let mut expected = expected.split(" | ").map(str::to_owned).collect::<Vec<_>>();
        told.sort();
        expected.sort();
        assert_eq!(told, expected, "{sql}");
    }
}

#[tokio::test]
async fn a_filter_means_in_a_tenants_session_what_it_meant_to_the_operator() {
    let database = Database::protected().await.with_family().await;
    let admin = database.admin().await;
    admin
        .batch_execute(
            "create type mood as enum ('good', 'bad'); create schema other; create table other.odd \
             (workspace_id uuid not null, mood mood, stack text, changed int, certain bool, tg_op text, found bool, new_rows int, \"a b\" text, at timestamptz, period interval); \
             alter table other.odd owner to pgcordon_owner",
        )
        .await
        .unwrap();
    database.protect("other.odd", &pgcordon::control::schema::protect::Options::default()).await;
    let filter = "mood = 'good' and stack = 'x' and changed > 1 and certain and tg_op = 'a' and found and new_rows is not null -- a comment\n\
                  and \"a b\" ~ E'^\\\\w+$' and \"a b\" <> all ('{NULL2,b}') and (stack = any (array[null, 'x']))";
    let options = Options { filter: Some(filter.to_owned()), ..named("odd", &["other.odd"]) };
    database.meter(&options).await.unwrap();
    let stored = text(&admin, "select filter from cordon.meter").await;
    assert!(stored.contains("'good'::public.mood"), "{stored}");
    let tenant = database.tenant(A).await;
    let insert = "insert into other.odd values ($A, 'good', 'x', 2, true, 'a', true, 1, 'word')";
    for setting in [
        "",
        "set standard_conforming_strings = off",
        "set array_nulls = off",
        "set transform_null_equals = on",
        "set search_path = pg_temp",
        "set datestyle = 'SQL, DMY'; set intervalstyle = 'sql_standard'",
    ] {
        tenant.client.batch_execute(&format!("discard plans; {setting}")).await.unwrap();
        assert_eq!(tenant.reports(&of_a(insert)).await, "1:+1", "{setting}");
    }
    assert_eq!(tenant.reports("update other.odd set certain = false").await, "1:-6");
}

#[tokio::test]
async fn a_flow_counts_what_is_inserted_and_hears_of_no_delete() {
    let database = Database::protected().await.with_family().await;
    let per_day = Options { per: Some(pgcordon::quota::window::Per::Day), ..named("a day", &["seg", "parted"]) };
    database.meter(&per_day).await.unwrap();
    let tenant = database.tenant(A).await;
    let sql = "insert into seg (id, workspace_id) values (1, $A); delete from seg; insert into parted_1 values (1, $A, 1); delete from parted";
    assert_eq!(tenant.reports(&of_a(sql)).await, "1:+1 | 1:+1");
    database.metered("rows", &["seg"]).await;
    let sql = "insert into seg (id, workspace_id) values (1, $A); delete from seg";
    assert_eq!(tenant.reports(&of_a(sql)).await, "1:+1 2:+1 | 2:-1");
}

/// A random statement of a tenant's.
fn anything(random: &mut StdRng) -> String {
    let id = random.random_range(1..40);
    let (k, more) = (random.random_range(1..3), random.random_range(0..4));
    let state = if random.random_bool(0.5) { "on" } else { "off" };
    let statements = [
        format!(
            "insert into seg (id, workspace_id, state, parent) values ({id}, $A, '{state}', (select min(id) from seg)) on conflict do nothing"
        ),
        format!(
            "insert into seg (id, workspace_id, state) select g, $A, '{state}' from generate_series({id}, {id} + {more}) g on conflict (id) do update set state = '{state}'"
        ),
        format!("delete from seg where id between {id} and {id} + {more}"),
        format!("update seg set state = '{state}' where id > {id}"),
        format!("insert into child (workspace_id, seg_id, state) select $A, id, '{state}' from seg where id > {id}"),
        format!("update child set state = '{state}' where id % 3 = {more}"),
        format!("insert into parted values ({id}, $A, {k}) on conflict do nothing"),
        format!("insert into parted_{k} values ({id}, $A, {k}) on conflict do nothing"),
        format!(
            "update parted set k = {k} where id between {id} and {id} + {more} and id not in (select id from parted where k = {k})"
        ),
        format!("delete from parted where id between {id} and {id} + {more}"),
        format!("delete from parted_{k} where id = {id}"),
        format!(
            "merge into parted p using generate_series({id}, {id} + {more}) v (id) on p.id = v.id and p.k = {k} when matched then delete when not matched then insert values (v.id, $A, {k})"
        ),
        format!(
            "merge into seg s using generate_series({id}, {id} + {more}) v (id) on s.id = v.id when matched and s.state = 'on' then update set state = 'off' \
            when matched then delete when not matched then insert (id, workspace_id, state) values (v.id, $A, '{state}')"
        ),
        format!(
            "with a as (delete from seg where id = {id} returning id), b as (insert into heir values ({id}, $A) returning id), \
            c as (insert into heir_child values ({id}, $A), ({id}, $A) returning id) select count(*) from a, b, c"
        ),
        format!(
            "with a as (insert into heir values ({id}, $A) returning id), b as (insert into heir values ({id}, $A) returning id), \
            d as (delete from heir where id = {id} returning id) update seg set state = '{state}' where id = {id}"
        ),
        format!("delete from heir where id = {id}"),
    ];
    let at = random.random_range(0..statements.len());
    of_a(&statements[at])
}

/// Adds up what was told, by resource.
fn add_up(tenant: &Tenant, sums: &mut [i64; 8]) {
    use pgcordon::quota::Change::{Added, Doubtful, Removed};
    for (id, change) in tenant.take().into_iter().flat_map(Result::unwrap) {
        sums[usize::try_from(id).unwrap()] += match change {
            Added(rows) => rows.cast_signed(),
            Removed(rows) | Doubtful(rows) => -rows.cast_signed(),
        };
    }
}

#[tokio::test]
async fn the_reports_of_random_statements_add_up_to_the_truth() {
    let database = Database::protected().await.with_family().await;
    for table in ["seg", "child", "parted", "heir"] {
        database.metered(table, &[table]).await;
    }
    let on =
        |table: &str| Options { filter: Some("state = 'on'".to_owned()), ..named(&format!("on {table}"), &[table]) };
    database.meter(&on("seg")).await.unwrap();
    database.meter(&on("child")).await.unwrap();
    let (tenant, admin) = (database.tenant(A).await, database.admin().await);
    // Rows of another workspace are nobody's here.
    let others = "insert into seg (id, workspace_id) select g, $B from generate_series(100, 110) g; insert into parted select g, $B, 1 from generate_series(100, 110) g";
    admin.batch_execute(&others.replace("$B", &format!("'{B}'"))).await.unwrap();
    let counts =
        admin.query("select resource_id, count_sql from cordon.meter order by resource_id", &[]).await.unwrap();
    let counts: Vec<(i32, String)> = counts.iter().map(|row| (row.get(0), row.get(1))).collect();
    let system = database.connect("pgcordon_system").await;
    let workspace: uuid::Uuid = A.parse().unwrap();
    let mut random = StdRng::seed_from_u64(7);
    let mut sums = [0; 8];
    for round in 0..250 {
        let (statement, undone) = (anything(&mut random), anything(&mut random));
        if random.random_bool(0.3) {
            // What is rolled back to a savepoint was told in vain.
            tenant.client.batch_execute("begin; savepoint s").await.unwrap();
            let _ = tenant.client.batch_execute(&undone).await;
            tenant.client.batch_execute("rollback to s").await.unwrap();
            tenant.told();
        }
        let done = tenant.client.batch_execute(&statement).await;
        if done.is_ok() {
            add_up(&tenant, &mut sums)
        } else {
            drop(tenant.told())
        }
        let _ = tenant.client.batch_execute("commit").await;
        for (resource, count) in &counts {
            let truth: i64 = system.query_one(count, &[&workspace]).await.unwrap().get(0);
            assert_eq!(sums[usize::try_from(*resource).unwrap()], truth, "{resource} after {round}: {statement}");
        }
    }
    assert!(sums.iter().filter(|sum| **sum > 0).count() >= 5, "{sums:?}");
}

#[tokio::test]
async fn nothing_that_a_user_may_shadow_or_set_prints_the_tag_or_the_key() {
    let database = family().await;
    let admin = database.admin().await;
    let keys = "select encode(secret, 'hex') || ' ' || encode(inner_pad, 'hex') || ' ' || encode(outer_pad, 'hex') from cordon.signing_key";
    let keys = text(&admin, keys).await;
    let every_setting = every_setting(&admin).await;
    let script = format!(
        "create function pg_temp.tell(bytea) returns bool language plpgsql as $$ begin raise warning 'told %', encode($1, 'hex'); return true; end $$;
         create function pg_temp.tell(text) returns bool language plpgsql as $$ begin raise warning 'told %', $1; return true; end $$;
         create function pg_temp.sha256(bytea) returns bytea language plpgsql as $$ begin raise warning 'told %', $1; return $1; end $$;
         create function pg_temp.encode(bytea, text) returns text language plpgsql as $$ begin raise warning 'told %', $1; return 'x'; end $$;
         create function pg_temp.concat(text, text) returns text language plpgsql as $$ begin raise warning 'told %', $1; return $1; end $$;
         create function pg_temp.report(int[], bigint[], bool) returns void language plpgsql as $$ begin raise warning 'told %', $1; end $$;
         create function pg_temp.count() returns bigint language sql as 'select 0::bigint';
         create function pg_temp.join_bytes(bytea, bytea) returns bytea language plpgsql as $$ begin raise warning 'told % %', $1, $2; return $1; end $$;
         create function pg_temp.never(bigint, int) returns bool language sql as 'select false';
         create operator pg_temp.|| (leftarg = bytea, rightarg = bytea, function = pg_temp.join_bytes);
         create operator pg_temp.> (leftarg = bigint, rightarg = int, function = pg_temp.never);
         create domain pg_temp.bytea as pg_catalog.bytea check (pg_temp.tell(value));
         create domain pg_temp.text as pg_catalog.text check (pg_temp.tell(value));
         create domain pg_temp.int8 as pg_catalog.int8 check (value is null);
         create temp table new_rows (id int); create temp table old_rows (id int);
         create temp table signing_key (id int, secret pg_catalog.bytea, inner_pad pg_catalog.bytea, outer_pad pg_catalog.bytea, retired_at timestamptz);
         set search_path = pg_temp, pg_catalog, cordon, public; set plpgsql.extra_errors = 'all'; set plpgsql.extra_warnings = 'all';
         set plan_cache_mode = force_custom_plan; set force_parallel_mode = regress; {every_setting};
         insert into public.seg (id, workspace_id) select g, '{A}' from generate_series(1, 3) g;
         update public.seg set state = 'x'; delete from public.seg where id = 2;"
    );
    let_bind(&admin).await;
    let said = database.psql(APPLICATION, &format!("select public.bind_to('{A}');\n{script}"));
    for secret in keys.split(' ') {
        assert!(!said.contains(secret), "the key leaks");
        assert!(!said.contains(&crate::sealed::as_in_a_plan(secret)), "the key leaks into a plan");
    }
    assert!(!said.contains("told "), "a shadow was called");
    let is_tag = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let tagged: Vec<&str> =
        said.lines().filter(|line| line.split(|c: char| !c.is_ascii_alphanumeric()).any(is_tag)).collect();
    let reports: Vec<&str> = tagged
        .iter()
        .map(|line| line.strip_prefix("DETAIL:  ").expect("a report").split_once(' ').unwrap().1)
        .collect();
    assert_eq!(reports, ["1:+3", "1:-1"], "{tagged:#?}");
    assert!(said.contains("inner_pad") && said.contains("PLANNEDSTMT"), "the server isn't talkative");
}
