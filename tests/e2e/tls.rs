//! TLS towards clients, with a given certificate.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::sync::Arc;

use pgcordon_tests::certificates::{Authority, Files};
use pgcordon_tests::dev::Dev;
use pgcordon_tests::libpq::{psql, psql_at, psycopg};
use pgcordon_tests::serve::Serve;
use pgcordon_tests::wire::{Message, Url, Wire, cancel, frame, startup};
use rustix::process::Signal;
use rustls::pki_types::pem::PemObject as _;

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// A proxy with a certificate for `localhost`, and the files.
fn stage(further: &str) -> (Dev, Files) {
    let (files, authority) = (Files::default(), Authority::new("An authority for tests"));
    files.write("root.pem", authority.pem());
    let (certificate, key) = files.write_pair("server", &authority.server("localhost"));
    let file = files.write("tls.toml", &format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n{further}"));
    (Dev::start(&["--config", &file]), files)
}

/// A client that speaks TLS and then exactly what it is told to.
struct TlsWire(rustls::StreamOwned<rustls::ClientConnection, TcpStream>);

impl TlsWire {
    /// Does the handshake, behind an SSLRequest or at once.
    fn open(dev: &Dev, files: &Files, alpn: Option<&str>, direct: bool) -> std::io::Result<Self> {
        let mut socket = TcpStream::connect(dev.address())?;
        socket.set_read_timeout(Some(std::time::Duration::from_secs(20)))?;
        if !direct {
            socket.write_all(&SSL_REQUEST)?;
            let mut answer = [0];
            socket.read_exact(&mut answer)?;
            assert_eq!(answer, *b"S");
        }
        let mut roots = rustls::RootCertStore::empty();
        let root = std::fs::read(files.path("root.pem"))?;
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&root).unwrap()).unwrap();
        let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = alpn.map(|name| name.as_bytes().to_vec()).into_iter().collect();
        let name = "localhost".try_into().unwrap();
        let session = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
        let mut wire = Self(rustls::StreamOwned::new(session, socket));
        while wire.0.conn.is_handshaking() {
            wire.0.conn.complete_io(&mut wire.0.sock)?;
        }
        Ok(wire)
    }

    fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
        self.0.flush().unwrap();
    }

    fn read(&mut self) -> Option<Message> {
        let mut head = [0; 5];
        self.0.read_exact(&mut head).ok()?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length - 4];
        self.0.read_exact(&mut body).ok()?;
        Some(Message { tag: head[0], body })
    }
}

#[test]
fn psql_trusts_the_certificate_and_binds_its_proof_to_it() {
    let (dev, files) = stage("");
    let verified = format!("sslmode=verify-full sslrootcert={}", files.path("root.pem"));
    for parameters in [&*verified, &format!("{verified} channel_binding=require"), "sslmode=require", "sslmode=disable"]
    {
        assert_eq!(psql(&dev, parameters, "select 40 + 2").as_deref(), Ok("42"), "{parameters}");
    }
    let said = psql(&dev, &verified, "\\conninfo").unwrap();
    assert!(said.contains("SSL connection"), "{said}");
    let refused = psql(&dev, &format!("sslmode=verify-full sslrootcert={}", files.path("server.pem")), "select 1");
    assert!(refused.unwrap_err().contains("certificate verify failed"));
}

#[test]
fn a_proxy_without_a_certificate_says_so() {
    let dev = Dev::shared(1);
    assert_eq!(psql(&dev, "sslmode=prefer", "select 42").as_deref(), Ok("42"));
    assert!(psql(&dev, "sslmode=require", "select 42").unwrap_err().contains("server does not support SSL"));
}

#[test]
fn a_plain_password_is_taken_where_it_is_configured() {
    let (dev, _files) = stage("[auth]\nmethod = \"password\"\n");
    for mode in ["sslmode=require", "sslmode=disable"] {
        assert_eq!(psql(&dev, mode, "select 42").as_deref(), Ok("42"), "{mode}");
    }
    let wrong = psql(&dev, "sslmode=require password=wrong", "select 42").unwrap_err();
    assert!(wrong.contains("password authentication failed"), "{wrong}");
}

/// An address of this machine that others could reach it by.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent: the address is of a range for documentation.
    socket.connect("192.0.2.1:9").ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|ip| !ip.is_loopback())
}

#[test]
fn a_plain_password_is_asked_for_where_nobody_reads_along_and_never_elsewhere() {
    let (files, authority) = (Files::default(), Authority::new("An authority for tests"));
    let dev = Dev::start(&["--data-dir", &files.path("data")]);
    let (certificate, key) = files.write_pair("server", &authority.server("localhost"));
    let file = files.configuration(
        "data",
        &format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n[auth]\nmethod = \"password\"\n"),
    );
    let serve = Serve::start(&file, &[("PGCORDON_SERVER__LISTEN", "0.0.0.0:0")]);
    let url = serve.url(dev.acme());
    let asked = |parameters: &str| {
        ["password", "scram-sha-256"]
            .map(|method| psycopg(&url, &format!("{parameters} require_auth={method}"), "query").is_ok())
    };
    assert_eq!(asked("sslmode=disable"), [true, false], "loopback");
    assert_eq!(asked("sslmode=require"), [true, false]);
    // A machine without a network has only loopback.
    if let Some(address) = own_address() {
        assert_eq!(asked(&format!("hostaddr={address} sslmode=require")), [true, false]);
        assert_eq!(asked(&format!("hostaddr={address} sslmode=disable")), [false, true], "it would cross the network");
    }
}

