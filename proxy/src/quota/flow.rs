//! What a flow has beside a stock: its window, and what of it wasn't recorded yet.

use super::window::{Per, Window};

/// Rows by window, as far as nobody was asked to record them.
#[derive(Clone, Debug)]
pub(super) struct Flow {
    per: Per,
    window: Window,
    /// Of the present window.
    unsaved: u128,
    /// Of windows that are over.
    past: Vec<(Window, u128)>,
}

impl Flow {
    pub(super) fn new(per: Per, now: i64) -> Self {
        Self { per, window: per.window(now), unsaved: 0, past: Vec::new() }
    }

    /// Takes over what another one, whose windows were others, has left.
    pub(super) fn after(mut self, before: Option<Box<Self>>) -> Self {
        if let Some(before) = before {
            self.past = before.past;
            self.past.extend((before.unsaved > 0).then_some((before.window, before.unsaved)));
        }
        self
    }

    pub(super) const fn per(&self) -> Per {
        self.per
    }

    pub(super) const fn window(&self) -> Window {
        self.window
    }

    pub(super) const fn unsaved(&self) -> u128 {
        self.unsaved
    }

    pub(super) const fn add(&mut self, rows: u128) {
        self.unsaved += rows;
    }

    /// Goes to the window of the present. Whether it is another one.
    pub(super) fn turn(&mut self, now: i64) -> bool {
        if self.window.contains(now) {
            return false;
        }
        let unsaved = std::mem::take(&mut self.unsaved);
        if unsaved > 0 {
            self.past.push((self.window, unsaved));
        }
        self.window = self.per.window(now);
        true
    }

    pub(super) const fn has_unsaved(&self) -> bool {
        self.unsaved > 0 || !self.past.is_empty()
    }

    /// All there is, and the present window last, with nothing if there is nothing.
    pub(super) fn take_unsaved(&mut self) -> Vec<(Window, u128)> {
        let mut taken = std::mem::take(&mut self.past);
        taken.push((self.window, std::mem::take(&mut self.unsaved)));
        taken
    }
}
