//! Effects are held against what Postgres really does: whatever a statement changed must have been said before.

use std::collections::{BTreeMap, BTreeSet};

use pgcordon::control::catalog;
use pgcordon::sql::{Analysis, Catalog, Effects, Reader, RowBound};
use tokio_postgres::Client;

use crate::scratch::{A, APPLICATION, Database};

const ZOO: &str = include_str!("zoo.sql");
/// What is metered: resource, table, filter. The tables of the schema stand in where a migration doesn't make them.
const METERS: &str = "
insert into cordon.resource (name) values ('one'), ('two'), ('three'), ('four');
insert into cordon.meter (resource_id, relation, filter, count_sql) values
    (1, 'public.metered', null, 'SELECT 0'), (2, 'public.metered', 'state = ''open''', 'SELECT 0'),
    (3, 'public.parted', null, 'SELECT 0'), (4, 'public.child', null, 'SELECT 0');
";
/// The rows of each resource.
const COUNTS: [(i32, &str); 4] = [
    (1, "select count(*) from metered"),
    (2, "select count(*) from metered where state = 'open'"),
    (3, "select count(*) from parted"),
    (4, "select count(*) from child"),
];

/// A database with the zoo, a client bound to a workspace in it, and the catalog as the proxy knows it.
struct Zoo {
    database: Database,
    admin: Client,
    client: Client,
    catalog: Catalog,
    analysis: Analysis,
}

/// Everything that can be seen of the database: contents by table, and the resources' counts.
struct State {
    contents: BTreeMap<String, String>,
    sequences: BTreeMap<String, String>,
    counts: BTreeMap<i32, i64>,
}

impl Zoo {
    async fn new() -> Self {
        let database = Database::protected().await;
        let admin = database.admin().await;
        admin.batch_execute(ZOO).await.unwrap();
        admin.batch_execute(METERS).await.unwrap();
        let grants = format!(
            "grant all on all tables in schema public to {APPLICATION}; grant all on all sequences in schema public to {APPLICATION};
             alter table policed enable row level security; grant create on schema public to {APPLICATION};
             create policy p on policed using (adds_one(id) > 0) with check (true);"
        );
        admin.batch_execute(&grants).await.unwrap();
        let client = database.bound(A).await;
        let catalog = load(&database).await;
        Self { database, admin, client, catalog, analysis: Analysis::default() }
    }

    async fn state(&self) -> State {
        let mut state = State { contents: BTreeMap::new(), sequences: BTreeMap::new(), counts: BTreeMap::new() };
        let tables = "select format('%I.%I', n.nspname, c.relname), c.relkind::text from pg_class c join pg_namespace n on n.oid = c.relnamespace
                      where n.nspname = 'public' and c.relkind in ('r', 'S')";
        for row in self.admin.query(tables, &[]).await.unwrap() {
            let (name, kind): (String, String) = (row.get(0), row.get(1));
            let content =
                format!("select md5(coalesce(string_agg(t::text, ',' order by t::text), '')) from only {name} t");
            let content =
                if kind == "S" { format!("select last_value || ' ' || is_called from {name}") } else { content };
            let content = self.admin.query_one(&content, &[]).await.unwrap().get(0);
            if kind == "S" {
                state.sequences.insert(name, content)
            } else {
                state.contents.insert(name, content)
            };
        }
        for (resource, sql) in COUNTS {
            state.counts.insert(resource, self.admin.query_one(sql, &[]).await.unwrap().get(0));
        }
        state
    }

    fn effects(&mut self, text: &str) -> std::sync::Arc<Effects> {
        self.analysis.effects(text.as_bytes(), &self.catalog, Reader::DEFAULT)
    }

