//! Server connections and cancel requests against a real Postgres, and against servers that are none.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod scratch;

use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use pgcordon::domain::{Fault, SqlState};
use pgcordon::pool::cancel::{CancelGate, Outcome};
use pgcordon::pool::upstream::{Address, ServerConnection, ServerSocket, Target, Upstream};
use pgcordon::tls::{Connector, Mode};
use scratch::Scratch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn unix(scratch: &Scratch) -> Target {
    Target::new(Address::Unix { directory: scratch.directory().to_owned(), port: scratch.port })
}

fn tcp(host: &str, port: u16) -> Target {
    let mut target = Target::new(Address::Tcp { host: host.to_owned(), port });
    target.connect_timeout = Duration::from_secs(5);
    target
}

async fn connect(target: Target, role: &str) -> Result<ServerConnection, Fault> {
    Upstream::new(target).connect("postgres", role).await
}

/// Sends a simple Query and returns the columns of all rows, or the SQLSTATE of the error.
async fn ask(connection: &mut ServerConnection, sql: &str) -> Result<Vec<String>, String> {
    let mut message = vec![b'Q'];
    message.extend_from_slice(&u32::try_from(sql.len() + 5).unwrap().to_be_bytes());
    message.extend_from_slice(sql.as_bytes());
    message.push(0);
    connection.socket.write_all(&message).await.unwrap();
    let (mut columns, mut error) = (Vec::new(), None);
    loop {
        let kind = connection.socket.read_u8().await.unwrap();
        let mut body = vec![0; connection.socket.read_u32().await.unwrap() as usize - 4];
        connection.socket.read_exact(&mut body).await.unwrap();
        match kind {
            b'D' => {
                let mut rest = &body[2..];
                while let Some((length, after)) = rest.split_first_chunk::<4>() {
                    let (value, after) = after.split_at(u32::from_be_bytes(*length) as usize);
                    columns.push(String::from_utf8(value.to_vec()).unwrap());
                    rest = after;
                }
            }
            b'E' => error = body.split(|byte| *byte == 0).find_map(|field| Some(String::from_utf8_lossy(field.strip_prefix(b"C")?).into_owned())),
            b'Z' => return error.map_or(Ok(columns), Err),
            _ => {}
        }
    }
}

fn is_stale(connection: &mut ServerConnection) -> bool {
    connection.socket.poll_stale(&mut Context::from_waker(Waker::noop()))
}

