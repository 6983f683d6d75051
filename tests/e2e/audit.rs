//! What a running proxy puts into the audit trail.

use std::io::{Read as _, Write as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use pgcordon_tests::dev::{Dev, binary};
use pgcordon_tests::wire::{Url, Wire, startup};
use serde_json::Value;

/// A proxy with a directory that commands can be given.
struct Place {
    dev: Dev,
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("audit").tempdir().unwrap();
        std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).unwrap();
        let data = directory.path().join("data").display().to_string();
        Self { dev: Dev::start(&["--pool-size", "1", "--data-dir", &data]), directory }
    }

    fn pgcordon(&self, arguments: &[&str]) -> (i32, String) {
        let config = self.directory.path().join("data/pgcordon.toml");
        let done = Command::new(binary()).args(arguments).env("PGCORDON_CONFIG", config).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        (done.status.code().unwrap(), said)
    }

    /// The events of a type, once there are so many.
    fn events(&self, event_type: &str, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let (code, said) = self.pgcordon(&["audit", "tail", "--json", "-n", "1000", "--type", event_type]);
            assert_eq!(code, 0, "{said}");
            let events: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
            if events.len() >= count {
                return events;
            }
            assert!(Instant::now() < deadline, "{} of {count} {event_type}", events.len());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn is_whole(&self) {
        let data = self.directory.path().join("data").display().to_string();
        let (code, said) = self.pgcordon(&["audit", "verify", "--data-dir", &data]);
        assert_eq!(code, 0, "{said}");
    }
}

#[test]
fn logins_good_and_bad_are_recorded_with_who_and_why() {
    let place = Place::new();
    let acme = Url::parse(place.dev.acme());
    drop(Wire::open_with(place.dev.acme(), &[("application_name", "a\nb; drop table x")]));
    let login = |secret: &str, user: &str, database: &str| {
        let parameters = [("user", user), ("database", database), ("application_name", "bad")];
        Wire::login((&acme.host, acme.port), secret, &parameters).err().expect("refused").field(b'C').unwrap()
    };
    assert_eq!(login("not the secret", &acme.user, "app"), "28P01");
    assert_eq!(login("x", "nobody\u{1b}[2J", "app"), "28P01");
    assert_eq!(login(&acme.password, &acme.user, "elsewhere"), "3D000");

    let good = place.events("API_KEY_ACCESS", 1).remove(0);
    assert_eq!(good["key_id"], acme.user);
    assert_eq!(good["workspace_id"], place.dev.text("/workspaces/0/id"));
    assert_eq!((&good["severity"], &good["outcome"]), (&Value::from("low"), &Value::from("ok")));
    assert_eq!((&good["client_addr"], &good["application_name"]), (&"127.0.0.1".into(), &"a\nb; drop table x".into()));
    assert_eq!(good["detail"]["database"], "app");

    let bad = place.events("API_KEY_ACCESS_FAILED", 3);
    let of = |at: usize, key: &str| bad[at][key].as_str().unwrap_or("-").to_owned();
    let seen: Vec<[String; 4]> = (0..3)
        .map(|at| {
            [of(at, "key_id"), of(at, "client_user"), of(at, "sqlstate"), bad[at]["detail"]["reason"].to_string()]
        })
        .collect();
    let words = |words: [&str; 4]| words.map(str::to_owned);
    assert_eq!(
        seen,
        [
            words([&acme.user, &acme.user, "28P01", "\"wrong secret\""]),
            words(["-", "nobody\u{1b}[2J", "28P01", "\"unknown key\""]),
            words([&acme.user, &acme.user, "3D000", "\"database \\\"elsewhere\\\" does not exist\""]),
        ]
    );
    assert!(bad.iter().all(|event| event["severity"] == "medium" && event["outcome"] == "denied"));
    let (_, said) = place.pgcordon(&["audit", "tail"]);
    assert!(!said.contains('\u{1b}') && !said.contains(&acme.password) && !said.contains("not the secret"), "{said}");
    place.is_whole();
}

#[test]
fn no_bytes_in_place_of_a_name_stop_the_trail() {
    let place = Place::new();
    let acme = Url::parse(place.dev.acme());
    let long = "x".repeat(9000);
    for name in [&b"\xff\xfe\xc3\x28"[..], b"caf\xe9", long.as_bytes()] {
        let sent = startup(196_608, &[("user", &acme.user), ("database", "app"), ("application_name", "NAME")]);
        let at = sent.windows(4).position(|window| window == b"NAME").unwrap();
        let mut bytes = [&sent[..at], name, &sent[at + 4..]].concat();
        let length = u32::try_from(bytes.len()).unwrap();
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        let mut wire = Wire::raw((&acme.host, acme.port));
        wire.send(&bytes);
        let _ = wire.authenticate(&acme.password);
    }
    drop(Wire::open_with(place.dev.acme(), &[("application_name", "after")]));
    let deadline = Instant::now() + Duration::from_secs(30);
    while !place.events("API_KEY_ACCESS", 1).iter().any(|event| event["application_name"] == "after") {
        assert!(Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(50));
    }
    place.is_whole();
}

