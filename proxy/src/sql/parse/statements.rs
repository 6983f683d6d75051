//! What each statement is, and which parts of it run.

use super::super::guard_hit::GuardHit;
use super::super::statement::{Relation, RowBound, StatementKind, WriteVerb};
use super::tree::{
    CopyStmt, DefElem, ExplainStmt, LockStmt, Node, SelectStmt, TransactionStmt, TransactionStmtKind,
    node::Node as Inner,
};
use super::walk::Walk;
use super::{constant, objects, strings};

/// Goes through one statement, of which `text` is its own.
pub(super) fn walk(statement: &Inner, text: &str, walk: &mut Walk<'_>) {
    walk.statement.kind = kind(statement);
    match statement {
        Inner::SelectStmt(select) => walk.select(select),
        Inner::InsertStmt(_) | Inner::UpdateStmt(_) | Inner::DeleteStmt(_) | Inner::MergeStmt(_) => {
            walk.inner(statement)
        }
        Inner::CopyStmt(copy) => of_copy(copy, walk),
        Inner::TruncateStmt(truncate) => {
            objects::of_statement(statement, &mut walk.attempts);
            for node in &truncate.relations {
                if let Some(Inner::RangeVar(relation)) = &node.node {
                    walk.write(Some(relation), WriteVerb::Truncate, RowBound::AtMost(0));
                }
            }
        }
        Inner::ExplainStmt(explain) => of_explain(explain, walk),
        Inner::PrepareStmt(prepare) => {
            walk.maybe(&prepare.query);
            // However often it is executed.
            for write in walk.statement.writes.iter_mut().filter(|write| write.verb.adds_rows()) {
                write.rows = RowBound::Unknown;
            }
        }
        Inner::ExecuteStmt(execute) => {
            walk.all(&execute.params);
            walk.statement.hidden = true;
        }
        Inner::DeclareCursorStmt(declare) => walk.maybe(&declare.query),
        Inner::CallStmt(call) => {
            if let Some(call) = &call.funccall {
                walk.call(call);
            }
            walk.statement.hidden = true;
        }
        Inner::VariableSetStmt(set) => walk.attempts.set(set),
        Inner::TransactionStmt(transaction) => {
            if transaction.kind == TransactionStmtKind::TransStmtPrepare as i32 {
                walk.attempts.hit(GuardHit::PreparesTransaction);
            }
            walk.statement.hidden = walk.statement.kind == StatementKind::Other;
        }
        Inner::VariableShowStmt(_)
        | Inner::DiscardStmt(_)
        | Inner::DeallocateStmt(_)
        | Inner::ListenStmt(_)
        | Inner::UnlistenStmt(_)
        | Inner::NotifyStmt(_)
        | Inner::ClosePortalStmt(_) => {}
        _ => of_definition(statement, text, walk),
    }
}

/// What concerns objects and rights. None of it is looked into as a whole.
fn of_definition(statement: &Inner, text: &str, walk: &mut Walk<'_>) {
    walk.statement.hidden = true;
    let mut alters = |command| walk.attempts.hit(GuardHit::AltersRole(command));
    match statement {
        Inner::CreateRoleStmt(_) => alters("CREATE ROLE"),
        Inner::AlterRoleStmt(_) => alters("ALTER ROLE"),
        Inner::DropRoleStmt(_) => alters("DROP ROLE"),
        Inner::GrantRoleStmt(_) => alters("GRANT ROLE"),
        Inner::ReassignOwnedStmt(_) => alters("REASSIGN OWNED"),
        Inner::DropOwnedStmt(_) => alters("DROP OWNED"),
        Inner::CreatedbStmt(_) => alters("CREATE DATABASE"),
        Inner::DropdbStmt(_) => alters("DROP DATABASE"),
        Inner::AlterDatabaseStmt(_) | Inner::AlterDatabaseRefreshCollStmt(_) => alters("ALTER DATABASE"),
        Inner::AlterSystemStmt(alter) => {
            alters("ALTER SYSTEM");
            alter.setstmt.iter().for_each(|set| walk.attempts.set(set));
        }
        Inner::AlterRoleSetStmt(alter) => {
            alters("ALTER ROLE");
            alter.setstmt.iter().for_each(|set| walk.attempts.set(set));
        }
        Inner::AlterDatabaseSetStmt(alter) => {
            alters("ALTER DATABASE");
            alter.setstmt.iter().for_each(|set| walk.attempts.set(set));
        }
        Inner::RenameStmt(rename) => {
            walk.attempts.object(rename.rename_type, ["ALTER ROLE", "ALTER DATABASE"]);
            objects::of_statement(statement, &mut walk.attempts);
        }
        Inner::AlterOwnerStmt(alter) => {
            walk.attempts.object(alter.object_type, ["ALTER ROLE", "ALTER DATABASE"]);
            objects::of_statement(statement, &mut walk.attempts);
        }
        Inner::CreateFunctionStmt(create) => {
            of_settings(&create.options, walk);
            of_bodies(&create.options, walk);
        }
        Inner::AlterFunctionStmt(alter) => {
            of_settings(&alter.actions, walk);
            objects::of_statement(statement, &mut walk.attempts);
        }
        Inner::CreateTableAsStmt(create) => {
            if let Some(relation) = create.into.as_ref().and_then(|into| into.rel.as_ref()) {
                walk.relation(relation);
            }
            walk.maybe(&create.query);
        }
        Inner::ViewStmt(view) => {
            if let Some(relation) = &view.view {
                walk.relation(relation);
            }
            walk.maybe(&view.query);
        }
        Inner::DoStmt(body) => {
            walk.attempts.hit(GuardHit::RunsDo);
            of_bodies(&body.args, walk);
        }
        Inner::LockStmt(lock) => of_lock(lock, walk),
        Inner::LoadStmt(load) if load.filename.contains('/') && !load.filename.starts_with(PLUGINS) => {
            walk.attempts.hit(GuardHit::UsesServerFile("LOAD"));
        }
        _ => objects::of_statement(statement, &mut walk.attempts),
    }
    // What is taken apart above has its names from there.
    if !matches!(statement, Inner::CreateTableAsStmt(_) | Inner::ViewStmt(_)) {
        let calls = matches!(
            statement,
            Inner::CreateStmt(_)
                | Inner::AlterTableStmt(_)
                | Inner::CreatePolicyStmt(_)
                | Inner::AlterPolicyStmt(_)
                | Inner::CreateFunctionStmt(_)
                | Inner::CreateTrigStmt(_)
                | Inner::RuleStmt(_)
                | Inner::IndexStmt(_)
                | Inner::DoStmt(_)
        );
        walk.attempts.definition(text, calls);
    }
}

