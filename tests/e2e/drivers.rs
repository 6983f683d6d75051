//! Real drivers, used as their users do. `tests/run.sh` installs them.

use std::path::Path;
use std::process::Command;

use pgcordon_tests::dev::Dev;
use pgcordon_tests::libpq::python;

fn drive(program: &str, interpreter: &str) {
    let dev = Dev::start(&["--pool-size", "2"]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers").join(program);
    let output = Command::new(interpreter).arg(script).args([dev.acme(), dev.globex()]).output();
    let output =
        output.unwrap_or_else(|error| panic!("{interpreter}: {error}: run tests/run.sh, which installs the drivers"));
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{program}: {said}");
    assert!(said.contains("all good"), "{program}: {said}");
}

#[test]
fn psycopg_works_as_its_users_expect() {
    drive("psycopg3.py", &python());
}

#[test]
fn asyncpg_works_as_its_users_expect() {
    drive("asyncpg_pool.py", &python());
}

#[test]
fn node_postgres_works_as_its_users_expect() {
    drive("node_postgres.js", "node");
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
