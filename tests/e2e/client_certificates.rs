//! Client certificates as a second factor.

use pgcordon_tests::certificates::{Authority, Files};
use pgcordon_tests::dev::Dev;
use pgcordon_tests::libpq::{psql_at, psycopg};
use pgcordon_tests::serve::Serve;
use pgcordon_tests::wire::{Url, Wire};
use rustix::process::Signal;

/// A proxy that asks for certificates, and those that its clients have.
struct Stage {
    dev: Dev,
    files: Files,
    authority: Authority,
}

impl Stage {
    fn new() -> Self {
        let (files, authority) = (Files::default(), Authority::new("An authority for tests"));
        let dev = Dev::start(&["--data-dir", &files.path("data")]);
        files.write("ca.pem", authority.pem());
        files.write_pair("server", &authority.server("localhost"));
        let user = Url::parse(dev.acme()).user;
        files.write_pair("by_name", &authority.client(&user, None));
        files.write_pair("by_dns", &authority.client("somebody", Some(&user)));
        files.write_pair("other", &authority.client("somebody", Some("somebody")));
        files.write_pair("expired", &authority.expired_client(&user));
        files.write_pair("server_as_client", &authority.server(&user));
        files.write_pair("stranger", &Authority::new("Another authority").client(&user, None));
        Self { dev, files, authority }
    }

    fn serve(&self, further: &str) -> Serve {
        Serve::start(&self.configuration(further), &[])
    }

    fn configuration(&self, further: &str) -> std::path::PathBuf {
        let [certificate, key, ca] = ["server.pem", "server.key", "ca.pem"].map(|name| self.files.path(name));
        let tls = format!("[tls]\ncertificate = {certificate:?}\nkey = {key:?}\nclient_ca_file = {ca:?}\n{further}");
        self.files.configuration("data", &tls)
    }

    /// What acme's user gets who shows this certificate, or none.
    fn ask(&self, serve: &Serve, name: &str) -> Result<String, String> {
        let shown = if name.is_empty() {
            String::new()
        } else {
            format!("sslcert={0}.pem sslkey={0}.key", self.files.path(name))
        };
        let url = serve.url(self.dev.acme());
        let parameters = format!("sslmode=require {shown}");
        let (old, new) = (psql_at(&url, &parameters, "select 40 + 2"), psycopg(&url, &parameters, "query"));
        assert_eq!(old.is_ok(), new.is_ok(), "{name}: {old:?} {new:?}");
        old
    }
}

#[track_caller]
fn refused(said: Result<String, String>, words: &str) {
    let error = said.expect_err("refused");
    assert!(error.contains("connection requires a valid client certificate") && error.contains(words), "{error}");
}

#[test]
fn a_certificate_of_the_authority_is_needed_beside_the_secret() {
    let stage = Stage::new();
    let serve = stage.serve("");
    for good in ["by_name", "by_dns", "other"] {
        assert_eq!(stage.ask(&serve, good).as_deref(), Ok("42"), "{good}");
    }
    refused(stage.ask(&serve, ""), "The client has shown none.");
    refused(stage.ask(&serve, "expired"), "has expired");
    refused(stage.ask(&serve, "server_as_client"), "isn't meant for clients");
    refused(stage.ask(&serve, "stranger"), "comes from no authority that is trusted here");
    let url = serve.url(stage.dev.acme());
    refused(psql_at(&url, "sslmode=disable", "select 1"), "The connection isn't encrypted.");
    // The first factor is still one.
    let wrong = format!("sslmode=require sslcert={0}.pem sslkey={0}.key password=wrong", stage.files.path("by_name"));
    assert!(psql_at(&url, &wrong, "select 1").unwrap_err().contains("password authentication failed"));
    // Whoever has no key at all learns nothing else.
    let refusal = Wire::try_open(&url.replace(&Url::parse(&url).user, "nobody"), &[]).err().expect("refused");
    assert_eq!(refusal.field(b'C').as_deref(), Some("28000"));
    assert!(
        psql_at(
            &url,
            &format!("sslmode=require sslcert={0}.pem sslkey={0}.key", stage.files.path("by_name")),
            "select 1"
        )
        .is_ok()
    );
}

#[test]
fn a_certificate_may_have_to_name_the_key() {
    let stage = Stage::new();
    let serve = stage.serve("client_cert_names = \"key_id\"\n");
    for good in ["by_name", "by_dns"] {
        assert_eq!(stage.ask(&serve, good).as_deref(), Ok("42"), "{good}");
    }
    refused(stage.ask(&serve, "other"), "is for another key");
    refused(stage.ask(&serve, ""), "The client has shown none.");
    let globex = serve.url(stage.dev.globex());
    let acmes = format!("sslmode=require sslcert={0}.pem sslkey={0}.key", stage.files.path("by_name"));
    refused(psql_at(&globex, &acmes, "select 1"), "is for another key");
}

#[test]
fn one_that_needs_not_be_shown_must_be_good_if_it_is() {
    let stage = Stage::new();
    let serve = stage.serve("client_cert = \"optional\"\n");
    for good in ["", "by_name", "other"] {
        assert_eq!(stage.ask(&serve, good).as_deref(), Ok("42"), "{good}");
    }
    assert_eq!(psql_at(&serve.url(stage.dev.acme()), "sslmode=disable", "select 42").as_deref(), Ok("42"));
    refused(stage.ask(&serve, "expired"), "has expired");
    refused(stage.ask(&serve, "stranger"), "comes from no authority that is trusted here");
}

#[test]
fn what_is_asked_for_changes_under_running_clients() {
    let stage = Stage::new();
    let serve = stage.serve("client_cert = \"optional\"\n");
    let mut session = Wire::open(&serve.url(stage.dev.acme()));
    stage.configuration("");
    serve.signal(Signal::HUP);
    assert!(serve.says_next("certificates are read anew").contains("tls.client_cert"));
    refused(stage.ask(&serve, ""), "The client has shown none.");
    // Another authority, in the same file.
    let other = Authority::new("A new authority");
    stage.files.write("ca.pem", other.pem());
    serve.signal(Signal::HUP);
    serve.says_next("certificates are read anew");
    refused(stage.ask(&serve, "by_name"), "comes from no authority that is trusted here");
    stage.files.write_pair("new", &other.client("anybody", None));
    assert_eq!(stage.ask(&serve, "new").as_deref(), Ok("42"));
    // A broken one changes nothing.
    stage.files.write("ca.pem", "nothing");
    serve.signal(Signal::HUP);
    assert!(serve.says_next("the configuration in use stays").contains("ca.pem"));
    assert_eq!(stage.ask(&serve, "new").as_deref(), Ok("42"));
    stage.files.write("ca.pem", stage.authority.pem());
    assert_eq!(session.value("select 40 + 2"), "42");
}

#[test]
fn cancel_requests_need_no_certificate() {
    let stage = Stage::new();
    let serve = stage.serve("");
    let url = serve.url(stage.dev.acme());
    let parameters = format!("sslmode=require sslcert={0}.pem sslkey={0}.key", stage.files.path("by_name"));
    assert_eq!(psycopg(&url, &parameters, "cancel").as_deref(), Ok("57014\n100000"));
}
