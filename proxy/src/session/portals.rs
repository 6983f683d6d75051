//! The portals of one client that are bound to statements whose outcome matters; the others aren't kept. Postgres may skip
//! a Bind, and portals end with their transaction, which the client can be ahead of: so every binding is kept until it is
//! known that another one took its place or that it is gone.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::domain::limits::{CLIENT_PORTAL_BYTES_MAX, CLIENT_PORTALS_MAX};
use crate::domain::{Fault, Origin, SqlState};
use crate::sql::Facts;

/// Of a portal's name Postgres keeps so many bytes: what differs only behind them is the same portal (NAMEDATALEN - 1).
const NAME_BYTES: usize = 63;

/// The bindings, in the order in which they were sent.
#[derive(Debug, Default)]
pub(super) struct Portals {
    bound: SmallVec<[Bound; 1]>,
    serial: u64,
    /// What names and texts of them take.
    bytes: usize,
}

/// A name that was bound.
#[derive(Debug)]
struct Bound {
    name: Box<[u8]>,
    serial: u64,
    /// The place of its Bind in what the server owes.
    at: u64,
    /// What it is bound to, if that matters.
    portal: Option<Portal>,
}

impl Bound {
    fn bytes(&self) -> usize {
        let text = self.portal.as_ref().and_then(|portal| portal.text.as_ref());
        self.name.len() + text.map_or(0, |text| text.len())
    }
}

/// What a portal was bound to.
#[derive(Clone, Debug)]
pub(super) struct Portal {
    pub(super) facts: Arc<Facts>,
    pub(super) text: Option<Arc<str>>,
    pub(super) ran: Ran,
}

/// How far a portal was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ran {
    /// Not at all, as far as it is known.
    No,
    /// In part: what it writes is written, and told or not; so many rows were given out.
    Partly { told: bool, rows: u64 },
    /// To its end.
    Whole,
}

impl Portals {
    /// Why no more can be remembered, if there is no room. What isn't remembered could write beyond a limit, so the session
    /// ends by it: nobody gets there who closes portals, or ends transactions.
    pub(super) fn no_room(&self) -> Option<Fault> {
        let text = if self.bound.len() >= CLIENT_PORTALS_MAX {
            format!("a session can't have more than {CLIENT_PORTALS_MAX} portals that write")
        } else if self.bytes >= CLIENT_PORTAL_BYTES_MAX {
            format!("a session's portals that write can't take more than {CLIENT_PORTAL_BYTES_MAX} bytes")
        } else {
            return None;
        };
        let hint = "Close portals that aren't needed, bind without a name, or commit earlier.";
        Some(Fault::new(Origin::Client, SqlState::CONFIGURATION_LIMIT_EXCEEDED, text).hint(hint))
    }

    /// A Bind was sent, whose answer has the place `at`; to nothing that matters when there is no `portal`. Returns the
    /// binding's serial number, if there is anything to remember.
    pub(super) fn bind(&mut self, name: &[u8], portal: Option<Portal>, at: u64) -> Option<u64> {
        let name = key(name);
        if portal.is_none() && self.bound.iter().all(|each| *each.name != *name) {
            return None;
        }
        self.serial += 1;
        let bound = Bound { name: name.into(), serial: self.serial, at, portal };
        self.bytes += bound.bytes();
        self.bound.push(bound);
        Some(self.serial)
    }

    /// BindComplete came: what the name was bound to before is gone.
    pub(super) fn confirmed(&mut self, serial: u64) {
        let Some(at) = self.place(serial) else { return };
        let (name, matters) = (self.bound[at].name.clone(), self.bound[at].portal.is_some());
        self.keep(|each| each.name != name || each.serial > serial || (matters && each.serial == serial));
    }

    /// The Bind failed or was skipped.
    pub(super) fn undone(&mut self, serial: u64) {
        self.keep(|each| each.serial != serial);
    }

    /// CloseComplete came for this name: what had been bound to it before the place `at` is gone.
    pub(super) fn closed(&mut self, name: &[u8], at: u64) {
        self.keep(|each| *each.name != *key(name) || each.at > at);
    }

    /// Whether a name is or was bound to something that matters.
    pub(super) fn knows(&self, name: &[u8]) -> bool {
        self.newest(name).is_some()
    }

