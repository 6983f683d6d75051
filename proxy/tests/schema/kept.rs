//! What the proxy knows of the catalogs follows them.

use std::time::Duration;

use pgcordon::control::Control;
use pgcordon::sql::{Effects, Facts, Reader, Watched, parse};

use crate::scratch::{APPLICATION, Database};

/// Long before the next poll: what is seen by then was told.
const TOLD: Duration = Duration::from_secs(20);

fn effects(control: &Control, database: &str, text: &str) -> Effects {
    let facts: Facts = parse::facts(text.as_bytes(), &Watched::default());
    let catalogs = control.catalogs.load();
    catalogs.of(database).map_or_else(Effects::anything, |catalog| Effects::of(&facts, catalog, Reader::DEFAULT))
}

async fn until(control: &Control, database: &str, text: &str, is_so: impl Fn(&Effects) -> bool) {
    let seen = async {
        while !is_so(&effects(control, database, text)) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(TOLD, seen).await.is_ok(), "{text}: {:?}", effects(control, database, text));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn ddl_is_known_soon_after_it_is_committed() {
    let database = Database::hardened().await;
    let control = Control::start(database.control_target()).await.unwrap();
    let (name, text) = (database.name(), "insert into note (id) values (1)");
    let hides = |effects: &Effects| effects.adds_hidden;
    assert!(!hides(&effects(&control, name, text)), "known from the start, and to a role without any right on it");
    assert_eq!(effects(&control, "nowhere", text), Effects::anything());
    let admin = database.admin().await;
    admin
        .batch_execute("create function f() returns trigger language plpgsql as 'begin return null; end'")
        .await
        .unwrap();
    admin.batch_execute("create trigger t after insert on note for each row execute function f()").await.unwrap();
    until(&control, name, text, hides).await;
    admin.batch_execute("drop trigger t on note").await.unwrap();
    until(&control, name, text, |effects| !effects.adds_hidden).await;
    admin.batch_execute("create view later as select * from note").await.unwrap();
    until(&control, name, "select * from later", Effects::is_read_only).await;
    admin.batch_execute("drop view later").await.unwrap();
    until(&control, name, "select * from later", |effects| effects.writes).await;
}

#[tokio::test]
async fn temporary_objects_tell_nobody() {
    let database = Database::protected().await;
    let told = |script: &str| {
        let script = format!("listen cordon_catalog;\n{script}\nselect 1;\n");
        database.psql("postgres", &script).matches("Asynchronous notification").count()
    };
    assert_eq!(told("create temp table x (); create index on x ((1)); drop table x;"), 0);
    assert!(told("create table x (); drop table x;") > 0);
    assert!(told(&format!("grant select on note to {APPLICATION};")) > 0);
    assert_eq!(told("insert into note (workspace_id) values (gen_random_uuid());"), 0);
}