    /// Runs a text, and returns what the effects didn't say of it. Says as well whether it ran.
    async fn run(&mut self, text: &str) -> (Vec<String>, bool) {
        let effects = self.effects(text);
        let before = self.state().await;
        let ran = self.client.simple_query(text).await;
        let _ = self.client.simple_query("rollback").await;
        let after = self.state().await;
        let mut unsaid = Vec::new();
        let changed: BTreeSet<&String> = after
            .contents
            .iter()
            .filter(|(name, content)| before.contents.get(*name) != Some(content))
            .map(|(name, _)| name)
            .chain(before.contents.keys().filter(|name| !after.contents.contains_key(*name)))
            .collect();
        if !changed.is_empty() && !effects.writes {
            unsaid.push(format!("{changed:?} changed"));
        }
        if (!changed.is_empty() || before.sequences != after.sequences) && effects.is_read_only() {
            unsaid.push("it isn't read-only".to_owned());
        }
        if let Some(tables) = &effects.tables {
            let known: BTreeSet<String> =
                tables.iter().map(|table| format!("{}.{}", table.schema, table.name)).collect();
            // A partition's rows are its parent's.
            let of = |name: &str| {
                if name.starts_with("public.parted_") { "public.parted".to_owned() } else { name.to_owned() }
            };
            let missing: Vec<_> =
                changed.iter().filter(|name| !known.contains(&of(name)) && !known.contains(**name)).collect();
            if !missing.is_empty() {
                unsaid.push(format!("{missing:?} isn't among {known:?}"));
            }
        }
        for (resource, count) in &after.counts {
            let added = count - before.counts[resource];
            let bound = effects.adds.iter().find(|(known, _)| known == resource).map(|(_, bound)| *bound);
            let is_said = match bound {
                Some(RowBound::Unknown) => true,
                Some(RowBound::AtMost(rows)) => u64::try_from(added).unwrap_or(0) <= rows,
                None => added <= 0,
            };
            if !is_said && !effects.adds_hidden {
                unsaid.push(format!("{added} rows were added to resource {resource}, and {bound:?} was said"));
            }
        }
        (unsaid, ran.is_ok())
    }
}

impl Zoo {
    /// Whether a text ends the transaction in which it runs; `None` where it fails there.
    async fn ends_transaction(&self, text: &str) -> Option<bool> {
        let id = "select pg_current_xact_id()::text";
        self.client.batch_execute("begin").await.unwrap();
        let before: String = self.client.query_one(id, &[]).await.unwrap().get(0);
        let after = match self.client.simple_query(text).await {
            Ok(_) => self.client.query_one(id, &[]).await.ok().map(|row| row.get::<_, String>(0)),
            Err(_) => None,
        };
        self.client.batch_execute("rollback").await.unwrap();
        Some(after? != before)
    }
}

async fn load(database: &Database) -> Catalog {
    catalog::load(&mut database.connect("pgcordon_control").await).await.unwrap()
}

