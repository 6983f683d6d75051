//! What a text may do: its facts, in the light of a catalog. The answer is always the cautious one; what is said not to
//! happen has been proven. The proof holds for what the session's own text does at once: triggers and constraints that are
//! deferred run inside COMMIT, and count where their table is written.

use super::catalog::{Catalog, CatalogRelation, Known, Table};
use super::facts::Facts;
use super::statement::{Relation, RowBound, Statement, StatementKind, Write, WriteVerb};

/// How many views may stand behind one another.
const VIEWS_MAX: usize = 32;

/// Settings that change what a text means. A session in which one isn't what it was at the beginning resolves names, or
/// reads strings, in its own way.
pub const CHANGES_MEANING: [&str; 3] = ["search_path", "standard_conforming_strings", "client_encoding"];

/// Whose text it is, as far as its meaning depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reader {
    /// No setting of [`CHANGES_MEANING`] was changed, when connecting or later.
    pub default_settings: bool,
    /// The session may have temporary objects: they come first, whatever the search path.
    pub has_temporary: bool,
}

impl Reader {
    /// A session in which nothing was changed.
    pub const DEFAULT: Self = Self { default_settings: true, has_temporary: false };

    const fn is_default(self) -> bool {
        self.default_settings && !self.has_temporary
    }
}

/// What a text may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// It may change rows or objects, in whatever way.
    pub writes: bool,
    /// It may change anything at all, a sequence, a setting or a lock included. Where it doesn't, Postgres would run it in
    /// a read-only transaction too, and running it again or not at all leaves the same behind.
    pub changes: bool,
    /// By what it names itself: the resources it may add to, each once, and by how many rows at most.
    pub adds: Vec<(i32, RowBound)>,
    /// It may add to any resource by what isn't visible: functions, triggers, rules, statements that aren't understood.
    pub adds_hidden: bool,
    /// It may end a transaction.
    pub ends_transaction: bool,
    /// It seems to take numbers from sequences that its client isn't told: an INSERT without RETURNING, or `nextval`. A hint
    /// that nothing sound is built on.
    pub takes_numbers: bool,
    /// The relations it may read or write, each once; `None` where it may be any.
    pub tables: Option<Vec<Table>>,
}

impl Effects {
    /// Everything.
    pub const fn anything() -> Self {
        Self {
            writes: true,
            changes: true,
            adds: Vec::new(),
            adds_hidden: true,
            ends_transaction: true,
            takes_numbers: false,
            tables: None,
        }
    }

    /// Whether it changes nothing, for sure.
    pub const fn is_read_only(&self) -> bool {
        !self.changes && !self.writes
    }

    /// Whether a text with these facts and effects is one SELECT that reads the application's tables and views, by what Postgres brings along
    /// and nothing else, and would be prepared in the same way at any time, unless something is altered.
    pub fn is_repeatable(&self, facts: &Facts) -> bool {
        let [one] = facts.statements.as_slice() else { return false };
        let is_system = |table: &Table| matches!(&*table.schema, "pg_catalog" | "information_schema");
        facts.is_trivial()
            && one.kind == StatementKind::Select
            && !one.is_of_moment
            && self.is_read_only()
            && self.tables.as_ref().is_some_and(|tables| !tables.iter().any(is_system))
    }

    /// What a text with these facts may do.
    pub fn of(facts: &Facts, catalog: &Catalog, reader: Reader) -> Self {
        let mut effects = Self { tables: Some(Vec::new()), ..Self::default() };
        let mut reader = reader;
        for statement in &facts.statements {
            effects.add(statement, catalog, reader);
        }
        // What changes the meaning of names on the way, and what follows it in the same text, isn't told apart.
        let touched = facts.resets_all
            || facts.pins.is_some()
            || facts.touches.iter().any(|name| CHANGES_MEANING.contains(&&**name));
        if touched && facts.statements.len() > 1 {
            reader.default_settings = false;
            let mut cautious = Self { tables: Some(Vec::new()), ..Self::default() };
            facts.statements.iter().for_each(|statement| cautious.add(statement, catalog, reader));
            return cautious;
        }
        effects
    }

