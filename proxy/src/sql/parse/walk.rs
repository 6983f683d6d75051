//! Goes through queries and expressions and gathers what they read, call and write. Every node of the parse tree is
//! taken apart field by field, so that none is forgotten; a kind of node that isn't known here makes its statement one
//! that hides something.

use super::super::guard_hit::{GuardHit, Watched};
use super::super::statement::{FunctionName, Relation, RowBound, Statement, StatementKind, Write, WriteVerb};
use super::attempts::Attempts;
use super::session::Settings;
use super::tree::{
    CommonTableExpr, DeleteStmt, FuncCall, InsertStmt, LimitOption, MergeStmt, Node, OnConflictClause, RangeVar,
    SelectStmt, TypeName, UpdateStmt, WindowDef, WithClause, a_const::Val, node::Node as Inner,
};
use super::{qualified, strings};

/// Functions of Postgres that never return more than one row, among those that stand in VALUES. Any other function may.
const SCALAR_FUNCTIONS: [&str; 66] = [
    "abs",
    "age",
    "array_append",
    "array_cat",
    "array_length",
    "array_position",
    "array_prepend",
    "array_remove",
    "array_to_json",
    "array_to_string",
    "btrim",
    "ceil",
    "char_length",
    "clock_timestamp",
    "concat",
    "concat_ws",
    "convert_to",
    "crypt",
    "current_setting",
    "currval",
    "date",
    "date_part",
    "date_trunc",
    "decode",
    "encode",
    "extract",
    "floor",
    "format",
    "gen_random_uuid",
    "initcap",
    "json_build_array",
    "json_build_object",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_set",
    "lastval",
    "left",
    "length",
    "lower",
    "ltrim",
    "make_date",
    "make_interval",
    "make_timestamp",
    "md5",
    "nextval",
    "now",
    "overlay",
    "random",
    "regexp_replace",
    "repeat",
    "replace",
    "right",
    "round",
    "row_to_json",
    "rtrim",
    "sha256",
    "split_part",
    "statement_timestamp",
    "string_to_array",
    "substr",
    "substring",
    "to_char",
    "to_json",
    "to_jsonb",
    "to_timestamp",
    "to_tsvector",
];

