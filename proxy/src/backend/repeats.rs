//! Texts that come again and again without a name, and under which name a server connection has them prepared. Postgres plans such
//! a text once in place of every time. What stands here is believed only as long as nothing was altered, and never for more than a moment: what
//! nobody hears of (a role's membership, say) is over with that.

use std::collections::HashMap;
use std::sync::Arc;

use super::parameters::Parameters;
use super::state::Name;
use crate::domain::limits::{REPEAT_BYTES_MAX, REPEAT_LIFE, REPEATS_MAX};

/// How many texts that came once are remembered, by a hash of them.
const GLIMPSES: usize = 256;

/// What a text depends on beside itself.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances<'a> {
    /// The meaning of the session's settings.
    pub meaning: u64,
    /// What the server has reported of its own settings, whoever changed them.
    pub reported: &'a Arc<Parameters>,
    /// How often anything was altered, as far as it was heard.
    pub alterations: u64,
    /// Seconds since the epoch.
    pub now: i64,
}

/// How often a text was here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is new, or must not be prepared under a name.
    New,
    /// It was here before.
    Again,
    /// It is prepared under this name.
    Prepared(Name),
}

/// The texts of one server connection, with the types of their parameters.
#[derive(Debug, Default)]
pub struct Repeats {
    known: HashMap<Box<[u8]>, Repeat, ahash::RandomState>,
    bytes: usize,
    /// Hashes of texts that came once, each in the place that it falls in.
    glimpsed: Vec<u64>,
    uses: u64,
    /// The cycle that is on its way, to be sent as it came if what is prepared has aged.
    cycle: Vec<u8>,
}

#[derive(Debug)]
struct Repeat {
    /// None is for a text that must not be prepared.
    name: Option<Name>,
    meaning: u64,
    reported: Arc<Parameters>,
    alterations: u64,
    since: i64,
    used: u64,
}

impl Repeat {
    fn holds(&self, circumstances: Circumstances<'_>) -> bool {
        let life = i64::try_from(REPEAT_LIFE.as_secs()).unwrap_or(0);
        self.alterations == circumstances.alterations
            && self.meaning == circumstances.meaning
            && Arc::ptr_eq(&self.reported, circumstances.reported)
            && (0..life).contains(&circumstances.now.saturating_sub(self.since))
    }
}

impl Repeats {
    /// A text comes: what follows the name in its Parse.
    pub fn look(&mut self, rest: &[u8], circumstances: Circumstances<'_>) -> Standing {
        if let Some(repeat) = self.known.get_mut(rest) {
            self.uses += 1;
            repeat.used = self.uses;
            return match repeat.name {
                _ if !repeat.holds(circumstances) => Standing::Again,
                Some(name) => Standing::Prepared(name),
                None => Standing::New,
            };
        }
        self.glimpsed.resize(GLIMPSES, 0);
        let hash = self.known.hasher().hash_one(rest);
        let place = usize::try_from(hash % GLIMPSES as u64).unwrap_or(0);
        if std::mem::replace(&mut self.glimpsed[place], hash) == hash { Standing::Again } else { Standing::New }
    }

    /// The text is prepared under this name from now on, or, without one, isn't to be. Returns the names that are of no use any more.
    pub(super) fn put(&mut self, rest: &[u8], name: Option<Name>, circumstances: Circumstances<'_>) -> Vec<Name> {
        let mut closed: Vec<Name> = self.remove(rest).into_iter().collect();
        while !self.known.is_empty() && (self.known.len() >= REPEATS_MAX || self.bytes + rest.len() > REPEAT_BYTES_MAX)
        {
            let oldest = self.known.iter().min_by_key(|(_, each)| each.used).map(|(rest, _)| rest.clone());
            closed.extend(oldest.and_then(|oldest| self.remove(&oldest)));
        }
        let Circumstances { meaning, reported, alterations, now } = circumstances;
        self.uses += 1;
        self.bytes += rest.len();
        let repeat = Repeat { name, meaning, reported: reported.clone(), alterations, since: now, used: self.uses };
        self.known.insert(rest.into(), repeat);
        closed
    }

    /// What has this name isn't there, or isn't what it was.
    pub(super) fn lost(&mut self, name: Name) {
        let lost = self.known.iter().find(|(_, each)| each.name == Some(name)).map(|(rest, _)| rest.clone());
        if let Some(rest) = lost {
            self.remove(&rest);
        }
    }