/// The settings that a function is given.
fn of_settings(options: &[Node], walk: &mut Walk<'_>) {
    for option in options {
        if let Some(Inner::DefElem(option)) = &option.node
            && let Some(Inner::VariableSetStmt(set)) = option.arg.as_ref().and_then(|arg| arg.node.as_ref())
        {
            walk.attempts.set(set);
        }
    }
}

/// The bodies of a function or of DO: strings of the option AS.
fn of_bodies(options: &[Node], walk: &mut Walk<'_>) {
    for option in options {
        let Some(Inner::DefElem(option)) = &option.node else { continue };
        let body = option.arg.as_ref().and_then(|arg| arg.node.as_ref()).filter(|_| option.defname == "as");
        match body {
            Some(Inner::String(body)) => walk.attempts.body(&body.sval),
            Some(Inner::List(list)) => strings(&list.items).for_each(|body| walk.attempts.body(body)),
            _ => {}
        }
    }
}

fn of_copy(copy: &CopyStmt, walk: &mut Walk<'_>) {
    if copy.is_from {
        walk.write(copy.relation.as_ref(), WriteVerb::Copy, RowBound::Unknown);
    } else if let Some(relation) = &copy.relation {
        walk.read(relation);
    }
    walk.maybe(&copy.query);
    walk.maybe(&copy.where_clause);
    if copy.is_program || !copy.filename.is_empty() {
        walk.statement.hidden = true;
        walk.attempts.hit(GuardHit::UsesServerFile(if copy.is_program {
            "COPY with a program"
        } else {
            "COPY with a file"
        }));
    }
}

/// Where LOAD finds what everybody may load.
const PLUGINS: &str = "$libdir/plugins/";
/// The mode of LOCK TABLE that writers take themselves (Postgres: RowExclusiveLock).
const ROW_EXCLUSIVE: i32 = 3;

fn of_lock(lock: &LockStmt, walk: &mut Walk<'_>) {
    if lock.mode <= ROW_EXCLUSIVE {
        return;
    }
    for node in &lock.relations {
        if let Some(Inner::RangeVar(relation)) = &node.node {
            let schema = (!relation.schemaname.is_empty()).then_some(relation.schemaname.as_str());
            if !objects::is_temporary(schema) {
                let relation = Relation { schema: schema.map(Into::into), name: relation.relname.as_str().into() };
                walk.attempts.hit(GuardHit::Locks(relation));
            }
        }
    }
}

/// Without ANALYZE nothing of the statement runs, though it is planned.
fn of_explain(explain: &ExplainStmt, walk: &mut Walk<'_>) {
    let costs: Vec<bool> = switches(&explain.options, "costs").collect();
    if costs.is_empty() || costs.contains(&true) || explain.options.iter().any(is_analyze) {
        walk.attempts.hit(GuardHit::Explains);
    }
    walk.maybe(&explain.query);
    // CREATE TABLE AS and EXECUTE.
    let nested = explain.query.as_ref().and_then(|query| query.node.as_ref());
    if let Some(nested @ (Inner::CreateTableAsStmt(_) | Inner::ExecuteStmt(_) | Inner::DeclareCursorStmt(_))) = nested {
        self::walk(nested, "", walk);
        walk.statement.kind = StatementKind::Explain;
    }
    if !explain.options.iter().any(is_analyze) {
        walk.statement.writes.clear();
    }
}

