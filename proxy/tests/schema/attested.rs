//! The domain in which `cordon.mark()` has a seal verified (`migrations/0011_attestation.sql`): what it lends to whom, and that
//! nothing about it is settled before it runs.

use tokio_postgres::Client;

use crate::scratch::{A, APPLICATION, B, Database, pid, refusal, set_context, text};

const MARK: &str = "select current_setting('backtrace_functions')";
const MARKING: &str = "select cordon.mark()";
/// The pads of a key that is nobody's: 64 bytes of `x`.
const PADS: &str = "decode(repeat(to_hex(120 # 54), 64) || repeat(to_hex(120 # 92), 64), 'hex')";

/// The note that stands for a workspace.
fn noted(workspace: &str) -> String {
    workspace.replace('-', "")
}

/// Sets B as the context, sealed under the key that is nobody's, for the session it is called in.
async fn seal_under_ones_own_key(client: &Client) {
    let sql = format!(
        "select set_config('app.workspace_id', '{B}', false), set_config('app.workspace_seal', '99999999999.' || encode(sha256(substring(pads, 65) || \
            sha256(substring(pads, 1, 64) || convert_to('{B}|' || pg_backend_pid() || '|99999999999', 'UTF8'))), 'hex'), false) \
         from (select {PADS}) as own (pads)"
    );
    client.batch_execute(&sql).await.unwrap();
}

#[tokio::test]
async fn no_privileged_function_that_converts_to_any_type_marks_for_its_caller() {
    let database = Database::protected().await;
    let admin = database.admin().await;
    let deputy = "language plpgsql security definer set search_path = pg_catalog, pg_temp as \
        $$ declare converted text; begin execute format('select %L::%s::text', value, type) into converted; return converted; end $$";
    for owner in ["postgres", "deputy"] {
        // What others see of a member of the schema's owner is a finding in their databases: nobody sees this one.
        let making = format!(
            "begin; create role deputy; grant cordon to deputy; grant create, usage on schema public to deputy;
             create function public.converted(value text, type regtype) returns text {deputy};
             alter function public.converted owner to {owner}; set local session authorization {APPLICATION}"
        );
        admin.batch_execute(&making).await.unwrap();
        seal_under_ones_own_key(&admin).await;
        let converting = format!("select left(public.converted({PADS}::text, 'cordon.attestation'), 6)");
        assert_eq!(text(&admin, &converting).await, "\\x4e4e", "{owner}");
        assert_eq!(text(&admin, MARK).await, "", "{owner}");
        assert_eq!(refusal(&admin, "select cordon.workspace_id()").await, "42501", "{owner}");
        admin.batch_execute("rollback").await.unwrap();
    }
    // The same by the administrator's own hands, with what asks whether a text is of a type (since Postgres 16).
    seal_under_ones_own_key(&admin).await;
    admin.batch_execute(&format!("select {PADS}::cordon.attestation")).await.unwrap();
    let _ = admin.simple_query(&format!("select pg_input_is_valid({PADS}::text, 'cordon.attestation')")).await;
    assert_eq!(text(&admin, MARK).await, "");
}

#[tokio::test]
async fn a_mark_is_no_older_than_its_seal() {
    let database = Database::protected().await;
    let client = database.bound(A).await;
    let own = pid(&client).await;
    let (good, expired) = (database.seal(A, own, 0).await, database.seal(A, own, 3601).await);
    let undashed = noted(A);
    for (workspace, seal) in [
        (A, "99999999999.00"),
        (A, expired.as_str()),
        (A, ""),
        (undashed.as_str(), good.as_str()),
        (&format!("{A}-"), good.as_str()),
        ("--", good.as_str()),
    ] {
        set_context(&client, workspace, seal).await;
        assert_eq!(refusal(&client, MARKING).await, "42501", "{workspace} {seal}");
        assert_eq!(text(&client, MARK).await, noted(A), "an error changes nothing: {workspace} {seal}");
    }
    for ending in ["select 1", "discard all"] {
        set_context(&client, A, &good).await;
        assert_eq!(text(&client, MARKING).await, "t");
        set_context(&client, "", &good).await;
        assert_eq!(text(&client, MARKING).await, "f", "there is nothing to mark");
        assert_eq!(text(&client, MARK).await, "");
        client.simple_query(ending).await.unwrap();
        set_context(&client, "--", &good).await;
        assert_eq!(refusal(&client, MARKING).await, "42501", "behind {ending}");
    }
    // A key that is retired attests nothing more, to a mark that it made either.
    set_context(&client, A, &good).await;
    assert_eq!(text(&client, MARKING).await, "t");
    database.admin().await.batch_execute("update cordon.signing_key set retired_at = now()").await.unwrap();
    assert_eq!(refusal(&client, MARKING).await, "42501");
}