#[test]
fn what_comes_in_front_of_the_handshake_is_never_taken_for_encrypted() {
    let (dev, _files) = stage("");
    let (host, port) = dev.address();
    let url = Url::parse(dev.acme());
    // Behind the request in one packet: refused, in words.
    let mut wire = Wire::raw((&host, port));
    wire.send(&[&SSL_REQUEST[..], &startup(3 << 16, &[("user", &url.user)])].concat());
    let refused = wire.read().unwrap();
    assert_eq!(refused.word(), "E(08P01)");
    assert!(refused.field(b'M').unwrap().contains("received unencrypted data after SSL request"));
    assert_eq!(wire.read(), None);
    // Behind the answer: it is no handshake, and nothing is begun.
    let mut wire = Wire::raw((&host, port));
    wire.send(&SSL_REQUEST);
    assert_eq!(wire.byte(), Some(b'S'));
    wire.send(&startup(3 << 16, &[("user", &url.user)]));
    while let Some(byte) = wire.byte() {
        assert_ne!(byte, b'R', "a login was begun outside TLS");
    }
    // A peer that asks for TLS and then says nothing that is TLS is alone with it.
    let mut wire = Wire::raw((&host, port));
    wire.send(&SSL_REQUEST);
    assert_eq!(wire.byte(), Some(b'S'));
    wire.send(&[0x16, 3, 1, 0xff, 0xff, 0, 0]);
    wire.hang_up();
    assert_eq!(psql(&dev, "sslmode=require", "select 42").as_deref(), Ok("42"));
}

#[test]
fn a_handshake_may_come_first_if_it_names_the_protocol() {
    let (dev, files) = stage("");
    let root = files.path("root.pem");
    let direct = format!("sslnegotiation=direct sslmode=verify-full sslrootcert={root}");
    assert_eq!(psycopg(dev.acme(), &direct, "query").as_deref(), Ok("42"));
    assert_eq!(psycopg(dev.acme(), &format!("{direct} channel_binding=require"), "query").as_deref(), Ok("42"));
    let url = Url::parse(dev.acme());
    let begin = startup(3 << 16, &[("user", &url.user), ("database", "app")]);
    for (alpn, directly, expected) in [
        (Some("postgresql"), true, Some("R")),
        (Some("postgresql"), false, Some("R")),
        (None, false, Some("R")),
        (None, true, Some("E(08P01)")),
        (Some("h2"), true, None),
        (Some("h2"), false, None),
    ] {
        let said = TlsWire::open(&dev, &files, alpn, directly).ok().and_then(|mut wire| {
            wire.send(&begin);
            wire.read().map(|message| message.word())
        });
        assert_eq!(said.as_deref(), expected, "{alpn:?} {directly}");
    }
    // Encryption isn't asked for twice.
    let mut wire = TlsWire::open(&dev, &files, Some("postgresql"), true).unwrap();
    wire.send(&SSL_REQUEST);
    assert_eq!(wire.read().unwrap().word(), "E(08P01)");
}

#[test]
fn a_handshake_for_which_there_is_no_certificate_is_hung_up_on() {
    let dev = Dev::shared(1);
    let (host, port) = dev.address();
    let mut wire = Wire::raw((&host, port));
    wire.send(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 0]);
    assert_eq!(wire.byte(), None);
    assert!(psycopg(dev.acme(), "sslnegotiation=direct sslmode=require", "query").is_err());
}

