//! Goes through queries and gathers what they read, call and write; `expressions` has what stands in them. Every node of the parse tree is
//! taken apart field by field, so that none is forgotten; a kind of node that isn't known here makes its statement one
//! that hides something.

use super::super::guard_hit::{GuardHit, Watched};
use super::super::statement::{Relation, RowBound, Statement, StatementKind, Write, WriteVerb};
use super::attempts::Attempts;
use super::session::Settings;
use super::tree::{
    CommonTableExpr, DeleteStmt, InsertStmt, LimitOption, MergeStmt, Node, OnConflictClause, RangeVar, SelectStmt,
    UpdateStmt, WithClause, a_const::Val, node::Node as Inner,
};

/// One statement's walk.
pub(super) struct Walk<'t> {
    /// What is visible of attempts on the walls.
    pub(super) attempts: Attempts<'t>,
    /// What the statement is and does.
    pub(super) statement: Statement,
    pub(super) settings: &'t mut Settings,
    /// Names of the CTEs that can be seen from here.
    ctes: Vec<String>,
    /// What was walked through since this was cleared may give more than one row for one.
    pub(super) sets: bool,
}

impl<'t> Walk<'t> {
    pub(super) const fn new(watched: &'t Watched, hits: &'t mut Vec<GuardHit>, settings: &'t mut Settings) -> Self {
        Self {
            attempts: Attempts::new(watched, hits),
            statement: Statement::new(StatementKind::Other),
            settings,
            ctes: Vec::new(),
            sets: false,
        }
    }

    /// The statement, and where it calls `pg_notify`.
    pub(super) fn finish(self) -> (Statement, Vec<i32>) {
        (self.statement, self.attempts.notifies())
    }

    pub(super) fn all(&mut self, nodes: &[Node]) {
        nodes.iter().filter_map(|node| node.node.as_ref()).for_each(|inner| self.inner(inner));
    }

    pub(super) fn maybe(&mut self, node: &Option<Box<Node>>) {
        if let Some(inner) = node.as_ref().and_then(|node| node.node.as_ref()) {
            self.inner(inner);
        }
    }

    pub(super) fn inner(&mut self, inner: &Inner) {
        match inner {
            Inner::SelectStmt(select) => self.select(select),
            Inner::InsertStmt(insert) => self.insert(insert),
            Inner::UpdateStmt(update) => self.update(update),
            Inner::DeleteStmt(delete) => self.delete(delete),
            Inner::MergeStmt(merge) => self.merge(merge),
            Inner::RangeVar(relation) => self.read(relation),
            Inner::FuncCall(call) => self.call(call),
            Inner::AConst(constant) => self.constant(constant),
            // Nothing in them is looked up.
            Inner::ParamRef(_)
            | Inner::AStar(_)
            | Inner::SetToDefault(_)
            | Inner::CurrentOfExpr(_)
            | Inner::SqlvalueFunction(_)
            | Inner::MergeSupportFunc(_)
            | Inner::Integer(_)
            | Inner::Float(_)
            | Inner::Boolean(_)
            | Inner::BitString(_) => {}
            // A name that stands behind a dot; what it belongs to is looked at where it stands.
            Inner::String(attribute) => self.attribute(&attribute.sval),
            Inner::ColumnRef(column) => self.column(&column.fields),
            Inner::List(list) => self.all(&list.items),
            other => self.expression(other),
        }
    }

    pub(super) fn select(&mut self, select: &SelectStmt) {
        let visible = self.ctes.len();
        self.with(select.with_clause.as_ref());
        if let Some(into) = &select.into_clause {
            self.statement.hidden = true;
            if let Some(relation) = &into.rel {
                self.relation(relation);
            }
        }
        self.all(&select.distinct_clause);
        self.all(&select.target_list);
        self.all(&select.from_clause);
        self.maybe(&select.where_clause);
        self.all(&select.group_clause);
        self.maybe(&select.having_clause);
        self.all(&select.window_clause);
        self.all(&select.values_lists);
        self.all(&select.sort_clause);
        self.maybe(&select.limit_offset);
        self.maybe(&select.limit_count);
        self.all(&select.locking_clause);
        select.larg.iter().chain(&select.rarg).for_each(|side| self.select(side));
        self.ctes.truncate(visible);
    }

    fn insert(&mut self, insert: &InsertStmt) {
        let visible = self.ctes.len();
        self.with(insert.with_clause.as_ref());
        self.all(&insert.cols);
        self.sets = false;
        self.maybe(&insert.select_stmt);
        let rows = rows_of(insert, self.sets);
        // A LIMIT bounds them.
        self.statement.heeds_constants |= is_query(insert);
        self.all(&insert.returning_list);
        if let Some(conflict) = &insert.on_conflict_clause {
            self.conflict(conflict);
        }
        self.ctes.truncate(visible);
        self.write(insert.relation.as_ref(), WriteVerb::Insert, rows);
        if let Some(write) = self.statement.writes.last_mut() {
            write.upsert = insert.on_conflict_clause.is_some();
            write.returns = !insert.returning_list.is_empty();
        }
    }

    fn conflict(&mut self, conflict: &OnConflictClause) {
        self.all(&conflict.target_list);
        self.maybe(&conflict.where_clause);
        if let Some(infer) = &conflict.infer {
            self.all(&infer.index_elems);
            self.maybe(&infer.where_clause);
        }
    }