/// One statement's walk.
pub(super) struct Walk<'t> {
    /// What is visible of attempts on the walls.
    pub(super) attempts: Attempts<'t>,
    /// What the statement is and does.
    pub(super) statement: Statement,
    settings: &'t mut Settings,
    /// Names of the CTEs that can be seen from here.
    ctes: Vec<String>,
    /// What was walked through since this was cleared may give more than one row for one.
    sets: bool,
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
            // Nothing in them is looked up.
            Inner::AConst(_)
            | Inner::ParamRef(_)
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
            Inner::BoolExpr(each) => self.all(&each.args),
            Inner::CoalesceExpr(each) => self.all(&each.args),
            Inner::MinMaxExpr(each) => self.all(&each.args),
            Inner::GroupingFunc(each) => self.all(&each.args),
            Inner::RowExpr(row) => self.all(&row.args),
            Inner::AArrayExpr(array) => self.all(&array.elements),
            Inner::GroupingSet(set) => self.all(&set.content),
            Inner::NullTest(test) => self.maybe(&test.arg),
            Inner::BooleanTest(test) => self.maybe(&test.arg),
            Inner::NamedArgExpr(named) => self.maybe(&named.arg),
            Inner::MultiAssignRef(assigned) => self.maybe(&assigned.source),
            Inner::AExpr(operation) => {
                self.operator(&operation.name);
                self.maybe(&operation.lexpr);
                self.maybe(&operation.rexpr);
            }
            Inner::TypeCast(cast) => {
                if let Some((argument, to)) =
                    cast.arg.as_ref().and_then(|arg| arg.node.as_ref()).zip(cast.type_name.as_ref())
                {
                    self.attempts.cast(argument, to);
                }
                self.maybe(&cast.arg);
                self.type_name(cast.type_name.as_ref());
            }
            Inner::CollateClause(collate) => {
                self.maybe(&collate.arg);
                self.qualified_name(&collate.collname);
            }
            Inner::AIndirection(indirection) => {
                self.maybe(&indirection.arg);
                self.all(&indirection.indirection);
            }
            Inner::AIndices(indices) => {
                self.maybe(&indices.lidx);
                self.maybe(&indices.uidx);
            }
            Inner::ResTarget(target) => {
                self.all(&target.indirection);
                self.maybe(&target.val);
            }
            Inner::SubLink(link) => {
                self.operator(&link.oper_name);
                self.maybe(&link.testexpr);
                // A subquery in an expression gives one value, whatever is in it.
                let sets = self.sets;
                self.maybe(&link.subselect);
                self.sets = sets;
            }
            Inner::CaseExpr(case) => {
                self.maybe(&case.arg);
                self.all(&case.args);
                self.maybe(&case.defresult);
            }
            Inner::CaseWhen(when) => {
                self.maybe(&when.expr);
                self.maybe(&when.result);
            }
            Inner::SortBy(sort) => {
                self.maybe(&sort.node);
                self.operator(&sort.use_op);
            }
            Inner::WindowDef(window) => self.window(window),
            Inner::LockingClause(locking) => {
                // The names in it are those of FROM.
                let _ = locking;
                self.statement.locks_rows = true;
            }
            Inner::JoinExpr(join) => {
                self.maybe(&join.larg);
                self.maybe(&join.rarg);
                self.maybe(&join.quals);
            }
            Inner::RangeSubselect(range) => self.maybe(&range.subquery),
            Inner::RangeFunction(range) => {
                self.all(&range.functions);
                self.all(&range.coldeflist);
            }
            Inner::RangeTableSample(sample) => {
                self.maybe(&sample.relation);
                self.all(&sample.args);
                self.maybe(&sample.repeatable);
                // The method is a function of its own, mostly one of the two that are built in.
                match qualified(&sample.method) {
                    Some((None | Some("pg_catalog"), "bernoulli" | "system")) => {}
                    _ => self.statement.hidden = true,
                }
            }
            Inner::RangeTableFunc(table) => {
                self.maybe(&table.docexpr);
                self.maybe(&table.rowexpr);
                self.all(&table.namespaces);
                self.all(&table.columns);
            }
            Inner::RangeTableFuncCol(column) => {
                self.type_name(column.type_name.as_ref());
                self.maybe(&column.colexpr);
                self.maybe(&column.coldefexpr);
            }
            Inner::ColumnDef(column) => self.type_name(column.type_name.as_ref()),
            Inner::XmlExpr(xml) => {
                self.all(&xml.named_args);
                self.all(&xml.args);
            }
            Inner::XmlSerialize(xml) => {
                self.maybe(&xml.expr);
                self.type_name(xml.type_name.as_ref());
            }
            Inner::IndexElem(element) => {
                self.maybe(&element.expr);
                self.qualified_name(&element.collation);
                self.qualified_name(&element.opclass);
            }
            _ => self.statement.hidden = true,
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

    pub(super) fn call(&mut self, call: &FuncCall) {
        self.attempts.call(call);
        let Some((schema, name)) = qualified(&call.funcname) else {
            self.statement.hidden = true;
            return;
        };
        if name == "set_config" {
            let (setting, value) = self.settings.call(call);
            if let Some(setting) = setting {
                self.attempts.set_config(&setting, value.as_deref());
            }
        }
        if !SCALAR_FUNCTIONS.contains(&name) {
            self.sets = true;
        }
        let function = FunctionName { schema: schema.map(Into::into), name: name.into() };
        if !self.statement.functions.contains(&function) {
            self.statement.functions.push(function);
        }
        self.all(&call.args);
        self.all(&call.agg_order);
        self.maybe(&call.agg_filter);
        if let Some(window) = &call.over {
            self.window(window);
        }
    }

    fn window(&mut self, window: &WindowDef) {
        self.all(&window.partition_clause);
        self.all(&window.order_clause);
        self.maybe(&window.start_offset);
        self.maybe(&window.end_offset);
    }

    fn column(&mut self, fields: &[Node]) {
        let names: Vec<&str> = strings(fields).collect();
        // Of schema.table.column and schema.table.* the schema is looked up; of table.column nothing is.
        if fields.len() > 2
            && let Some([schema, table]) = names.get(fields.len() - 3..fields.len() - 1)
        {
            self.attempts.name(Some(schema), table);
        }
        if fields.len() > 1
            && names.len() == fields.len()
            && let Some(name) = names.last()
        {
            self.attribute(name);
        }
    }

    /// `row.name` is a column, or a call of `name(row)`.
    fn attribute(&mut self, name: &str) {
        if !self.statement.attributes.iter().any(|known| &**known == name) {
            self.statement.attributes.push(name.into());
        }
    }

    fn operator(&mut self, name: &[Node]) {
        let Some((schema, name)) = qualified(name) else { return };
        self.attempts.name(schema, name);
        if !self.statement.operators.iter().any(|known| &**known == name) {
            self.statement.operators.push(name.into());
        }
    }

    fn type_name(&mut self, name: Option<&TypeName>) {
        let Some(name) = name else { return };
        self.attempts.type_name(name);
        self.all(&name.typmods);
    }

    fn qualified_name(&mut self, names: &[Node]) {
        if let Some((schema, name)) = qualified(names) {
            self.attempts.name(schema, name);
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
