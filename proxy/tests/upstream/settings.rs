//! Settings that a role gave itself, and those that we fix.

use pgcordon::domain::SqlState;
use pgcordon::pool::upstream::Upstream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::scratch::Scratch;
use crate::{ask, connect, tcp, unix};

#[tokio::test]
async fn what_a_role_gives_itself_is_found_whatever_it_is() {
    let scratch = Scratch::shared();
    scratch.sql("create role greedy login; create role \"Odd\"\"Name\" login");
    scratch.sql("create role attacked login; grant greedy to attacked");
    // A search path on which every comparison says no and the catalogs are empty.
    scratch.sql("create schema evil; grant usage on schema evil to public");
    for of in ["text", "oid", "name"] {
        scratch.sql(&format!(
            "create function evil.never({of}, {of}) returns bool language sql as 'select false';
             create operator evil.= (leftarg = {of}, rightarg = {of}, function = evil.never)"
        ));
    }
    for catalog in ["pg_settings", "pg_db_role_setting"] {
        scratch.sql(&format!("create view evil.{catalog} as select * from pg_catalog.{catalog} where false"));
        scratch.sql(&format!("grant select on evil.{catalog} to public"));
    }
    for (role, setting, value) in [
        ("attacked", "search_path", "evil, public"),
        ("attacked", "search_path", "evil, pg_catalog"),
        ("attacked", "local_preload_libraries", "nope"),
        ("attacked", "role", "greedy"),
        ("attacked", "statement_timeout", "1"),
        ("attacked", "TimeZone", "Pacific/Apia"),
        ("attacked", "enable_seqscan", "off"),
        ("attacked", "default_transaction_read_only", "on"),
        ("attacked", "client_encoding", "LATIN1"),
        ("attacked", "session_authorization", "attacked"),
        ("attacked", "row_security", "off"),
        ("Odd\"Name", "work_mem", "64kB"),
    ] {
        let quoted = format!("\"{}\"", role.replace('"', "\"\""));
        assert!(connect(unix(&scratch), role).await.is_ok());
        let value = if value.contains(',') { value.to_owned() } else { format!("'{value}'") };
        scratch.sql_as(role, &format!("alter role {quoted} set {setting} = {value}"));
        let fault = connect(unix(&scratch), role).await.expect_err(setting);
        assert_eq!(fault.sqlstate, SqlState::CANNOT_CONNECT_NOW);
        assert_eq!(fault.message, "no safe connection to the database server can be made", "{fault:?}");
        scratch.sql(&format!("alter role {quoted} reset all"));
        scratch.sql(&format!("alter role {quoted} in database postgres set {setting} = {value}"));
        connect(unix(&scratch), role).await.expect_err(setting);
        scratch.sql(&format!("alter role {quoted} in database postgres reset all"));
        scratch.sql(&format!("alter role {quoted} in database template1 set {setting} = {value}"));
        assert!(connect(unix(&scratch), role).await.is_ok(), "another database's settings are none of ours");
        scratch.sql(&format!("alter role {quoted} in database template1 reset all"));
    }
}

/// Relays one connection to the server, and runs `before_query` when the proxy's first Query comes by.
async fn relay(port: u16, before_query: impl FnOnce() + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let relayed = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut from_client, mut from_server) = ([0; 8192], [0; 8192]);
        let mut before_query = Some(before_query);
        loop {
            tokio::select! {
                Ok(read @ 1..) = client.read(&mut from_client) => {
                    if from_client[0] == b'Q' && let Some(act) = before_query.take() {
                        tokio::task::spawn_blocking(act).await.unwrap();
                    }
                    server.write_all(&from_client[..read]).await.unwrap();
                }
                Ok(read @ 1..) = server.read(&mut from_server) => client.write_all(&from_server[..read]).await.unwrap(),
                else => return,
            }
        }
    });
    relayed
}

#[tokio::test]
async fn a_setting_taken_back_at_the_right_moment_is_found_too() {
    let scratch = Scratch::shared();
    scratch.sql("create role quick login password 'secret'; alter role quick set enable_seqscan = off");
    let theirs = Scratch::shared();
    // The backend has started with the value; the row is gone before anybody asks for it.
    let port = relay(scratch.port, move || drop(theirs.sql_as("quick", "alter role quick reset all"))).await;
    let mut target = tcp("127.0.0.1", port);
    target.passwords.insert("quick", "secret");
    let log = connect(target, "quick").await.unwrap_err().log.clone().unwrap();
    assert!(log.contains("enable_seqscan took effect as \"off\""), "{log}");
    assert!(connect(unix(&scratch), "quick").await.is_ok());
}

