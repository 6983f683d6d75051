use super::*;

#[test]
fn what_applications_mostly_send_needs_no_parse() {
    for text in [
        &b"select abalance from pgbench_accounts where aid = $1"[..],
        b"  (SELECT 1)\n;",
        b"/* app=1 */ select \"U\".\"id\" from \"User\" \"U\" where \"U\".\"name\" = 'x'",
        b"-- a comment; of mine\nselect 1",
        b"begin isolation level repeatable read",
        b"BEGIN;",
        b"commit",
        b"ROLLBACK ;",
        b"show server_version",
        b"select a offset 10",
        b"",
        b" ; ",
    ] {
        assert!(!may_have_facts(text), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn whatever_may_have_a_fact_is_parsed() {
    for text in [
        &b"set work_mem = '1MB'"[..],
        b"select 1;SET x.y = 1",
        b"-- a name\nset x.y = 1",
        b"/* name */ set x.y = 1",
        b"/* /* name */ select */ set x.y = 1",
        b"select pg_catalog.\"set_config\"('a', 'b', false)",
        b"select U&\"\\0073et_config\"('a', 'b', false)",
        b"create Temp table x()",
        b"create table pg_temp.x()",
        b"select pg_try_advisory_lock(1)",
        b"select * from pg_temp_3.x",
        b"declare c cursor with hold for select 1",
        b"deallocate all",
        b"discard all",
        b"listen x",
        b"load 'x'",
        b"INSERT into a values (1)",
        b"update a set b = 1",
        b"with x as (Delete from a returning 1) select 1",
        b"select 1 into b",
        b"rollback to a",
        b"commit and chain",
        b"commit; begin",
        b"select 'cor' || 'don.x'::regclass",
        b"select nextval(E'\\x63ordon.x')",
        b"select * from \"cordon\".signing_key",
        b"'",
    ] {
        assert!(may_have_facts(text), "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn what_cannot_be_parsed_is_judged_by_its_words() {
    for text in [&b"set set set"[..], b"select 1 into temp", b"reset"] {
        assert!(may_leave_state(text), "{}", String::from_utf8_lossy(text));
    }
    for text in
        [&b"update a set b = 1"[..], b"insert into a(b) values (1) on conflict (id) do update set b = 2", b"selec 1"]
    {
        assert!(!may_leave_state(text), "{}", String::from_utf8_lossy(text));
    }
}

/// Statements of every kind, those with facts and those without.
const STATEMENTS: [&str; 82] = [
    "select a , b from t where c = 'x'",
    "select set_config ( 'app.workspace_id' , 'x' , false )",
    "select 1 from t where pg_catalog . set_config ( 'a.b' , 'x' , true ) is null",
    "select * from cordon . signing_key",
    "select cordon . deny ( 'x' )",
    "select 'cordon.signing_key' :: regclass",
    "select cast ( 'cordon' as pg_catalog . regnamespace )",
    "select to_regclass ( 'cordon.x' ) , nextval ( 'cordon.x' )",
    "select query_to_xml ( 'select * from cordon.x' , true , true , '' )",
    "select pg_advisory_lock ( 1 )",
    "select pg_try_advisory_lock_shared ( 1 , 2 )",
    "select pg_advisory_xact_lock ( 1 )",
    "select * from pg_temp . x",
    "select 1 into temp x",
    "select 1 into x",
    "with x as ( insert into t values ( 1 ) returning 1 ) select * from x",
    "with x as ( update t set a = 1 returning 1 ) table x",
    "with x as ( delete from t returning 1 ) values ( 1 )",
    "with x as ( merge into t using s on true when matched then delete returning 1 ) select 1",
    "select * from t for update",
    "values ( 1 , 2 )",
    "table t",
    "begin",
    "begin transaction isolation level serializable",
    "start transaction read only",
    "commit",
    "commit and chain",
    "rollback",
    "rollback work",
    "rollback to savepoint a",
    "rollback prepared 'x'",
    "end",
    "abort and chain",
    "savepoint a",
    "release a",
    "prepare transaction 'x'",
    "prepare p as select 1",
    "execute p",
    "deallocate p",
    "deallocate all",
    "discard all",
    "select lastval ( )",
    "select pg_backend_pid ( ) , currval ( $1 )",
    "set a . b = 'x'",
    "set local search_path = cordon , public",
    "set session characteristics as transaction read only",
    "set role x",
    "set time zone 'UTC'",
    "reset all",
    "reset a . b",
    "show all",
    "listen x",
    "load 'x'",
    "declare c cursor with hold for select 1",
    "insert into t values ( 1 ) on conflict do nothing",
    "update pg_settings set setting = 'x'",
    "delete from t",
    "copy t from stdin",
    "truncate t",
    "call p ( )",
    "do $$ begin perform set_config ( 'a.b' , 'x' , true ) ; end $$",
    "create temporary table x ( )",
    "alter role x set app.workspace_id = 'x'",
    "grant a to b",
    "select pg_notify ( 'a' , 'b' )",
    "select pg_catalog . pg_notify ( 'a' , 'b' )",
    "with x as ( select pg_notify ( 'a' , 'b' ) ) table x",
    "notify a , 'b'",
    "listen a",
    "unlisten a",
    "lock table t",
    "explain select 1",
    "truncate t ; drop table t",
    "select lo_get ( 1 )",
    "select ts_stat ( 'x' )",
    "select pg_catalog . query_to_xml ( 'x' , true , true , '' )",
    "values ( pg_read_file ( 'x' ) )",
    "select * from pg_ls_dir ( 'x' )",
    "select pg_cancel_backend ( 1 )",
    "select 1 from t order by pg_reload_conf ( )",
    "set row_security = off",
    "copy t to '/tmp/x'",
];
const BLANKS: [&str; 10] =
    [" ", "  ", "\n", "\t", "\r\n", "\x0b", "\x0c", " -- set\n", " /* a */ ", "/* /* ; */ reset */ "];

/// Writes a statement's words in other ways that mean the same to Postgres.
fn spelled(statement: &str, choices: &mut impl Iterator<Item = u8>) -> String {
    let mut choose = |among: u8| usize::from(choices.next().unwrap_or(0) % among);
    let mut out = String::new();
    for word in statement.split(' ') {
        // A blank may be left out beside a mark, and mostly is.
        if !out.is_empty() {
            let is_mark = |text: &str, at_end: bool| {
                let edge = if at_end { text.chars().next_back() } else { text.chars().next() };
                edge.is_some_and(|edge| matches!(edge, '(' | ')' | ',' | '.' | ':'))
            };
            if !((is_mark(&out, true) || is_mark(word, false)) && choose(2) == 0) {
                out.push_str(BLANKS[choose(10)]);
            }
        }
        let escapes =
            |text: &str, how: &dyn Fn(u32) -> String| text.chars().map(|c| how(u32::from(c))).collect::<String>();
        let inner = word.strip_prefix('\'').and_then(|word| word.strip_suffix('\''));
        let is_name = [
            "set_config",
            "cordon",
            "signing_key",
            "pg_temp",
            "regclass",
            "nextval",
            "lastval",
            "pg_backend_pid",
            "currval",
            "pg_advisory_lock",
            "pg_settings",
            "pg_notify",
            "lo_get",
            "ts_stat",
            "query_to_xml",
            "pg_read_file",
            "pg_ls_dir",
            "pg_cancel_backend",
            "pg_reload_conf",
        ];
        match (inner, choose(5)) {
            (Some(inner), 0) => out.push_str(&format!("e'{}'", escapes(inner, &|c| format!("\\x{c:02x}")))),
            (Some(inner), 1) => out.push_str(&format!("U&'{}'", escapes(inner, &|c| format!("\\{c:04x}")))),
            (Some(inner), 2) if inner.len() > 3 => {
                out.push_str(&format!("'{}'{}\n'{}'", &inner[..2], BLANKS[choose(9)], &inner[2..]))
            }
            (None, 0) if is_name.contains(&word) => out.push_str(&format!("\"{word}\"")),
            (None, 1) if is_name.contains(&word) => {
                out.push_str(&format!("u&\"{}\"", escapes(word, &|c| format!("\\+{c:06x}"))))
            }
            (None, 2) if !word.contains('\'') => out.push_str(&word.to_uppercase()),
            (None, 3) if !word.contains('\'') => {
                out.extend(word.chars().map(|c| if choose(2) == 0 { c.to_ascii_uppercase() } else { c }));
            }
            _ => out.push_str(word),
        }
    }
    out
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(3000))]
    #[test]
    fn whenever_the_parser_finds_a_fact_the_filter_said_so(
        picks in proptest::collection::vec(0..STATEMENTS.len(), 1..3),
        choices in proptest::collection::vec(proptest::num::u8::ANY, 0..200),
    ) {
        let mut choices = choices.into_iter();
        let mut text = String::new();
        for pick in picks {
            text.push_str(BLANKS[usize::from(choices.next().unwrap_or(0)) % BLANKS.len()]);
            text.push_str(&spelled(STATEMENTS[pick], &mut choices));
            text.push_str([";", "", " ; ;", ";\n"][usize::from(choices.next().unwrap_or(0)) % 4]);
        }
        let facts = crate::sql::parse::facts(text.as_bytes(), &crate::sql::Watched::default());
        assert!(facts.is_trivial() || may_have_facts(text.as_bytes()) || !facts.is_understood(), "{text:?}: {facts:?}");
        assert!(facts.leaves_nothing() || may_leave_state(text.as_bytes()), "{text:?}: {facts:?}");
    }

    #[test]
    fn whatever_the_filter_lets_pass_is_trivial(text in "[a-zA-Z0-9 \\n;'\"$.,()*/\\-=&\\\\]{0,40}", pick in 0..STATEMENTS.len(), at in 0..60_usize) {
        // Rubbish in the middle of a statement.
        let statement = STATEMENTS[pick];
        let at = at.min(statement.len());
        if statement.is_char_boundary(at) {
            let text = format!("{}{text}{}", &statement[..at], &statement[at..]);
            let facts = crate::sql::parse::facts(text.as_bytes(), &crate::sql::Watched::default());
            assert!(facts.is_trivial() || may_have_facts(text.as_bytes()) || !facts.is_understood(), "{text:?}: {facts:?}");
        }
    }
}

#[test]
fn every_statement_of_the_generator_is_understood_and_most_have_facts() {
    let with_facts = STATEMENTS.iter().filter(|text| {
        let facts = crate::sql::parse::facts(text.as_bytes(), &crate::sql::Watched::default());
        assert!(facts.is_understood(), "{text}");
        !facts.is_trivial()
    });
    assert!(with_facts.count() > 45);
}
