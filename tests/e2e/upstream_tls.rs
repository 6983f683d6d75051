//! TLS towards Postgres, through the whole proxy: with names verified and a certificate of the proxy's own in place of passwords.

use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;

use pgcordon_tests::certificates::{Authority, Files};
use pgcordon_tests::dev::{Dev, binary};
use pgcordon_tests::libpq::psql_at;
use pgcordon_tests::serve::Serve;
use pgcordon_tests::wire::{Url, Wire};
use rustix::process::Signal;

const ROLES: [&str; 3] = ["pgcordon_app", "pgcordon_system", "pgcordon_control"];

/// A Postgres that lets the proxy's roles in by a certificate only, and nobody in unencrypted.
struct Stage {
    dev: Dev,
    files: Files,
    admin: Wire,
    data: String,
}

impl Stage {
    fn new(authority: &Authority) -> Self {
        let files = Files::default();
        let dev = Dev::start(&["--data-dir", &files.path("data")]);
        let mut admin = dev.admin();
        let data = admin.value("show data_directory");
        let mut stage = Self { dev, files, admin, data };
        let access = stage.admin.value("select pg_read_file('pg_hba.conf')");
        stage.put("pg_hba.conf", &format!("hostssl all {} 127.0.0.1/32 cert map=proxy\n{access}", ROLES.join(",")));
        let users = stage.admin.value("select pg_read_file('pg_ident.conf')");
        let ours: String = ROLES.iter().map(|role| format!("proxy the-proxy {role}\n")).collect();
        stage.put("pg_ident.conf", &format!("{ours}{users}"));
        for setting in
            ["ssl_cert_file = 'edge.crt'", "ssl_key_file = 'edge.key'", "ssl_ca_file = 'edge-ca.crt'", "ssl = on"]
        {
            stage.admin.rows(&format!("alter system set {setting}"));
        }
        stage.certify(authority);
        stage
    }

    /// Writes a file as Postgres' own, which nobody else may read.
    fn put(&mut self, name: &str, text: &str) {
        let lines = format!("select unnest(string_to_array(rtrim($x${text}$x$, E'\\n'), E'\\n'))");
        self.admin.rows(&format!("copy ({lines}) to '{}/{name}'", self.data));
    }

    /// Both sides get certificates of this authority, and Postgres reads its own anew.
    fn certify(&mut self, authority: &Authority) {
        let (certificate, key) = authority.server("localhost");
        self.put("edge.crt", &certificate);
        self.put("edge.key", &key);
        let key_file = std::path::Path::new(&self.data).join("edge.key");
        std::fs::set_permissions(key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
        self.put("edge-ca.crt", authority.pem());
        self.files.write("root.pem", authority.pem());
        self.files.write_pair("proxy", &authority.client("the-proxy", None));
        self.admin.rows("select pg_reload_conf()");
        let verified = format!("sslmode=verify-full sslrootcert={}", self.files.path("root.pem"));
        let admin = self.dev.text("/upstream/admin_dsn");
        let has_read_them = (0..200).any(|_| psql_at(admin, &verified, "select 42").is_ok());
        assert!(has_read_them, "{:?}", psql_at(admin, &verified, "select 42"));
    }

    fn environment(&self, host: &str) -> Vec<(&'static str, String)> {
        vec![
            ("PGCORDON_UPSTREAM__HOST", host.to_owned()),
            ("PGCORDON_UPSTREAM__PORT", Url::parse(self.dev.text("/upstream/admin_dsn")).port.to_string()),
            ("PGCORDON_UPSTREAM__TLS", "verify-full".to_owned()),
            ("PGCORDON_UPSTREAM__TLS_ROOT", self.files.path("root.pem")),
            ("PGCORDON_UPSTREAM__TLS_CERTIFICATE", self.files.path("proxy.pem")),
            ("PGCORDON_UPSTREAM__TLS_KEY", self.files.path("proxy.key")),
        ]
    }
}

#[test]
fn a_certificate_stands_for_passwords_and_names_are_verified() {
    let mut stage = Stage::new(&Authority::new("An authority for tests"));
    let file = stage.files.configuration("data", "");
    let environment = stage.environment("localhost");
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let serve = Serve::start(&file, &environment);
    let url = serve.url(stage.dev.acme());
    let mut session = Wire::open(&url);
    assert_eq!(session.value("select count(*) > 0 from \"Segment\""), "t");
    let shown = stage.admin.rows(
        "select distinct usename, ssl, client_dn from pg_stat_ssl join pg_stat_activity using (pid) where client_addr is not null \
         and usename <> current_user order by 1",
    );
    assert!(shown.contains(&"pgcordon_app|t|/CN=the-proxy".to_owned()), "{shown:?}");
    assert!(shown.contains(&"pgcordon_control|t|/CN=the-proxy".to_owned()), "{shown:?}");

    // Another authority on both sides: after a SIGHUP new connections are made under it.
    let (old, new) = (stage.files.path("root.pem"), Authority::new("A new authority"));
    let kept = std::fs::read_to_string(&old).unwrap();
    stage.certify(&new);
    serve.signal(Signal::HUP);
    serve.says_next("certificates are read anew");
    stage.admin.rows("select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'pgcordon_app'");
    let mut renewed = Wire::open(&url);
    assert_eq!(renewed.value("select 40 + 2"), "42");

    // One that isn't Postgres' any more keeps everybody out, and the log says why.
    stage.files.write("root.pem", &kept);
    serve.signal(Signal::HUP);
    serve.says_next("certificates are read anew");
    stage.admin.rows("select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'pgcordon_app'");
    // Who is greeted from what is remembered learns it with the first statement.
    let refused = Wire::try_open(&url, &[]).map_or_else(|refused| refused.word(), |mut wire| wire.query("select 1"));
    assert!(refused.contains("E(57P03)"), "{refused}");
    assert!(serve.says("TLS handshake with localhost").contains("invalid peer certificate"));
}

#[test]
fn a_server_that_goes_by_another_name_is_refused_and_both_are_told() {
    let stage = Stage::new(&Authority::new("An authority for tests"));
    let serve = Command::new(binary())
        .args(["serve", "--config"])
        .arg(stage.files.configuration("data", ""))
        .envs(stage.environment("127.0.0.1"))
        .env("PGCORDON_SERVER__LISTEN", "127.0.0.1:0")
        .env("PGCORDON_HTTP__LISTEN", "")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&serve.stderr).into_owned();
    assert_eq!(serve.status.code(), Some(3), "{said}");
    assert!(said.contains("127.0.0.1") && said.contains("localhost"), "{said}");
}
