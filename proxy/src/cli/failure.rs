//! How a command fails: the thing, the cause and the next step, on standard error, and the exit code.

use std::fmt;
use std::process::ExitCode;

/// Why a command didn't do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The exit code: 1, 2 or 3.
    pub code: u8,
    /// The thing and the cause.
    pub message: String,
    /// The next step.
    pub hint: Option<String>,
}

impl Failure {
    /// The thing asked about is not so (1).
    pub fn not_so(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into(), hint: None }
    }

    /// Wrong usage or configuration (2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into(), hint: None }
    }

    /// Something outside failed (3): Postgres, the network, the operating system.
    pub fn outside(message: impl Into<String>) -> Self {
        Self { code: 3, message: message.into(), hint: None }
    }

    /// Adds the next step.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Tells it on standard error.
    #[allow(clippy::print_stderr, reason = "this is how the command line tells")]
    pub fn report(&self) -> ExitCode {
        eprintln!("pgcordon: {self}");
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(out, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}
