//! Which workspaces ask for the numbers of sequences. One whose clients do it once will do it again: from then on each of its
//! clients stays where it writes. All cores share this; they look at it when a client takes a server connection, and at no
//! more than a number as long as nothing was learnt.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::domain::WorkspaceId;
use crate::domain::limits::ASKING_WORKSPACES_MAX;

/// The workspaces that ask; sessions without a workspace count as one.
#[derive(Debug, Default)]
pub struct Habits {
    version: AtomicU64,
    asking: Mutex<HashSet<Option<WorkspaceId>, ahash::RandomState>>,
}

impl Habits {
    /// Changes whenever something is learnt.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Relaxed)
    }

    /// Whether clients of the workspace ask.
    pub fn asks(&self, workspace: Option<WorkspaceId>) -> bool {
        self.asking.lock().contains(&workspace)
    }

    /// A client of the workspace asks. When too many are known, all are forgotten, and learnt again.
    pub fn learn(&self, workspace: Option<WorkspaceId>) {
        let mut asking = self.asking.lock();
        if asking.len() >= ASKING_WORKSPACES_MAX && !asking.contains(&workspace) {
            asking.clear();
        }
        if asking.insert(workspace) {
            self.version.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_learnt_stays_known_within_bounds() {
        let habits = Habits::default();
        let workspace = |number: usize| Some(WorkspaceId::new(uuid::Uuid::from_u128(number as u128)));
        habits.learn(workspace(1));
        let version = habits.version();
        habits.learn(workspace(1));
        assert_eq!(habits.version(), version);
        assert!(habits.asks(workspace(1)) && !habits.asks(workspace(2)) && !habits.asks(None));
        (0..10 * ASKING_WORKSPACES_MAX).for_each(|number| habits.learn(workspace(number)));
        assert!(habits.asking.lock().len() <= ASKING_WORKSPACES_MAX && habits.version() > version);
    }
}
