//! What an operator does to a running proxy: reload it, drain it, run two of them.

use std::path::{Path, PathBuf};

use pgcordon_tests::dev::{Dev, binary};
use pgcordon_tests::serve::Serve;
use pgcordon_tests::wire::{Url, Wire, query};
use rustix::process::Signal;

/// A database with a proxy of its own, and the configuration that other proxies of it can take.
struct Stage {
    dev: Dev,
    directory: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let dev = Dev::start(&["--pool-size", "4", "--data-dir", data.to_str().unwrap()]);
        Self { dev, directory }
    }

    /// The configuration that `dev` wrote, with further lines, as a file that may be changed.
    fn configuration(&self, further: &str) -> PathBuf {
        let written = std::fs::read_to_string(self.directory.path().join("data/pgcordon.toml")).unwrap();
        let file = self.directory.path().join("serve.toml");
        std::fs::write(&file, format!("{written}\n{further}")).unwrap();
        file
    }
}

/// Gives the configuration a method of authentication, and a further key of `[server]`.
fn change(file: &Path, method: &str, further: &str) {
    let text = std::fs::read_to_string(file).unwrap().replace("[server]\n", &format!("[server]\n{further}\n"));
    std::fs::write(file, format!("{text}\n[auth]\nmethod = \"{method}\"\n")).unwrap();
}

#[test]
fn a_reload_takes_what_it_can_and_says_what_waits_for_a_restart() {
    let stage = Stage::new();
    let file = stage.configuration("");
    let serve = Serve::start(&file, &[]);
    let url = serve.url(stage.dev.acme());
    let mut session = Wire::open(&url);
    change(&file, "password", "cores = 1");
    serve.signal(Signal::HUP);
    let taken = serve.says("SIGHUP: certificates are read anew");
    assert!(taken.contains("auth.method") && !taken.contains("cores"), "{taken}");
    assert!(serve.says("wait for a restart").contains("server.cores"));
    // AuthenticationCleartextPassword is what the next login is asked for, and who is in stays.
    let parts = Url::parse(&url);
    let mut raw = Wire::raw((&parts.host, parts.port));
    raw.send(&pgcordon_tests::wire::startup(3 << 16, &[("user", &parts.user), ("database", "app")]));
    assert_eq!(raw.read().unwrap().body, 3_i32.to_be_bytes());
    assert_eq!(session.value("select 40 + 2"), "42");
}

#[test]
fn a_broken_configuration_changes_nothing_and_every_mistake_is_told() {
    let stage = Stage::new();
    let file = stage.configuration("");
    let serve = Serve::start(&file, &[]);
    let url = serve.url(stage.dev.acme());
    change(&file, "none", "coers = 1");
    serve.signal(Signal::HUP);
    serve.says("the configuration in use stays");
    let told = serve.says("auth.method") + &serve.says("server.coers");
    assert!(told.contains("there is no such key"), "{told}");
    assert_eq!(Wire::open(&url).value("select 40 + 2"), "42");
}

#[test]
fn sigterm_lets_open_transactions_end_and_tells_the_others() {
    let stage = Stage::new();
    let mut serve = Serve::start(&stage.configuration(""), &[]);
    let url = serve.url(stage.dev.acme());
    let (mut idle, mut open, mut busy) = (Wire::open(&url), Wire::open(&url), Wire::open(&url));
    open.query("begin");
    busy.send(&query("select pg_sleep(1), 'done'"));
    let mut admin = stage.dev.admin();
    let running = "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(1)%'";
    while admin.value(running) == "0" {}
    serve.signal(Signal::TERM);
    serve.says("stopping");
    assert!(idle.until(b'E').ends_with("E(57P01)"));
    // Who comes while the door is being closed gets no answer; then nobody gets in.
    let address = Url::parse(&url);
    while std::net::TcpStream::connect((address.host.as_str(), address.port)).is_ok() {}
    assert!(busy.until(b'Z').contains("D(|done)"), "a running statement is answered");
    assert_eq!(open.query("insert into \"Segment\" (name) values ('drained')"), "C(INSERT 0 1) Z(T)");
    open.send(&query("commit"));
    assert_eq!(open.until(b'C'), "C(COMMIT)");
    assert!(serve.end().success());
    assert_eq!(Wire::open(stage.dev.acme()).value("select count(*) from \"Segment\" where name = 'drained'"), "1");
}

#[test]
fn a_second_sigterm_ends_open_transactions_at_once() {
    let stage = Stage::new();
    let mut serve = Serve::start(&stage.configuration(""), &[("PGCORDON_SERVER__DRAIN_TIMEOUT_MS", "600000")]);
    let mut open = Wire::open(&serve.url(stage.dev.acme()));
    open.query("begin");
    open.query("insert into \"Segment\" (name) values ('cut off')");
    serve.signal(Signal::TERM);
    serve.says("stopping");
    serve.signal(Signal::TERM);
    assert!(open.until(b'E').ends_with("E(57P01)"));
    assert!(serve.end().success());
    assert_eq!(Wire::open(stage.dev.acme()).value("select count(*) from \"Segment\" where name = 'cut off'"), "0");
}

#[test]
fn two_proxies_of_one_upstream_work_side_by_side() {
    let stage = Stage::new();
    let file = stage.configuration("");
    let (one, two) = (Serve::start(&file, &[]), Serve::start(&file, &[]));
    let urls = [one.url(stage.dev.acme()), two.url(stage.dev.acme())];
    let [mut first, mut second] = [&urls[0], &urls[1]].map(|url| Wire::open(url));
    first.query("insert into \"Segment\" (name) values ('of both')");
    assert_eq!(second.value("select count(*) from \"Segment\" where name = 'of both'"), "1");
    assert_eq!(
        Wire::open(&two.url(stage.dev.globex())).value("select count(*) from \"Segment\" where name = 'of both'"),
        "0"
    );
    // A key that is revoked ends its sessions at both.
    let revoked = std::process::Command::new(binary())
        .args(["key", "revoke", &Url::parse(stage.dev.acme()).user, "--config"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    for session in [&mut first, &mut second] {
        assert!(session.until(b'E').ends_with("E(57P01)"));
    }
    for url in &urls {
        assert_eq!(Wire::try_open_quietly(url).err().flatten().as_deref(), Some("28P01"));
    }
}
