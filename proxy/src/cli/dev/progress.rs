//! A line on standard error for each step, with the time since the start.

use crate::domain::clock::{self, Instant};

/// Tells a person what is going on.
pub(super) struct Progress {
    since: Instant,
}

impl Progress {
    /// Starts counting.
    pub(super) fn start() -> Self {
        Self { since: clock::now() }
    }

    /// The time since the start.
    pub(super) fn elapsed(&self) -> std::time::Duration {
        clock::now().duration_since(self.since)
    }

    /// One step.
    #[allow(clippy::print_stderr, reason = "a command of the CLI")]
    pub(super) fn say(&self, what: &str) {
        eprintln!("pgcordon {:5.1} s  {what}", self.elapsed().as_secs_f64());
    }
}
