//! The only room that names the parser: Postgres' own, through `pg_query`. This file turns a text into facts; `statements`
//! says what each statement is, `walk` goes through expressions and queries, `session` and `attempts` say what is left
//! behind and what looks like an attempt on the walls, `databases` which of them must be free of sessions.

mod attempts;
mod bodies;
mod databases;
mod expressions;
mod mentions;
mod objects;
mod outline;
mod session;
mod statements;
mod walk;

use std::ops::Range;

use pg_query::protobuf as tree;
use tree::node::Node as Inner;

use super::facts::Facts;
use super::guard_hit::{GuardHit, Watched};
use super::measure::Measured;
use super::statement::{RowBound, Write};
use super::{channels, measure, normalize, prefilter};
use mentions::Mentions;
use walk::Walk;

/// Reads a text's facts off its parse tree. A text that can't be understood may do everything.
pub fn facts(text: &[u8], watched: &Watched) -> Facts {
    let Some(measured) = std::str::from_utf8(text).ok().and_then(measure::measure) else {
        return not_understood(text, false);
    };
    let is_short = measured.rows_left_out > 0;
    let facts = of_measured(text, measured, watched);
    // Of a text in which channels are to be renamed nothing may be left out.
    if is_short
        && facts.guard.contains(&GuardHit::HidesChannel)
        && let Some(whole) = std::str::from_utf8(text).ok().and_then(measure::whole)
    {
        return of_measured(text, whole, watched);
    }
    facts
}

fn of_measured(text: &[u8], measured: Measured<'_>, watched: &Watched) -> Facts {
    let Measured { text: whole, rows_left_out } = measured;
    let Ok(parsed) = pg_query::parse(&whole) else { return not_understood(text, true) };
    let raw = parsed
        .protobuf
        .stmts
        .iter()
        .filter_map(|raw| Some((raw.stmt.as_ref()?.node.as_ref()?, own_range(raw, &whole))));
    let (statements, ranges): (Vec<&Inner>, Vec<Range<usize>>) = raw.unzip();
    let mut facts = Facts::default();
    let mut settings = session::Settings::default();
    let mut mentions = Mentions::new(&whole);
    for (statement, range) in statements.iter().zip(ranges) {
        let mut walk = Walk::new(watched, &mut facts.guard, &mut settings);
        let from = range.start;
        statements::walk(statement, &whole[range], &mut walk);
        let (told, notifies) = walk.finish();
        facts.statements.push(told);
        mentions.of_statement(statement, from, &notifies);
    }
    mentions.told(rows_left_out == 0, &mut facts);
    // The statement's own write is the last one of it.
    if let Some(Write { rows: RowBound::AtMost(rows), .. }) =
        facts.statements.first_mut().and_then(|first| first.writes.last_mut())
    {
        *rows += rows_left_out;
    }
    if rows_left_out > 0 {
        facts.statements.iter_mut().for_each(|statement| statement.is_of_moment = true);
    }
    for statement in &statements {
        session::of_statement(statement, &mut facts);
        databases::of_statement(statement, &mut facts);
    }
    // A setting may name the schema of temporary objects without making any.
    if !statements.iter().all(|statement| matches!(statement, Inner::VariableSetStmt(_) | Inner::TransactionStmt(_))) {
        session::of_words(text, &mut facts);
    }
    settings.told(text, &mut facts);
    session::asks(text, &mut facts);
    facts.normalized = normalize(text);
    facts
}

/// What of a text is one statement's.
fn own_range(raw: &tree::RawStmt, text: &str) -> Range<usize> {
    let start = usize::try_from(raw.stmt_location).unwrap_or(0);
    // 0 stands for the rest.
    let end =
        usize::try_from(raw.stmt_len).ok().filter(|length| *length > 0).map_or(text.len(), |length| start + length);
    if text.get(start..end).is_some() { start..end } else { 0..text.len() }
}

/// Without any of the words that leaving something behind needs, a text that isn't understood leaves nothing.
fn not_understood(text: &[u8], was_parsed: bool) -> Facts {
    let facts = if prefilter::may_leave_state(text) { Facts::unknown() } else { Facts::hidden() };
    let mut facts = Facts { normalized: normalize(text), ..facts };
    if let Some(outlined) = outline::statement(text) {
        facts.statements = vec![outlined];
    }
    session::asks(text, &mut facts);
    if channels::may_hide(text, was_parsed) {
        facts.guard.push(GuardHit::HidesChannel);
    }
    facts
}

/// The strings of a qualified name; anything else in it is left out.
fn strings(nodes: &[tree::Node]) -> impl DoubleEndedIterator<Item = &str> {
    nodes.iter().filter_map(|node| match &node.node {
        Some(Inner::String(string)) => Some(string.sval.as_str()),
        _ => None,
    })
}

/// The schema, if it is named, and the name.
fn qualified(nodes: &[tree::Node]) -> Option<(Option<&str>, &str)> {
    let mut names = strings(nodes).rev();
    let name = names.next()?;
    Some((names.next(), name))
}

/// The value of an expression that is a constant string, also one that is put together of several.
fn constant(inner: &Inner) -> Option<String> {
    use tree::a_const::Val;
    let of = |node: &Option<Box<tree::Node>>| constant(node.as_ref()?.node.as_ref()?);
    match inner {
        Inner::AConst(constant) => match constant.val.as_ref()? {
            Val::Sval(string) => Some(string.sval.clone()),
            Val::Ival(number) => Some(number.ival.to_string()),
            Val::Fval(number) => Some(number.fval.clone()),
            Val::Boolval(_) | Val::Bsval(_) => None,
        },
        Inner::TypeCast(cast) => of(&cast.arg),
        Inner::CollateClause(collate) => of(&collate.arg),
        Inner::NamedArgExpr(named) => of(&named.arg),
        Inner::AExpr(operation) if strings(&operation.name).next_back() == Some("||") => {
            Some(of(&operation.lexpr)? + &of(&operation.rexpr)?)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