#[test]
fn a_bind_that_fails_is_recorded() {
    let place = Place::new();
    let unlucky = [("application_name", "unlucky")];
    let mut session = Wire::open_with(place.dev.acme(), &unlucky);
    assert_eq!(session.value("select 1"), "1");
    // The one server connection goes to another workspace, and can't come back.
    assert_eq!(Wire::open(place.dev.globex()).value("select 1"), "1");
    let mut admin = place.dev.admin();
    admin.query("revoke execute on function pg_catalog.set_config(text, text, boolean) from public");
    assert_eq!(session.query("select 1"), "E(08006) Z(I)");
    assert!(Wire::try_open(place.dev.acme(), &[("application_name", "another")]).is_err());
    let events = place.events("CONTEXT_FAILED", 2);
    assert!(events.iter().any(|event| event["application_name"] == "another"), "{events:?}");
    let failed = events.iter().find(|event| event["application_name"] == "unlucky").unwrap();
    assert_eq!((&failed["severity"], &failed["outcome"]), (&Value::from("high"), &Value::from("failed")));
    assert_eq!(failed["workspace_id"], place.dev.text("/workspaces/0/id"));
    assert_eq!(
        (&failed["key_id"], &failed["application_name"]),
        (&Url::parse(place.dev.acme()).user.into(), &"unlucky".into())
    );
    assert!(
        failed["detail"]["reason"].as_str().is_some_and(|reason| !reason.is_empty()) && failed["sqlstate"].is_string()
    );
    place.is_whole();
}

#[test]
fn a_flood_of_bad_logins_costs_bounded_space_and_its_number_is_told() {
    let place = Place::new();
    let acme = Url::parse(place.dev.acme());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..75 {
                    let parameters = [("user", acme.user.as_str()), ("database", "app")];
                    assert!(Wire::login((&acme.host, acme.port), "wrong", &parameters).is_err());
                }
            });
        }
    });
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let events = place.events("API_KEY_ACCESS_FAILED", 200);
        let alike: u64 = events.iter().filter_map(|event| event["detail"]["alike"].as_u64()).sum();
        let single = events.iter().filter(|event| event["detail"]["alike"].is_null()).count() as u64;
        if single + alike == 600 {
            assert!(alike > 0, "{single} of 600 were kept");
            break;
        }
        assert!(Instant::now() < deadline, "{single} and {alike}");
        std::thread::sleep(Duration::from_millis(100));
    }
    place.is_whole();
}

#[test]
fn the_trail_is_measured() {
    let place = Place::new();
    drop(Wire::open(place.dev.acme()));
    place.events("API_KEY_ACCESS", 1);
    let url = place.dev.text("/http/url").trim_start_matches("http://").to_owned();
    let mut http = std::net::TcpStream::connect(&url).unwrap();
    http.write_all(format!("GET /metrics HTTP/1.1\r\nHost: {url}\r\nConnection: close\r\n\r\n").as_bytes()).unwrap();
    let mut said = String::new();
    http.read_to_string(&mut said).unwrap();
    let value = |name: &str| -> f64 {
        let line = said.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        line.unwrap_or_else(|| panic!("{name} in {said}")).parse().unwrap()
    };
    assert!(value("pgcordon_audit_events_total") >= 2.0 && value("pgcordon_audit_shipped_total") >= 2.0);
    assert!(value("pgcordon_audit_spool_bytes") > 0.0);
    assert_eq!((value("pgcordon_audit_events_lost_total"), value("pgcordon_audit_failing")), (0.0, 0.0));
}

#[test]
fn a_spool_that_cant_be_written_keeps_the_proxy_from_starting() {
    for (directory, arguments) in [("/proc/audit", &["serve", "--check"][..]), ("/dev/null/audit", &["serve"])] {
        let done = Command::new(binary())
            .args(arguments)
            .env("PGCORDON_AUDIT__SPOOL_DIR", directory)
            .env("PGCORDON_SERVER__LISTEN", "127.0.0.1:0")
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert_eq!(done.status.code(), Some(2), "{said}");
        assert!(said.starts_with(&format!("pgcordon: audit.spool_dir: {directory} can't be written")), "{said}");
    }
}
