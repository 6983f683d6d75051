//! Keeping others from their work. Each attack leaves what it holds standing while the victim works.

use super::Proof::Hit;
use super::Step::{Again, Busy, Bytes, Half, Sql, Victim};
use super::{Attack, Open, attack};
use pgcordon_tests::wire::{extended, parse, query, sync};

pub(super) const ATTACKS: &[Attack] = &[
    attack("LOCK TABLE", &[Sql("begin; lock table \"Secret\" in access exclusive mode"), Victim]).open(Open::WithoutGuard),
    attack("LOCK TABLE in weaker modes", &[Sql("begin; lock table \"Secret\" in row exclusive mode"), Victim, Sql("rollback; begin; lock table \"Segment\" in access share mode"), Victim]),
    attack("LOCK TABLE by DO", &[Sql("begin"), Sql("do $$ begin lock table \"Secret\" in access exclusive mode; end $$"), Victim]),
    attack("LOCK TABLE by a function", &[Sql("begin"), Sql("select query_to_xml('lock table \"Secret\" in access exclusive mode', true, true, '')"), Victim]),
    attack("LOCK TABLE of a view", &[Sql("begin; lock table \"JourneyOverview\" in access exclusive mode"), Victim]),
    attack("locking all of one's rows", &[Sql("begin; select * from \"Workspace\", \"Segment\", \"Secret\" for update"), Victim, Sql("update \"Secret\" set value = value"), Victim]),
    attack("locking rows by a reference", &[Sql("begin; insert into \"JourneyStep\" (\"journeyId\", position, kind) values ('{journey}', 97, 'x')"), Victim]),
    attack("a unique value that the victim wants", &[Sql("begin; insert into \"Secret\" (name, value) values ('honest-work', 'x')"), Victim]),
    attack("numbers that the victim is to get", &[Sql("insert into \"JourneyStep\" (id, \"journeyId\", position, kind) select coalesce(pg_sequence_last_value(pg_get_serial_sequence('\"JourneyStep\"', 'id')), 0) + n, (select id from \"Journey\" limit 1), 1000 + n, 'taken' from generate_series(1, 50) n"), Victim]).open(Open::Always),
    attack("a number that is taken in an open transaction", &[Sql("begin; insert into \"JourneyStep\" (id, \"journeyId\", position, kind) select coalesce(pg_sequence_last_value(pg_get_serial_sequence('\"JourneyStep\"', 'id')), 0) + n, (select id from \"Journey\" limit 1), 2000 + n, 'taken' from generate_series(1, 50) n"), Victim]).open(Open::Always),
    attack("sequences that run out", &[Sql("select setval('\"Broadcast_number_seq\"', 9223372036854775807)"), Sql("alter sequence \"Broadcast_number_seq\" restart"), Sql("select count(nextval('\"Broadcast_number_seq\"')) from generate_series(1, 100000)"), Victim]),
    attack("serialisable transactions", &[Sql("begin isolation level serializable; select count(*) from \"Secret\"; insert into \"Secret\" (name, value) values ('own-serial', 'x')"), Victim, Sql("commit"), Victim]),
    attack("an advisory lock for each number", &[Sql("select count(pg_advisory_lock(g)) from generate_series(1, 2000) g"), Victim]),
    attack("more locks than the server has", &[Sql("begin; select count(pg_advisory_xact_lock(g)) from generate_series(1, 200000) g"), Victim]),
    attack("a transaction that never ends", &[Sql("begin; update \"Segment\" set name = name"), Victim, Sql("begin isolation level serializable; select 1"), Victim]),
    attack("a statement that never ends", &[Half(|_| query("select pg_sleep(100000)")), Half(|_| query("select count(*) from generate_series(1, 1000000000)")), Victim]),
    attack("memory without end", &[Sql("set work_mem = '2GB'"), Sql("select length(repeat('x', 1100000000))"), Sql("select length(array_fill(0, array[10000000])::text)"), Victim]),
    attack("recursion without end", &[Sql("set max_stack_depth = '7MB'"), Sql("select query_to_xml(repeat('select query_to_xml($$', 300), true, true, '')"), Bytes(|_| query(&format!("select {}1{}", "(".repeat(9_000), ")".repeat(9_000)))), Victim]),
    attack("expressions that explode", &[Sql("select 'aaaaaaaaaaaaaaaaaaaaaaaaaa' ~ '((a*)*)*b'"), Sql("select count(*) from \"Segment\" a, \"Segment\" b, \"Segment\" c"), Victim]),
    attack("ten thousand statements", &[Bytes(|_| (0..2_000).flat_map(|n| [parse(&format!("s{n}"), "select 1"), sync()].concat()).collect()), Victim]),
    attack("notifications without end", &[Sql("select count(cordon.pg_notify('flood', repeat('x', 7000))) from generate_series(1, 100) g"), Sql("select count(pg_notify('flood' || g, repeat('x', 7000))) from generate_series(1, 100) g"), Victim]),
    attack("errors without end", &[Bytes(|_| extended("select 1/0", &[]).repeat(500)), Victim]),
    attack("sessions that come and go", &[Again, Again, Again, Again, Again, Victim]),
    attack("a trail that is flooded", &[Bytes(|_| query("select * from cordon.api_key").repeat(200)), Victim]),
    attack("a busy victim", &[Busy, Sql("discard all"), Sql("select pg_sleep(0.05)"), Victim]),
    attack("that the victim waits", &[Sql("begin; insert into \"Secret\" (name, value) values ('honest-work', 'x'); rollback"), Victim, Sql("select 'hit' from pg_stat_activity where wait_event_type = 'Lock'")]).proof(Hit),
];
