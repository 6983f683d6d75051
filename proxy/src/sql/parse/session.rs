//! What statements leave behind in their session.

use super::super::facts::{Asks, Facts, PinReason, Reset};
use super::super::prefilter;
use super::tree::{DiscardMode, FuncCall, Node, VariableSetKind, VariableSetStmt, node::Node as Inner};

/// WITH HOLD, in the options of DECLARE (Postgres: CURSOR_OPT_HOLD).
const CURSOR_OPTION_HOLD: i32 = 0x0020;

/// What a text's calls of `set_config` set.
#[derive(Default)]
pub(super) struct Settings {
    /// Calls with a constant name.
    visible: usize,
    /// The constant names, in lower case.
    names: Vec<Box<str>>,
    /// Settings are changed by name in some other way.
    hidden: bool,
}

impl Settings {
    /// A call of `set_config`. Returns the name of the setting and its new value, as far as they are constants.
    pub(super) fn call(&mut self, call: &FuncCall) -> (Option<String>, Option<String>) {
        let argument = |name: &str, at: usize| {
            let named =
                call.args.iter().find(|each| matches!(&each.node, Some(Inner::NamedArgExpr(n)) if n.name == name));
            super::constant(named.or(call.args.get(at))?.node.as_ref()?)
        };
        let setting = argument("setting_name", 0).map(|name| name.to_ascii_lowercase());
        if let Some(setting) = &setting {
            self.visible += 1;
            self.names.push(setting.as_str().into());
        }
        (setting, argument("new_value", 1))
    }

    /// `pg_settings` is updated, which is a call of `set_config` in disguise.
    pub(super) const fn by_view(&mut self) {
        self.hidden = true;
    }

    /// A call of `set_config` with a constant name touches that setting; any other one, and whatever mentions the
    /// function without calling it visibly, may touch each.
    pub(super) fn told(self, text: &[u8], facts: &mut Facts) {
        let mentioned = prefilter::words(text).filter(|word| word.eq_ignore_ascii_case(b"set_config")).count();
        let escaped = text.windows(2).any(|pair| pair.eq_ignore_ascii_case(b"u&"));
        facts.touches.extend(self.names);
        if self.hidden || self.visible < mentioned || (escaped && facts.hides()) {
            facts.pins.get_or_insert(PinReason::HiddenSetting);
        }
        if facts.touches.iter().any(|name| matches!(&**name, "role" | "session_authorization")) {
            facts.pins = Some(PinReason::Role);
        }
    }
}

pub(super) fn of_statement(statement: &Inner, facts: &mut Facts) {
    match statement {
        Inner::VariableSetStmt(set) => of_set(set, facts),
        Inner::DiscardStmt(discard) if discard.target == DiscardMode::DiscardAll as i32 => {
            resets_all(facts);
            facts.discards_all = true;
        }
        Inner::DiscardStmt(discard) => {
            facts.discards_sequences |= discard.target == DiscardMode::DiscardSequences as i32;
        }
        Inner::DeallocateStmt(deallocate) if deallocate.isall || deallocate.name.is_empty() => {
            facts.deallocates_all = true;
        }
        Inner::DeallocateStmt(deallocate) => facts.deallocates.push(deallocate.name.as_str().into()),
        Inner::PrepareStmt(prepare) => {
            facts.prepared.push(prepare.name.as_str().into());
            facts.pins = Some(PinReason::Prepare);
        }
        Inner::ExecuteStmt(execute) => facts.prepared.push(execute.name.as_str().into()),
        Inner::ExplainStmt(explain) => of_nested(explain.query.as_deref(), facts),
        Inner::CreateTableAsStmt(create) => of_nested(create.query.as_deref(), facts),
        Inner::ListenStmt(_) => facts.pins = Some(PinReason::Listen),
        Inner::LoadStmt(_) => facts.pins = Some(PinReason::Load),
        Inner::DeclareCursorStmt(declare) if declare.options & CURSOR_OPTION_HOLD != 0 => {
            facts.pins = Some(PinReason::HeldCursor);
        }
        _ => {}
    }
}

/// What SET can only change for the transaction.
const OF_TRANSACTION: [&str; 3] = ["transaction_isolation", "transaction_read_only", "transaction_deferrable"];

fn of_nested(statement: Option<&Node>, facts: &mut Facts) {
    if let Some(Inner::ExecuteStmt(execute)) = statement.and_then(|statement| statement.node.as_ref()) {
        facts.prepared.push(execute.name.as_str().into());
    }
}

fn of_set(set: &VariableSetStmt, facts: &mut Facts) {
    let name = set.name.to_ascii_lowercase();
    let is = |kind: VariableSetKind| set.kind == kind as i32;
    if is(VariableSetKind::VarResetAll) {
        resets_all(facts);
    } else if is(VariableSetKind::VarSetMulti) && name == "session characteristics" {
        for each in ["default_transaction_isolation", "default_transaction_read_only", "default_transaction_deferrable"]
        {
            sets(each, facts);
        }
    } else if matches!(name.as_str(), "role" | "session_authorization") {
        facts.pins = Some(PinReason::Role);
    } else if is(VariableSetKind::VarSetMulti) || OF_TRANSACTION.contains(&name.as_str()) || name == "seed" {
        // The transaction's own.
    } else if is(VariableSetKind::VarReset) || is(VariableSetKind::VarSetDefault) {
        sets(&name, facts);
        facts.set_behind.retain(|each| **each != *name);
        facts.resets.push(Reset { name: name.into(), is_local: set.is_local });
    } else {
        sets(&name, facts);
    }
}

fn sets(name: &str, facts: &mut Facts) {
    facts.touches.push(name.into());
    facts.resets.retain(|each| *each.name != *name);
    if facts.resets_all && !facts.set_behind.iter().any(|each| **each == *name) {
        facts.set_behind.push(name.into());
    }
}

fn resets_all(facts: &mut Facts) {
    facts.resets_all = true;
    facts.resets.clear();
    facts.set_behind.clear();
}

/// What the text asks of the server process: by the functions it calls, and where something is hidden by any mention of one.
pub(super) fn asks(text: &[u8], facts: &mut Facts) {
    let mut asks = Asks::default();
    for function in facts.statements.iter().flat_map(|statement| &statement.functions) {
        if function.schema.as_deref().is_none_or(|schema| schema == "pg_catalog") {
            asks.note(function.name.as_bytes());
        }
    }
    if facts.hides() {
        prefilter::words(text).for_each(|word| asks.note(word));
    }
    facts.asks = asks;
}

/// Facts that a word alone decides: there is no harmless use of it.
pub(super) fn of_words(text: &[u8], facts: &mut Facts) {
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
