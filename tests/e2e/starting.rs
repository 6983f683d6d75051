//! The startup packet: what Postgres takes is taken, and what it refuses is refused in its words.

use std::sync::Arc;

use pgcordon_tests::cluster::Cluster;
use pgcordon_tests::dev::Dev;
use pgcordon_tests::libpq::psycopg;
use pgcordon_tests::wire::{Message, Url, Wire, startup};

/// A proxy, and a Postgres of the same kind with a role that is as ordinary as a tenant's.
struct Stage {
    dev: Arc<Dev>,
    cluster: Arc<Cluster>,
}

impl Stage {
    fn new() -> Self {
        let cluster = Cluster::shared();
        cluster.open("postgres").query("create role plain login");
        Self { dev: Dev::shared(1), cluster }
    }

    /// A session on Postgres itself and one through the proxy.
    fn both(&self, parameters: &[(&str, &str)]) -> [Result<Wire, Message>; 2] {
        let direct = [("user", "plain"), ("database", "postgres")];
        let direct = Wire::login(self.cluster.address(), "", &[&direct, parameters].concat());
        [direct, Wire::try_open(self.dev.acme(), parameters)]
    }
}

/// An error as its client sees it; the proxy's own say whose they are.
fn told(error: &Message) -> (Option<String>, Option<String>, Option<String>) {
    let text = error.field(b'M').map(|text| text.trim_start_matches("pgcordon: ").to_owned());
    (error.field(b'S'), error.field(b'C'), text)
}

