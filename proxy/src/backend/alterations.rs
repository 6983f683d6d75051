//! How often anything was altered in the databases, as far as it was heard: what was prepared before isn't believed behind it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Counted for all databases together. Who listens to one of them has an ear.
#[derive(Debug, Default)]
pub struct Alterations {
    count: AtomicU64,
    ears: Box<[AtomicBool]>,
}

impl Alterations {
    /// With so many ears, each of which is deaf until it says otherwise.
    pub fn with_ears(ears: usize) -> Self {
        Self { count: AtomicU64::new(0), ears: (0..ears).map(|_| AtomicBool::new(false)).collect() }
    }

    /// Something was altered, or may have been.
    pub fn note(&self) {
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// How often; `None` while one of the ears is deaf.
    pub fn heard(&self) -> Option<u64> {
        self.ears.iter().all(|ear| ear.load(Ordering::SeqCst)).then(|| self.count.load(Ordering::SeqCst))
    }

    /// From now on this ear hears, or it doesn't. What it missed meanwhile may be anything.
    pub fn listens(&self, ear: usize, hears: bool) {
        if let Some(known) = self.ears.get(ear)
            && known.swap(hears, Ordering::SeqCst) != hears
        {
            self.note();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_believed_while_an_ear_is_deaf_nor_what_was_before() {
        let alterations = Alterations::with_ears(2);
        alterations.listens(0, true);
        assert_eq!(alterations.heard(), None);
        alterations.listens(1, true);
        let before = alterations.heard();
        assert!(before.is_some());
        alterations.listens(1, true);
        assert_eq!(alterations.heard(), before);
        alterations.listens(0, false);
        assert_eq!(alterations.heard(), None);
        alterations.listens(0, true);
        assert_ne!(alterations.heard(), before);
        assert_eq!(Alterations::default().heard(), Some(0));
    }
}
