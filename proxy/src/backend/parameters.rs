//! What a server has reported of its settings, and what a client was told: the ParameterStatus messages so far.

use std::sync::{Arc, OnceLock};

/// Each clearing and each client's settings make another set of a few that differ in one value: they share the rest.
type Parameter = (Arc<[u8]>, Arc<[u8]>);

/// Names and values, in the order in which they were first reported. Equal sets are told by a number.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    values: Vec<Parameter>,
    sum: u64,
}

impl Parameters {
    /// What was reported; a later value replaces an earlier one of the same name.
    pub fn of<T: AsRef<[u8]>>(reported: impl IntoIterator<Item = (T, T)>) -> Self {
        let mut parameters = Self::default();
        for (name, value) in reported {
            parameters.put(name.as_ref(), value.as_ref());
        }
        parameters
    }

    /// A value was reported.
    pub fn put(&mut self, name: &[u8], value: &[u8]) {
        self.sum = self.sum.wrapping_add(number(name, value));
        match self.values.iter_mut().find(|(each, _)| **each == *name) {
            Some((_, old)) => {
                self.sum = self.sum.wrapping_sub(number(name, old));
                *old = value.into();
            }
            None => self.values.push((name.into(), value.into())),
        }
    }

    /// The value of this name.
    pub fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.values.iter().find(|(each, _)| **each == *name).map(|(_, value)| &**value)
    }

    /// Names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.values.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Whether the same values are in both.
    pub const fn is_like(&self, other: &Self) -> bool {
        self.sum == other.sum
    }

    /// What somebody who was told `told` doesn't know.
    pub fn unknown_to<'a>(&'a self, told: &'a Self) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
        self.iter().filter(|(name, value)| told.get(name) != Some(*value))
    }
}

fn number(name: &[u8], value: &[u8]) -> u64 {
    static STATE: OnceLock<ahash::RandomState> = OnceLock::new();
    STATE.get_or_init(ahash::RandomState::new).hash_one((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_alike_whatever_came_in_between() {
        let mut one = Parameters::of([("a", "1"), ("b", "2")]);
        let other = Parameters::of([("b", "2"), ("a", "1")]);
        assert!(one.is_like(&other));
        one.put(b"a", b"3");
        assert!(!one.is_like(&other));
        assert_eq!(one.unknown_to(&other).collect::<Vec<_>>(), [(&b"a"[..], &b"3"[..])]);
        one.put(b"a", b"1");
        assert!(one.is_like(&other) && one.unknown_to(&other).count() == 0);
    }
}
