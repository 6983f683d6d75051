//! How a command fails: the thing, the cause, the next step. On stderr, without a backtrace.

use std::fmt;
use std::process::ExitCode;

/// Why a command didn't do what it was asked to.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
}

impl Failure {
    /// The thing asked about is not so (exit code 1).
    pub fn not_so(message: impl Into<String>) -> Self {
        Self { code: 1, message: message.into(), hint: None }
    }

    /// Wrong usage or configuration (exit code 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: 2, message: message.into(), hint: None }
    }

    /// Something outside failed (exit code 3).
    pub fn outside(message: impl Into<String>) -> Self {
        Self { code: 3, message: message.into(), hint: None }
    }

    /// Says what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Tells it on stderr.
    #[allow(clippy::print_stderr, reason = "this is where commands speak")]
    pub fn report(&self) -> ExitCode {
        eprintln!("pgcordon: {self}");
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.message)?;
        match &self.hint {
            Some(hint) => write!(out, "\n  {hint}"),
            None => Ok(()),
        }
    }
}