#[tokio::test]
async fn a_connection_knows_its_backend_and_is_clean() {
    let scratch = Scratch::shared();
    let mut connection = connect(unix(&scratch), "trust_role").await.unwrap();
    assert_eq!(ask(&mut connection, "select pg_backend_pid()").await.unwrap(), [connection.pid.to_string()]);
    assert_eq!(connection.secret.len(), 4);
    assert!(connection.clock_offset.abs() <= 1);
    let parameter = |name: &str| connection.parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    assert_eq!(parameter("session_authorization").unwrap(), "trust_role");
    assert!(parameter("server_version").is_some() && parameter("TimeZone").is_some());
    let left = "select count(*) from pg_prepared_statements union all select count(*) from pg_cursors";
    assert_eq!(ask(&mut connection, left).await.unwrap(), ["0", "0"]);
    assert_eq!(ask(&mut connection, "select current_setting('app.workspace_id') || current_setting('app.workspace_seal')").await.unwrap(), [""]);
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
            assert!(fault.verbatim.is_none() && !fault.message.contains(role), "{fault:?}");
            let log = fault.log.unwrap();
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
    assert!(Connector::new(Mode::VerifyFull, None).is_err());
    assert!(Connector::new(Mode::VerifyFull, Some(std::path::Path::new("/nonexistent"))).unwrap_err().to_string().contains("/nonexistent"));
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
            let ServerConnection { socket, pid, secret, parameters, clock_offset } = connection;
            let detached = runtime().block_on(async { socket.detach() }).unwrap();
            connection = std::thread::spawn(move || {
                runtime().block_on(async {
                    let socket = ServerSocket::attach(detached).unwrap();
                    let mut connection = ServerConnection { socket, pid, secret, parameters, clock_offset };
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
    assert!(fault.verbatim.unwrap().starts_with(b"SFATAL\0"));
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

/// A server that answers the startup packet with these bytes and closes, or stays.
async fn answering(bytes: Vec<u8>, stay: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut startup = [0; 1024];
        let _ = socket.read(&mut startup).await;
        let _ = socket.write_all(&bytes).await;
        while stay && socket.read(&mut startup).await.is_ok_and(|read| read > 0) {}
    });
    port
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

#[tokio::test]
async fn a_server_that_talks_garbage_is_left_at_once() {
    let ok = message(b'R', &[0, 0, 0, 0]);
    let key = message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]);
    let ready = message(b'Z', b"I");
    let offer = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let mut random = vec![0; 4096];
    random.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 197 + at / 3) as u8);
    let cases = [
        vec![],
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        random,
        [b'R', 0, 0, 0, 0].to_vec(),
        [b'R', 0, 0, 0, 3].to_vec(),
        [b'R', 0xff, 0xff, 0xff, 0xff].to_vec(),
        [b'R', 0x80, 0, 0, 0].to_vec(),
        [b'R', 0x7f, 0xff, 0xff, 0xff].to_vec(),
        message(b'R', b""),
        message(b'R', &[0, 0, 0, 99]),
        message(b'R', &[0, 0, 0, 5, 1]),
        message(b'E', b""),
        message(b'E', b"\0"),
        message(b'E', b"Mno code\0"),
        message(b'E', b"Cunterminated"),
        message(b'R', b"\0\0\0\x0aSCRAM"),
        message(b'R', b"\0\0\0\x0aPLAIN\0\0"),
        [&offer[..], &message(b'R', b"\0\0\0\x0br=x,s=x,i=4294967295")].concat(),
        [&offer[..], &message(b'R', b"\0\0\0\x0br=,s=QQ==,i=1")].concat(),
        [&offer[..], &ok].concat(),
        [&ok[..], &message(b'S', b"name\0value")].concat(),
        [&ok[..], &message(b'K', &[0, 0, 0, 1])].concat(),
        [&ok[..], &message(b'K', &[0; 400])].concat(),
        [&ok[..], &ready].concat(),
        [&ok[..], &key, &message(b'Z', b"T")].concat(),
        [&ok[..], &key, &message(b'Z', b"")].concat(),
        [&ok[..], &key, &ready, &message(b'D', &[0, 3, 0x7f, 0xff, 0xff, 0xff])].concat(),
        [&ok[..], &key, &ready, &message(b'D', &[0, 3, 0xff, 0xff, 0xff, 0xff])].concat(),
        [&ok[..], &key, &ready, &message(b'D', &[0])].concat(),
        [&ok[..], &key, &ready, &message(b'D', &[0x7f, 0xff])].concat(),
        [&ok[..], &key, &ready, &message(b'C', b"SELECT 0\0"), &ready].concat(),
        [&ok[..], &message(b'N', &[b'x'; 200_000]).repeat(20)].concat(),
    ];
    for case in cases {
        for stay in [false, true] {
            let mut target = tcp("127.0.0.1", answering(case.clone(), stay && !case.is_empty()).await);
            target.passwords.insert("app", "secret");
            target.connect_timeout = Duration::from_millis(1500);
            let fault = connect(target, "app").await.unwrap_err();
            let shown = String::from_utf8_lossy(&case[..case.len().min(60)]).into_owned();
            assert_eq!(fault.sqlstate, SqlState::CANNOT_CONNECT_NOW, "{shown:?}");
        }
    }
}

#[tokio::test]
async fn bytes_before_the_tls_handshake_are_refused() {
    for (answer, word) in [(&b"SE"[..], "unencrypted"), (b"N", "does not offer"), (b"E", "neither"), (b"", "closed")] {
        let mut target = tcp("127.0.0.1", answering(answer.to_vec(), false).await);
        target.tls = Connector::new(Mode::Require, None).unwrap();
        let fault = connect(target, "app").await.unwrap_err();
        assert!(fault.log.as_ref().is_some_and(|log| log.contains(word)), "{fault:?}");
    }
}

#[tokio::test]
async fn what_a_role_gives_itself_is_found_whatever_it_is() {
    let scratch = Scratch::shared();
    scratch.sql("create role greedy login; create role \"Odd\"\"Name\" login; create role attacked login; grant greedy to attacked");
    // A search path on which every comparison says no and the catalogs are empty.
    scratch.sql("create schema evil; grant usage on schema evil to public");
    for of in ["text", "oid", "name"] {
        scratch.sql(&format!("create function evil.never({of}, {of}) returns bool language sql as 'select false'; create operator evil.= (leftarg = {of}, rightarg = {of}, function = evil.never)"));
    }
    scratch.sql("create view evil.pg_settings as select * from pg_catalog.pg_settings where false; create view evil.pg_db_role_setting as select * from pg_catalog.pg_db_role_setting where false; grant select on all tables in schema evil to public");
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
    let log = connect(target, "quick").await.unwrap_err().log.unwrap();
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
    let approved = [("search_path", "\"it's\", public"), ("work_mem", "64MB")].map(|(name, value)| (name.to_owned(), value.to_owned()));
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
        connect(target.clone(), "mended").await.expect_err(attack);
    }
    let mut connection = connect(target, "mended").await.unwrap();
    assert_eq!(ask(&mut connection, "show search_path").await.unwrap(), ["\"it's\", public"]);
}

