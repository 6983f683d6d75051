//! The facts of a text, remembered by the exact text. Not by its fingerprint: that hides the constants.

use std::collections::HashMap;
use std::sync::Arc;

use super::facts::Facts;
use super::guard_hit::Watched;
use super::{parse, prefilter};

/// How many bytes of texts and facts are remembered before all is forgotten.
const REMEMBERED_BYTES_MAX: usize = 4 << 20;

/// One core's memory of what it has parsed.
#[derive(Default)]
pub struct Analysis {
    watched: Watched,
    known: HashMap<Box<[u8]>, Option<Arc<Facts>>, ahash::RandomState>,
    bytes: usize,
}

impl Analysis {
    /// One that watches for these settings of the context.
    pub fn watching(watched: Watched) -> Self {
        Self { watched, ..Self::default() }
    }

    /// What the text does and may leave behind; `None` when that is trivial ([`Facts::is_trivial`]).
    pub fn facts(&mut self, text: &[u8]) -> Option<Arc<Facts>> {
        if !prefilter::may_have_facts(text) {
            return None;
        }
        if let Some(known) = self.known.get(text) {
            return known.clone();
        }
        let facts = parse::facts(text, &self.watched);
        let facts = (!facts.is_trivial()).then(|| Arc::new(facts));
        let weight = text.len() + facts.as_ref().map_or(0, |facts| facts.weight());
        if self.bytes + weight > REMEMBERED_BYTES_MAX {
            self.known.clear();
            self.bytes = 0;
        }
        self.bytes += weight;
        self.known.insert(text.into(), facts.clone());
        facts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_parsed_once() {
        let mut analysis = Analysis::default();
        let first = analysis.facts(b"set a.b = 1").expect("a fact");
        let second = analysis.facts(b"set a.b = 1").expect("a fact");
        assert!(Arc::ptr_eq(&first, &second));
        assert!(analysis.facts(b"select 1").is_none());
        assert_eq!(analysis.known.len(), 1);
    }

    #[test]
    fn memory_is_bounded() {
        let mut analysis = Analysis::default();
        for number in 0..20 {
            let text = format!("set a.b = '{number}{}'", "x".repeat(REMEMBERED_BYTES_MAX / 8));
            analysis.facts(text.as_bytes());
        }
        assert!(analysis.bytes <= REMEMBERED_BYTES_MAX);
    }
}
