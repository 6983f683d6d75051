//! TLS towards clients, with a given certificate.

use std::path::Path;
use std::process::Command;

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Url, Wire, startup};

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

struct Files(tempfile::TempDir);

impl Files {
    /// An authority, and a certificate of its for `localhost` in a configuration that uses it.
    fn new(further: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(rcgen::DnType::CommonName, "An authority for tests");
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        files.write("root.pem", &parameters.self_signed(&key).unwrap().pem());
        let issuer = rcgen::Issuer::new(parameters, key);
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        files.write("server.pem", &parameters.signed_by(&key, &issuer).unwrap().pem());
        files.write("server.key", &key.serialize_pem());
        let [certificate, key] = ["server.pem", "server.key"].map(|name| files.path(name));
        files.write("pgcordon.toml", &format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\n{further}"));
        files
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).unwrap();
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn dev(&self) -> Dev {
        Dev::start(&["--config", &self.path("pgcordon.toml")])
    }
}

/// What psql prints, with further connection parameters.
fn psql(dev: &Dev, parameters: &str, command: &str) -> Result<String, String> {
    let url = Url::parse(dev.acme());
    let target = format!(
        "host=localhost hostaddr=127.0.0.1 port={} dbname=app user={} password={} {parameters}",
        url.port, url.user, url.password
    );
    let output = Command::new("psql").args(["-XAtc", command, &target]).output().unwrap();
    let [said, error] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    if output.status.success() { Ok(said.trim().to_owned()) } else { Err(error) }
}

#[test]
fn psql_trusts_the_certificate_and_binds_its_proof_to_it() {
    let files = Files::new("");
    let dev = files.dev();
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
    let files = Files::new("[auth]\nmethod = \"password\"\n");
    let dev = files.dev();
    for mode in ["sslmode=require", "sslmode=disable"] {
        assert_eq!(psql(&dev, mode, "select 42").as_deref(), Ok("42"), "{mode}");
    }
    let wrong = psql(&dev, "sslmode=require password=wrong", "select 42").unwrap_err();
    assert!(wrong.contains("password authentication failed"), "{wrong}");
}

#[test]
fn what_comes_in_front_of_the_handshake_is_never_taken_for_encrypted() {
    let files = Files::new("");
    let dev = files.dev();
    let (host, port) = dev.address();
    let url = Url::parse(dev.acme());
    let mut wire = Wire::raw((&host, port));
    wire.send(&[&SSL_REQUEST[..], &startup(3 << 16, &[("user", &url.user)])].concat());
    assert_eq!(wire.byte(), Some(b'S'));
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

#[tokio::test]
async fn large_results_and_cancel_requests_pass_through_tls() {
    let files = Files::new("");
    let dev = files.dev();
    let mut roots = rustls::RootCertStore::empty();
    let root = std::fs::read(Path::new(&files.path("root.pem"))).unwrap();
    roots.add(rustls::pki_types::pem::PemObject::from_pem_slice(&root).unwrap()).unwrap();
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