#[tokio::test]
async fn either_of_two_keys_attests_in_whatever_order_they_are_found() {
    let database = Database::protected().await;
    let (client, admin) = (database.connect(APPLICATION).await, database.admin().await);
    let seal = database.seal(A, pid(&client).await, 0).await;
    let another = format!(
        "insert into cordon.signing_key (secret, inner_pad, outer_pad) select sha256(''), substring(pads, 1, 64), substring(pads, 65) from (select {PADS}) as own (pads)"
    );
    admin.batch_execute(&another).await.unwrap();
    for moved in ["select 1", "update cordon.signing_key set created_at = created_at where id = 1"] {
        // A row that was written anew is found behind the other one.
        admin.batch_execute(moved).await.unwrap();
        set_context(&client, A, &seal).await;
        assert_eq!(text(&client, MARKING).await, "t", "{moved}");
        seal_under_ones_own_key(&client).await;
        assert_eq!(text(&client, MARKING).await, "t", "{moved}");
        assert_eq!(text(&client, MARK).await, noted(B), "{moved}");
    }
    client.simple_query("discard all").await.unwrap();
    admin.batch_execute("update cordon.signing_key set retired_at = now() where id > 1").await.unwrap();
    seal_under_ones_own_key(&client).await;
    assert_eq!(refusal(&client, MARKING).await, "42501");
}

#[tokio::test]
async fn nothing_of_it_is_settled_when_it_is_planned() {
    let database = Database::protected().await;
    let client = database.connect(APPLICATION).await;
    let own = pid(&client).await;
    let shadows = format!(
        "create function pg_temp.current_setting(text, bool) returns text language sql as $$ select '{B}' $$;
         create function pg_temp.same(bytea, bytea) returns bool language sql as 'select true';
         create operator pg_temp.= (leftarg = bytea, rightarg = bytea, function = pg_temp.same);
         create domain pg_temp.attestation as pg_catalog.bytea check (false);
         set search_path = pg_temp, pg_catalog, cordon"
    );
    client.batch_execute(&shadows).await.unwrap();
    // What plans it first is an error; then two workspaces by turns, with and without the plans of functions.
    set_context(&client, A, "99999999999.00").await;
    assert_eq!(refusal(&client, MARKING).await, "42501");
    for workspace in [A, B, A] {
        set_context(&client, workspace, &database.seal(workspace, own, 0).await).await;
        assert_eq!(text(&client, MARKING).await, "t");
        assert_eq!(text(&client, MARK).await, noted(workspace));
        client.simple_query("discard plans").await.unwrap();
        assert_eq!(refusal(&client, MARKING).await, "");
        set_context(&client, workspace, "99999999999.00").await;
        assert_eq!(refusal(&client, MARKING).await, "42501");
        client.simple_query("discard all").await.unwrap();
        assert_eq!(text(&client, MARK).await, "");
    }
}

#[tokio::test]
async fn it_can_be_changed_whatever_a_tenant_made_of_it() {
    let database = Database::protected().await;
    let (client, admin) = (database.bound(A).await, database.admin().await);
    // Not every server lets a tenant do these; what counts is what comes then.
    for depending in [
        "create temp view seen as select ('\\x00'::cordon.attestation)::bytea as one",
        "create type pg_temp.span as range (subtype = cordon.attestation)",
        "create temp table held (a pg_temp.span)",
        "begin; select '\\x00'::cordon.attestation",
    ] {
        let _ = client.batch_execute(depending).await;
    }
    let definition =
        text(&admin, "select pg_get_constraintdef(oid) from pg_constraint where conname = 'attests'").await;
    let change = format!(
        "set lock_timeout = '5s'; begin; alter domain cordon.attestation drop constraint attests;
         alter domain cordon.attestation add constraint attests {definition} not valid; commit"
    );
    assert_eq!(refusal(&admin, &change).await, "");
    client.batch_execute("rollback").await.unwrap();
    client.batch_execute("discard all").await.unwrap();
    set_context(&client, A, &database.seal(A, pid(&client).await, 0).await).await;
    assert_eq!(text(&client, MARKING).await, "t");
    set_context(&client, B, "99999999999.00").await;
    assert_eq!(refusal(&client, MARKING).await, "42501");
}
