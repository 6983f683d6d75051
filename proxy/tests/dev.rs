//! `pgcordon dev` as a process: however it ends, nothing of it is left, neither a process nor a file.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The longest that stopping may take.
const STOP_MAX: Duration = Duration::from_secs(5);
/// The longest that a start may take, on a machine that is busy with other tests.
const START_MAX: Duration = Duration::from_secs(90);

/// A directory of this test's own in place of /tmp: what is left in it and in the process table is ours.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("dev").tempdir().expect("a directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        fs::create_dir(directory.path().join("t")).expect("mkdir");
        Self { directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn dev(&self, arguments: &[&str]) -> Dev {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgcordon"));
        command.args(["dev", "--json", "--port", "0", "--http-port", "0"]).args(arguments);
        command.env("TMPDIR", self.path("t")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Dev { child: command.spawn().expect("it starts") }
    }

    /// Processes that name this place in their arguments or work in it, and files in the place of /tmp.
    fn leftovers(&self) -> Vec<String> {
        let needle = self.directory.path().canonicalize().expect("a path").display().to_string();
        let mut found: Vec<String> = fs::read_dir(self.path("t"))
            .expect("t")
            .map(|entry| entry.expect("entry").path().display().to_string())
            .collect();
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let read = |name: &str| {
                fs::read(process.path().join(name)).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            };
            let arguments = read("cmdline").unwrap_or_default();
            let directory = fs::read_link(process.path().join("cwd")).unwrap_or_default();
            if arguments.contains(&needle) || directory.starts_with(&needle) {
                found.push(format!("{}: {}", process.path().display(), arguments.replace('\0', " ")));
            }
        }
        found
    }

    /// Nothing runs any more. A directory may be left by a run that was killed before there was a keeper to remove it.
    fn is_quiet_within(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while self.leftovers().iter().any(|each| each.starts_with("/proc/")) {
            assert!(Instant::now() < deadline, "left behind: {:#?}", self.leftovers());
            sleep(Duration::from_millis(20));
        }
    }

    fn is_clean_within(&self, patience: Duration) {
        let deadline = Instant::now() + patience;
        while !self.leftovers().is_empty() {
            assert!(Instant::now() < deadline, "left behind: {:#?}", self.leftovers());
            sleep(Duration::from_millis(20));
        }
    }
}

/// A running `pgcordon dev`.
struct Dev {
    child: Child,
}

