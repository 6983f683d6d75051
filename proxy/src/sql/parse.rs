//! The only file that names the parser: Postgres' own, through `pg_query`.

use pg_query::NodeRef;
use pg_query::protobuf::{DiscardMode, FuncCall, VariableSetKind, VariableSetStmt, a_const::Val, node::Node as Inner};

use crate::domain::limits::PARSED_BYTES_MAX;

use super::facts::{Deallocates, Facts, PinReason};
use super::prefilter;

/// WITH HOLD, in the options of DECLARE (Postgres: CURSOR_OPT_HOLD).
const CURSOR_OPTION_HOLD: i32 = 0x0020;

/// Reads a text's facts off its parse tree. A text that can't be understood may do everything.
pub fn facts(text: &[u8]) -> Facts {
    if text.len() > PARSED_BYTES_MAX {
        return Facts::unknown();
    }
    let Ok(text) = std::str::from_utf8(text) else { return Facts::unknown() };
    let Ok(parsed) = pg_query::parse(text) else { return Facts::unknown() };
    let statements: Vec<&Inner> =
        parsed.protobuf.stmts.iter().filter_map(|raw| raw.stmt.as_ref()?.node.as_ref()).collect();
    let mut facts = Facts::default();
    for statement in &statements {
        of_statement(statement, statements.len() == 1, &mut facts);
    }
    // A setting may name the schema of temporary objects without making any.
    if !statements.iter().all(|statement| matches!(statement, Inner::VariableSetStmt(_) | Inner::TransactionStmt(_))) {
        of_words(text.as_bytes(), &mut facts);
    }
    of_set_config(text.as_bytes(), &parsed, &mut facts);
    facts
}

fn of_statement(statement: &Inner, alone: bool, facts: &mut Facts) {
    match statement {
        Inner::VariableSetStmt(set) => of_set(set, facts),
        Inner::DiscardStmt(discard) if discard.target == DiscardMode::DiscardAll as i32 => {
            facts.resets_all = true;
            facts.discards_all = true;
        }
        Inner::DeallocateStmt(deallocate) if deallocate.isall || deallocate.name.is_empty() => {
            facts.deallocates = Some(Deallocates::All);
        }
        Inner::DeallocateStmt(deallocate) if alone => {
            facts.deallocates = Some(Deallocates::One(deallocate.name.as_str().into()));
        }
        Inner::PrepareStmt(_) => facts.pins = Some(PinReason::Prepare),
        Inner::ListenStmt(_) => facts.pins = Some(PinReason::Listen),
        Inner::LoadStmt(_) => facts.pins = Some(PinReason::Load),
        Inner::DeclareCursorStmt(declare) if declare.options & CURSOR_OPTION_HOLD != 0 => {
            facts.pins = Some(PinReason::HeldCursor);
        }
        _ => {}
    }
}

fn of_set(set: &VariableSetStmt, facts: &mut Facts) {
    let name = set.name.to_ascii_lowercase();
    let multi = set.kind == VariableSetKind::VarSetMulti as i32;
    if set.kind == VariableSetKind::VarResetAll as i32 {
        facts.resets_all = true;
    } else if multi && name == "session characteristics" {
        for each in ["default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable"]
        {
            facts.touches.push(each.into());
        }
    } else if matches!(name.as_str(), "role" | "session_authorization") {
        facts.pins = Some(PinReason::Role);
    } else if !multi && !name.starts_with("transaction_") && name != "seed" {
        facts.touches.push(name.into());
    }
}

/// Facts that a word alone decides: there is no harmless use of it.
fn of_words(text: &[u8], facts: &mut Facts) {
    for word in prefilter::words(text) {
        if prefilter::is_session_lock(word) {
            facts.pins = Some(PinReason::AdvisoryLock);
        } else if prefilter::is_temporary_schema(word)
            || word.eq_ignore_ascii_case(b"temp")
            || word.eq_ignore_ascii_case(b"temporary")
        {
            facts.pins = Some(PinReason::Temporary);
        }
    }
}