    fn add(&mut self, statement: &Statement, catalog: &Catalog, reader: Reader) {
        match &statement.kind {
            StatementKind::Begin
            | StatementKind::Savepoint(_)
            | StatementKind::Release(_)
            | StatementKind::RollbackTo(_)
            | StatementKind::Session
            | StatementKind::Deallocate(_)
                if !statement.hidden =>
            {
                self.changes |= matches!(statement.kind, StatementKind::Session | StatementKind::Deallocate(_));
                return;
            }
            StatementKind::Commit { .. } | StatementKind::Rollback { .. } => {
                self.ends_transaction = true;
                return;
            }
            StatementKind::PrepareTransaction
            | StatementKind::Call
            | StatementKind::Do
            | StatementKind::Other
            | StatementKind::Unknown => {
                self.ends_transaction = true;
            }
            // Nothing runs before it is executed, and what that does isn't visible there.
            StatementKind::Prepare(_) => {
                self.changes = true;
                return;
            }
            _ => {}
        }
        self.takes_numbers |= takes_numbers(statement, catalog, reader);
        if statement.hidden || !reader.is_default() || catalog.is_odd() {
            self.hide();
            return;
        }
        self.changes |= statement.locks_rows
            || !matches!(statement.kind, StatementKind::Select | StatementKind::Explain | StatementKind::CopyOut);
        self.reads(statement, catalog, VIEWS_MAX);
        for write in &statement.writes {
            self.write(write, catalog);
        }
    }

    /// Something in it may do everything but end a transaction.
    fn hide(&mut self) {
        (self.writes, self.changes, self.adds_hidden, self.tables) = (true, true, true, None);
    }

    fn reads(&mut self, statement: &Statement, catalog: &Catalog, views: usize) {
        for function in &statement.functions {
            match catalog.called(function) {
                Known::Harmless => {}
                Known::KeepsRows => self.changes = true,
                Known::Nothing => self.hide(),
            }
        }
        if statement.operators.iter().any(|name| catalog.hides_operator(name))
            || statement.attributes.iter().any(|name| catalog.hides_attribute(name))
        {
            self.hide();
        }
        for name in &statement.reads {
            self.resolve(name, catalog, |effects, relation| {
                if relation.hides_reads {
                    effects.hide();
                }
                match &relation.definition {
                    Some(_) if views == 0 => effects.hide(),
                    Some(definition) => effects.reads(definition, catalog, views - 1),
                    None => {}
                }
            });
        }
    }

    fn write(&mut self, write: &Write, catalog: &Catalog) {
        (self.writes, self.changes) = (true, true);
        let inserts = write.verb.adds_rows();
        let changes = write.upsert || !matches!(write.verb, WriteVerb::Insert | WriteVerb::Copy);
        self.resolve(&write.relation, catalog, |effects, relation| {
            if relation.hides_reads
                || relation.definition.is_some()
                || (inserts && relation.hides_inserts)
                || (changes && relation.hides_changes)
            {
                effects.adds_hidden = true;
                effects.tables = None;
            }
            relation.changes_too.iter().for_each(|table| effects.table(table));
            if inserts {
                relation.counts.iter().for_each(|resource| effects.adds_to(*resource, write.rows));
            }
            if write.upsert || matches!(write.verb, WriteVerb::Update | WriteVerb::Merge) {
                relation.counts_changed.iter().for_each(|resource| effects.adds_to(*resource, RowBound::Unknown));
            }
        });
    }

    fn table(&mut self, table: &Table) {
        if let Some(tables) = self.tables.as_mut().filter(|tables| !tables.contains(table)) {
            tables.push(table.clone());
        }
    }

    fn adds_to(&mut self, resource: i32, rows: RowBound) {
        match self.adds.iter_mut().find(|(known, _)| *known == resource) {
            Some((_, sum)) => {
                *sum = match (*sum, rows) {
                    (RowBound::AtMost(a), RowBound::AtMost(b)) => RowBound::AtMost(a.saturating_add(b)),
                    _ => RowBound::Unknown,
                };
            }
            None => self.adds.push((resource, rows)),
        }
    }

    /// Takes note of all relations that a name may stand for. Of one that isn't in the catalog nothing is known.
    fn resolve(&mut self, name: &Relation, catalog: &Catalog, mut each: impl FnMut(&mut Self, &CatalogRelation)) {
        let mut found = false;
        for (schema, relation) in catalog.candidates(name) {
            found = true;
            self.table(&Table { schema: schema.into(), name: name.name.clone() });
            relation.reads_too.iter().for_each(|table| self.table(table));
            each(self, relation);
        }
        if !found {
            self.hide();
        }
    }
}

/// Whether a statement seems to take numbers that its client isn't told.
fn takes_numbers(statement: &Statement, catalog: &Catalog, reader: Reader) -> bool {
    let counts = |write: &Write| {
        let mut found = catalog.candidates(&write.relation).map(|(_, relation)| relation).peekable();
        let is_known = reader.is_default() && found.peek().is_some();
        !is_known || found.any(|relation| relation.takes_numbers || relation.hides_inserts)
    };
    statement.functions.iter().any(|function| &*function.name == "nextval")
        || statement.writes.iter().any(|write| write.verb.adds_rows() && !write.returns && counts(write))
}
