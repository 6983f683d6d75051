//! What is known of texts, remembered by the exact text; where no constant in it matters, by what is left without them. So what
//! applications write their values into isn't parsed every time.

use std::collections::HashMap;
use std::sync::Arc;

use super::catalog::Catalog;
use super::effects::{Effects, Reader};
use super::facts::Facts;
use super::guard_hit::Watched;
use super::normalize::template;
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
    /// By the text without its constants.
    templates: HashMap<Arc<str>, Known, ahash::RandomState>,
    /// Where a text without its constants is written to be looked up.
    template: String,
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
            None if prefilter::may_have_facts(text) => self.with_template(text, tell),
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

    /// Whether the text may be prepared when it comes again, see [`Effects::is_repeatable`]. The text is parsed: here its constants matter.
    pub fn is_repeatable(&mut self, text: &[u8], catalog: &Catalog) -> bool {
        let tell = |known: &mut Known| Effects::of(&known.facts, catalog, Reader::DEFAULT).is_repeatable(&known.facts);
        match self.known.get_mut(text) {
            Some(known) => tell(known),
            None => self.learn(text, tell),
        }
    }

    fn with<T>(&mut self, text: &[u8], tell: impl FnOnce(&mut Known) -> T) -> T {
        match self.known.get_mut(text) {
            Some(known) => tell(known),
            None => self.with_template(text, tell),
        }
    }

    /// The same of a text that isn't known as it is.
    fn with_template<T>(&mut self, text: &[u8], tell: impl FnOnce(&mut Known) -> T) -> T {
        let is_short = text.len() <= REMEMBERED_TEXT_BYTES_MAX;
        let Some(template) = is_short.then(|| template(text, &mut self.template)).flatten() else {
            return self.learn(text, tell);
        };
        if let Some(known) = self.templates.get_mut(template) {
            return tell(known);
        }
        let template: Arc<str> = template.into();
        let mut facts = parse::facts(text, &self.watched);
        if !facts.heeds_no_constants() {
            return self.remembered(text, facts, tell);
        }
        // Of others it isn't known.
        facts.statements.iter_mut().for_each(|statement| statement.is_of_moment = true);
        let mut known = Known::of(facts);
        let told = tell(&mut known);
        self.make_room(template.len(), &known);
        self.templates.insert(template, known);
        told
    }

    fn learn<T>(&mut self, text: &[u8], tell: impl FnOnce(&mut Known) -> T) -> T {
        let facts = parse::facts(text, &self.watched);
        self.remembered(text, facts, tell)
    }

    fn remembered<T>(&mut self, text: &[u8], facts: Facts, tell: impl FnOnce(&mut Known) -> T) -> T {
        let mut known = Known::of(facts);
        let told = tell(&mut known);
        if text.len() <= REMEMBERED_TEXT_BYTES_MAX {
            self.make_room(text.len(), &known);
            self.known.insert(text.into(), known);
        }
        told
    }

    fn make_room(&mut self, bytes: usize, known: &Known) {
        // Effects are about as large as what they follow from.
        let weight = size_of::<Known>() + bytes + 2 * known.facts.weight();
        if self.bytes + weight > REMEMBERED_BYTES_MAX {
            self.known.clear();
            self.templates.clear();
            self.bytes = 0;
        }
        self.bytes += weight;
    }
}

impl Known {
    fn of(facts: Facts) -> Self {
        Self { is_trivial: facts.is_trivial(), facts: Arc::new(facts), effects: None }
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
        assert_eq!((analysis.known.len(), analysis.templates.len()), (1, 1));
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
    fn what_differs_in_constants_alone_is_parsed_once() {
        let mut analysis = Analysis::default();
        let first = analysis.facts(b"insert into t (a, b) values (1, 'x'), (2, 'y')").expect("a write");
        let second = analysis.facts(b"insert  into t (a, b) values (3, 'O''Brien'), (4, E'\\n')").expect("a write");
        assert!(Arc::ptr_eq(&first, &second) && analysis.known.is_empty());
        let three = analysis.facts(b"insert into t (a, b) values (1, 'x'), (2, 'y'), (3, 'z')").expect("a write");
        assert_ne!(first.statements[0].writes[0].rows, three.statements[0].writes[0].rows);
    }

    #[test]
    fn where_a_constant_matters_each_text_is_its_own() {
        for (one, other) in [
            ("insert into t select * from s limit 1", "insert into t select * from s limit 2"),
            ("insert into t values (1), (2) limit 1", "insert into t values (1), (2) limit 2"),
            ("update t set a = nextval('a')", "update t set a = nextval('b')"),
            ("update t set a = 'x'::regclass", "update t set a = 'cordon.key'::regclass"),
            ("select set_config('a.b', 'x', false)", "select set_config('c.d', 'x', false)"),
            ("set a.b = 1", "set a.b = 2"),
            ("insert into t values (f('x'))", "insert into t values (f('y'))"),
        ] {
            let mut analysis = Analysis::default();
            let (first, second) = (analysis.all_facts(one.as_bytes()), analysis.all_facts(other.as_bytes()));
            assert!(!Arc::ptr_eq(&first, &second), "{one}");
            assert_eq!(*second, parse::facts(other.as_bytes(), &Watched::default()), "{other}");
        }
    }

    proptest::proptest! {
        /// Whatever a constant says, what is remembered of a text with another one is what parsing this one tells.
        #[test]
        fn no_constant_changes_what_is_told(
            form in 0..FORMS.len(),
            first in "[ -~]{0,12}",
            second in "[ -~]{0,12}",
            number in 0..100_000_u32,
        ) {
            let written = |value: &str, number: u32| {
                FORMS[form].replace("{s}", &format!("'{}'", value.replace('\'', "''"))).replace("{n}", &number.to_string())
            };
            let mut analysis = Analysis::default();
            analysis.all_facts(written(&first, 7).as_bytes());
            let text = written(&second, number);
            let told = analysis.all_facts(text.as_bytes());
            // Whether one of them is of the moment is looked at in the text itself alone.
            let timeless = |facts: &Facts| {
                let mut facts = facts.clone();
                facts.statements.iter_mut().for_each(|statement| statement.is_of_moment = false);
                facts
            };
            let parsed = parse::facts(text.as_bytes(), &Watched::default());
            proptest::prop_assert_eq!(timeless(&told), timeless(&parsed), "{}", text);
        }
    }

    /// Statements with strings and numbers in all kinds of places.
    const FORMS: [&str; 12] = [
        "insert into t (a, b) values ({n}, {s}) returning a",
        "insert into t values ({s}), ({s}) on conflict (a) do update set b = {s}",
        "update t set a = {s}, b = b + {n} where c in ({n}, {n}) and d like {s}",
        "delete from t where a = {s} or b between {n} and {n}",
        "with x as (insert into t values ({s}) returning a) select * from x limit {n}",
        "update t set a = lower({s}), b = {s}::uuid, c = {s}::jsonb || {s}",
        "update t set a = nextval({s}) where b = {s}::regclass",
        "select * from t where a = {s} for update",
        "insert into t select {s} from s limit {n}",
        "select pg_notify({s}, {s})",
        "insert into t values (f({s}), date {s}, interval {s} day)",
        "update t set a = case when b > {n} then {s} else to_char(now(), {s}) end",
    ];

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