#[tokio::test]
async fn approved_settings_are_accepted_as_they_are_and_not_otherwise() {
    let scratch = Scratch::shared();
    scratch.sql("create role tuned login; alter role tuned set work_mem = '64MB'");
    let approving = |value: &str| {
        let mut target = unix(&scratch);
        target.approved.insert("tuned".to_owned(), [("work_mem".to_owned(), value.to_owned())].into());
        target
    };
    let mut connection = connect(approving("64MB"), "tuned").await.unwrap();
    assert_eq!(ask(&mut connection, "show work_mem").await.unwrap(), ["64MB"]);
    connect(approving("32MB"), "tuned").await.expect_err("another value");
    connect(unix(&scratch), "tuned").await.expect_err("not approved");
    scratch.sql("alter role tuned set enable_sort = off");
    connect(approving("64MB"), "tuned").await.expect_err("one more");
    scratch.sql("alter role tuned reset all");
    connect(approving("64MB"), "tuned").await.expect_err("taken away");
}

#[tokio::test]
async fn settings_can_be_put_back_so_that_one_tenant_does_not_keep_all_out() {
    let scratch = Scratch::shared();
    scratch.sql("create role mended login; alter role mended set search_path = 'it''s', public; alter role mended set work_mem = '64MB'");
    let mut target = unix(&scratch);
    let approved = [("search_path", "\"it's\", public"), ("work_mem", "64MB")]
        .map(|(name, value)| (name.to_owned(), value.to_owned()));
    target.approved.insert("mended".to_owned(), approved.into());
    target.repair_role_settings = true;
    for attack in [
        "alter role mended set statement_timeout = 50",
        "alter role mended set search_path = evil",
        "alter role mended reset all",
        "alter role mended in database postgres set work_mem = '64kB'",
    ] {
        assert!(connect(target.clone(), "mended").await.is_ok(), "before {attack}");
        scratch.sql_as("mended", attack);
        let mut connection = connect(target.clone(), "mended").await.expect(attack);
        assert_eq!(ask(&mut connection, "show search_path").await.unwrap(), ["\"it's\", public"], "{attack}");
        assert_eq!(ask(&mut connection, "show work_mem").await.unwrap(), ["64MB"], "{attack}");
        assert_eq!(ask(&mut connection, "show statement_timeout").await.unwrap(), ["0"], "{attack}");
    }
}

#[tokio::test]
async fn the_databases_own_settings_are_left_alone_and_ours_survive_a_reset() {
    let scratch = Scratch::shared();
    scratch.sql("create database settled");
    for setting in [
        "TimeZone = 'Asia/Tokyo'",
        "statement_timeout = '17s'",
        "app.workspace_id = 'planted'",
        "search_path = shop, public",
    ] {
        scratch.sql(&format!("alter database settled set {setting}"));
    }
    let mut connection = Upstream::new(unix(&scratch)).connect("settled", "trust_role").await.unwrap();
    let zone = connection.parameters.iter().find(|(name, _)| name == "TimeZone").unwrap();
    assert_eq!(zone.1, "Asia/Tokyo");
    ask(&mut connection, "set app.workspace_id = 'x'; set row_security = off; set TimeZone = 'UTC'").await.unwrap();
    ask(&mut connection, "discard all").await.unwrap();
    let shown = ["TimeZone", "statement_timeout", "app.workspace_id", "search_path", "row_security", "role"];
    let shown = shown.map(|name| format!("current_setting('{name}')")).join(", ");
    let values = ask(&mut connection, &format!("select {shown}")).await.unwrap();
    assert_eq!(values, ["Asia/Tokyo", "17s", "", "shop, public", "on", "none"]);
    let mut target = unix(&scratch);
    target.startup.search_path = Some("\"$user\", public".to_owned());
    let mut connection = Upstream::new(target).connect("settled", "trust_role").await.unwrap();
    assert_eq!(ask(&mut connection, "show search_path").await.unwrap(), ["\"$user\", public"]);
}