/// What of the corpus Postgres refuses outside a transaction, or this client doesn't speak (COPY by simple query).
const REFUSED: [&str; 3] = ["copy plain to stdout", "copy (select adds()) to stdout", "lock table plain"];
/// Statements that do more than they say, or exactly what they say.
const CORPUS: &[&str] = &[
    "select * from plain",
    "select adds()",
    "select public.adds() from plain where id = 1",
    "select pretends()",
    "select harmless_sql(1)",
    "select p.of_row from plain p where id = 1",
    "select (p).of_row from plain p where id = 1",
    "select (row(1, 2)::pair).lower",
    "select lower(row(1, 2)::pair)",
    "select row(1, 2)::pair @@@ row(3, 4)::pair",
    "select row(1, 2)::pair operator(public.@@@) row(3, 4)::pair",
    "select * from calling_view",
    "select * from stacked_view",
    "select * from policed",
    "select count(*) from indexed where index_adds(id) = 1",
    "select nextval('counter')",
    "select setval('counter', 17)",
    "select query_to_xml('select adds()', true, true, '')",
    "select * from (select adds() offset 0) x",
    "select 1 where exists (select adds())",
    "select 1 order by adds()",
    "select sum(id) filter (where adds() = 1) over (partition by adds()) from plain",
    "select * from plain, lateral (select adds() limit 1) l limit 1",
    "select * from rows from (adds_one(5)) as x",
    "select case when true then adds() end",
    "select coalesce(null, adds())",
    "select array[adds()]",
    "select * from plain tablesample system (100) limit adds()",
    "values (adds())",
    "with x as (select adds()) select * from x",
    "with x as materialized (insert into metered (a) values (1), (2) returning a) select count(*) from x",
    "with recursive t as (select 1 as n union all select n + adds() from t where n < 3) select * from t",
    "select * into unlisted_copy from plain",
    "create table other_copy as select * from plain",
    "select * from plain for update",
    "insert into plain values (100, 1, 'x')",
    "insert into metered (a) values (1)",
    "insert into metered (a) values (1), (2), (3)",
    "insert into metered default values",
    "insert into metered (a) select generate_series(1, 7)",
    "insert into metered (a) values (generate_series(1, 7))",
    "insert into metered (a) select 1 where true limit 1",
    "insert into metered (a) select n from generate_series(1, 9) n limit 2",
    "insert into metered (a) select 1 group by grouping sets ((), (), ())",
    "insert into metered (id, a) values (1, 1) on conflict (id) do update set a = 9, state = 'open'",
    "insert into metered (id, a) values (1000, 1) on conflict do nothing",
    "insert into metered (a) values (adds())",
    "insert into metered (a, state) values (1, 'closed')",
    "update metered set state = 'open'",
    "update metered set state = 'closed' where id = 2",
    "insert into parted values (5, 5), (500, 5)",
    "insert into parted_low values (6, 6)",
    "update parted set id = id + 100 where id < 50",
    "delete from parted where id < 10",
    "insert into base values (3)",
    "update base set id = 7",
    "insert into triggered values (2, 2)",
    "update triggered set a = 5",
    "delete from triggered",
    "insert into ruled values (2)",
    "insert into defaulted (id) values (1)",
    "insert into policed values (2)",
    "insert into indexed values (2)",
    "insert into child values (100, 1, 1)",
    "update parent set id = id + 50 where id = 3",
    "delete from parent where id = 4",
    "insert into metered_view (a) values (4)",
    "update plain_view set a = 3 where id = 2",
    "delete from plain_view where id = 3",
    "merge into metered m using plain p on m.id = p.id when matched then update set a = 1 when not matched then insert (a) values (p.a)",
    "call calls()",
    "call ends()",
    "do $$ begin perform adds(); end $$",
    "explain analyze insert into metered (a) values (1)",
    "explain (analyze) select adds()",
    "explain insert into metered (a) values (1)",
    "prepare p as insert into metered (a) values (1)",
    "execute p",
    "deallocate p",
    "begin; insert into metered (a) values (1); insert into metered (a) values (2), (3); commit",
    "begin; declare c cursor for select adds(); fetch all from c; commit",
    "insert into metered (a) values (1); insert into parted values (7, 7)",
    "select set_config('search_path', 'public, pg_catalog', false); select 1",
    "truncate child",
    "delete from metered where a = 1",
    "copy plain to stdout",
    "copy (select adds()) to stdout",
    "alter table unlisted add column b int",
    "create table made_now (id int)",
    "drop table made_now",
    "set work_mem = '1MB'",
    "show work_mem",
    "select pg_advisory_xact_lock(1)",
    "lock table plain",
    "notify c, 'x'",
    "comment on table unlisted is 'x'",
];