/// A call of `set_config` with a constant name touches that setting; any other one may touch each.
fn of_set_config(text: &[u8], parsed: &pg_query::ParseResult, facts: &mut Facts) {
    let escaped = text.windows(2).any(|pair| pair.eq_ignore_ascii_case(b"u&"));
    let mentioned = prefilter::words(text).filter(|word| word.eq_ignore_ascii_case(b"set_config")).count();
    if mentioned == 0 && !escaped {
        return;
    }
    let mut visible = 0;
    for (node, ..) in parsed.protobuf.nodes() {
        let NodeRef::FuncCall(call) = node else { continue };
        if let Some(name) = constant_setting(call) {
            visible += 1;
            facts.touches.push(name.into());
        }
    }
    if visible < mentioned || escaped {
        facts.pins.get_or_insert(PinReason::HiddenSetting);
    }
    if facts.touches.iter().any(|name| matches!(&**name, "role" | "session_authorization")) {
        facts.pins = Some(PinReason::Role);
    }
}

fn constant_setting(call: &FuncCall) -> Option<String> {
    let Some(Inner::String(function)) = &call.funcname.last()?.node else { return None };
    if function.sval != "set_config" {
        return None;
    }
    let Some(Inner::AConst(constant)) = &call.args.first()?.node else { return None };
    match &constant.val {
        Some(Val::Sval(name)) => Some(name.sval.to_ascii_lowercase()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn touched(text: &str) -> Vec<String> {
        facts(text.as_bytes()).touches.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn every_way_to_set_a_setting_names_it() {
        assert_eq!(touched("SET Work_Mem = '1MB'"), ["work_mem"]);
        assert_eq!(touched("set local x.y to 1"), ["x.y"]);
        assert_eq!(touched("reset search_path"), ["search_path"]);
        assert_eq!(touched("set time zone 'UTC'"), ["timezone"]);
        assert_eq!(touched("set names 'latin1'"), ["client_encoding"]);
        assert_eq!(touched("select set_config('a.b', $1, false)"), ["a.b"]);
        assert_eq!(touched("with x as (select pg_catalog.set_config('a.b', 'c', true)) select * from x"), ["a.b"]);
        assert_eq!(touched("begin; set a.b = 1; set a.c = 2; commit"), ["a.b", "a.c"]);
        assert!(touched("set transaction isolation level serializable").is_empty());
    }

    #[test]
    fn what_cannot_be_carried_pins() {
        for (text, reason) in [
            ("prepare a as select 1", PinReason::Prepare),
            ("listen a", PinReason::Listen),
            ("create temp table a()", PinReason::Temporary),
            ("select 1 into temporary a", PinReason::Temporary),
            ("declare c cursor with hold for select 1", PinReason::HeldCursor),
            ("select pg_try_advisory_lock_shared(1)", PinReason::AdvisoryLock),
            ("set role none", PinReason::Role),
            ("set session authorization default", PinReason::Role),
            ("select set_config(n, 'x', false) from t", PinReason::HiddenSetting),
            ("select set_config('role', 'x', false)", PinReason::Role),
            ("load 'plpgsql'", PinReason::Load),
            ("set set set", PinReason::NotUnderstood),
        ] {
            assert_eq!(facts(text.as_bytes()).pins, Some(reason), "{text}");
        }
    }

    #[test]
    fn the_harmless_leave_nothing() {
        for text in [
            "/* c */ update a set b = 1",
            "select pg_advisory_xact_lock(1)",
            "select pg_advisory_unlock_all()",
            "declare c cursor for select 1",
            "discard plans",
            "unlisten *",
        ] {
            assert!(facts(text.as_bytes()).is_empty(), "{text}");
        }
    }

    #[test]
    fn the_resets_are_told_apart() {
        assert!(facts(b"reset all").resets_all && !facts(b"reset all").discards_all);
        assert!(facts(b"discard all").discards_all);
        assert_eq!(facts(b"deallocate all").deallocates, Some(Deallocates::All));
        assert_eq!(facts(b"deallocate prepare s1").deallocates, Some(Deallocates::One("s1".into())));
    }
}
