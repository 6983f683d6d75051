//! Those who haven't proven yet who they are. When there is no room for one more connection, the one that has been at it for
//! the longest gives up its place: an honest login takes milliseconds, and who only holds the door open keeps nobody out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Guests that are gone are looked for when so many more are kept than there were the last time.
const SWEPT_AT: usize = 256;

/// All of them, the oldest in front.
#[derive(Default)]
pub(super) struct Lobby {
    guests: Mutex<Guests>,
}

#[derive(Default)]
struct Guests {
    queue: VecDeque<Arc<Guest>>,
    swept: usize,
}

/// One of them.
#[derive(Default)]
pub(super) struct Guest {
    /// It is in, or gone.
    settled: AtomicBool,
    shown_out: Notify,
}

impl Lobby {
    /// One more.
    pub(super) fn enter(&self) -> Arc<Guest> {
        let guest = Arc::<Guest>::default();
        let mut guests = self.guests.lock();
        if guests.queue.len() >= guests.swept + SWEPT_AT {
            guests.queue.retain(|each| each.is_here());
            guests.swept = guests.queue.len();
        }
        guests.queue.push_back(guest.clone());
        guest
    }

    /// Shows the oldest one out. Whether there was one.
    pub(super) fn show_out(&self) -> bool {
        let mut guests = self.guests.lock();
        while let Some(guest) = guests.queue.pop_front() {
            if guest.is_here() {
                guest.settle();
                guest.shown_out.notify_one();
                return true;
            }
        }
        guests.swept = 0;
        false
    }
}

impl Guest {
    fn is_here(&self) -> bool {
        !self.settled.load(Ordering::Relaxed)
    }

    /// It is in, or gone.
    pub(super) fn settle(&self) {
        self.settled.store(true, Ordering::Relaxed);
    }

    /// Returns when it must go.
    pub(super) async fn shown_out(&self) {
        self.shown_out.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_is_still_there_goes_first_and_those_who_are_gone_are_forgotten() {
        let lobby = Lobby::default();
        assert!(!lobby.show_out());
        let guests: Vec<_> = (0..4).map(|_| lobby.enter()).collect();
        guests[0].settle();
        assert!(lobby.show_out());
        assert_eq!(guests.iter().map(|guest| guest.is_here()).collect::<Vec<_>>(), [false, false, true, true]);
        for _ in 0..10 * SWEPT_AT {
            lobby.enter().settle();
        }
        assert!(lobby.guests.lock().queue.len() <= SWEPT_AT + 3);
        assert!(lobby.show_out() && lobby.show_out() && !lobby.show_out());
    }
}
