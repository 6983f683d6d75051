//! Which databases a statement wants to find without a session.

use super::super::facts::Facts;
use super::tree::{CreatedbStmt, DefElem, ObjectType, node::Node as Inner};

/// What CREATE DATABASE copies when it isn't told.
const TEMPLATE: &str = "template1";

pub(super) fn of_statement(statement: &Inner, facts: &mut Facts) {
    let emptied = match statement {
        Inner::DropdbStmt(drop) => drop.dbname.as_str().into(),
        Inner::RenameStmt(rename) if rename.rename_type == ObjectType::ObjectDatabase as i32 => {
            rename.subname.as_str().into()
        }
        Inner::AlterDatabaseStmt(alter) if option(&alter.options, "tablespace").is_some() => {
            alter.dbname.as_str().into()
        }
        Inner::CreatedbStmt(create) => template(create),
        _ => return,
    };
    facts.empties.push(emptied);
}

fn template(create: &CreatedbStmt) -> Box<str> {
    let named = option(&create.options, "template").and_then(|option| match option.arg.as_ref()?.node.as_ref()? {
        Inner::String(name) => Some(name.sval.as_str()),
        _ => None,
    });
    named.unwrap_or(TEMPLATE).into()
}

fn option<'a>(options: &'a [super::tree::Node], name: &str) -> Option<&'a DefElem> {
    options.iter().find_map(|node| match &node.node {
        Some(Inner::DefElem(option)) if option.defname == name => Some(&**option),
        _ => None,
    })
}