#[tokio::test]
async fn the_databases_own_settings_are_left_alone_and_ours_survive_a_reset() {
    let scratch = Scratch::shared();
    scratch.sql("create database settled");
    scratch.sql("alter database settled set TimeZone = 'Asia/Tokyo'; alter database settled set statement_timeout = '17s'; alter database settled set app.workspace_id = 'planted'; alter database settled set search_path = shop, public");
    let mut connection = Upstream::new(unix(&scratch)).connect("settled", "trust_role").await.unwrap();
    let zone = connection.parameters.iter().find(|(name, _)| name == "TimeZone").unwrap();
    assert_eq!(zone.1, "Asia/Tokyo");
    ask(&mut connection, "set app.workspace_id = 'x'; set row_security = off; set TimeZone = 'UTC'").await.unwrap();
    ask(&mut connection, "discard all").await.unwrap();
    let shown = "select current_setting('TimeZone'), current_setting('statement_timeout'), current_setting('app.workspace_id'), current_setting('search_path'), current_setting('row_security'), current_setting('role')";
    assert_eq!(ask(&mut connection, shown).await.unwrap(), ["Asia/Tokyo", "17s", "", "shop, public", "on", "none"]);
    let mut target = unix(&scratch);
    target.startup.search_path = Some("\"$user\", public".to_owned());
    let mut connection = Upstream::new(target).connect("settled", "trust_role").await.unwrap();
    assert_eq!(ask(&mut connection, "show search_path").await.unwrap(), ["\"$user\", public"]);
}

#[tokio::test]
async fn a_cancel_request_hits_the_running_statement() {
    let scratch = Scratch::shared();
    let mut over_tls = tcp("localhost", scratch.port);
    over_tls.tls = Connector::new(Mode::VerifyFull, Some(&scratch.root_certificate)).unwrap();
    over_tls.passwords.insert("scram_role", "secret");
    for (target, role) in [(unix(&scratch), "trust_role"), (over_tls, "scram_role")] {
        let upstream = Upstream::new(target);
        let mut connection = upstream.connect("postgres", role).await.unwrap();
        let (pid, secret) = (connection.pid, connection.secret.clone());
        let sleeping = ask(&mut connection, "select pg_sleep(30)");
        let cancelling = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            upstream.cancel(pid, &[0, 0, 0, 0]).await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
            upstream.cancel(pid, &secret).await.unwrap();
        };
        let start = Instant::now();
        let (outcome, ()) = tokio::join!(sleeping, cancelling);
        assert_eq!(outcome, Err("57014".to_owned()));
        assert!(start.elapsed() < Duration::from_secs(10));
        assert_eq!(ask(&mut connection, "select 1").await.unwrap(), ["1"]);
    }
}

#[tokio::test]
async fn a_cancel_request_that_is_followed_never_hits_the_next_statement() {
    let scratch = Scratch::shared();
    let upstream = std::sync::Arc::new(Upstream::new(unix(&scratch)));
    let mut connection = upstream.connect("postgres", "trust_role").await.unwrap();
    let (gate, mut hits) = (CancelGate::default(), 0);
    for round in 1..=500 {
        gate.hold(round);
        let (theirs, upstream, pid, secret) = (gate.clone(), upstream.clone(), connection.pid, connection.secret.clone());
        let cancel = tokio::spawn(async move { theirs.cancel(&upstream, round, pid, &secret).await });
        hits += u32::from(ask(&mut connection, "select pg_sleep(0.0005)").await.is_err());
        gate.unhold();
        assert!(gate.drained().await);
        assert_eq!(ask(&mut connection, "select count(*) from generate_series(1, 2000)").await, Ok(vec!["2000".to_owned()]), "round {round}");
        assert!(matches!(cancel.await.unwrap(), Outcome::Followed | Outcome::TooLate));
    }
    assert!(hits > 0, "the race was none");
}

/// Why requests are followed: written and forgotten, some hit the statement after the one they were meant for.
#[tokio::test]
#[ignore = "a measurement, not a promise: cargo test --test upstream -- --ignored --nocapture"]
async fn a_cancel_request_that_is_not_followed_hits_next_statements() {
    let scratch = Scratch::shared();
    let upstream = Upstream::new(unix(&scratch));
    let mut connection = upstream.connect("postgres", "trust_role").await.unwrap();
    let path = scratch.directory().join(format!(".s.PGSQL.{}", scratch.port));
    let mut packet = [0, 0, 0, 16, 0x04, 0xd2, 0x16, 0x2e].to_vec();
    packet.extend_from_slice(&connection.pid.to_be_bytes());
    packet.extend_from_slice(&connection.secret);
    let mut killed = 0;
    for _ in 0..3000 {
        // A flood of them fills the server's backlog; those don't count.
        let Ok(mut cancel) = tokio::net::UnixStream::connect(&path).await else { continue };
        cancel.write_all(&packet).await.unwrap();
        drop(cancel);
        let _ = ask(&mut connection, "select 1").await;
        killed += u32::from(ask(&mut connection, "select count(*) from generate_series(1, 2000)").await.is_err());
    }
    assert!(killed > 0, "not one of 3000");
    eprintln!("{killed} of 3000 next statements were killed");
}
