//! Running the program.

use std::process::{Command, Output, Stdio};

use crate::scratch::Database;

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl Ended {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), out: text(&output.stdout), error: text(&output.stderr) }
    }

    /// Asserts an exit code and words of stderr.
    pub(crate) fn fails(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(words.iter().all(|word| self.error.contains(word)), "{words:?} in {self:?}");
        assert!(!self.error.contains("panicked"), "{self:?}");
    }

    /// Asserts success, and returns what was printed.
    pub(crate) fn prints(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self:?}");
        &self.out
    }
}

/// The program with an environment of its own, which says where this database is.
pub(crate) fn command(database: &Database, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgcordon"));
    let (sockets, name) = (database.sockets().display(), database.name());
    command.args(arguments).env_clear().stdin(Stdio::null());
    command.env("PGCORDON_UPSTREAM__HOST", database.sockets());
    command.env("PGCORDON_UPSTREAM__DATABASES", format!("[\"{name}\"]"));
    command.env("PGCORDON_UPSTREAM__ADMIN_URL", format!("postgresql:///{name}?host={sockets}&user=postgres"));
    command
}

/// Runs it.
pub(crate) fn run(database: &Database, arguments: &[&str]) -> Ended {
    Ended::of(&command(database, arguments).output().unwrap())
}