    fn update(&mut self, update: &UpdateStmt) {
        let visible = self.ctes.len();
        self.with(update.with_clause.as_ref());
        self.all(&update.target_list);
        self.all(&update.from_clause);
        self.maybe(&update.where_clause);
        self.all(&update.returning_list);
        self.ctes.truncate(visible);
        if update.relation.as_ref().is_some_and(|relation| relation.relname == "pg_settings") {
            self.settings.by_view();
        }
        self.write(update.relation.as_ref(), WriteVerb::Update, RowBound::AtMost(0));
    }

    fn delete(&mut self, delete: &DeleteStmt) {
        let visible = self.ctes.len();
        self.with(delete.with_clause.as_ref());
        self.all(&delete.using_clause);
        self.maybe(&delete.where_clause);
        self.all(&delete.returning_list);
        self.ctes.truncate(visible);
        self.write(delete.relation.as_ref(), WriteVerb::Delete, RowBound::AtMost(0));
    }

    fn merge(&mut self, merge: &MergeStmt) {
        let visible = self.ctes.len();
        self.with(merge.with_clause.as_ref());
        self.maybe(&merge.source_relation);
        self.maybe(&merge.join_condition);
        for node in &merge.merge_when_clauses {
            let Some(Inner::MergeWhenClause(when)) = &node.node else {
                self.statement.hidden = true;
                continue;
            };
            self.maybe(&when.condition);
            self.all(&when.target_list);
            self.all(&when.values);
        }
        self.all(&merge.returning_list);
        self.ctes.truncate(visible);
        self.write(merge.relation.as_ref(), WriteVerb::Merge, RowBound::Unknown);
    }

    /// The names of a recursive WITH can be seen in all of it; else each can be seen from the next one on.
    fn with(&mut self, clause: Option<&WithClause>) {
        let Some(clause) = clause else { return };
        let ctes = || {
            clause.ctes.iter().filter_map(|node| match &node.node {
                Some(Inner::CommonTableExpr(cte)) => Some(cte),
                _ => None,
            })
        };
        if clause.recursive {
            self.ctes.extend(ctes().map(|cte| cte.ctename.clone()));
        }
        for cte in ctes() {
            self.cte(cte);
            if !clause.recursive {
                self.ctes.push(cte.ctename.clone());
            }
        }
    }

    fn cte(&mut self, cte: &CommonTableExpr) {
        self.maybe(&cte.ctequery);
        if let Some(cycle) = &cte.cycle_clause {
            self.maybe(&cycle.cycle_mark_value);
            self.maybe(&cycle.cycle_mark_default);
        }
    }

    /// A relation in FROM: a name without a schema may be a CTE's.
    pub(super) fn read(&mut self, relation: &RangeVar) {
        if relation.schemaname.is_empty() && self.ctes.contains(&relation.relname) {
            return;
        }
        let relation = self.relation(relation);
        if !self.statement.reads.contains(&relation) {
            self.statement.reads.push(relation);
        }
    }

    pub(super) fn write(&mut self, relation: Option<&RangeVar>, verb: WriteVerb, rows: RowBound) {
        let Some(relation) = relation else {
            self.statement.hidden = true;
            return;
        };
        let relation = self.relation(relation);
        self.statement.writes.push(Write { relation, verb, rows, upsert: false, returns: false });
    }

    pub(super) fn relation(&mut self, relation: &RangeVar) -> Relation {
        let schema = (!relation.schemaname.is_empty()).then_some(relation.schemaname.as_str());
        self.attempts.name(schema, &relation.relname);
        Relation { schema: schema.map(Into::into), name: relation.relname.as_str().into() }
    }
}

/// Whether what an INSERT adds isn't written out in it, or is bounded beside.
fn is_query(insert: &InsertStmt) -> bool {
    match insert.select_stmt.as_ref().and_then(|source| source.node.as_ref()) {
        None => false,
        Some(Inner::SelectStmt(select)) => select.values_lists.is_empty() || select.limit_count.is_some(),
        Some(_) => true,
    }
}

/// How many rows an INSERT adds itself. `sets`: something in its rows may give more than one row for one.
fn rows_of(insert: &InsertStmt, sets: bool) -> RowBound {
    let Some(source) = &insert.select_stmt else { return RowBound::AtMost(1) };
    let Some(Inner::SelectStmt(select)) = &source.node else { return RowBound::Unknown };
    let is_plain = select.larg.is_none() && select.rarg.is_none();
    if is_plain && !select.values_lists.is_empty() && !sets {
        return RowBound::AtMost(u64::try_from(select.values_lists.len()).unwrap_or(u64::MAX));
    }
    if let Some(limit) = limit(select) {
        return RowBound::AtMost(limit);
    }
    let is_single = is_plain && select.from_clause.is_empty() && select.group_clause.is_empty();
    if is_single && select.values_lists.is_empty() && !sets { RowBound::AtMost(1) } else { RowBound::Unknown }
}

/// A constant LIMIT without ties.
fn limit(select: &SelectStmt) -> Option<u64> {
    if select.limit_option != LimitOption::Count as i32 {
        return None;
    }
    let Some(Inner::AConst(constant)) = &select.limit_count.as_ref()?.node else { return None };
    match constant.val.as_ref()? {
        Val::Ival(number) => u64::try_from(number.ival).ok(),
        _ => None,
    }
}
