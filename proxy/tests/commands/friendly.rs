//! Errors that a person can act on: they name the thing, the cause and the next step.

use pgcordon::control::RoleNames;
use pgcordon::control::schema::{SchemaError, migrate};
use pgcordon::domain::Secret;
use pgcordon::tenant::ContextNames;

use crate::program::{Ended, command, run};
use crate::scratch::{Database, MAKING};

const ID: &str = "11111111-1111-1111-1111-111111111111";

#[tokio::test]
async fn what_needs_a_migration_says_so() {
    // The roles are the server's, and some other database's migration made them.
    let _other = Database::protected().await;
    let database = Database::empty().await;
    database.admin().await.batch_execute("create table note (workspace_id uuid)").await.unwrap();
    for arguments in [
        &["protect", "note"][..],
        &["unprotect", "note"],
        &["harden"],
        &["check"],
        &["meter", "notes", "--table", "note"],
        &["workspace", "list"],
        &["workspace", "create", "acme"],
        &["key", "list"],
        &["key", "create", "--kind", "system"],
    ] {
        run(&database, arguments).fails(1, &["run pgcordon migrate first"]);
    }
    assert!(run(&database, &["protect", "--dry-run", "note"]).prints().contains("CREATE POLICY"));
}

#[tokio::test]
async fn a_role_that_isnt_there_yet_is_a_migration_that_wasnt_run() {
    let database = Database::protected().await;
    let mut command = command(&database, &["workspace", "list"]);
    command.env("PGCORDON_UPSTREAM__ROLES__CONTROL", "not_yet");
    Ended::of(&command.output().unwrap()).fails(3, &["not_yet", "run pgcordon migrate first", ".s.PGSQL.5432"]);
}

#[tokio::test]
async fn a_postgres_that_is_down_is_named() {
    let database = Database::protected().await;
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for arguments in [&["workspace", "list"][..], &["key", "list"], &["check"], &["migrate"], &["quota", "show", "x"]] {
        let mut command = command(&database, arguments);
        command.env("PGCORDON_UPSTREAM__HOST", "127.0.0.1");
        command.env("PGCORDON_UPSTREAM__PORT", closed.port().to_string());
        command.env("PGCORDON_UPSTREAM__ADMIN_URL", format!("postgres://postgres:hunter2@{closed}/x"));
        let ended = Ended::of(&command.output().unwrap());
        ended.fails(3, &[closed.to_string().as_str(), "running"]);
        assert!(!ended.error.contains("hunter2"), "{ended:?}");
    }
}

#[tokio::test]
async fn a_workspace_that_cant_be_made_says_why() {
    let database = Database::protected().await;
    run(&database, &["workspace", "create", "acme", "--id", ID]).prints();
    run(&database, &["workspace", "create", "acme"]).fails(1, &["named \"acme\" exists"]);
    run(&database, &["workspace", "create", "other", "--id", ID]).fails(1, &["with the id", ID]);
    for (name, reason) in [("", "empty"), ("  ", "empty"), ("a\nb", "line breaks"), (&"x".repeat(201), "200")] {
        run(&database, &["workspace", "create", name]).fails(2, &[reason]);
    }
    run(&database, &["workspace", "create", &"é".repeat(200)]).prints();
}

#[tokio::test]
async fn a_key_that_cant_be_made_or_rotated_says_why() {
    let database = Database::protected().await;
    run(&database, &["workspace", "create", "acme"]).prints();
    for far in ["36501d", "99999999999d", "9223372036854775807s"] {
        let options = ["key", "create", "--workspace", "acme", "--expires", far];
        run(&database, &options).fails(2, &["36500d"]);
    }
    let made = run(&database, &["key", "create", "--workspace", "acme", "--expires", "36500d", "--json"]);
    let key: serde_json::Value = serde_json::from_str(made.prints()).unwrap();
    let id = key["key_id"].as_str().unwrap();
    run(&database, &["key", "revoke", id]).prints();
    run(&database, &["key", "rotate", id]).fails(1, &[id, "is revoked"]);
    run(&database, &["key", "rotate", "pk_nothing"]).fails(1, &["there is no key"]);
}

#[tokio::test]
async fn the_settings_of_the_context_cant_be_changed_any_more() {
    let database = Database::protected().await;
    let _one = MAKING.lock().await;
    let mut command = command(&database, &["migrate"]);
    command.env("PGCORDON_CONTEXT__WORKSPACE_SETTING", "shop.tenant");
    let told = ["can't be changed after migrate", "app.workspace_id", "app.workspace_seal"];
    Ended::of(&command.output().unwrap()).fails(2, &told);
    let names = ContextNames { workspace: "shop.tenant".into(), seal: "shop.seal".into() };
    let error = migrate::migrate(&mut database.admin().await, &RoleNames::default(), &names).await.expect_err("fixed");
    assert!(matches!(error, SchemaError::ContextIsFixed { .. }), "{error}");
    run(&database, &["migrate"]).prints();
}

#[tokio::test]
async fn migrations_of_one_database_at_once_give_passwords_one_after_the_other() {
    let database = Database::protected().await;
    let _one = MAKING.lock().await;
    let migrate = async || {
        let (mut admin, roles, names) = (database.admin().await, RoleNames::default(), ContextNames::default());
        let passwords = [&roles.application, &roles.read_only, &roles.system, &roles.control];
        let passwords = passwords.map(|role| (role.clone(), Secret::from("secret".to_owned()))).into();
        migrate::with_passwords(&mut admin, &roles, &names, &passwords).await.map(|done| done.passwords.len())
    };
    for _ in 0..5 {
        let (one, two, three) = tokio::join!(migrate(), migrate(), migrate());
        assert_eq!([one.unwrap(), two.unwrap(), three.unwrap()], [4; 3]);
    }
}
