//! From the socket to the first ReadyForQuery, and an idle connection afterwards.

use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use pgcordon::domain::SqlState;
use pgcordon::pool::upstream::{Address, Protocol, ServerConnection, ServerSocket, Target, Upstream};
use pgcordon::tls::{Connector, Mode};
use tokio::net::TcpListener;

use crate::scratch::Scratch;
use crate::{ask, connect, tcp, unix};

fn is_stale(connection: &mut ServerConnection) -> bool {
    connection.socket.poll_stale(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_connection_knows_its_backend_and_is_clean() {
    let scratch = Scratch::shared();
    let mut connection = connect(unix(&scratch), "trust_role").await.unwrap();
    assert_eq!(ask(&mut connection, "select pg_backend_pid()").await.unwrap(), [connection.pid.to_string()]);
    // Asked for 3.2, a server before 18 answers that it speaks 3.0, and keys of 3.2 are long.
    let version = ask(&mut connection, "show server_version_num").await.unwrap()[0].parse::<u32>().unwrap();
    assert_eq!(connection.secret.len(), if version < 180_000 { 4 } else { 32 });
    let mut old = unix(&scratch);
    old.protocol = Protocol::V3_0;
    assert_eq!(connect(old, "trust_role").await.unwrap().secret.len(), 4);
    assert!(connection.clock_offset.abs() <= 1);
    let parameter =
        |name: &str| connection.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    assert_eq!(parameter("session_authorization").unwrap(), "trust_role");
    assert!(parameter("server_version").is_some() && parameter("TimeZone").is_some());
    let left = "select count(*) from pg_prepared_statements union all select count(*) from pg_cursors";
    assert_eq!(ask(&mut connection, left).await.unwrap(), ["0", "0"]);
    let unbound = "select current_setting('app.workspace_id') || current_setting('app.workspace_seal')";
    assert_eq!(ask(&mut connection, unbound).await.unwrap(), [""]);
}

#[tokio::test]
async fn every_way_to_authenticate_works_and_a_wrong_password_is_for_the_log() {
    let scratch = Scratch::shared();
    for role in ["md5_role", "scram_role", "clear_role"] {
        let with = |password: Option<&str>| {
            let mut target = tcp("127.0.0.1", scratch.port);
            password.into_iter().for_each(|password| target.passwords.insert(role, password));
            target
        };
        let mut connection = connect(with(Some("secret")), role).await.unwrap();
        assert_eq!(ask(&mut connection, "select 1").await.unwrap(), ["1"]);
        for password in [Some("wrong"), None] {
            let fault = connect(with(password), role).await.unwrap_err();
            assert_eq!(fault.sqlstate, SqlState::CANNOT_CONNECT_NOW);
            assert_eq!(fault.message, "the database server does not let this key's role log in");
            assert!(fault.verbatim.is_none() && !fault.message.contains(role), "{fault:?}");
            let log = fault.log.clone().unwrap();
            assert!(log.contains("password") && !log.contains("wrong"), "{log}");
        }
    }
}

#[tokio::test]
async fn tls_is_as_strict_as_its_mode() {
    let scratch = Scratch::shared();
    let target = |host: &str, mode: Mode, root: Option<&std::path::Path>| {
        let mut target = tcp(host, scratch.port);
        target.tls = Connector::new(mode, root).unwrap();
        target.passwords.insert("tls_role", "secret");
        target
    };
    let (root, other) = (Some(scratch.root_certificate.as_path()), Some(scratch.other_root_certificate.as_path()));
    for good in [
        target("localhost", Mode::VerifyFull, root),
        target("127.0.0.1", Mode::VerifyCa, root),
        target("127.0.0.1", Mode::Require, None),
    ] {
        let mut connection = connect(good, "tls_role").await.unwrap();
        assert!(matches!(connection.socket, ServerSocket::Tls(_)));
        assert!(!is_stale(&mut connection));
        let encrypted = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
        assert_eq!(ask(&mut connection, encrypted).await.unwrap(), ["t"]);
        assert!(!is_stale(&mut connection));
        scratch.sql(&format!("select pg_terminate_backend({}, 5000)", connection.pid));
        assert!(eventually_stale(&mut connection).await);
    }
    for bad in [
        target("127.0.0.1", Mode::VerifyFull, root),
        target("localhost", Mode::VerifyFull, other),
        target("localhost", Mode::VerifyCa, other),
        target("localhost", Mode::Disable, None),
    ] {
        assert_eq!(connect(bad, "tls_role").await.unwrap_err().sqlstate, SqlState::CANNOT_CONNECT_NOW);
    }
    // A certificate for another name: which was wanted, and which it has.
    let wrong = connect(target("127.0.0.1", Mode::VerifyFull, root), "tls_role").await.unwrap_err();
    let log = wrong.log.clone().unwrap();
    assert!(log.contains("127.0.0.1") && log.contains("localhost"), "{log}");
    assert!(!wrong.message.contains("localhost"), "it is the operator's affair");
    assert!(Connector::new(Mode::VerifyFull, None).is_err());
    assert!(
        Connector::new(Mode::VerifyFull, Some(std::path::Path::new("/nonexistent")))
            .unwrap_err()
            .to_string()
            .contains("/nonexistent")
    );
}

/// The reactor reports an end when it next runs.
async fn eventually_stale(connection: &mut ServerConnection) -> bool {
    let deadline = Instant::now() + Duration::from_secs(5);
    while Instant::now() < deadline {
        if is_stale(connection) {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

#[tokio::test]
async fn an_idle_connection_is_stale_once_its_server_is_gone_and_not_before() {
    let scratch = Scratch::shared();
    let mut connection = connect(unix(&scratch), "trust_role").await.unwrap();
    for _ in 0..100 {
        assert_eq!(ask(&mut connection, "select 1").await.unwrap(), ["1"]);
        assert!(!is_stale(&mut connection));
        tokio::task::yield_now().await;
        assert!(!is_stale(&mut connection));
    }
    scratch.sql(&format!("select pg_terminate_backend({}, 5000)", connection.pid));
    assert!(eventually_stale(&mut connection).await);
}

#[test]
fn a_connection_moves_to_another_threads_runtime() {
    let scratch = Scratch::shared();
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut plain = tcp("127.0.0.1", scratch.port);
    plain.passwords.insert("scram_role", "secret");
    for (target, role) in [(unix(&scratch), "trust_role"), (plain, "scram_role")] {
        let mut connection = runtime().block_on(connect(target, role)).unwrap();
        for _ in 0..3 {
            let ServerConnection { socket, pid, secret, parameters, clock_offset, bind_by } = connection;
            let detached = runtime().block_on(async { socket.detach() }).unwrap();
            connection = std::thread::spawn(move || {
                runtime().block_on(async {
                    let socket = ServerSocket::attach(detached).unwrap();
                    let mut connection = ServerConnection { socket, pid, secret, parameters, clock_offset, bind_by };
                    assert_eq!(ask(&mut connection, "select pg_backend_pid()").await.unwrap(), [pid.to_string()]);
                    connection
                })
            })
            .join()
            .unwrap();
        }
    }
}

#[tokio::test]
async fn an_unknown_database_is_told_in_postgres_own_words() {
    let scratch = Scratch::shared();
    let fault = Upstream::new(unix(&scratch)).connect("nowhere", "trust_role").await.unwrap_err();
    assert_eq!(fault.sqlstate, SqlState::UNKNOWN_DATABASE);
    assert_eq!(fault.message, "database \"nowhere\" does not exist");
    assert!(fault.verbatim.clone().unwrap().starts_with(b"SFATAL\0"));
}

#[tokio::test]
async fn nobody_there_and_nobody_answering_are_told_in_time() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let gone = Target::new(Address::Unix { directory: "/nonexistent".into(), port: 1 });
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut black_hole = tcp("127.0.0.1", silent.local_addr().unwrap().port());
    black_hole.connect_timeout = Duration::from_millis(200);
    for target in [tcp("127.0.0.1", closed), gone, tcp("no.such.host.invalid", 5432), black_hole] {
        let start = Instant::now();
        let fault = connect(target, "app").await.unwrap_err();
        assert_eq!(fault.sqlstate, SqlState::CANNOT_CONNECT_NOW);
        assert_eq!(fault.message, "the database server cannot be reached");
        assert!(fault.log.is_some() && start.elapsed() < Duration::from_secs(6));
    }
}
