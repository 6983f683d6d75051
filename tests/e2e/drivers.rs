//! Real drivers, used as their users do. `tests/run.sh` installs them.

use std::path::Path;
use std::process::Command;

use pgcordon_tests::dev::Dev;
use pgcordon_tests::libpq::python;
use sqlx_core::acquire::Acquire as _;
use sqlx_core::migrate::{Migration, MigrationType, Migrator};
use sqlx_core::query::query;
use sqlx_core::query_scalar::query_scalar;
use sqlx_postgres::{PgListener, PgPool, PgPoolOptions};

/// Runs a program with the URLs of acme, globex and the system key.
fn drive(program: &str, interpreter: &str, further: &[&str]) {
    let dev = Dev::start(&["--pool-size", "2"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers").join(program);
    let urls = [dev.acme(), dev.globex(), dev.system()];
    let output = Command::new(interpreter).args(further).arg(script).args(urls).output();
    let output =
        output.unwrap_or_else(|error| panic!("{interpreter}: {error}: run tests/run.sh, which installs the drivers"));
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{program}: {said}");
    assert!(said.contains("all good"), "{program}: {said}");
}

#[test]
fn psycopg_works_as_its_users_expect() {
    drive("psycopg3.py", &python(), &[]);
}

#[test]
fn asyncpg_works_as_its_users_expect() {
    drive("asyncpg_pool.py", &python(), &[]);
}

#[test]
fn node_postgres_works_as_its_users_expect() {
    drive("node_postgres.js", "node", &[]);
}

#[test]
fn sqlalchemy_and_alembic_work_as_their_users_expect() {
    drive("sqlalchemy_alembic.py", &python(), &[]);
}

#[test]
fn prisma_works_as_its_users_expect() {
    drive("prisma.js", "node", &[]);
}

/// Debian's driver; elsewhere CORDON_TEST_JDBC names the archive.
#[test]
fn jdbc_works_as_its_users_expect() {
    let archive = std::env::var("CORDON_TEST_JDBC").unwrap_or_else(|_| "/usr/share/java/postgresql.jar".to_owned());
    drive("Jdbc.java", "java", &["-cp", &archive]);
}

#[tokio::test]
async fn tokio_postgres_works_as_its_users_expect() {
    let dev = Dev::start(&["--pool-size", "2"]);
    let (mut client, connection) = tokio_postgres::connect(dev.acme(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let statement = client.prepare("select count(*) from \"Segment\" where name <> $1").await.unwrap();
    for _ in 0..3 {
        assert!(client.query_one(&statement, &[&"x"]).await.unwrap().get::<_, i64>(0) > 0);
    }
    let transaction = client.transaction().await.unwrap();
    transaction.execute("insert into \"Segment\" (name) values ($1)", &[&"tokio"]).await.unwrap();
    transaction.rollback().await.unwrap();
    let error = client.query("select 1/0", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "22012");
    let cancel = client.cancel_token();
    let sleeping = client.query("select pg_sleep(30)", &[]);
    let cancelling = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
    };
    let (slept, ()) = tokio::join!(sleeping, cancelling);
    assert_eq!(slept.unwrap_err().code().unwrap().code(), "57014");
}

/// One migration, as `sqlx migrate add` would name it. Of sqlx only the parts for Postgres are here.
fn migration(version: i64, description: &'static str, sql: &'static str) -> Migration {
    Migration::new(version, description.into(), MigrationType::Simple, sql.into(), false)
}

async fn sqlx_crud(pool: &PgPool) -> i64 {
    let count = "select count(*) from \"Segment\"";
    let had: i64 = query_scalar(count).fetch_one(pool).await.unwrap();
    let mut transaction = pool.begin().await.unwrap();
    for number in 0..20 {
        let insert = query("insert into \"Segment\" (name, note) values ($1, $2)");
        let made = insert.bind(format!("sqlx {number}")).bind("new").execute(&mut *transaction).await.unwrap();
        assert_eq!(made.rows_affected(), 1);
    }
    let mut savepoint = transaction.begin().await.unwrap();
    let twice = query("insert into \"Segment\" (name) values ('sqlx 1')").execute(&mut *savepoint).await;
    assert_eq!(twice.unwrap_err().as_database_error().unwrap().code().unwrap(), "23505");
    savepoint.rollback().await.unwrap();
    transaction.commit().await.unwrap();
    let owners: Vec<uuid::Uuid> =
        query_scalar("select distinct \"workspaceId\" from \"Segment\" where note = $1 and name like $2")
            .bind("new")
            .bind("sqlx %")
            .fetch_all(pool)
            .await
            .unwrap();
    assert_eq!(owners.len(), 1);
    let together = (0..40).map(|number| query_scalar::<_, i32>("select $1::int").bind(number).fetch_one(pool));
    for (number, answered) in together.enumerate() {
        assert_eq!(answered.await.unwrap(), i32::try_from(number).unwrap());
    }
    // Dropped in mid-transaction: rolled back.
    let mut dropped = pool.begin().await.unwrap();
    query("delete from \"Segment\" where name like 'sqlx %'").execute(&mut *dropped).await.unwrap();
    drop(dropped);
    assert_eq!(query_scalar::<_, i64>(count).fetch_one(pool).await.unwrap(), had + 20);
    let gone = query("delete from \"Segment\" where name like 'sqlx %'").execute(pool).await.unwrap();
    assert_eq!(gone.rows_affected(), 20);
    had
}

#[tokio::test]
async fn sqlx_migrates_and_works_as_its_users_expect() {
    let dev = Dev::start(&["--pool-size", "2"]);
    let system = PgPool::connect(dev.system()).await.unwrap();
    let mut migrator = Migrator::DEFAULT;
    migrator.migrations = vec![
        migration(1, "note", "alter table \"Segment\" add column note text"),
        migration(
            2,
            "index",
            "create index on \"Segment\" (\"workspaceId\", note); create table tag (id int primary key)",
        ),
    ]
    .into();
    migrator.run(&system).await.unwrap();
    // Once more: it looks, and has nothing to do.
    migrator.run(&system).await.unwrap();
    let pool = async |url| PgPoolOptions::new().max_connections(4).connect(url).await.unwrap();
    let (acme, globex) = (pool(dev.acme()).await, pool(dev.globex()).await);
    assert_ne!(sqlx_crud(&acme).await, sqlx_crud(&globex).await);
    let mut listener = PgListener::connect_with(&acme).await.unwrap();
    listener.listen("news").await.unwrap();
    query("select pg_notify('news', 'hello')").execute(&acme).await.unwrap();
    assert_eq!(listener.recv().await.unwrap().payload(), "hello");
}
