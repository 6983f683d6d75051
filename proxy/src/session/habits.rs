//! Which workspaces ask for the numbers of sequences. One whose clients do it once will do it again: from then on each of its
//! clients stays where it writes. Before that it is tried out, for a number of statements in each workspace. All cores share
//! this; they look at it when a client takes a server connection, and at no more than a number as long as nothing was learnt.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::domain::WorkspaceId;
use crate::domain::limits::{
    ASKING_WORKSPACES_MAX, TRIAL_LOOKS_AT_ONCE, TRIAL_LOOKS_MAX, TRIAL_STAYS_MAX, TRIAL_WORKSPACES_MAX,
};

/// The workspaces that ask; sessions without a workspace count as one.
#[derive(Debug, Default)]
pub struct Habits {
    version: AtomicU64,
    asking: Mutex<HashSet<Option<WorkspaceId>, ahash::RandomState>>,
    trials: Mutex<HashMap<Option<WorkspaceId>, Trial, ahash::RandomState>>,
}

/// What is left of trying a workspace out.
#[derive(Clone, Copy, Debug)]
struct Trial {
    looks: u16,
    stays: u16,
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

    /// At how many more texts a session of the workspace may look, to learn whether it asks. None at all is for good.
    pub fn looks(&self, workspace: Option<WorkspaceId>) -> u16 {
        self.trial(workspace, |trial| {
            let granted = trial.looks.min(TRIAL_LOOKS_AT_ONCE);
            trial.looks -= granted;
            granted
        })
        .unwrap_or(0)
    }

    /// Whether a client of the workspace may stay once more, in case that it asks.
    pub fn may_stay(&self, workspace: Option<WorkspaceId>) -> bool {
        self.trial(workspace, |trial| {
            let left = trial.stays;
            trial.stays = left.saturating_sub(1);
            left > 0
        })
        .unwrap_or(false)
    }

    /// Where too many workspaces are tried out, others aren't.
    fn trial<T>(&self, workspace: Option<WorkspaceId>, make: impl FnOnce(&mut Trial) -> T) -> Option<T> {
        let mut trials = self.trials.lock();
        if trials.len() >= TRIAL_WORKSPACES_MAX && !trials.contains_key(&workspace) {
            return None;
        }
        let whole = Trial { looks: TRIAL_LOOKS_MAX, stays: TRIAL_STAYS_MAX };
        Some(make(trials.entry(workspace).or_insert(whole)))
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

    #[test]
    fn a_workspace_is_tried_out_within_bounds() {
        let habits = Habits::default();
        let workspace = |number: usize| Some(WorkspaceId::new(uuid::Uuid::from_u128(number as u128)));
        let looks: u32 = (0..2 * TRIAL_LOOKS_MAX).map(|_| u32::from(habits.looks(workspace(1)))).sum();
        assert_eq!(looks, u32::from(TRIAL_LOOKS_MAX));
        assert_eq!(
            (0..TRIAL_STAYS_MAX + 9).filter(|_| habits.may_stay(workspace(1))).count(),
            usize::from(TRIAL_STAYS_MAX)
        );
        assert!(habits.looks(workspace(2)) > 0 && habits.may_stay(None));
        let tried = (0..2 * TRIAL_WORKSPACES_MAX).filter(|number| habits.looks(workspace(*number)) > 0).count();
        assert_eq!((tried, habits.trials.lock().len()), (TRIAL_WORKSPACES_MAX - 2, TRIAL_WORKSPACES_MAX));
        assert_eq!((habits.looks(workspace(1)), habits.looks(workspace(2 * TRIAL_WORKSPACES_MAX))), (0, 0));
    }
}