    /// What has this name isn't to be prepared again before something is altered.
    pub(super) fn refused(&mut self, name: Name) {
        if let Some(repeat) = self.known.values_mut().find(|each| each.name == Some(name)) {
            repeat.name = None;
        }
    }

    /// No named statement is left.
    pub(super) fn clear(&mut self) {
        self.known.clear();
        self.glimpsed.clear();
        self.bytes = 0;
    }

    /// Keeps the cycle that is on its way.
    pub fn keep_cycle(&mut self, cycle: &[u8]) {
        self.cycle.clear();
        self.cycle.extend_from_slice(cycle);
    }

    /// The cycle that was kept last.
    pub fn cycle(&self) -> &[u8] {
        &self.cycle
    }

    fn remove(&mut self, rest: &[u8]) -> Option<Name> {
        let (rest, removed) = self.known.remove_entry(rest)?;
        self.bytes -= rest.len();
        removed.name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at<'a>(reported: &'a Arc<Parameters>, now: i64) -> Circumstances<'a> {
        Circumstances { meaning: 1, reported, alterations: 1, now }
    }

    #[test]
    fn a_text_that_comes_again_may_be_prepared_and_is_known_by_its_name() {
        let (mut repeats, reported) = (Repeats::default(), Arc::<Parameters>::default());
        let here = at(&reported, 100);
        assert_eq!(repeats.look(b"a", here), Standing::New);
        assert_eq!(repeats.look(b"b", here), Standing::New);
        assert_eq!(repeats.look(b"a", here), Standing::Again);
        assert_eq!(repeats.put(b"a", Some(Name::of(1)), here), []);
        assert_eq!(repeats.look(b"a", here), Standing::Prepared(Name::of(1)));
        repeats.clear();
        assert_eq!(repeats.look(b"a", here), Standing::New);
    }

    #[test]
    fn whatever_it_depends_on_must_be_the_same() {
        let (mut repeats, reported) = (Repeats::default(), Arc::<Parameters>::default());
        let here = at(&reported, 100);
        repeats.put(b"a", Some(Name::of(1)), here);
        let others = Arc::<Parameters>::default();
        let life = i64::try_from(REPEAT_LIFE.as_secs()).expect("a few seconds");
        for changed in [
            Circumstances { meaning: 2, ..here },
            Circumstances { alterations: 2, ..here },
            Circumstances { reported: &others, ..here },
            Circumstances { now: 100 + life, ..here },
            Circumstances { now: 99, ..here },
        ] {
            assert_eq!(repeats.look(b"a", changed), Standing::Again, "{changed:?}");
        }
        let later = Circumstances { now: 100 + life, ..here };
        assert_eq!(repeats.put(b"a", Some(Name::of(2)), later), [Name::of(1)]);
        assert_eq!(repeats.look(b"a", later), Standing::Prepared(Name::of(2)));
    }

    #[test]
    fn what_must_not_be_prepared_isnt_asked_for_again_before_something_is_altered() {
        let (mut repeats, reported) = (Repeats::default(), Arc::<Parameters>::default());
        let here = at(&reported, 100);
        repeats.put(b"a", None, here);
        assert_eq!(repeats.look(b"a", here), Standing::New);
        repeats.put(b"b", Some(Name::of(1)), here);
        repeats.refused(Name::of(1));
        assert_eq!(repeats.look(b"b", here), Standing::New);
        assert_eq!(repeats.look(b"b", Circumstances { alterations: 2, ..here }), Standing::Again);
    }

    #[test]
    fn there_is_room_for_so_many_and_the_least_used_goes() {
        let (mut repeats, reported) = (Repeats::default(), Arc::<Parameters>::default());
        let here = at(&reported, 100);
        for number in 0..REPEATS_MAX as u64 {
            assert_eq!(repeats.put(&number.to_be_bytes(), Some(Name::of(number)), here), []);
        }
        repeats.look(&0_u64.to_be_bytes(), here);
        assert_eq!(repeats.put(b"one more", Some(Name::of(1000)), here), [Name::of(1)]);
        assert_eq!(repeats.put(&vec![b'x'; REPEAT_BYTES_MAX], None, here).len(), REPEATS_MAX);
        repeats.lost(Name::of(1000));
        assert_eq!(repeats.bytes, REPEAT_BYTES_MAX);
    }
}
