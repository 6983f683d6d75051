//! What stands in the database before an attack and after it: the rows of the two workspaces, and what tenants must not change at
//! all.

use std::collections::BTreeMap;
use std::fmt;

use pgcordon_tests::wire::Wire;

/// How an attack can succeed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Effect {
    /// The attacker received the marker.
    Read,
    /// Rows of the victim's are other ones, or fewer.
    Changed(String),
    /// Rows stand in the victim's workspace that it didn't write.
    Impersonated(String),
    /// The attacker learnt what he was after.
    Learnt,
    /// The control data, the roles or what the tables are made of has changed.
    Control(String),
    /// The victim can't work.
    Harmed(String),
}

impl Effect {
    /// Whether it reads, writes or impersonates: what is on no list.
    pub(crate) const fn is_a_breach(&self) -> bool {
        matches!(self, Self::Read | Self::Changed(_) | Self::Impersonated(_))
    }
}

impl fmt::Display for Effect {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self:?}")
    }
}

type Rows = BTreeMap<(String, String), (u64, String)>;

/// The tables, and the workspace of their rows.
const TABLES: [(&str, &str); 13] = [
    ("Workspace", "id"),
    ("Segment", "\"workspaceId\""),
    ("Journey", "\"workspaceId\""),
    ("JourneyStep", "(select j.\"workspaceId\" from \"Journey\" j where j.id = \"journeyId\")"),
    ("Secret", "\"workspaceId\""),
    ("WriteKey", "\"workspaceId\""),
    ("UserProperty", "\"workspaceId\""),
    ("Broadcast", "\"workspaceId\""),
    ("Integration", "\"workspaceId\""),
    ("EmailProvider", "\"workspaceId\""),
    ("MessageTemplate", "\"workspaceId\""),
    ("SubscriptionGroup", "\"workspaceId\""),
    ("Country", "null::uuid"),
];

/// What tenants must not change, one hash for each kind of it.
const STRUCTURE: [(&str, &str); 12] = [
    ("roles", "select md5(string_agg(r::text, ',' order by rolname)) from pg_authid r"),
    ("members", "select md5(string_agg(m::text, ',' order by m::text)) from pg_auth_members m"),
    ("settings", "select md5(string_agg(s::text, ',' order by s::text)) from pg_db_role_setting s"),
    ("rights", "select md5(string_agg(d::text, ',' order by d::text)) from pg_default_acl d"),
    ("policies", "select md5(string_agg(p::text, ',' order by oid)) from pg_policy p"),
    (
        "triggers",
        "select md5(string_agg(concat_ws(' ', tgname, tgrelid, tgenabled), ',' order by oid)) from pg_trigger",
    ),
    (
        "tables",
        "select md5(string_agg(concat_ws(' ', relname, relowner, relacl, relrowsecurity, relforcerowsecurity, relkind), ',' order by c.oid)) \
         from pg_class c join pg_namespace n on n.oid = relnamespace where nspname !~ '^pg_(temp|toast)'",
    ),
    (
        "functions",
        "select md5(string_agg(p::text, ',' order by p.oid)) from pg_proc p where (proacl is not null or oid >= 16384) and pronamespace::regnamespace::text !~ '^pg_temp'",
    ),
    (
        "schemas",
        "select md5(string_agg(n::text, ',' order by nspname)) from pg_namespace n where nspname !~ '^pg_(temp|toast)'",
    ),
    ("extensions", "select md5(string_agg(e::text, ',')) from pg_extension e"),
    (
        "databases",
        "select md5(string_agg(concat_ws(' ', datname, datdba, datacl, datconnlimit, datallowconn), ',' order by oid)) from pg_database",
    ),
    ("large objects", "select md5(string_agg(l::text, ',' order by loid, pageno)) from pg_largeobject l"),
];

const CONTROL: &str = "select md5(concat((select string_agg(w::text, ',' order by id) from cordon.workspace w), (select string_agg(k::text, ',' order by key_id) from cordon.api_key k), \
    (select string_agg(s::text, ',' order by id) from cordon.signing_key s), (select string_agg(q::text, ',') from cordon.quota q)))";

