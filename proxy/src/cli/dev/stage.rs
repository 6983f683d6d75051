//! What has been started so far, and therefore has to be stopped.

use super::cluster::Cluster;
use super::home::Home;
use crate::app::Running;

/// Filled in the order of starting; emptied in the reverse one.
pub(super) struct Stage {
    pub(super) home: Option<Home>,
    pub(super) cluster: Cluster,
    pub(super) running: Option<Running>,
}

impl Default for Stage {
    fn default() -> Self {
        Self { home: None, cluster: Cluster::new(0), running: None }
    }
}

impl Stage {
    /// Removes what is scratch.
    #[allow(clippy::print_stderr, reason = "a command of the CLI")]
    pub(super) fn clean(&mut self) {
        if let Some(home) = self.home.take()
            && let Err(error) = home.clean()
        {
            eprintln!("pgcordon: can't remove {}: {error}", home.scratch.display());
        }
    }

    /// Where to read what Postgres said.
    pub(super) fn log_hint(&self) -> String {
        match &self.home {
            Some(home) if home.kept => format!("see {}", home.log().display()),
            _ => "with --data-dir DIR its log is kept".to_owned(),
        }
    }
}