    /// What an Execute that is sent now would run, if it matters, with its serial number.
    pub(super) fn get(&self, name: &[u8]) -> Option<(u64, &Portal)> {
        let bound = self.newest(name)?;
        Some((bound.serial, bound.portal.as_ref()?))
    }

    /// The place of the newest Bind of a name.
    pub(super) fn bound_at(&self, name: &[u8]) -> Option<u64> {
        self.newest(name).map(|bound| bound.at)
    }

    /// How far a portal was executed.
    pub(super) fn ran(&self, serial: u64) -> Option<Ran> {
        self.bound[self.place(serial)?].portal.as_ref().map(|portal| portal.ran)
    }

    /// A portal was executed so far.
    pub(super) fn note_ran(&mut self, serial: u64, ran: Ran) {
        if let Some(at) = self.place(serial)
            && let Some(portal) = &mut self.bound[at].portal
        {
            portal.ran = ran;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bound.is_empty()
    }

    /// A transaction ended at the place `at`, and with it every portal that was bound before.
    pub(super) fn end(&mut self, at: u64) {
        if !self.bound.is_empty() {
            self.keep(|each| each.at > at);
        }
    }

    /// The server connection is given up.
    pub(super) fn clear(&mut self) {
        self.bound.clear();
        self.bytes = 0;
    }

    fn keep(&mut self, which: impl Fn(&Bound) -> bool) {
        self.bound.retain(|each| which(each));
        self.bytes = self.bound.iter().map(Bound::bytes).sum();
    }

    fn newest(&self, name: &[u8]) -> Option<&Bound> {
        self.bound.iter().rev().find(|each| *each.name == *key(name))
    }

    fn place(&self, serial: u64) -> Option<usize> {
        self.bound.iter().position(|each| each.serial == serial)
    }
}

fn key(name: &[u8]) -> &[u8] {
    &name[..name.len().min(NAME_BYTES)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn portal() -> Option<Portal> {
        Some(Portal { facts: Arc::new(Facts::hidden()), text: None, ran: Ran::No })
    }

    #[test]
    fn a_binding_lasts_until_the_next_one_is_known_to_be_there() {
        let mut portals = Portals::default();
        assert_eq!(portals.bind(b"a", None, 1), None);
        let first = portals.bind(b"a", portal(), 2).expect("it matters");
        let second = portals.bind(b"a", None, 3).expect("another one is there");
        assert!(portals.get(b"a").is_none() && portals.knows(b"a"));
        portals.undone(second);
        assert_eq!(portals.get(b"a").map(|(serial, _)| serial), Some(first));
        let third = portals.bind(b"a", None, 4).expect("another one is there");
        portals.confirmed(third);
        assert!(!portals.knows(b"a"));
    }

    #[test]
    fn what_was_bound_behind_the_end_of_a_transaction_stays() {
        let mut portals = Portals::default();
        portals.bind(b"a", portal(), 1);
        portals.bind(b"b", portal(), 5);
        portals.end(3);
        assert!(!portals.knows(b"a") && portals.knows(b"b"));
        portals.closed(b"b", 4);
        assert!(portals.knows(b"b"));
        portals.closed(b"b", 6);
        assert!(!portals.knows(b"b"));
    }

    #[test]
    fn names_that_postgres_takes_for_one_are_one() {
        let mut portals = Portals::default();
        let (long, longer) = ([b'p'; 63], [b'p'; 70]);
        portals.bind(&longer, portal(), 1);
        assert!(portals.knows(&long));
    }

    #[test]
    fn there_is_room_for_so_many_and_again_when_some_are_gone() {
        let mut portals = Portals::default();
        for number in 0..CLIENT_PORTALS_MAX {
            assert!(portals.no_room().is_none());
            portals.bind(format!("p{number}").as_bytes(), portal(), number as u64);
        }
        assert_eq!(portals.no_room().map(|fault| fault.sqlstate), Some(SqlState::CONFIGURATION_LIMIT_EXCEEDED));
        portals.closed(b"p0", u64::MAX);
        assert!(portals.no_room().is_none());
        let text: Arc<str> = "x".repeat(CLIENT_PORTAL_BYTES_MAX).into();
        portals.bind(b"q", portal().map(|portal| Portal { text: Some(text), ..portal }), u64::MAX);
        assert!(portals.no_room().is_some());
        portals.end(u64::MAX);
        assert!(portals.no_room().is_none() && portals.is_empty());
    }
}
