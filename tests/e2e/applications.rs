//! Whole applications, unchanged: only their DATABASE_URL is replaced. Their migrations run through the system key, an operator
//! protects and meters what they made, and then each tenant works in its own. `tests/run.sh` installs their frameworks.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use pgcordon_tests::dev::{Dev, binary};

/// A proxy in front of a database in which the application has nothing yet.
struct Stage {
    dev: Dev,
    directory: tempfile::TempDir,
    application: PathBuf,
}

impl Stage {
    fn new(application: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let schema = directory.path().join("empty.sql");
        std::fs::write(&schema, "select 1;").unwrap();
        let data = directory.path().join("data");
        let options = ["--pool-size", "3", "--schema", schema.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
        let dev = Dev::start(&options);
        let application = Path::new(env!("CARGO_MANIFEST_DIR")).join("drivers").join(application);
        Self { dev, directory, application }
    }

    /// Runs a part of the application with this DATABASE_URL.
    fn run(&self, interpreter: &str, arguments: &[&str], url: &str, variables: &[(&str, &str)]) {
        let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-tools/node_modules");
        let output = Command::new(interpreter)
            .args(arguments)
            .current_dir(&self.application)
            .env("DATABASE_URL", url)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("NODE_PATH", std::env::var_os("NODE_PATH").unwrap_or_else(|| modules.into()))
            .envs(variables.iter().copied())
            .output()
            .unwrap_or_else(|error| panic!("{interpreter}: {error}: run tests/run.sh, which installs what is needed"));
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success(), "{arguments:?}: {said}");
    }

    /// A command of the operator's.
    fn operate(&self, arguments: &[&str]) -> String {
        let configuration = self.directory.path().join("data/pgcordon.toml");
        let output = Command::new(binary())
            .args(arguments)
            .arg("--config")
            .arg(configuration)
            .output()
            .expect("pgcordon is built");
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said} {}", String::from_utf8_lossy(&output.stderr));
        said
    }

    /// The quota of tasks that the proxy holds to, and what is used of it.
    fn tasks(&self, workspace: usize) -> (Option<u64>, Option<u64>) {
        let id = self.dev.text(&format!("/workspaces/{workspace}/id"));
        let quota = &self.dev.http(&format!("/api/workspaces/{id}/quota"))["quotas"][0];
        (quota["limit"].as_u64(), quota["currentUsage"].as_u64())
    }

    /// Protects and meters the application's tables, and waits until the proxy knows.
    fn protect_and_meter(&self, project: &str, task: &str) {
        self.operate(&["protect", "--add-column", project, task]);
        self.operate(&["meter", "tasks", "--table", task, "--limit", "10"]);
        while self.tasks(0).0 != Some(10) {
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// The trail says of acme's writes to this table what was really written, and it is whole. Until the proxy has read the
    /// catalog anew a relation goes by the name that the statement used.
    fn has_recorded(&self, task: &str, created: u64, refusals: u64) {
        let of_acme = format!("workspace_id = '{}'", self.dev.text("/workspaces/0/id"));
        let sum = |kind: &str| {
            format!(
                "select coalesce(sum(rows), 0) from cordon.audit_event where {of_acme} and relation in ('{task}', 'public.{task}') \
                 and event_type = '{kind}' and outcome = 'ok'"
            )
        };
        let refused = format!(
            "select count(*) from cordon.audit_event where {of_acme} and event_type = 'QUOTA_EXCEEDED' and outcome = 'denied' and sqlstate = '53400'"
        );
        let mut admin = self.dev.admin();
        let mut told = || {
            let all = [sum("RESOURCE_CREATED"), refused.clone()].map(|sql| admin.value(&sql).parse::<u64>().unwrap());
            (all[0], all[1])
        };
        for _ in 0..400 {
            if told() == (created, refusals) {
                break;
            }
            thread::sleep(Duration::from_millis(25));
        }
        let lines = self.operate(&["audit", "tail", "-n", "500"]);
        assert_eq!(told(), (created, refusals), "{lines}");
        assert!(lines.contains("RESOURCE_UPDATED ok ") && lines.contains("RESOURCE_CREATED rolled_back "), "{lines}");
        assert!(self.operate(&["audit", "verify"]).starts_with("whole: "));
    }
}

fn python() -> String {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-tools/venv/bin/python");
    std::env::var("CORDON_TEST_PYTHON").unwrap_or_else(|_| installed.display().to_string())
}

#[test]
fn a_django_application_runs_unchanged() {
    let stage = Stage::new("django_tracker");
    let python = python();
    let system = stage.dev.system().to_owned();
    stage.run(&python, &["manage.py", "migrate", "--verbosity", "0", "tracker", "0001"], &system, &[]);
    stage.protect_and_meter("tracker_project", "tracker_task");
    // A later version of the application finds its tables protected.
    stage.run(&python, &["manage.py", "migrate", "--verbosity", "0"], &system, &[]);
    stage.run(&python, &["manage.py", "check"], &system, &[]);
    for url in [stage.dev.acme(), stage.dev.globex()] {
        for binding in ["0", "1"] {
            stage.run(&python, &["manage.py", "work"], url, &[("SERVER_SIDE_BINDING", binding)]);
        }
    }
    assert_eq!((stage.tasks(0), stage.tasks(1)), ((Some(10), Some(0)), (Some(10), Some(0))));
    // Each run adds 16 rows, as Postgres counts them, and is refused five times.
    stage.has_recorded("tracker_task", 2 * 16, 2 * 5);
}

#[test]
fn a_drizzle_application_runs_unchanged() {
    let stage = Stage::new("drizzle_tracker");
    let system = stage.dev.system().to_owned();
    stage.run("node", &["migrate.js", "1"], &system, &[]);
    stage.protect_and_meter("project", "task");
    stage.run("node", &["migrate.js", "2"], &system, &[]);
    for url in [stage.dev.acme(), stage.dev.globex()] {
        stage.run("node", &["work.js"], url, &[]);
        stage.run("node", &["work.js"], url, &[]);
    }
    assert_eq!((stage.tasks(0), stage.tasks(1)), ((Some(10), Some(0)), (Some(10), Some(0))));
    stage.has_recorded("task", 2 * 16, 2 * 8);
}
