//! A statement string on its way whose outcome matters: it may write, or end or mark a transaction. It carries what was
//! known and reserved when it was sent, and how far its answers have come.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::quota::{Moment, ResourceId};
use crate::sql::{Facts, Statement};

/// One string or portal that was sent.
#[derive(Debug)]
pub(super) struct Watched {
    facts: Arc<Facts>,
    /// How the trail keeps its text.
    pub(super) text: Option<Arc<str>>,
    /// How many of its statements are answered.
    answered: usize,
    /// When it was sent, in microseconds since the epoch.
    pub(super) sent_us: i64,
    /// The books' moment when it was sent.
    pub(super) since: Moment,
    /// Rows that were reserved before it was sent and aren't a transaction's yet. Which one they will be of, and behind which
    /// savepoint, is known when Postgres tells that they are there: until then they are the string's own.
    claims: SmallVec<[(ResourceId, u64); 1]>,
    /// The client waits for it, and what it adds is reserved before its success is told.
    pub(super) is_held: bool,
    /// The portal that is executed, by its serial number.
    pub(super) portal: Option<u64>,
    /// The most rows it is to give out before it is suspended; none is no bound.
    pub(super) rows_max: u32,
    /// The portal was executed before: what it writes was written then.
    pub(super) again: bool,
}

impl Watched {
    pub(super) fn new(facts: Arc<Facts>, text: Option<Arc<str>>, sent_us: i64, since: Moment) -> Self {
        let claims = SmallVec::new();
        Self {
            facts,
            text,
            answered: 0,
            sent_us,
            since,
            claims,
            is_held: false,
            portal: None,
            rows_max: 0,
            again: false,
        }
    }

    /// The statement whose answer comes next. A text that wasn't understood has one that stands for all of them.
    pub(super) fn current(&self) -> Option<&Statement> {
        let statements = &self.facts.statements;
        if self.facts.hides() && statements.len() == 1 { statements.first() } else { statements.get(self.answered) }
    }

    /// Whether it is one statement.
    pub(super) fn is_single(&self) -> bool {
        self.facts.statements.len() == 1
    }

    /// A statement was answered.
    pub(super) const fn next(&mut self) {
        self.answered += 1;
    }

    /// Rows were reserved for it.
    pub(super) fn claim(&mut self, resource: ResourceId, rows: u64) {
        self.claims.push((resource, rows));
    }

    /// What is left of the rows that were reserved for it.
    pub(super) fn claimed(&self, resource: ResourceId) -> u64 {
        self.claims.iter().filter(|(claimed, _)| *claimed == resource).map(|(_, rows)| rows).sum()
    }

    /// Takes up to so many of them. Returns how many.
    pub(super) fn take_claim(&mut self, resource: ResourceId, rows: u64) -> u64 {
        let mut taken = 0;
        for (_, left) in self.claims.iter_mut().filter(|(claimed, _)| *claimed == resource) {
            let more = (rows - taken).min(*left);
            *left -= more;
            taken += more;
        }
        taken
    }

    /// Takes all that is left.
    pub(super) fn take_claims(&mut self) -> SmallVec<[(ResourceId, u64); 1]> {
        std::mem::take(&mut self.claims)
    }

    /// Whether it can't end a transaction, whatever else it does.
    pub(super) fn stays_open(&self) -> bool {
        use crate::sql::StatementKind as Kind;
        let stays = |one: &Statement| {
            let may_end = matches!(
                one.kind,
                Kind::Commit { .. }
                    | Kind::Rollback { .. }
                    | Kind::PrepareTransaction
                    | Kind::Call
                    | Kind::Do
                    | Kind::Other
                    | Kind::Unknown
            );
            !may_end
        };
        self.facts.statements.iter().all(stays)
    }
}
