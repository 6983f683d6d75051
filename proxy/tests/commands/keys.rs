//! `pgcordon key`.

use crate::program::{Ended, command, run};
use crate::scratch::{Database, MAKING, text};

const ROLES: &str = "\
drop role if exists plain, sleeper, mighty, bypassing, owning, joined, reader;
create role plain login; create role sleeper nologin; create role mighty login superuser; create role bypassing login bypassrls;
create role owning login; create role joined login in role pgcordon_owner; create role reader login in role pg_read_all_data;";

#[tokio::test]
async fn a_key_of_a_workspace_runs_as_no_role_that_passes_by_the_walls() {
    let database = Database::protected().await;
    let _alone = MAKING.lock().await;
    let admin = database.admin().await;
    admin.batch_execute(ROLES).await.unwrap();
    admin.batch_execute("create table owned (id int); alter table owned owner to owning").await.unwrap();
    run(&database, &["workspace", "create", "acme"]).prints();
    for (role, reason) in [
        ("nobody", "there is no such role"),
        ("sleeper", "can't log in"),
        ("mighty", "superuser"),
        ("bypassing", "row-level security"),
        ("owning", "owns tables"),
        ("joined", "member of pgcordon_owner"),
        ("reader", "member of pg_read_all_data"),
        ("pgcordon_owner", "can't log in"),
        ("pgcordon_system", "no workspace's"),
        ("cordon", "control data"),
        ("pgcordon_control", "control data"),
    ] {
        run(&database, &["key", "create", "--workspace", "acme", "--role", role]).fails(2, &[role, reason]);
    }
    for role in ["cordon", "pgcordon_control", "nobody", "sleeper"] {
        run(&database, &["key", "create", "--kind", "system", "--role", role]).fails(2, &[role]);
    }
    assert_eq!(text(&admin, "select count(*) from cordon.api_key").await, "0", "nothing was made");
    assert!(run(&database, &["key", "create", "--workspace", "acme", "--role", "plain"]).prints().contains("pk_"));
    assert!(run(&database, &["key", "create", "--kind", "system", "--role", "mighty"]).prints().contains("@"));
    admin
        .batch_execute("drop table owned; drop role plain, sleeper, mighty, bypassing, owning, joined, reader")
        .await
        .unwrap();
}

#[tokio::test]
async fn a_key_that_cant_be_shown_is_revoked_again() {
    let database = Database::protected().await;
    run(&database, &["workspace", "create", "acme"]).prints();
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let into = |arguments: &[&str]| Ended::of(&command(&database, arguments).stdout(full()).output().unwrap());
    for arguments in
        [&["key", "create", "--workspace", "acme"][..], &["key", "create", "--workspace", "acme", "--json"]]
    {
        into(arguments).fails(3, &["can't be shown", "pk_", "revoked again"]);
    }
    let admin = database.admin().await;
    let good = "select count(*) filter (where revoked_at is null) || ' of ' || count(*) from cordon.api_key";
    assert_eq!(text(&admin, good).await, "0 of 2");
    let made = run(&database, &["key", "create", "--workspace", "acme", "--json"]);
    let key: serde_json::Value = serde_json::from_str(made.prints()).unwrap();
    into(&["key", "rotate", key["key_id"].as_str().unwrap()]).fails(3, &["can't be shown", "key rotate pk_"]);
    for arguments in [&["key", "list"][..], &["workspace", "list", "--json"], &["check", "--json"]] {
        into(arguments).fails(3, &["the output can't be written"]);
    }
}
