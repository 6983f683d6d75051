//! A running `pgcordon dev`, shared by the tests of one binary that want the same one at the same time.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::template;
use crate::wire::{Url, Wire};

/// A proxy with a Postgres of its own, and what it printed.
pub struct Dev {
    child: Child,
    report: Value,
    /// What the database is kept in, if it is a copy of the template.
    copy: Option<TempDir>,
}

static SHARED: Mutex<Option<HashMap<usize, Weak<Dev>>>> = Mutex::new(None);

impl Dev {
    /// The one with this pool size that is running at this moment, or a new one.
    pub fn shared(pool_size: usize) -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let known = shared.get_or_insert_default();
        if let Some(running) = known.get(&pool_size).and_then(Weak::upgrade) {
            return running;
        }
        let fresh = Arc::new(Self::start(&["--pool-size", &pool_size.to_string()]));
        known.insert(pool_size, Arc::downgrade(&fresh));
        fresh
    }

    /// A new one, with further options.
    pub fn start(options: &[&str]) -> Self {
        if !are_the_proxys(options) {
            return Self::run(options);
        }
        let copy = template::copy();
        let data = template::data(&copy);
        let mut dev = Self::run(&[options, &["--data-dir", data.to_str().unwrap()]].concat());
        dev.copy = Some(copy);
        dev
    }

    /// A new one whose database is made from nothing, unless an option says where it is kept.
    pub fn run(options: &[&str]) -> Self {
        let mut child = Command::new(binary())
            .args(["dev", "--json", "--port", "0", "--http-port", "0"])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("pgcordon is built");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).expect("a report");
        let report = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        Self { child, report, copy: None }
    }

    /// A value of the report, by path.
    pub fn text(&self, path: &str) -> &str {
        self.report.pointer(path).and_then(Value::as_str).unwrap_or_else(|| panic!("{path} in {}", self.report))
    }

    /// acme's URL.
    pub fn acme(&self) -> &str {
        self.text("/workspaces/0/dsn")
    }

    /// globex' URL.
    pub fn globex(&self) -> &str {
        self.text("/workspaces/1/dsn")
    }

    /// The system key's URL.
    pub fn system(&self) -> &str {
        self.text("/system/dsn")
    }

    /// The real Postgres, as its superuser.
    pub fn admin(&self) -> Wire {
        Wire::open(self.text("/upstream/admin_dsn"))
    }

    /// What the proxy answers to a GET of this path, which must be JSON.
    pub fn http(&self, path: &str) -> Value {
        let (url, token) = (self.text("/http/url"), self.text("/http/token"));
        let address = url.trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(address).expect("it listens");
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {answer}"))
    }

    /// The value of a metric, with its labels as they are written.
    pub fn metric(&self, name: &str) -> u64 {
        let address = self.text("/http/url").trim_start_matches("http://").trim_end_matches('/');
        let mut stream = TcpStream::connect(address).expect("it listens");
        let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut said = String::new();
        stream.read_to_string(&mut said).expect("it answers");
        let value = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok());
        value.unwrap_or_else(|| panic!("{name} in {said}"))
    }

    /// Makes a function `process_id()` for all: the process id of the server connection. The proxy doesn't see that it is asked
    /// for, so the client goes on moving.
    pub fn make_process_id(&self) {
        self.admin().query(
            "create or replace function process_id() returns int language sql as 'select pg_backend_pid()'; \
             grant execute on function process_id() to public",
        );
    }

    /// Where clients connect.
    pub fn address(&self) -> (String, u16) {
        let url = Url::parse(self.acme());
        (url.host, url.port)
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

/// Whether none of the options is about the database.
fn are_the_proxys(options: &[&str]) -> bool {
    let is_number = |option: &str| option.bytes().all(|byte| byte.is_ascii_digit());
    options.iter().all(|option| matches!(*option, "--pool-size" | "--no-guard") || is_number(option))
}

impl Drop for Dev {
    fn drop(&mut self) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
        let _ = self.child.wait();
        self.copy = None;
    }
}

/// The program: where `PGCORDON_BIN` says, else beside the test's own executable.
pub fn binary() -> PathBuf {
    std::env::var_os("PGCORDON_BIN").map_or_else(
        || {
            let test = std::env::current_exe().expect("an executable");
            test.ancestors().nth(2).expect("target/PROFILE/deps").join("pgcordon")
        },
        PathBuf::from,
    )
}
