//! Which objects a statement alters, drops, grants or puts something on. What only makes new objects isn't told: whether
//! that is allowed is Postgres' to say.

use super::super::guard_hit::{GuardHit, Object};
use super::super::prefilter::is_temporary_schema;
use super::super::statement::Relation;
use super::attempts::Attempts;
use super::tree::{
    DropStmt, GrantStmt, GrantTargetType, Node, ObjectType, RangeVar, ReindexObjectType, RenameStmt,
    node::Node as Inner,
};
use super::{qualified, strings};

/// Notes what the statement changes.
pub(super) fn of_statement(statement: &Inner, attempts: &mut Attempts<'_>) {
    let mut noted = Noted { attempts };
    match statement {
        Inner::AlterTableStmt(alter) => {
            noted.typed("ALTER", alter.objtype, alter.relation.as_ref(), None, alter.missing_ok);
        }
        Inner::RenameStmt(rename) => of_rename(rename, &mut noted),
        Inner::AlterObjectSchemaStmt(alter) => {
            noted.typed("ALTER", alter.object_type, alter.relation.as_ref(), alter.object.as_deref(), alter.missing_ok);
        }
        Inner::AlterObjectDependsStmt(alter) => {
            noted.typed("ALTER", alter.object_type, alter.relation.as_ref(), alter.object.as_deref(), false);
        }
        Inner::AlterOwnerStmt(alter) => {
            noted.typed("ALTER", alter.object_type, alter.relation.as_ref(), alter.object.as_deref(), false);
        }
        Inner::CommentStmt(comment) => {
            noted.typed("COMMENT ON", comment.objtype, None, comment.object.as_deref(), false);
        }
        Inner::SecLabelStmt(label) => {
            noted.typed("SECURITY LABEL ON", label.objtype, None, label.object.as_deref(), false);
        }
        Inner::DropStmt(drop) => of_drop(drop, &mut noted),
        Inner::GrantStmt(grant) => of_grant(grant, &mut noted),
        Inner::AlterDefaultPrivilegesStmt(_) => noted.other("ALTER DEFAULT PRIVILEGES"),
        Inner::AlterSeqStmt(alter) => noted.relation("ALTER SEQUENCE", alter.sequence.as_ref()),
        Inner::AlterFunctionStmt(alter) => {
            let name = alter.func.as_ref().and_then(|function| qualified(&function.objname));
            noted.function("ALTER FUNCTION", name);
        }
        Inner::TruncateStmt(truncate) => noted.relations("TRUNCATE", &truncate.relations),
        Inner::IndexStmt(index) => noted.relation("CREATE INDEX", index.relation.as_ref()),
        Inner::CreateTrigStmt(create) => noted.relation("CREATE TRIGGER", create.relation.as_ref()),
        Inner::CreatePolicyStmt(create) => noted.relation("CREATE POLICY", create.table.as_ref()),
        Inner::AlterPolicyStmt(alter) => noted.relation("ALTER POLICY", alter.table.as_ref()),
        Inner::RuleStmt(rule) => noted.relation("CREATE RULE", rule.relation.as_ref()),
        Inner::CreateStatsStmt(create) => noted.relations("CREATE STATISTICS", &create.relations),
        Inner::AlterStatsStmt(alter) if !alter.missing_ok => noted.other("ALTER STATISTICS"),
        Inner::ReindexStmt(reindex) if reindex.kind == ReindexObjectType::ReindexObjectTable as i32 => {
            noted.relation("REINDEX", reindex.relation.as_ref());
        }
        Inner::ReindexStmt(_) => noted.other("REINDEX"),
        // Without a table it is about the role's own.
        Inner::ClusterStmt(cluster) => noted.relation("CLUSTER", cluster.relation.as_ref()),
        Inner::RefreshMatViewStmt(refresh) => noted.relation("REFRESH MATERIALIZED VIEW", refresh.relation.as_ref()),
        Inner::AlterTypeStmt(_) | Inner::AlterEnumStmt(_) => noted.other("ALTER TYPE"),
        Inner::AlterDomainStmt(_) => noted.other("ALTER DOMAIN"),
        Inner::AlterExtensionStmt(_) | Inner::AlterExtensionContentsStmt(_) => noted.other("ALTER EXTENSION"),
        Inner::AlterTableMoveAllStmt(_) => noted.other("ALTER TABLE ALL IN TABLESPACE"),
        Inner::AlterOperatorStmt(_) | Inner::AlterOpFamilyStmt(_) => noted.other("ALTER OPERATOR"),
        Inner::AlterTsconfigurationStmt(_) | Inner::AlterTsdictionaryStmt(_) => noted.other("ALTER TEXT SEARCH"),
        Inner::AlterEventTrigStmt(_) => noted.other("ALTER EVENT TRIGGER"),
        Inner::AlterPublicationStmt(_) => noted.other("ALTER PUBLICATION"),
        Inner::AlterSubscriptionStmt(_) => noted.other("ALTER SUBSCRIPTION"),
        Inner::AlterForeignServerStmt(_) | Inner::AlterFdwStmt(_) => noted.other("ALTER SERVER"),
        _ => {}
    }
}