#[tokio::test]
async fn effects_never_say_less_than_postgres_does() {
    let mut zoo = Zoo::new().await;
    zoo.admin.batch_execute(&format!("alter table unlisted owner to {APPLICATION}")).await.unwrap();
    let (mut wrong, mut failed) = (Vec::new(), Vec::new());
    for text in CORPUS.iter().copied() {
        let (unsaid, ran) = zoo.run(text).await;
        wrong.extend(unsaid.into_iter().map(|unsaid| format!("{text}: {unsaid}")));
        if !ran {
            failed.push(text);
        }
    }
    assert!(wrong.is_empty(), "\n  {}", wrong.join("\n  "));
    // A statement that Postgres refuses proves nothing.
    assert_eq!(failed, REFUSED);
}

/// citext has a `replace` and a `split_part`, and pgcordon's own domain calls those of Postgres by their names.
#[tokio::test]
async fn functions_named_like_those_that_pgcordon_calls_make_nothing_doubtful() {
    let mut zoo = Zoo::new().await;
    assert!(zoo.effects("select * from plain").is_read_only());
    zoo.admin
        .batch_execute(
            "create function replace(int) returns int language plpgsql as 'begin perform adds(); return 1; end';
             create function split_part(int) returns int language plpgsql as 'begin perform adds(); return 1; end'",
        )
        .await
        .unwrap();
    zoo.catalog = load(&zoo.database).await;
    assert!(zoo.effects("select * from plain").is_read_only());
    assert!(!zoo.effects("select replace(1)").is_read_only());
}

#[tokio::test]
async fn whatever_ends_a_transaction_is_said_to() {
    let mut zoo = Zoo::new().await;
    let endings = [
        "commit",
        "rollback",
        "end",
        "abort and chain",
        "select 1; commit; select 2",
        "savepoint a; rollback to a; release a",
    ];
    let (mut ended, mut stayed) = (0, 0);
    for text in CORPUS.iter().chain(&endings) {
        let Some(ends) = zoo.ends_transaction(text).await else { continue };
        assert!(!ends || zoo.effects(text).ends_transaction, "{text}");
        (ended, stayed) = (ended + usize::from(ends), stayed + usize::from(!ends));
    }
    assert!(ended >= 6 && stayed > 50, "{ended} ended it, {stayed} didn't");
}

#[tokio::test]
async fn random_statements_do_no_more_than_was_said() {
    let mut zoo = Zoo::new().await;
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let (mut wrong, mut ran, mut quiet) = (Vec::new(), 0, 0);
    for _ in 0..400 {
        let text = random.statement();
        quiet += usize::from(zoo.effects(&text).is_read_only());
        let (unsaid, is_run) = zoo.run(&text).await;
        ran += usize::from(is_run);
        wrong.extend(unsaid.into_iter().map(|unsaid| format!("{text}: {unsaid}")));
    }
    assert!(wrong.is_empty(), "\n  {}", wrong.join("\n  "));
    assert!(ran > 200 && quiet > 40, "{ran} ran, {quiet} were proven to change nothing");
}

/// A small generator with a state of its own: a run that fails can be run again.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(bound).unwrap()).unwrap()
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn expression(&mut self, depth: usize) -> String {
        if depth == 0 {
            return self.one(&["1", "id", "2", "p.id", "length('x')", "3"]).to_owned();
        }
        let (a, b) = (self.expression(depth - 1), self.expression(depth - 1));
        match self.below(14) {
            0 => "adds()".to_owned(),
            1 => format!("adds_one({a})"),
            2 => "p.of_row".to_owned(),
            3 => format!("harmless_sql({a})"),
            4 => format!("case when {a} > 1 then {b} else 0 end"),
            5 => format!("(select {a} limit 1)"),
            6 => format!("coalesce({a}, {b})"),
            7 => format!("(row({a}, 1)::pair @@@ row(1, {b})::pair)"),
            8 => format!(
                "(select count(*)::int from {} q)",
                self.one(&["plain", "calling_view", "policed", "stacked_view"])
            ),
            9 => format!("greatest({a}, abs({b}))"),
            10 => format!("length(lower('A' || {a}))"),
            _ => format!("({a} + {b})"),
        }
    }

    fn statement(&mut self) -> String {
        let depth = self.below(3);
        let (a, b) = (self.expression(depth), self.expression(1));
        let source =
            self.one(&["plain", "plain_view", "calling_view", "stacked_view", "parent", "metered", "policed", "base"]);
        let table = self.one(&["plain", "metered", "child", "triggered", "parent"]);
        // `p.of_row` wants a row of `plain`.
        let source = if a.contains("of_row") || b.contains("of_row") { "plain" } else { source };
        match self.below(8) {
            0..=3 => format!("select {a}, {b} from {source} p where id < 3 limit 2"),
            4 => format!("insert into metered (a) select {a} from {source} p where id < 4 limit {}", 1 + self.below(3)),
            5 => format!(
                "insert into metered (a) values ({}), (1)",
                a.replace("p.", "").replace("of_row", "1").replace("id", "1")
            ),
            6 => format!(
                "with x as (update {table} set a = 3 where id = 2 returning id) select {a} from {source} p where id < 2"
            ),
            _ => format!(
                "delete from {table} p where id = {} and {}::text <> ''",
                1 + self.below(9),
                a.replace("p.of_row", "1")
            ),
        }
    }
}