/// Whether it isn't an option that is off.
fn is_analyze(option: &Node) -> bool {
    let Some(Inner::DefElem(option)) = &option.node else { return true };
    option.defname == "analyze" && is_switched_on(option)
}

/// What a switch of this name is set to, as often as it is named.
fn switches<'a>(options: &'a [Node], name: &'a str) -> impl Iterator<Item = bool> + 'a {
    options.iter().filter_map(move |option| match &option.node {
        Some(Inner::DefElem(option)) if option.defname == name => Some(is_switched_on(option)),
        _ => None,
    })
}

fn is_switched_on(option: &DefElem) -> bool {
    match option.arg.as_ref().and_then(|arg| arg.node.as_ref()) {
        Some(Inner::String(word)) => !["false", "off"].iter().any(|off| word.sval.eq_ignore_ascii_case(off)),
        Some(Inner::Integer(number)) => number.ival != 0,
        Some(argument) => constant(argument).is_none_or(|word| word != "0"),
        None => true,
    }
}

fn kind(statement: &Inner) -> StatementKind {
    match statement {
        Inner::SelectStmt(select) if makes_table(select) => StatementKind::Ddl,
        Inner::SelectStmt(_) => StatementKind::Select,
        Inner::InsertStmt(_) => StatementKind::Insert,
        Inner::UpdateStmt(_) => StatementKind::Update,
        Inner::DeleteStmt(_) => StatementKind::Delete,
        Inner::MergeStmt(_) => StatementKind::Merge,
        Inner::CopyStmt(copy) if copy.is_from => StatementKind::CopyIn,
        Inner::CopyStmt(_) => StatementKind::CopyOut,
        Inner::TransactionStmt(transaction) => kind_of_transaction(transaction),
        Inner::CallStmt(_) => StatementKind::Call,
        Inner::DoStmt(_) => StatementKind::Do,
        Inner::TruncateStmt(_) => StatementKind::Truncate,
        Inner::VariableSetStmt(_)
        | Inner::VariableShowStmt(_)
        | Inner::DiscardStmt(_)
        | Inner::ListenStmt(_)
        | Inner::UnlistenStmt(_)
        | Inner::NotifyStmt(_)
        | Inner::LoadStmt(_) => StatementKind::Session,
        Inner::DeallocateStmt(deallocate) if deallocate.isall || deallocate.name.is_empty() => {
            StatementKind::Deallocate(None)
        }
        Inner::DeallocateStmt(deallocate) => StatementKind::Deallocate(Some(deallocate.name.as_str().into())),
        Inner::ExplainStmt(_) => StatementKind::Explain,
        Inner::PrepareStmt(prepare) => StatementKind::Prepare(prepare.name.as_str().into()),
        Inner::ExecuteStmt(execute) => StatementKind::Execute(execute.name.as_str().into()),
        Inner::DeclareCursorStmt(_) | Inner::FetchStmt(_) | Inner::ClosePortalStmt(_) => StatementKind::Cursor,
        Inner::LockStmt(_)
        | Inner::VacuumStmt(_)
        | Inner::ClusterStmt(_)
        | Inner::ReindexStmt(_)
        | Inner::CheckPointStmt(_)
        | Inner::ConstraintsSetStmt(_)
        | Inner::RefreshMatViewStmt(_) => StatementKind::Other,
        _ => StatementKind::Ddl,
    }
}

fn makes_table(select: &SelectStmt) -> bool {
    select.into_clause.is_some() || select.larg.as_ref().is_some_and(|left| makes_table(left))
}

fn kind_of_transaction(transaction: &TransactionStmt) -> StatementKind {
    use TransactionStmtKind as Kind;
    let (chain, name) = (transaction.chain, || transaction.savepoint_name.as_str().into());
    match Kind::try_from(transaction.kind) {
        Ok(Kind::TransStmtBegin | Kind::TransStmtStart) => StatementKind::Begin,
        Ok(Kind::TransStmtCommit) => StatementKind::Commit { chain },
        Ok(Kind::TransStmtRollback) => StatementKind::Rollback { chain },
        Ok(Kind::TransStmtSavepoint) => StatementKind::Savepoint(name()),
        Ok(Kind::TransStmtRelease) => StatementKind::Release(name()),
        Ok(Kind::TransStmtRollbackTo) => StatementKind::RollbackTo(name()),
        Ok(Kind::TransStmtPrepare) => StatementKind::PrepareTransaction,
        _ => StatementKind::Other,
    }
}
