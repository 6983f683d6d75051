//! From the catalog's rows to what decides over effects. It is pure.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use crate::sql::{
    Catalog, CatalogFunction, CatalogRelation, Effects, Facts, Known, Reader, StatementKind, Table, Watched, parse,
};

use super::read::{Expression, Function, Raw, RelationRow, When};

/// The catalog that the rows stand for.
pub(super) fn catalog(raw: &Raw) -> Catalog {
    let mut catalog = Catalog::new(path(raw));
    for function in &raw.functions {
        catalog.function(&function.name, known(function));
    }
    raw.operators.iter().for_each(|name| catalog.unknown_operator(name));
    if raw.has_odd_types {
        catalog.unknown_type();
    }
    let mut relations: Vec<CatalogRelation> = raw.relations.iter().map(plain).collect();
    let graph = Graph::new(raw);
    for trigger in &raw.triggers {
        if let Some(at) = graph.place(trigger.relation) {
            relations[at].hides_inserts |= trigger.on_insert;
            relations[at].hides_changes |= trigger.on_change;
        }
    }
    for at in raw.rules.iter().filter_map(|oid| graph.place(*oid)) {
        (relations[at].hides_inserts, relations[at].hides_changes) = (true, true);
    }
    for at in raw.numbered.iter().filter_map(|oid| graph.place(*oid)) {
        relations[at].takes_numbers = true;
    }
    count(raw, &graph, &mut relations);
    judge(raw, &graph, &mut catalog, &mut relations);
    catalog
}

/// Where names without a schema may be found, by any session that begins.
fn path(raw: &Raw) -> Vec<Box<str>> {
    let mut path: Vec<Box<str>> = vec!["pg_catalog".into()];
    let mut add = |schema: &str| {
        if !path.iter().any(|known| **known == *schema) {
            path.push(schema.into());
        }
    };
    for name in raw.paths.iter().flat_map(|path| path.split(',')).map(str::trim) {
        let unquoted =
            name.strip_prefix('"').and_then(|name| name.strip_suffix('"')).map(|name| name.replace("\"\"", "\""));
        match unquoted.unwrap_or_else(|| name.to_lowercase()).as_str() {
            "$user" => raw.user_schemas.iter().for_each(|schema| add(schema)),
            name => add(name),
        }
    }
    path
}

fn known(function: &Function) -> CatalogFunction {
    let builtin = function.builtin_volatile.map(|volatile| Known::builtin(&function.name, volatile));
    CatalogFunction {
        builtin: if function.planted { Some(Known::Nothing) } else { builtin },
        others: function.others_harmless.map(|harmless| if harmless { Known::Harmless } else { Known::Nothing }),
        by_row: function.by_row,
    }
}

/// What a relation is by itself.
fn plain(row: &RelationRow) -> CatalogRelation {
    let definition = row.definition.as_ref().and_then(|text| {
        let facts = parse::facts(text.as_bytes(), &Watched::default());
        let [statement] = facts.statements.as_slice() else { return None };
        (statement.kind == StatementKind::Select && !statement.hidden).then(|| Arc::new(statement.clone()))
    });
    let (is_view, is_foreign) = (row.kind == "v", row.kind == "f");
    CatalogRelation {
        hides_reads: is_foreign || (is_view && definition.is_none()),
        hides_inserts: is_foreign || is_view,
        hides_changes: is_foreign || is_view,
        definition,
        ..CatalogRelation::default()
    }
}

/// Which relations belong together, by their places in the list.
struct Graph {
    places: HashMap<u32, usize>,
    parents: Vec<Vec<usize>>,
    children: Vec<Vec<usize>>,
    cascades: Vec<Vec<usize>>,
}

impl Graph {
    fn new(raw: &Raw) -> Self {
        let places: HashMap<u32, usize> = raw.relations.iter().enumerate().map(|(at, row)| (row.oid, at)).collect();
        let none = vec![Vec::new(); raw.relations.len()];
        let mut graph = Self { places, parents: none.clone(), children: none.clone(), cascades: none };
        for (parent, child) in &raw.inherits {
            if let (Some(parent), Some(child)) = (graph.place(*parent), graph.place(*child)) {
                graph.children[parent].push(child);
                graph.parents[child].push(parent);
            }
        }
        for (parent, child) in &raw.cascades {
            if let (Some(parent), Some(child)) = (graph.place(*parent), graph.place(*child)) {
                graph.cascades[parent].push(child);
            }
        }
        graph
    }

    fn place(&self, oid: u32) -> Option<usize> {
        self.places.get(&oid).copied()
    }