#[tokio::test]
async fn what_is_ordinary_is_proven() {
    let mut zoo = Zoo::new().await;
    for text in [
        "select * from plain",
        "select p.id, upper(p.b), count(*) over (), now(), random(), gen_random_uuid() from public.plain p where p.a between 1 and $1 order by p.b desc",
        "select * from stacked_view s join plain_view v using (id) where substr(v.b, 1) like 'x%'",
        "select m.* from metered m where m.workspace_id = cordon.workspace_id()",
        "select * from note join comment on comment.note_id = note.id",
        "select table_name from information_schema.columns where table_schema = 'public'",
        "select c.relname, pg_get_viewdef(c.oid) from pg_catalog.pg_class c join pg_namespace n on n.oid = c.relnamespace",
        "select * from made",
        "copy plain to stdout",
        "begin",
        "with x as (select a, sum(id) from plain group by a having count(*) > 1) select * from x union all select 1, 2",
        "select jsonb_build_object('a', b) -> 'a', to_char(now(), 'YYYY'), '2020-01-01'::date + interval '1 day' from plain",
    ] {
        let effects = zoo.effects(text);
        assert!(effects.is_read_only() && effects.tables.is_some(), "{text}: {effects:?}");
    }
    let adds = |effects: &Effects| (effects.adds.clone(), effects.adds_hidden);
    for (text, expected) in [
        (
            "insert into metered (a, b) values ($1, $2), ($3, now()::text)",
            (vec![(1, RowBound::AtMost(2)), (2, RowBound::AtMost(2))], false),
        ),
        ("insert into plain values (1) on conflict do nothing", (vec![], false)),
        ("update plain set a = 1", (vec![], false)),
        ("update metered set a = 1", (vec![(2, RowBound::Unknown)], false)),
        ("delete from metered", (vec![], false)),
        ("insert into parted_low values (1, 1)", (vec![(3, RowBound::AtMost(1))], false)),
        ("copy metered from stdin", (vec![(1, RowBound::Unknown), (2, RowBound::Unknown)], false)),
        ("insert into note (workspace_id, body) values (cordon.workspace_id(), 'x')", (vec![], false)),
        ("insert into triggered values (1, 1)", (vec![], true)),
        ("update parent set a = 1", (vec![], true)),
        ("begin; insert into parted values (1); commit", (vec![(3, RowBound::AtMost(1))], false)),
    ] {
        assert_eq!(adds(&zoo.effects(text)), expected, "{text}");
    }
    assert!(!zoo.effects("select pg_advisory_xact_lock(1), nextval('counter'), set_config('a.b', 'c', true)").writes);
    assert!(
        zoo.effects("commit").ends_transaction && !zoo.effects("insert into metered (a) values (1)").ends_transaction
    );
    drop(zoo.database);
}
