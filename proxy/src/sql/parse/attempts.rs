//! Visible attempts on the walls, read from the parse tree. An ordinary statement has none of them: names and strings are
//! only looked at where Postgres would look a name up.

use super::super::guard_functions::{self, NOTIFY};
use super::super::guard_hit::{GuardHit, NAME_FUNCTIONS, NAME_TYPES, SCHEMA, Watched, is_switched_on};
use super::tree::{FuncCall, Node, ObjectType, TypeName, VariableSetKind, VariableSetStmt, node::Node as Inner};
use super::{constant, qualified, strings};

/// The attempts of one text.
pub(super) struct Attempts<'t> {
    watched: &'t Watched,
    hits: &'t mut Vec<GuardHit>,
    /// Where calls of `pg_notify` stand, in bytes of the text.
    notifies: Vec<i32>,
}

impl<'t> Attempts<'t> {
    pub(super) const fn new(watched: &'t Watched, hits: &'t mut Vec<GuardHit>) -> Self {
        Self { watched, hits, notifies: Vec::new() }
    }

    /// Where calls of `pg_notify` stand.
    pub(super) fn notifies(self) -> Vec<i32> {
        self.notifies
    }

    pub(super) fn hit(&mut self, hit: GuardHit) {
        if !self.hits.contains(&hit) {
            self.hits.push(hit);
        }
    }

    /// A name that Postgres looks up in this schema.
    pub(super) fn name(&mut self, schema: Option<&str>, name: &str) {
        if schema == Some(SCHEMA) {
            self.hit(GuardHit::NamesSchema(format!("{SCHEMA}.{name}").into()));
        }
    }

    /// A call. The harmless calls in the schema are the one that policies make and the one that triggers may make.
    pub(super) fn call(&mut self, call: &FuncCall) {
        let Some((schema, name)) = qualified(&call.funcname) else { return };
        let is_open = (name == "workspace_id" && call.args.is_empty()) || name == NOTIFY;
        if !(schema == Some(SCHEMA) && is_open) {
            self.name(schema, name);
        }
        if name == NOTIFY && schema.is_none_or(|schema| schema == "pg_catalog") {
            self.notifies.push(call.location);
        }
        if let Some((rule, name)) = guard_functions::by_name(schema, name, call.args.len()) {
            self.hit(GuardHit::Calls(rule, name));
        }
        if NAME_FUNCTIONS.contains(&name) {
            for argument in call.args.iter().filter_map(|argument| argument.node.as_ref()) {
                self.looked_up(argument);
            }
        }
    }

    /// `set_config` with a constant name.
    pub(super) fn set_config(&mut self, setting: &str, value: Option<&str>) {
        match setting {
            "role" if value == Some("none") => {}
            "role" | "session_authorization" => self.hit(GuardHit::ChangesRole),
            "row_security" if !value.is_some_and(is_switched_on) => self.hit(GuardHit::SetsRowSecurity),
            _ => self.setting(setting),
        }
        if setting == "search_path" {
            value.into_iter().for_each(|value| self.path(value));
        }
    }

    /// SET or RESET, on its own or as part of another statement.
    pub(super) fn set(&mut self, set: &VariableSetStmt) {
        let name = set.name.to_ascii_lowercase();
        let takes = |kind: VariableSetKind| set.kind == kind as i32;
        match name.as_str() {
            "role" | "session_authorization" if takes(VariableSetKind::VarSetValue) => {
                let values: Vec<_> = values(set).collect();
                if !(name == "role" && values == ["none"]) {
                    self.hit(GuardHit::ChangesRole);
                }
            }
            "role" | "session_authorization" => {}
            "row_security" if takes(VariableSetKind::VarSetValue) => {
                if !values(set).all(|value| is_switched_on(&value)) {
                    self.hit(GuardHit::SetsRowSecurity);
                }
            }
            _ => self.setting(&name),
        }
        if name == "search_path" {
            values(set).for_each(|value| self.path(&value));
        }
    }

    /// A setting that is set, reset or planted.
    pub(super) fn setting(&mut self, setting: &str) {
        if self.watched.is_context(setting) {
            self.hit(GuardHit::TouchesContext(setting.to_ascii_lowercase().into()));
        }
    }

    fn path(&mut self, value: &str) {
        if value.split(',').any(|schema| schema.trim_matches([' ', '"']) == SCHEMA) {
            self.hit(GuardHit::NamesSchema(SCHEMA.into()));
        }
    }

    pub(super) fn type_name(&mut self, name: &TypeName) {
        if let Some((schema, name)) = qualified(&name.names) {
            self.name(schema, name);
        }
    }

    /// A cast of a constant, which says whether it is one to a type whose input looks a name up.
    pub(super) fn cast(&mut self, argument: &Inner, to: &TypeName) -> bool {
        let looks_up = strings(&to.names).next_back().is_some_and(|name| NAME_TYPES.contains(&name));
        if looks_up {
            self.looked_up(argument);
        }
        looks_up
    }

    /// A string in which Postgres looks names up.
    fn looked_up(&mut self, argument: &Inner) {
        let Some(text) = constant(argument) else { return };
        let mut rest = text.as_str();
        while let Some(at) = rest.find(SCHEMA) {
            let (before, behind) = (&rest[..at], &rest[at + SCHEMA.len()..]);
            let starts = !before.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '.'));
            let ends = behind.trim_start_matches('"').trim_start();
            let alone = before.trim_matches([' ', '"']).is_empty() && ends.is_empty();
            if starts && (alone || ends.starts_with('.')) {
                self.hit(GuardHit::NamesSchema(text.as_str().into()));
                return;
            }
            rest = behind;
        }
    }

    /// RENAME or OWNER TO of a role or database.
    pub(super) fn object(&mut self, object_type: i32, command: [&'static str; 2]) {
        if object_type == ObjectType::ObjectRole as i32 {
            self.hit(GuardHit::AltersRole(command[0]));
        } else if object_type == ObjectType::ObjectDatabase as i32 {
            self.hit(GuardHit::AltersRole(command[1]));
        }
    }
}

/// The values of a SET, as far as they are constants.
fn values(set: &VariableSetStmt) -> impl Iterator<Item = String> {
    set.args.iter().filter_map(|argument: &Node| constant(argument.node.as_ref()?))
}