/// How things were.
pub(crate) struct Ledger {
    pub(crate) admin: Wire,
    own: String,
    theirs: String,
    has_control_data: bool,
    rows: Rows,
    structure: BTreeMap<String, String>,
}

impl Ledger {
    /// Keeps a copy of all rows as they are now.
    pub(crate) fn new(mut admin: Wire, [own, theirs]: [String; 2], has_control_data: bool) -> Self {
        let copies = TABLES.map(|(table, _)| format!("create table saved.\"{table}\" as table public.\"{table}\";"));
        let answer = admin.query(&format!("create schema saved; {}", copies.concat()));
        assert!(!answer.contains("E("), "{answer}");
        let mut ledger = Self { admin, own, theirs, has_control_data, rows: Rows::new(), structure: BTreeMap::new() };
        ledger.renew();
        ledger
    }

    /// From now on this is how things are.
    pub(crate) fn renew(&mut self) {
        self.rows = self.look_at_rows();
        self.structure = self.look_at_structure();
    }

    /// What has changed that must not; and the tables that have changed at all.
    pub(crate) fn compare(&mut self, effects: &mut Vec<Effect>) -> Vec<String> {
        let rows = self.look_at_rows();
        let mut touched: Vec<String> = Vec::new();
        for place in self.rows.keys().chain(rows.keys()) {
            let (before, now) = (self.rows.get(place), rows.get(place));
            if before == now {
                continue;
            }
            touched.push(place.0.clone());
            if place.1 != "own" {
                let more = now.map_or(0, |now| now.0) > before.map_or(0, |before| before.0);
                let what = format!("{} {}", place.0, place.1);
                effects.push(if more { Effect::Impersonated(what) } else { Effect::Changed(what) });
            }
        }
        let structure = self.look_at_structure();
        let changed = structure.iter().filter(|(what, hash)| self.structure.get(*what) != Some(hash));
        effects.extend(changed.map(|(what, _)| Effect::Control(what.clone())));
        touched.sort();
        touched.dedup();
        touched
    }

    /// Puts back the rows of these tables.
    pub(crate) fn restore(&mut self, touched: &[String]) {
        if touched.is_empty() {
            return;
        }
        let tables = touched
            .iter()
            .map(|table| format!("delete from \"{table}\"; insert into \"{table}\" select * from saved.\"{table}\";"));
        let text =
            format!("begin; set local session_replication_role = replica; {} commit", tables.collect::<String>());
        // Whoever hung up in mid-statement may still hold a lock for a moment.
        let answer = self.admin.query(&text);
        assert!(!answer.contains("E("), "{answer}");
    }

    fn look_at_rows(&mut self) -> Rows {
        let parts = TABLES.map(|(table, workspace)| {
            format!(
                "select '{table}', case when w = '{}' then 'own' when w = '{}' then 'theirs' else 'all' end as whose, count(*), md5(string_agg(row, ',' order by row)) \
                 from (select {workspace} as w, t::text as row from \"{table}\" t) t group by whose",
                self.own, self.theirs
            )
        });
        let lines = self.admin.rows(&parts.join(" union all "));
        lines
            .iter()
            .map(|line| {
                let columns: Vec<&str> = line.split('|').collect();
                ((columns[0].to_owned(), columns[1].to_owned()), (columns[2].parse().unwrap(), columns[3].to_owned()))
            })
            .collect()
    }

    fn look_at_structure(&mut self) -> BTreeMap<String, String> {
        let mut parts: Vec<String> =
            STRUCTURE.iter().map(|(what, sql)| format!("select '{what}', coalesce(({sql}), '')")).collect();
        if self.has_control_data {
            parts.push(format!("select 'control data', ({CONTROL})"));
        }
        let lines = self.admin.rows(&parts.join(" union all "));
        lines
            .iter()
            .filter_map(|line| line.split_once('|'))
            .map(|(what, hash)| (what.to_owned(), hash.to_owned()))
            .collect()
    }
}
