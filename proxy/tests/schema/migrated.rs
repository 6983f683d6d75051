//! The schema `cordon` itself.

use pgcordon::control::RoleNames;
use pgcordon::control::schema::{SchemaError, roles};
use pgcordon::domain::Secret;

use crate::scratch::{APPLICATION, Database, MAKING, refusal, text};

#[tokio::test]
async fn migrating_twice_changes_nothing_and_keeps_the_key() {
    let database = Database::empty().await;
    let first = database.migrate().await.unwrap();
    assert_eq!((first.applied.len(), first.version, first.is_marked), (11, 12, true));
    let admin = database.admin().await;
    let key = text(&admin, "select id || ' ' || encode(secret, 'hex') from cordon.signing_key").await;
    let second = database.migrate().await.unwrap();
    assert_eq!((second.applied.len(), second.version, second.is_marked), (0, 12, true));
    assert_eq!(text(&admin, "select id || ' ' || encode(secret, 'hex') from cordon.signing_key").await, key);
}

#[tokio::test]
async fn a_newer_schema_is_left_alone() {
    let database = Database::protected().await;
    let admin = database.admin().await;
    let newer = "insert into cordon.schema_history (version, name, applied_on, checksum) values (13, 'later', '2030-01-01T00:00:00Z', '1')";
    admin.batch_execute(newer).await.unwrap();
    let error = database.migrate().await.expect_err("a newer version");
    assert!(matches!(error, SchemaError::Newer { found: 13, known: 12 }), "{error}");
}

#[tokio::test]
async fn tenants_reach_nothing_of_the_schema_but_the_function() {
    let database = Database::protected().await;
    for role in [APPLICATION, "pgcordon_readonly", "pgcordon_system"] {
        let client = database.connect(role).await;
        for sql in [
            "select * from cordon.signing_key",
            "select * from cordon.api_key",
            "select * from cordon.workspace",
            "select * from cordon.schema_history",
            "insert into cordon.workspace (name) values ('x')",
            "create table cordon.mine ()",
            "create or replace function cordon.workspace_id() returns uuid language sql as 'select null::uuid'",
            "alter function cordon.workspace_id() reset search_path",
            "select cordon.hand_over()",
            "select cordon.catalog_changed()",
            "select cordon.kept_key()",
            "select nextval('cordon.epoch_in_force')",
            "select setval('cordon.epoch_in_force', 1)",
            "set role cordon",
            "set role pgcordon_control",
        ] {
            let refused = refusal(&client, sql).await;
            assert!(refused == "42501" || refused == "0A000", "{role}: {sql}: {refused:?}");
        }
        assert_eq!(refusal(&client, "select cordon.workspace_id()").await, "", "{role}");
    }
}

#[tokio::test]
async fn the_control_role_keeps_workspaces_and_keys() {
    let database = Database::protected().await;
    let control = database.connect("pgcordon_control").await;
    control
        .batch_execute("insert into cordon.workspace (name) values ('acme'); delete from cordon.workspace")
        .await
        .unwrap();
    assert_eq!(text(&control, "select count(*) from cordon.signing_key").await, "1");
    assert_eq!(refusal(&control, "select * from note").await, "42501");
}

#[tokio::test]
async fn a_tenant_that_holds_the_lock_doesnt_hang_a_migration() {
    let database = Database::protected().await;
    let tenant = database.connect(APPLICATION).await;
    tenant.batch_execute("select pg_advisory_lock(x'636f72646f6e'::bigint)").await.unwrap();
    let migrated = tokio::time::timeout(std::time::Duration::from_secs(30), database.migrate()).await;
    let error = migrated.expect("an answer in time").expect_err("the lock is held").to_string();
    assert!(error.contains("advisory lock"), "{error}");
    drop(tenant);
}

#[tokio::test]
async fn the_roles_get_the_passwords_of_the_configuration_and_no_log_does() {
    let database = Database::protected().await;
    let admin = database.admin().await;
    admin.batch_execute("create role bystander login").await.unwrap();
    let given = [("pgcordon_app", "pa'ss wörd"), ("pgcordon_system", ""), ("bystander", "x")];
    let passwords = given.map(|(role, password)| (role.to_owned(), Secret::from(password.to_owned()))).into();
    let _one = MAKING.lock().await;
    let names = RoleNames::default();
    let set = roles::set_passwords(&admin, &names, &passwords).await.unwrap();
    assert_eq!(set, ["pgcordon_app"]);
    let stored = text(&admin, "select rolpassword from pg_authid where rolname = 'pgcordon_app'").await;
    assert!(stored.starts_with("SCRAM-SHA-256$4096:"), "{stored}");
    let others = "select count(rolpassword) from pg_authid where rolname in ('pgcordon_system', 'bystander')";
    assert_eq!(text(&admin, others).await, "0");
    admin.batch_execute("alter role pgcordon_app password null; drop role bystander").await.unwrap();
}