impl Dev {
    /// The line of JSON.
    fn ready(&mut self) -> serde_json::Value {
        let mut line = String::new();
        BufReader::new(self.child.stdout.as_mut().expect("stdout")).read_line(&mut line).expect("a line");
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("no line of JSON: {line:?}, {}", self.said()))
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    fn ended_within(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status;
            }
            assert!(Instant::now() < deadline, "it still runs after {patience:?}");
            sleep(Duration::from_millis(10));
        }
    }

    fn said(&mut self) -> String {
        let mut text = String::new();
        if let Some(mut pipe) = self.child.stderr.take() {
            let _ = pipe.read_to_string(&mut text);
        }
        text
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn one_line_of_json_tells_all_and_sigterm_ends_all() {
    let place = Place::new();
    let mut dev = place.dev(&[]);
    let report = dev.ready();
    assert_eq!(report["proxy"]["database"], "app");
    assert_ne!(report["proxy"]["port"], 0);
    let names: Vec<&str> =
        report["workspaces"].as_array().expect("a list").iter().filter_map(|w| w["name"].as_str()).collect();
    assert_eq!(names, ["acme", "globex"]);
    assert!(report.get("superuser").is_none(), "only with --superuser-key");
    dev.signal(Signal::TERM);
    assert!(dev.ended_within(STOP_MAX).success());
    let mut rest = String::new();
    dev.child.stdout.take().expect("stdout").read_to_string(&mut rest).expect("the rest");
    assert_eq!(rest, "", "nothing else on standard output");
    place.is_clean_within(Duration::ZERO);
}

#[test]
fn the_token_that_is_told_is_the_one_in_force() {
    let place = Place::new();
    let (token, configuration) = (place.path("token"), place.path("pgcordon.toml"));
    fs::write(&token, "of a file\n").expect("a file");
    for (line, expected) in [("token = 'mine'", "mine"), (&format!("token_file = '{}'", text(&token)), "of a file")] {
        fs::write(&configuration, format!("[http]\n{line}\n")).expect("a configuration");
        let mut dev = place.dev(&["--config", text(&configuration)]);
        let report = dev.ready();
        assert_eq!(report["http"]["token"], expected);
        let address = report["http"]["url"].as_str().expect("a URL").trim_start_matches("http://").to_owned();
        let mut http = std::net::TcpStream::connect(&address).expect("it listens");
        let request = format!(
            "GET /api/nothing HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {expected}\r\nConnection: close\r\n\r\n"
        );
        http.write_all(request.as_bytes()).expect("a request");
        let mut answer = String::new();
        http.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 404"), "{answer}");
        dev.signal(Signal::TERM);
        assert!(dev.ended_within(STOP_MAX).success());
    }
}

#[test]
fn a_signal_in_any_phase_of_the_start_leaves_nothing() {
    for (round, delay) in [0, 20, 60, 120, 250, 400, 550, 700, 900, 1200, 1600].into_iter().enumerate() {
        let place = Place::new();
        let mut dev = place.dev(&[]);
        sleep(Duration::from_millis(delay));
        dev.signal([Signal::TERM, Signal::INT, Signal::HUP][round % 3]);
        dev.ended_within(STOP_MAX);
        place.is_clean_within(Duration::ZERO);
    }
}

#[test]
fn after_a_kill_in_any_phase_nothing_runs_on_and_the_next_start_recovers() {
    let place = Place::new();
    let data = place.path("data");
    for delay in [60, 200, 450, 700, 1000, 1500] {
        let mut dev = place.dev(&["--data-dir", text(&data)]);
        sleep(Duration::from_millis(delay));
        dev.signal(Signal::KILL);
        dev.ended_within(STOP_MAX);
        // Every other time the next start comes at once and meets the keeper at work.
        if delay % 2 == 0 {
            place.is_quiet_within(STOP_MAX);
        }
    }
    // What a run left that was killed before its keeper began is nobody's to remove.
    let left = place.leftovers();
    let mut dev = place.dev(&["--data-dir", text(&data)]);
    dev.ready();
    dev.signal(Signal::TERM);
    assert!(dev.ended_within(STOP_MAX).success());
    let more: Vec<String> = place.leftovers().into_iter().filter(|each| !left.contains(each)).collect();
    assert!(more.is_empty(), "left behind: {more:#?}");
}

#[test]
fn a_kept_database_has_the_same_urls_the_next_time_even_after_a_kill_of_everything_but_postgres() {
    let place = Place::new();
    let data = place.path("data");
    let mut dev = place.dev(&["--data-dir", text(&data), "--superuser-key"]);
    let first = dev.ready();
    assert!(first["superuser"]["dsn"].is_string());
    dev.signal(Signal::STOP);
    kill_children(dev.child.id());
    dev.signal(Signal::KILL);
    dev.ended_within(STOP_MAX);
    assert!(!place.leftovers().is_empty(), "Postgres is an orphan now");

    let mut dev = place.dev(&["--data-dir", text(&data)]);
    let second = dev.ready();
    for (old, new) in
        first["workspaces"].as_array().expect("a list").iter().zip(second["workspaces"].as_array().expect("a list"))
    {
        assert_eq!((&old["id"], &old["key_id"], &old["secret"]), (&new["id"], &new["key_id"], &new["secret"]));
    }
    let mut other = place.dev(&["--data-dir", text(&data)]);
    assert_eq!(other.ended_within(START_MAX).code(), Some(3));
    assert!(other.said().contains("in use by another pgcordon dev"));
    dev.signal(Signal::INT);
    assert!(dev.ended_within(STOP_MAX).success());
    place.is_clean_within(Duration::ZERO);
}

/// Kills the children of a process, which is the keeper of Postgres here.
fn kill_children(parent: u32) {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).expect("children");
    for child in children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw) {
        kill_process(child, Signal::KILL).expect("it runs");
    }
}

#[test]
fn a_killed_keeper_ends_it_and_postgres_too() {
    let place = Place::new();
    let mut dev = place.dev(&[]);
    dev.ready();
    kill_children(dev.child.id());
    assert_eq!(dev.ended_within(STOP_MAX).code(), Some(3));
    place.is_clean_within(Duration::ZERO);
}