struct Noted<'a, 't> {
    attempts: &'a mut Attempts<'t>,
}

impl Noted<'_, '_> {
    fn changes(&mut self, command: &str, object: Object) {
        self.attempts.hit(GuardHit::ChangesObject(command.into(), object));
    }

    fn other(&mut self, command: &str) {
        self.changes(command, Object::Other);
    }

    fn named(&mut self, command: &str, schema: Option<&str>, name: &str) {
        if !is_temporary(schema) {
            self.changes(command, Object::Relation(Relation { schema: schema.map(Into::into), name: name.into() }));
        }
    }

    fn relation(&mut self, command: &str, relation: Option<&RangeVar>) {
        if let Some(relation) = relation {
            let schema = (!relation.schemaname.is_empty()).then_some(relation.schemaname.as_str());
            self.named(command, schema, &relation.relname);
        }
    }

    fn relations(&mut self, command: &str, relations: &[Node]) {
        for relation in relations {
            if let Some(Inner::RangeVar(relation)) = &relation.node {
                self.relation(command, Some(relation));
            }
        }
    }

    fn function(&mut self, command: &str, name: Option<(Option<&str>, &str)>) {
        if let Some((schema, name)) = name
            && !is_temporary(schema)
        {
            self.changes(command, Object::Function(name.into()));
        }
    }

    /// An object of this type, which is named as a relation or in the way of its type.
    fn typed(
        &mut self,
        verb: &str,
        object_type: i32,
        relation: Option<&RangeVar>,
        object: Option<&Node>,
        missing_ok: bool,
    ) {
        let kind = ObjectType::try_from(object_type).unwrap_or(ObjectType::Undefined);
        let command = format!("{verb} {}", word(kind));
        if kind == ObjectType::ObjectLargeobject {
            return self.attempts.hit(GuardHit::ChangesLargeObject(command.into()));
        }
        // Of them the guard has a rule of its own.
        if verb == "ALTER" && matches!(kind, ObjectType::ObjectRole | ObjectType::ObjectDatabase) {
            return;
        }
        if relation.is_some() && is_known(kind) {
            return self.relation(&command, relation);
        }
        let names: Vec<&str> = match object.and_then(|object| object.node.as_ref()) {
            Some(Inner::List(list)) => strings(&list.items).collect(),
            Some(Inner::ObjectWithArgs(function)) => {
                return self.function(&command, qualified(&function.objname));
            }
            _ => Vec::new(),
        };
        let table = match names.as_slice() {
            names if is_known(kind) && !is_on_table(kind) => names,
            [names @ .., _] if is_on_table(kind) => names,
            _ => &[],
        };
        match table {
            [.., schema, name] => self.named(&command, Some(schema), name),
            [name] => self.named(&command, None, name),
            [] if missing_ok || names.first().is_some_and(|first| names.len() > 1 && is_temporary(Some(first))) => {}
            [] => self.other(&command),
        }
    }
}

