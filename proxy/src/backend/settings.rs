//! The settings of a session that differ from a fresh server connection's.

use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, OnceLock};

/// Settings that change neither how a text is understood nor what its constants mean, so that statements may be shared
/// between sessions that differ in them only.
const WITHOUT_MEANING: [&str; 8] = [
    "application_name",
    "client_min_messages",
    "statement_timeout",
    "lock_timeout",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "tcp_keepalives_idle",
    "extra_float_digits",
];

/// Names, in lower case, and values, in the order in which they were first set. Equal sets are told by their address first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings {
    values: Vec<(Box<str>, Box<[u8]>)>,
    meaning: u64,
}

/// One step from what a server connection has to what a session wants.
#[derive(Debug, PartialEq, Eq)]
pub enum Change<'a> {
    /// The setting gets this value.
    Set(&'a str, &'a [u8]),
    /// The setting goes back to the server connection's own default.
    Reset(&'a str),
}

impl Settings {
    /// The empty set, shared by all.
    pub fn none() -> Arc<Self> {
        static NONE: OnceLock<Arc<Settings>> = OnceLock::new();
        NONE.get_or_init(Arc::default).clone()
    }

    /// A set from names and values; a later one replaces an earlier one of the same name.
    pub fn of<V: AsRef<[u8]>>(pairs: impl IntoIterator<Item = (String, V)>) -> Arc<Self> {
        let mut set = Self::default();
        for (name, value) in pairs {
            set.put(&name.to_ascii_lowercase(), value.as_ref());
        }
        set.measure();
        Arc::new(set)
    }

    /// This set with one setting more or changed.
    #[must_use]
    pub fn with(&self, name: &str, value: &[u8]) -> Arc<Self> {
        let mut set = Self { values: self.values.clone(), meaning: 0 };
        set.put(name, value);
        set.measure();
        Arc::new(set)
    }

    /// The value of a setting, if it is in the set.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.values.iter().find(|(each, _)| &**each == name).map(|(_, value)| &**value)
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.values.iter().map(|(name, value)| (&**name, &**value))
    }

    /// A number that differs, as good as surely, between sets under which one text may mean two things.
    pub const fn meaning(&self) -> u64 {
        self.meaning
    }

    /// What makes a server connection that has `self` one that has `wanted`.
    pub fn changes_to<'a>(&'a self, wanted: &'a Self) -> impl Iterator<Item = Change<'a>> {
        let gone =
            self.values.iter().filter(|(name, _)| wanted.get(name).is_none()).map(|(name, _)| Change::Reset(name));
        let new = wanted
            .values
            .iter()
            .filter(|(name, value)| self.get(name) != Some(value))
            .map(|(name, value)| Change::Set(name, value));
        gone.chain(new)
    }

    fn put(&mut self, name: &str, value: &[u8]) {
        match self.values.iter_mut().find(|(each, _)| &**each == name) {
            Some((_, old)) => *old = value.into(),
            None => self.values.push((name.into(), value.into())),
        }
    }

    fn measure(&mut self) {
        static STATE: OnceLock<ahash::RandomState> = OnceLock::new();
        let state = STATE.get_or_init(ahash::RandomState::new);
        // Sums don't depend on the order of the settings.
        self.meaning = self
            .values
            .iter()
            .filter(|(name, _)| !WITHOUT_MEANING.contains(&&**name))
            .map(|(name, value)| {
                let mut hasher = state.build_hasher();
                hasher.write(name.as_bytes());
                hasher.write_u8(0);
                hasher.write(value);
                hasher.finish()
            })
            .fold(0, u64::wrapping_add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(pairs: &[(&str, &str)]) -> Arc<Settings> {
        Settings::of(pairs.iter().map(|(name, value)| (name.to_string(), value.as_bytes())))
    }

    #[test]
    fn only_the_difference_is_replayed() {
        let (have, want) = (set(&[("a", "1"), ("b", "2"), ("c", "3")]), set(&[("b", "2"), ("c", "4"), ("d", "5")]));
        let changes: Vec<_> = have.changes_to(&want).collect();
        assert_eq!(changes, [Change::Reset("a"), Change::Set("c", b"4"), Change::Set("d", b"5")]);
        assert_eq!(want.changes_to(&want).count(), 0);
    }

    #[test]
    fn the_name_of_an_application_changes_no_meaning_and_a_date_style_does() {
        let plain = set(&[]);
        assert_eq!(plain.meaning(), set(&[("application_name", "psql")]).meaning());
        assert_ne!(plain.meaning(), set(&[("datestyle", "German")]).meaning());
        assert_eq!(set(&[("x", "1"), ("y", "2")]).meaning(), set(&[("y", "2"), ("x", "1")]).meaning());
    }
}