#[test]
fn options_and_parameters_have_the_effect_they_have_on_postgres() {
    let stage = Stage::new();
    let shown = "select name || '=' || setting from pg_settings where name in ('work_mem', 'DateStyle', 'TimeZone', 'geqo', \
                 'search_path', 'enable_seqscan', 'enable_nestloop', 'statement_timeout', 'application_name') order by 1";
    let custom = "select coalesce(current_setting('a.b', true), '')";
    for parameters in [
        &[("options", "-c work_mem=3MB")][..],
        &[("options", "--work-mem=3MB")],
        &[("options", "-cwork_mem=3MB -c geqo=off")],
        &[("options", "-S 3333 -e -fs -f n")],
        &[("options", "-neS3333")],
        &[("options", r"-c a.b=x\ y\\z --search-path=a,\ b")],
        &[("options", "-c a.b='x' -c a.b=\"y\"")],
        &[("options", "  -c  a.b=x=y\t\u{b}\n--statement_timeout=7s  ")],
        &[("options", "-c a.b= --")],
        &[("options", r"-c a.b=x\")],
        &[("options", "")],
        &[("TimeZone", "Asia/Tokyo"), ("search_path", "\"A b\", public"), ("statement_timeout", "9s")],
        &[("timezone", "Asia/Tokyo"), ("DATESTYLE", "German")],
        &[("work_mem", "5MB"), ("options", "-c work_mem=3MB")],
        &[("options", "-c work_mem=3MB"), ("work_mem", "5MB")],
        &[("options", "-c work_mem=3MB"), ("options", "-c geqo=off")],
        &[("work_mem", "5MB"), ("work_mem", "6MB")],
        &[("application_name", "an app"), ("a.b", "direct")],
        &[("client_encoding", "'LATIN1'")],
        &[("extra_float_digits", "3"), ("lc_monetary", "C"), ("bytea_output", "escape"), ("row_security", "on")],
        &[("replication", "off"), ("geqo", "off")],
        &[("_pq_.unheard_of", "1"), ("geqo", "off")],
    ] {
        let [direct, through] = stage.both(parameters).map(|session| {
            let mut session = session.unwrap_or_else(|error| panic!("{parameters:?}: {:?}", told(&error)));
            let mut seen = session.rows(shown);
            seen.extend(session.rows(custom));
            // What is shared by all sessions of a server, and who one is, differ on purpose.
            let reported = session.parameters.iter().filter(|(name, _)| name != "session_authorization");
            (seen, reported.cloned().collect::<Vec<_>>())
        });
        assert_eq!(through, direct, "{parameters:?}");
    }
}

#[test]
fn what_postgres_refuses_at_start_up_is_refused_in_its_words() {
    let stage = Stage::new();
    for parameters in [
        &[("nonsense_parameter", "1")][..],
        &[("work_mem", "lots")],
        &[("work_mem", "1kB")],
        &[("TimeZone", "Nowhere/Else")],
        &[("client_encoding", "EBCDIC")],
        &[("DateStyle", "Klingon")],
        &[("default_transaction_isolation", "none")],
        &[("max_connections", "7")],
        &[("log_statement", "none")],
        &[("fsync", "off")],
        &[("server_version", "9")],
        &[("session_replication_role", "replica")],
        &[("no.such-name", "1")],
        &[("", "1")],
        &[("options", "-c nonsense=1")],
        &[("options", "--nonsense=1")],
        &[("options", "-c work_mem=lots")],
        &[("options", "-c work_mem")],
        &[("options", "--work-mem")],
        &[("options", "-c")],
        &[("options", "-x")],
        &[("options", "-f x")],
        &[("options", "work_mem=1MB")],
        &[("options", "-B 100")],
        &[("options", "-s")],
        &[("options", "-O")],
        &[("options", "-d 1")],
        &[("options", "-c =x")],
        // The first mistake is told: that of the options.
        &[("nonsense_parameter", "1"), ("options", "-c geqo=maybe")],
        &[("work_mem", "lots"), ("nonsense_parameter", "1")],
        &[("replication", "maybe")],
    ] {
        let answers = stage.both(parameters).map(|session| session.err().map(|error| told(&error)));
        let [direct, through] = answers;
        // An empty name ends the packet early.
        assert!(direct.is_some(), "{parameters:?} is no mistake");
        assert_eq!(through, direct, "{parameters:?}");
    }
}

#[test]
fn what_isnt_a_tenants_to_choose_is_refused_at_start_up_too() {
    let stage = Stage::new();
    let other = "00000000-0000-0000-0000-000000000000";
    for (name, value) in [
        ("app.workspace_id", other),
        ("App.Workspace_ID", other),
        ("app.workspace_id", ""),
        ("app.workspace_seal", "x"),
        ("role", "postgres"),
        ("ROLE", "pgcordon_system"),
        ("session_authorization", "postgres"),
    ] {
        for parameters in [[(name, value)], [("options", &*format!("-c {name}={value}"))]] {
            let [_, through] = stage.both(&parameters);
            let error = through.err().unwrap_or_else(|| panic!("{parameters:?}"));
            assert_eq!(error.field(b'C').as_deref(), Some("42501"), "{parameters:?}");
            assert!(error.field(b'M').unwrap().starts_with("pgcordon: "), "{parameters:?}");
        }
    }
    let own = stage.dev.text("/workspaces/0/id").to_owned();
    let [_, through] = stage.both(&[("app.workspace_id", &own), ("role", "none")]);
    assert_eq!(through.unwrap_or_else(|error| panic!("{:?}", told(&error))).value("select cordon.workspace_id()"), own);
}

#[test]
fn the_protocol_is_3_0_or_3_2_and_others_are_refused_as_postgres_refuses_them() {
    let stage = Stage::new();
    for version in [1 << 16, 2 << 16, 4 << 16, 0x7fff << 16] {
        let (host, port) = stage.dev.address();
        let [direct, through] = [stage.cluster.address(), (&*host, port)].map(|address| {
            let mut wire = Wire::raw(address);
            wire.send(&startup(version, &[("user", "plain")]));
            let mut said = Vec::new();
            while let Some(byte) = wire.byte() {
                said.push(byte);
            }
            // What comes behind is what the server speaks, and where its code says so.
            let text = String::from_utf8(said[usize::from(said[1] == 0) * 5..].to_vec()).unwrap();
            text.replace("pgcordon: ", "").split(": server supports").next().unwrap().to_owned()
        });
        assert_eq!(through.trim_start_matches('E'), direct.trim_start_matches('E'), "{version:x}");
        assert!(direct.contains("unsupported frontend protocol"), "{direct:?}");
    }
    let acme = Url::parse(stage.dev.acme());
    for (asked, options, negotiated, key) in [
        (3 << 16, &[][..], None, 4),
        (3 << 16 | 1, &[], None, 4),
        (3 << 16 | 2, &[], None, 32),
        (3 << 16 | 3, &[], Some((3 << 16 | 2, vec![])), 32),
        (3 << 16 | 9999, &[("_pq_.a", "1")], Some((3 << 16 | 2, vec!["_pq_.a"])), 32),
        (3 << 16, &[("_pq_.a", "1"), ("_pq_.b", "")], Some((3 << 16, vec!["_pq_.a", "_pq_.b"])), 4),
        (3 << 16 | 2, &[("_pq_.", "1")], Some((3 << 16 | 2, vec!["_pq_."])), 32),
    ] {
        let mut wire = Wire::raw((&acme.host, acme.port));
        wire.send(&startup(asked, &[&[("user", acme.user.as_str()), ("database", "app")], options].concat()));
        if let Some((version, unknown)) = negotiated {
            let message = wire.read().unwrap();
            let mut body = i32::to_be_bytes(version).to_vec();
            body.extend_from_slice(&u32::try_from(unknown.len()).unwrap().to_be_bytes());
            unknown.iter().for_each(|name| body.extend_from_slice(format!("{name}\0").as_bytes()));
            assert_eq!((message.tag, message.body), (b'v', body), "{asked:x} {options:?}");
        }
        wire.authenticate(&acme.password).unwrap_or_else(|error| panic!("{:?}", told(&error)));
        assert_eq!(wire.key.1.len(), key, "{asked:x}");
        assert_eq!(wire.value("select 40 + 2"), "42");
    }
}

#[test]
fn a_newer_libpq_gets_the_protocol_it_asks_for() {
    let dev = Dev::shared(1);
    for (parameters, expected) in [
        ("sslmode=disable", "30000"),
        ("sslmode=disable max_protocol_version=3.2", "30002"),
        ("sslmode=disable max_protocol_version=latest", "30002"),
        ("sslmode=disable min_protocol_version=3.2 max_protocol_version=3.2", "30002"),
    ] {
        assert_eq!(psycopg(dev.acme(), parameters, "version").as_deref(), Ok(expected), "{parameters}");
    }
}

#[test]
fn a_client_that_says_nothing_or_next_to_nothing_is_hung_up_on() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("pgcordon.toml");
    std::fs::write(&file, "[auth]\ntimeout_ms = 1000\n").unwrap();
    let dev = Dev::start(&["--config", file.to_str().unwrap()]);
    let (host, port) = dev.address();
    let url = Url::parse(dev.acme());
    let begin = startup(3 << 16, &[("user", &url.user), ("database", "app")]);
    // From the first byte on, in mid-packet, and when it was asked for its proof.
    for bytes in [&b""[..], &begin[..7], &begin] {
        let mut silent = Wire::raw((&host, port));
        silent.send(bytes);
        while silent.read().is_some() {}
    }
    // Who sends a byte now and then gets no more time for it.
    let (mut slow, mut byte) = (Wire::raw((&host, port)), begin.iter().cycle());
    slow.send(&[0, 0, 39, 15]);
    while !slow.is_over() {
        slow.send(&[*byte.next().unwrap()]);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    // Time is for logging in only.
    let mut session = Wire::open(dev.acme());
    assert_eq!(session.value("select pg_sleep(1.5)::text || 'slept'"), "slept");
}
