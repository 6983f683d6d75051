//! What is known of texts, remembered by the exact text. Not by its fingerprint: that hides the constants.

use std::collections::HashMap;
use std::sync::Arc;

use super::catalog::Catalog;
use super::effects::{Effects, Reader};
use super::facts::Facts;
use super::guard_hit::Watched;
use super::{parse, prefilter};

/// How many bytes of texts and facts are remembered before all is forgotten.
const REMEMBERED_BYTES_MAX: usize = 4 << 20;
/// A longer text isn't remembered: it hardly comes twice.
const REMEMBERED_TEXT_BYTES_MAX: usize = 64 << 10;

/// One core's memory of what it has parsed.
#[derive(Default)]
pub struct Analysis {
    watched: Watched,
    known: HashMap<Box<[u8]>, Known, ahash::RandomState>,
    bytes: usize,
}

/// What is known of a text.
struct Known {
    facts: Arc<Facts>,
    is_trivial: bool,
    /// For a reader in whose session nothing was changed, and the catalog of this version.
    effects: Option<(u64, Arc<Effects>)>,
}

impl Analysis {
    /// One that watches for these settings of the context.
    pub fn watching(watched: Watched) -> Self {
        Self { watched, ..Self::default() }
    }

    /// What the text does and may leave behind; `None` when that is trivial ([`Facts::is_trivial`]). Most texts of
    /// which nothing is to be told aren't parsed.
    pub fn facts(&mut self, text: &[u8]) -> Option<Arc<Facts>> {
        let tell = |known: &mut Known| (!known.is_trivial).then(|| known.facts.clone());
        // Looking a text up is quicker than filtering it.
        match self.known.get_mut(text) {
            Some(known) => tell(known),
            None if prefilter::may_have_facts(text) => self.learn(text, tell),
            None => None,
        }
    }

    /// All that the text tells, whether or not it is trivial. The text is parsed.
    pub fn all_facts(&mut self, text: &[u8]) -> Arc<Facts> {
        self.with(text, |known| known.facts.clone())
    }

    /// What the text may do. The text is parsed.
    pub fn effects(&mut self, text: &[u8], catalog: &Catalog, reader: Reader) -> Arc<Effects> {
        self.with(text, |known| {
            if reader != Reader::DEFAULT {
                return Arc::new(Effects::of(&known.facts, catalog, reader));
            }
            match &known.effects {
                Some((version, effects)) if *version == catalog.version() => effects.clone(),
                _ => {
                    let effects = Arc::new(Effects::of(&known.facts, catalog, reader));
                    known.effects = Some((catalog.version(), effects.clone()));
                    effects
                }
            }
        })
    }

    /// Whether the text may be prepared when it comes again, see [`Effects::repeats`]. The text is parsed.
    pub fn repeats(&mut self, text: &[u8], catalog: &Catalog) -> bool {
        let effects = self.effects(text, catalog, Reader::DEFAULT);
        self.with(text, |known| effects.repeats(&known.facts))
    }

    fn with<T>(&mut self, text: &[u8], tell: impl FnOnce(&mut Known) -> T) -> T {
        match self.known.get_mut(text) {
            Some(known) => tell(known),
            None => self.learn(text, tell),
        }
    }

    fn learn<T>(&mut self, text: &[u8], tell: impl FnOnce(&mut Known) -> T) -> T {
        let facts = Arc::new(parse::facts(text, &self.watched));
        let mut known = Known { is_trivial: facts.is_trivial(), facts, effects: None };
        let told = tell(&mut known);
        if text.len() <= REMEMBERED_TEXT_BYTES_MAX {
            self.remember(text, known);
        }
        told
    }

    fn remember(&mut self, text: &[u8], known: Known) {
        // Effects are about as large as what they follow from.
        let weight = size_of::<Known>() + text.len() + 2 * known.facts.weight();
        if self.bytes + weight > REMEMBERED_BYTES_MAX {
            self.known.clear();
            self.bytes = 0;
        }
        self.bytes += weight;
        self.known.insert(text.into(), known);
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
        assert!(analysis.facts(b"select a from b for update").is_none(), "parsed, and trivial");
        assert_eq!(analysis.known.len(), 2);
    }

    #[test]
    fn effects_are_those_of_the_catalog_at_hand() {
        let mut analysis = Analysis::default();
        let text = b"select * from t";
        let unknown = Catalog::default();
        assert!(!analysis.effects(text, &unknown, Reader::DEFAULT).is_read_only());
        let mut catalog = Catalog::new(["public".into()]);
        catalog.relation("public", "t", crate::sql::CatalogRelation::default());
        let first = analysis.effects(text, &catalog, Reader::DEFAULT);
        assert!(first.is_read_only());
        assert!(Arc::ptr_eq(&first, &analysis.effects(text, &catalog, Reader::DEFAULT)));
        let changed = Reader { default_settings: false, ..Reader::DEFAULT };
        assert!(!analysis.effects(text, &catalog, changed).is_read_only());
        assert!(!analysis.effects(text, &unknown, Reader::DEFAULT).is_read_only());
    }

    #[test]
    fn memory_is_bounded() {
        let mut analysis = Analysis::default();
        for number in 0..2_000 {
            let text = format!("set a.b = '{number}{}'", "x".repeat(10_000));
            analysis.facts(text.as_bytes());
        }
        assert!(analysis.bytes <= REMEMBERED_BYTES_MAX && analysis.known.len() * 10_000 <= REMEMBERED_BYTES_MAX);
        let long = format!("set a.b = '{}'", "x".repeat(REMEMBERED_TEXT_BYTES_MAX));
        let known = analysis.known.len();
        assert!(analysis.facts(long.as_bytes()).is_some());
        assert_eq!(analysis.known.len(), known);
    }
}