#[test]
fn who_could_bind_its_proof_but_was_not_offered_it_was_lied_to() {
    let (dev, files) = stage("");
    let user = Url::parse(dev.acme()).user;
    // `y` is what a client says whose offer somebody has shortened; `n` is one that can't.
    for (flag, answer) in [("y", "E(28000)"), ("n", "R")] {
        let mut wire = TlsWire::open(&dev, &files, None, false).unwrap();
        wire.send(&startup(3 << 16, &[("user", &user), ("database", "app")]));
        let offer = wire.read().unwrap();
        assert_eq!(offer.body, b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0");
        let first = format!("{flag},,n=,r=abcdefgh");
        let length = u32::try_from(first.len()).unwrap().to_be_bytes();
        wire.send(&frame(b'p', &[b"SCRAM-SHA-256\0", &length[..], first.as_bytes()].concat()));
        assert_eq!(wire.read().unwrap().word(), answer, "{flag}");
    }
}

#[test]
fn certificates_are_read_anew_and_bind_by_the_hash_of_their_signature() {
    let files = Files::default();
    let dev = Dev::start(&["--data-dir", &files.path("data")]);
    let make = |options: &[&str]| {
        let openssl = Command::new("openssl")
            .args(["req", "-x509", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost"])
            .args(["-keyout", &files.path("server.key"), "-out", &files.path("server.pem")])
            .args(options)
            .output()
            .unwrap();
        assert!(openssl.status.success(), "{}", String::from_utf8_lossy(&openssl.stderr));
    };
    let p384 = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1", "-sha384"];
    make(&p384);
    let tls = format!("[tls]\ncertificate = {:?}\nkey = {:?}\n", files.path("server.pem"), files.path("server.key"));
    let serve = Serve::start(&files.configuration("data", &tls), &[]);
    let url = serve.url(dev.acme());
    let query = |further: &str| {
        let verified = format!("sslmode=verify-full sslrootcert={} {further}", files.path("server.pem"));
        [psql_at(&url, &verified, "select 40 + 2"), psycopg(&url, &verified, "query")]
    };
    let both = || [Ok("42".to_owned()), Ok("42".to_owned())];
    assert_eq!(query("channel_binding=require"), both());
    let mut session = Wire::open(&url);
    for options in [
        &["-newkey", "rsa:2048", "-sha256"][..],
        &["-newkey", "rsa:2048", "-sha384"],
        &["-newkey", "rsa:2048", "-sha512"],
        &["-newkey", "rsa:2048", "-sha256", "-sigopt", "rsa_padding_mode:pss"],
        &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-sha512"],
    ] {
        make(options);
        serve.signal(Signal::HUP);
        serve.says_next("certificates are read anew");
        assert_eq!(query("channel_binding=require"), both(), "{options:?}");
    }
    // A signature that names no hash binds nothing: it isn't offered, and nobody is kept out for it.
    make(&["-newkey", "ed25519"]);
    serve.signal(Signal::HUP);
    serve.says_next("certificates are read anew");
    assert_eq!(query("channel_binding=disable"), both());
    assert!(query("channel_binding=require").iter().all(Result::is_err));
    // What can't be used changes nothing.
    let trusted = std::fs::read_to_string(files.path("server.pem")).unwrap();
    for broken in ["", "-----BEGIN CERTIFICATE-----\nbroken", &Authority::new("another").server("localhost").0] {
        files.write("server.pem", broken);
        serve.signal(Signal::HUP);
        assert!(serve.says_next("the configuration in use stays").contains("server.pem"));
    }
    files.write("server.pem", &trusted);
    assert_eq!(query("channel_binding=disable"), both());
    assert_eq!(session.value("select 40 + 2"), "42", "who is in stays");
}

#[test]
fn cancel_requests_come_by_every_way_that_sessions_come() {
    let (dev, files) = stage("");
    let root = files.path("root.pem");
    for parameters in [
        "sslmode=disable",
        "sslmode=require",
        &format!("sslmode=verify-full sslrootcert={root} sslnegotiation=direct max_protocol_version=3.2"),
    ] {
        assert_eq!(psycopg(dev.acme(), parameters, "cancel").as_deref(), Ok("57014\n100000"), "{parameters}");
    }
    let said = super::cancelling::interrupt_psql(&dev, "sslmode=require");
    assert!(said.contains("canceling statement due to user request"), "{said}");
    // A wrong key gets no more out of an encrypted connection.
    let mut wire = TlsWire::open(&dev, &files, Some("postgresql"), true).unwrap();
    wire.send(&cancel(1, &[1; 32]));
    assert_eq!(wire.read(), None);
}

#[tokio::test]
async fn large_results_and_cancel_requests_pass_through_tls() {
    let (dev, files) = stage("");
    let mut roots = rustls::RootCertStore::empty();
    let root = std::fs::read(files.path("root.pem")).unwrap();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(&root).unwrap()).unwrap();
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let tls = tokio_postgres_rustls::MakeRustlsConnect::new(config);
    let mut target: tokio_postgres::Config = dev.acme().replace("127.0.0.1", "localhost").parse().unwrap();
    target.ssl_mode(tokio_postgres::config::SslMode::Require);
    let (client, connection) = target.connect(tls.clone()).await.unwrap();
    tokio::spawn(connection);
    let rows = client.query("select repeat(i::text, 1000) from generate_series(1, 5000) i", &[]).await.unwrap();
    let bytes: usize = rows.iter().map(|row| row.get::<_, &str>(0).len()).sum();
    assert_eq!(bytes, 1000 * (9 + 90 * 2 + 900 * 3 + 4001 * 4));
    let cancel = client.cancel_token();
    let sleeping = client.query("select pg_sleep(30)", &[]);
    let cancelling = async {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        cancel.cancel_query(tls).await.unwrap();
    };
    let (slept, ()) = tokio::join!(sleeping, cancelling);
    assert_eq!(slept.unwrap_err().code().unwrap().code(), "57014");
    let text = "x".repeat(3_000_000);
    assert_eq!(client.query_one("select length($1)", &[&text]).await.unwrap().get::<_, i32>(0), 3_000_000);
}
