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
