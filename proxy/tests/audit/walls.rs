//! Who may do what with the trail.

use pgcordon::audit::Settings;
use tokio_postgres::Client;

use crate::scratch::{Database, event};

async fn refusal(client: &Client, sql: &str) -> String {
    match client.batch_execute(sql).await {
        Ok(()) => String::new(),
        Err(error) => error.code().map_or("gone", |code| code.code()).to_owned(),
    }
}

#[tokio::test]
async fn tenants_dont_see_the_trail_and_the_control_role_can_only_add_to_its_end() {
    let database = Database::migrated().await;
    let trail = database.trail(&Settings::default());
    trail.recorder().record_durably(vec![event(1)]).await.unwrap();
    database.has(1).await;
    for role in ["pgcordon_app", "pgcordon_readonly", "pgcordon_system", "pgcordon_owner"] {
        let admin = database.admin().await;
        admin.batch_execute(&format!("set role {role}")).await.unwrap();
        for sql in [
            "select * from cordon.audit_event",
            "select * from cordon.audit_event_rest",
            "select * from cordon.audit_stream",
            "insert into cordon.audit_stream (stream) values ('x')",
            "select * from cordon.audit_lock('control')",
            "select * from cordon.audit_append('control', '[]', true)",
            "select cordon.audit_month('2026-01-01')",
            "delete from cordon.audit_event",
        ] {
            assert_eq!(refusal(&admin, sql).await, "42501", "{role}: {sql}");
        }
    }
    let control = database.role("pgcordon_control").await;
    for sql in [
        "update cordon.audit_event set rows = 2",
        "delete from cordon.audit_event",
        "truncate cordon.audit_event",
        "insert into cordon.audit_event select * from cordon.audit_event",
        "update cordon.audit_stream set seq = 0",
        "delete from cordon.audit_stream",
        "drop table cordon.audit_event_rest",
        "select cordon.audit_month('2026-01-01')",
        "select * from cordon.audit_event_rest",
    ] {
        assert_eq!(refusal(&control, sql).await, "42501", "{sql}");
    }
    assert_eq!(refusal(&control, "select * from cordon.audit_event").await, "");
}

#[tokio::test]
async fn a_tenant_cant_keep_an_operator_from_revoking_a_key() {
    let database = Database::migrated().await;
    let tenant = database.role("pgcordon_app").await;
    // Any role may take any advisory lock, and keep it.
    tenant.batch_execute("select pg_advisory_lock(n) from generate_series(0, 500) n").await.unwrap();
    for (code, said) in
        [database.pgcordon(&["workspace", "create", "acme"]), database.pgcordon(&["workspace", "suspend", "acme"])]
    {
        assert_eq!(code, 0, "{said}");
    }
    drop(tenant);
}
