//! What stands in a statement: expressions, and what is in FROM. The names in them are looked up, or lie behind a dot; what
//! isn't known here hides something.

use super::super::guard_functions::XML_TABLE;
use super::super::guard_hit::GuardHit;
use super::super::guard_rule::Rule;
use super::super::statement::FunctionName;
use super::tree::{AConst, FuncCall, Node, TypeCast, TypeName, WindowDef, a_const::Val, node::Node as Inner};
use super::walk::Walk;
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

/// Functions of which nothing else is told for other arguments. Any other one may read its own as names, or as statements.
const INDIFFERENT_FUNCTIONS: [&str; 30] = [
    "abs",
    "avg",
    "btrim",
    "ceil",
    "char_length",
    "concat",
    "count",
    "date_part",
    "date_trunc",
    "extract",
    "floor",
    "gen_random_uuid",
    "jsonb_build_object",
    "jsonb_set",
    "left",
    "length",
    "lower",
    "ltrim",
    "max",
    "md5",
    "min",
    "now",
    "replace",
    "right",
    "round",
    "rtrim",
    "substring",
    "sum",
    "to_char",
    "upper",
];

/// What date and time types read as the moment at which they are read (Postgres docs, "Special Values").
const MOMENTS: [&str; 4] = ["now", "today", "tomorrow", "yesterday"];
/// Types whose constants depend on the day, or on what is not of their own database. With them the types that begin with `reg`.
const MOMENTARY_TYPES: [&str; 2] = ["timetz", "aclitem"];

impl Walk<'_> {
    /// An expression that isn't a name, a call or a constant alone, or a part of one.
    pub(super) fn expression(&mut self, inner: &Inner) {
        if let Some(operands) = operands(inner) {
            return self.all(operands);
        }
        match inner {
            Inner::NullTest(test) => self.maybe(&test.arg),
            Inner::BooleanTest(test) => self.maybe(&test.arg),
            Inner::NamedArgExpr(named) => self.maybe(&named.arg),
            Inner::MultiAssignRef(assigned) => self.maybe(&assigned.source),
            Inner::AExpr(operation) => {
                self.operator(&operation.name);
                self.maybe(&operation.lexpr);
                self.maybe(&operation.rexpr);
            }
            Inner::TypeCast(cast) => self.cast(cast),
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
            other => self.in_from(other),
        }
    }

    /// What may stand in FROM beside a table, or a part of it.
    fn in_from(&mut self, inner: &Inner) {
        match inner {
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
                self.attempts.hit(GuardHit::Calls(Rule::DynamicSql, XML_TABLE));
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
            _ => self.statement.hidden = true,
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
        self.statement.heeds_constants |=
            !INDIFFERENT_FUNCTIONS.contains(&name) || !matches!(schema, None | Some("pg_catalog"));
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

    pub(super) fn column(&mut self, fields: &[Node]) {
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
    pub(super) fn attribute(&mut self, name: &str) {
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

    fn cast(&mut self, cast: &TypeCast) {
        if let Some((argument, to)) = cast.arg.as_ref().and_then(|arg| arg.node.as_ref()).zip(cast.type_name.as_ref()) {
            self.statement.heeds_constants |= self.attempts.cast(argument, to);
        }
        self.maybe(&cast.arg);
        self.type_name(cast.type_name.as_ref());
    }

    /// Postgres reads a constant when it reads its text. What is in it of letters is looked at alone: time types know these words, and
    /// arrays and ranges of them take quotes and backslashes between.
    pub(super) fn constant(&mut self, constant: &AConst) {
        let Some(Val::Sval(string)) = &constant.val else { return };
        let letters: String =
            string.sval.chars().filter(char::is_ascii_alphabetic).map(|each| each.to_ascii_lowercase()).collect();
        self.statement.is_of_moment |= MOMENTS.iter().any(|word| letters.contains(word));
    }

    fn type_name(&mut self, name: Option<&TypeName>) {
        let Some(name) = name else { return };
        let is_of_moment = |name: &str| MOMENTARY_TYPES.contains(&name) || name.starts_with("reg");
        self.statement.is_of_moment |= strings(&name.names).next_back().is_some_and(is_of_moment);
        self.attempts.type_name(name);
        self.all(&name.typmods);
    }

    fn qualified_name(&mut self, names: &[Node]) {
        if let Some((schema, name)) = qualified(names) {
            self.attempts.name(schema, name);
        }
    }
}

/// The parts of an expression that is nothing but a list of them.
fn operands(inner: &Inner) -> Option<&[Node]> {
    match inner {
        Inner::BoolExpr(each) => Some(&each.args),
        Inner::CoalesceExpr(each) => Some(&each.args),
        Inner::MinMaxExpr(each) => Some(&each.args),
        Inner::GroupingFunc(each) => Some(&each.args),
        Inner::RowExpr(row) => Some(&row.args),
        Inner::AArrayExpr(array) => Some(&array.elements),
        Inner::GroupingSet(set) => Some(&set.content),
        _ => None,
    }
}