#[test]
fn an_error_half_way_names_file_line_and_cause_and_leaves_nothing() {
    let place = Place::new();
    let schema = place.path("broken.sql");
    fs::write(&schema, "CREATE TABLE good (id int);\n\nCREATE TABLE bad (id nonsense);\n").expect("a file");
    let mut dev = place.dev(&["--schema", text(&schema)]);
    assert_eq!(dev.ended_within(START_MAX).code(), Some(2));
    let said = dev.said();
    assert!(said.contains("broken.sql:3: ERROR:") && said.contains("type \"nonsense\" does not exist"), "{said}");
    place.is_clean_within(Duration::ZERO);
}

#[test]
fn an_application_schema_is_protected_and_what_has_no_workspace_is_named() {
    let place = Place::new();
    let schema = place.path("app.sql");
    let text_of = "CREATE SCHEMA crm;
        CREATE TABLE crm.tenant (id uuid PRIMARY KEY, name text);
        CREATE TABLE crm.contact (id serial PRIMARY KEY, workspace_id uuid NOT NULL REFERENCES crm.tenant (id));
        CREATE TABLE crm.note (id bigserial PRIMARY KEY, contact_id integer NOT NULL REFERENCES crm.contact (id));
        CREATE TABLE crm.currency (code text PRIMARY KEY);
        COPY crm.currency (code) FROM stdin;\nEUR\n\\.\nCREATE VIEW crm.contacts AS SELECT * FROM crm.contact;\n";
    fs::write(&schema, text_of).expect("a file");
    let quotas = ["--quota", "contacts=crm.contact:5", "--quota", "contacts=crm.note:5"];
    let mut dev = place.dev(&[&["--schema", text(&schema)], quotas.as_slice()].concat());
    dev.ready();
    dev.signal(Signal::TERM);
    assert!(dev.ended_within(STOP_MAX).success());
    let said = dev.said();
    for line in [
        "contacts counts the rows of crm.contact",
        "contacts counts the rows of crm.note",
        "protected 1 table",
        "crm.tenant lists the workspaces",
        "crm.note has no workspace column: its rows follow crm.contact",
        "crm.currency has no workspace column: every tenant may read it",
        "crm.contacts is closed to tenants",
    ] {
        assert!(said.contains(line), "{line:?} is missing in {said}");
    }
}

#[test]
fn a_quota_on_a_table_that_is_the_same_for_everybody_is_refused() {
    let place = Place::new();
    let mut dev = place.dev(&["--quota", "countries=Country:5"]);
    assert_eq!(dev.ended_within(START_MAX).code(), Some(2));
    let said = dev.said();
    assert!(said.contains("--quota countries") && said.contains("isn't protected"), "{said}");
    place.is_clean_within(Duration::ZERO);
}

#[test]
fn wrong_usage_is_told_before_anything_starts() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port().to_string();
    let full = place.path("full");
    fs::create_dir(&full).expect("mkdir");
    fs::write(full.join("thesis.txt"), "").expect("a file");
    let cases: [(&[&str], i32, &str); 8] = [
        (&["--port", &port], 3, &port),
        (&["--schema", "/nowhere.sql"], 2, "/nowhere.sql"),
        (&["--config", "/nowhere.toml"], 2, "/nowhere.toml"),
        (&["--pg-bin", "/nowhere"], 2, "/nowhere"),
        (&["--data-dir", text(&full)], 2, "isn't empty"),
        (&["--quota", "users=Segment"], 2, "RESOURCE=TABLE:LIMIT"),
        (&["--quota", "users=Segment:five"], 2, "whole number"),
        (&["--quota", "users=Segment:5", "--quota", "users=Journey:6"], 2, "two limits, 5 and 6"),
    ];
    for (arguments, code, word) in cases {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgcordon"));
        command.args(["dev", "--json", "--http-port", "0"]).args(arguments).env("TMPDIR", place.path("t"));
        if arguments[0] != "--port" {
            command.args(["--port", "0"]);
        }
        let output = command.output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(said.contains(word), "{arguments:?}: {said}");
        assert!(!said.contains("making a database"), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
    }
    place.is_clean_within(Duration::ZERO);
}