fn of_rename(rename: &RenameStmt, noted: &mut Noted<'_, '_>) {
    noted.typed("ALTER", rename.rename_type, rename.relation.as_ref(), rename.object.as_deref(), rename.missing_ok);
}

fn of_drop(drop: &DropStmt, noted: &mut Noted<'_, '_>) {
    for object in &drop.objects {
        noted.typed("DROP", drop.remove_type, None, Some(object), drop.missing_ok);
    }
}

fn of_grant(grant: &GrantStmt, noted: &mut Noted<'_, '_>) {
    let verb = if grant.is_grant { "GRANT" } else { "REVOKE" };
    let kind = ObjectType::try_from(grant.objtype).unwrap_or(ObjectType::Undefined);
    let is_single = grant.targtype == GrantTargetType::AclTargetObject as i32;
    match kind {
        ObjectType::ObjectLargeobject => {
            noted.attempts.hit(GuardHit::ChangesLargeObject(format!("{verb} ON LARGE OBJECT").into()));
        }
        ObjectType::ObjectTable | ObjectType::ObjectSequence if is_single => noted.relations(verb, &grant.objects),
        ObjectType::ObjectFunction | ObjectType::ObjectProcedure | ObjectType::ObjectRoutine if is_single => {
            for object in &grant.objects {
                if let Some(Inner::ObjectWithArgs(function)) = &object.node {
                    noted.function(verb, qualified(&function.objname));
                }
            }
        }
        _ => noted.other(verb),
    }
}

/// Whether a table of the text may be somebody else's.
pub(super) fn is_temporary(schema: Option<&str>) -> bool {
    schema.is_some_and(|schema| is_temporary_schema(schema.as_bytes()))
}

/// Whether the catalog knows which there are, by the object itself or the table it is on.
const fn is_known(kind: ObjectType) -> bool {
    is_on_table(kind)
        || matches!(
            kind,
            ObjectType::ObjectTable
                | ObjectType::ObjectView
                | ObjectType::ObjectMatview
                | ObjectType::ObjectForeignTable
                | ObjectType::ObjectSequence
        )
}

/// Whether its last name is its own, and those before it are a table's.
const fn is_on_table(kind: ObjectType) -> bool {
    matches!(
        kind,
        ObjectType::ObjectColumn
            | ObjectType::ObjectTrigger
            | ObjectType::ObjectPolicy
            | ObjectType::ObjectRule
            | ObjectType::ObjectTabconstraint
    )
}

const fn word(kind: ObjectType) -> &'static str {
    match kind {
        ObjectType::ObjectTable | ObjectType::ObjectColumn | ObjectType::ObjectTabconstraint => "TABLE",
        ObjectType::ObjectView => "VIEW",
        ObjectType::ObjectMatview => "MATERIALIZED VIEW",
        ObjectType::ObjectForeignTable => "FOREIGN TABLE",
        ObjectType::ObjectSequence => "SEQUENCE",
        ObjectType::ObjectIndex => "INDEX",
        ObjectType::ObjectTrigger => "TRIGGER",
        ObjectType::ObjectPolicy => "POLICY",
        ObjectType::ObjectRule => "RULE",
        ObjectType::ObjectFunction => "FUNCTION",
        ObjectType::ObjectProcedure => "PROCEDURE",
        ObjectType::ObjectSchema => "SCHEMA",
        ObjectType::ObjectExtension => "EXTENSION",
        ObjectType::ObjectType | ObjectType::ObjectAttribute => "TYPE",
        ObjectType::ObjectDomain => "DOMAIN",
        ObjectType::ObjectDatabase => "DATABASE",
        ObjectType::ObjectRole => "ROLE",
        ObjectType::ObjectLargeobject => "LARGE OBJECT",
        _ => "OBJECT",
    }
}