    /// All that can be reached from a place, itself included.
    fn reached(from: usize, edges: &[&Vec<Vec<usize>>]) -> Vec<usize> {
        let mut found = vec![from];
        let mut seen = HashSet::from([from]);
        let mut next = 0;
        while let Some(at) = found.get(next).copied() {
            let reached = edges.iter().flat_map(|edges| &edges[at]).copied();
            found.extend(reached.filter(|to| seen.insert(*to)).collect::<Vec<_>>());
            next += 1;
        }
        found
    }

    /// Itself and its partitions.
    fn parts(&self, at: usize) -> Vec<usize> {
        Self::reached(at, &[&self.children])
    }

    /// Itself, its partitions, and what changes with any of them.
    fn changed_with(&self, at: usize) -> Vec<usize> {
        Self::reached(at, &[&self.children, &self.cascades])
    }
}

/// What a relation's rows count in. A table that is metered is so with all its partitions, and a partition of its own.
fn count(raw: &Raw, graph: &Graph, relations: &mut [CatalogRelation]) {
    let mut own = vec![Vec::new(); relations.len()];
    for meter in &raw.meters {
        if let Some(at) = graph.place(meter.relation) {
            own[at].push((meter.resource, meter.is_filtered));
        }
    }
    if raw.meters.is_empty() {
        return;
    }
    for (at, relation) in relations.iter_mut().enumerate() {
        let of = |parts: Vec<usize>| {
            let mut all: Vec<usize> =
                parts.into_iter().flat_map(|part| Graph::reached(part, &[&graph.parents])).collect();
            all.sort_unstable();
            all.dedup();
            all.into_iter().flat_map(|part| own[part].iter().copied())
        };
        relation.counts = of(graph.parts(at)).map(|(resource, _)| resource).collect();
        let changed = of(graph.changed_with(at)).filter(|(_, is_filtered)| *is_filtered);
        relation.counts_changed = changed.map(|(resource, _)| resource).collect();
        for resources in [&mut relation.counts, &mut relation.counts_changed] {
            resources.sort_unstable();
            resources.dedup();
        }
    }
}

/// Finds which expressions hide something, and carries that to what runs them. A policy may read tables with policies of
/// their own, so this goes on until nothing new is found.
fn judge(raw: &Raw, graph: &Graph, catalog: &mut Catalog, relations: &mut [CatalogRelation]) {
    let mut parsed: HashMap<&str, Facts> = HashMap::new();
    for Expression { text, .. } in &raw.expressions {
        parsed.entry(text).or_insert_with(|| parse::facts(format!("SELECT {text}").as_bytes(), &Watched::default()));
    }
    let places = 0..relations.len();
    let families: Vec<_> = places.map(|at| (graph.parts(at), graph.changed_with(at))).collect();
    let table = |at: &usize| Table {
        schema: raw.relations[*at].schema.as_str().into(),
        name: raw.relations[*at].name.as_str().into(),
    };
    for (relation, (parts, changed)) in relations.iter_mut().zip(&families) {
        relation.reads_too = parts[1..].iter().map(table).collect();
        relation.changes_too = changed[1..].iter().map(table).collect();
    }
    loop {
        for (row, relation) in raw.relations.iter().zip(&*relations) {
            catalog.relation(&row.schema, &row.name, relation.clone());
        }
        let before: Vec<_> = relations.iter().map(hides).collect();
        let judged: HashMap<&str, Effects> =
            parsed.iter().map(|(text, facts)| (*text, Effects::of(facts, catalog, Reader::DEFAULT))).collect();
        for Expression { relation, when, text } in &raw.expressions {
            let Some(effects) = judged.get(text.as_str()) else { continue };
            let hides = effects.writes || effects.ends_transaction;
            match (when, graph.place(*relation)) {
                (When::Anywhere, _) if hides => catalog.unknown_type(),
                (When::Used, Some(at)) if hides => relations[at].hides_reads = true,
                (When::Written, Some(at)) if hides => {
                    (relations[at].hides_inserts, relations[at].hides_changes) = (true, true);
                }
                (When::Anywhere, _) | (_, None) => {}
                (When::Used | When::Written, Some(at)) => {
                    let read = effects.tables.iter().flatten();
                    let new: Vec<_> = read.filter(|table| !relations[at].reads_too.contains(table)).cloned().collect();
                    relations[at].reads_too.extend(new);
                }
            }
        }
        for (at, (parts, changed)) in families.iter().enumerate() {
            for part in parts {
                relations[at].hides_reads |= relations[*part].hides_reads;
                relations[at].hides_inserts |= relations[*part].hides_inserts || relations[*part].hides_reads;
            }
            for changed in changed {
                relations[at].hides_changes |= relations[*changed].hides_changes || relations[*changed].hides_reads;
            }
        }
        if relations.iter().map(hides).eq(before) {
            return;
        }
    }
}

const fn hides(relation: &CatalogRelation) -> (bool, bool, bool, usize) {
    (relation.hides_reads, relation.hides_inserts, relation.hides_changes, relation.reads_too.len())
}
