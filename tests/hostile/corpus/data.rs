//! Rows by every road that SQL has, and what errors and side effects say of rows that aren't shown.

use pgcordon_tests::wire::{bind, close, describe, execute, frame, parse, query, sync};

use super::Proof::{Code, Hit};
use super::Step::{Bytes, Sql, Update, Victim};
use super::{Attack, Open, attack};
use crate::range::Known;

fn copy_in(known: &Known) -> Vec<u8> {
    let row = format!("{}\tplanted\tx\n", known.theirs);
    [
        query("copy \"Secret\" (\"workspaceId\", name, value) from stdin"),
        frame(b'd', row.as_bytes()),
        frame(b'c', b""),
        sync(),
    ]
    .concat()
}

fn portals(_: &Known) -> Vec<u8> {
    [
        [parse("a", "select * from \"Secret\""), describe(b'S', "a"), bind("p", "a", &[]), describe(b'P', "p")]
            .concat(),
        [execute("p", 1), execute("p", 1), execute("p", 0), close(b'P', "p"), close(b'S', "a"), sync()].concat(),
    ]
    .concat()
}

pub(super) const ATTACKS: &[Attack] = &[
    attack("asking for it", &[Sql("select * from \"Secret\" where \"workspaceId\" = '{theirs}'"), Sql("select * from \"Secret\" where id = '{row}'"), Sql("table \"Secret\""), Sql("select * from only \"Secret\"")]),
    attack("every table", &[Sql("select * from \"Segment\""), Sql("select * from \"Journey\""), Sql("select * from \"JourneyStep\""), Sql("select * from \"WriteKey\""), Sql("select * from \"Workspace\""), Sql("select * from \"JourneyOverview\""), Sql("select * from \"UserPropertyAssignment\"")]),
    attack("COPY TO STDOUT", &[Sql("copy \"Secret\" to stdout"), Sql("copy (select * from \"Secret\") to stdout"), Sql("copy (table \"Secret\") to stdout with (format binary)"), Sql("copy (update \"Secret\" set name = name returning *) to stdout")]),
    attack("COPY FROM STDIN", &[Bytes(copy_in)]),
    attack("a portal in parts", &[Bytes(portals)]),
    attack("TABLESAMPLE", &[Sql("select * from \"Secret\" tablesample system (100) repeatable (1)"), Sql("select * from \"Secret\" tablesample bernoulli (100)")]),
    attack("by ctid, in ranges too", &[Sql("select ctid, xmin, xmax, tableoid, * from \"Secret\" where ctid = any (array(select ('(' || b || ',' || i || ')')::tid from generate_series(0, 3) b, generate_series(1, 60) i))"), Sql("select * from \"Secret\" where ctid > '(0,0)'")]),
    attack("a function in WHERE that tells", &[Sql("select 1 from \"Secret\" where name::int = 1"), Sql("select 1 from \"Secret\" where (value || '')::uuid is null"), Sql("select 1 from \"Secret\" where value::json is null"), Sql("select 1 from \"Secret\" where xmlparse(document value) is null")]),
    attack("a cheap function of one's own", &[Sql("create function pg_temp.tell(text) returns bool language plpgsql cost 0.0000001 as $$ begin raise notice '%', $1; return true; end $$"), Sql("select 1 from \"Secret\" where pg_temp.tell(value)")]),
    attack("an operator of one's own, with an estimator", &[Sql("create function pg_temp.tell(text, text) returns bool language plpgsql cost 0.0000001 as $$ begin raise notice '% %', $1, $2; return true; end $$"), Sql("create operator pg_temp.<<< (leftarg = text, rightarg = text, function = pg_temp.tell, restrict = scalarltsel)"), Sql("select 1 from \"Secret\" where value operator(pg_temp.<<<) 'x'"), Sql("explain select 1 from \"Secret\" where value operator(pg_temp.<<<) 'x'")]),
    attack("an operator of one's own in public", &[Sql("create function public.tell(text, text) returns bool language sql as 'select true'"), Sql("create operator public.<<< (leftarg = text, rightarg = text, function = public.tell)")]),
    attack("division by what is there", &[Sql("select 1 from \"Secret\" where 1 / (case when \"workspaceId\" = '{theirs}' then 0 else 1 end) = 1")]).proof(Code("22012")),
    attack("division inside an aggregate", &[Sql("select sum(1 / (case when \"workspaceId\" = '{theirs}' then 0 else 1 end)) from \"Secret\"")]).proof(Code("22012")),
    attack("division below a join", &[Sql("select 1 from \"Secret\" s join \"Segment\" g on 1 / (case when s.\"workspaceId\" = '{theirs}' then 0 else 1 end) = 1")]).proof(Code("22012")),
    attack("division in an index condition", &[Sql("set enable_seqscan = off"), Sql("select 1 from \"Secret\" where id = '{row}' and 1 / (case when id = '{row}' then 0 else 1 end) = 1")]).proof(Code("22012")),
    attack("division in a DELETE", &[Sql("delete from \"Secret\" where id = '{row}' and 1 / (case when value is null then 1 else 0 end) = 1")]).proof(Code("22012")),
    attack("exists", &[Sql("select 'hit' from \"Secret\" where exists (select from \"Secret\" where \"workspaceId\" = '{theirs}')"), Sql("select 'hit' where (select count(distinct \"workspaceId\") from \"Secret\") > 1")]).proof(Hit),
    attack("counting through every aggregate", &[Sql("select 'hit' where (select count(*) from \"JourneyStep\" s where not exists (select from \"Journey\" j where j.id = s.\"journeyId\")) > 0"), Sql("select 'hit' where '{theirs}' in (select max(\"workspaceId\"::text) from \"Secret\" union select min(\"workspaceId\"::text) from \"Secret\")")]).proof(Hit),
    attack("an exception block as an oracle", &[Sql("do $$ begin insert into \"Secret\" (\"workspaceId\", name, value) values ('{theirs}', 'known', 'x'); exception when unique_violation then raise notice 'hit'; end $$")]).proof(Hit),
    attack("a unique violation in the victim's workspace", &[Sql("insert into \"Secret\" (\"workspaceId\", name, value) values ('{theirs}', 'known', 'x')")]).proof(Code("23505")),
    attack("ON CONFLICT DO UPDATE with the victim's key", &[Sql("insert into \"Secret\" (\"workspaceId\", name, value) values ('{theirs}', 'known', 'x') on conflict (\"workspaceId\", name) do update set value = 'stolen' returning *")]),
    attack("ON CONFLICT DO UPDATE with the victim's id", &[Sql("insert into \"Secret\" (id, name, value) values ('{row}', 'own', 'x') on conflict (id) do update set value = \"Secret\".value || '!' returning *"), Sql("insert into \"Secret\" (id, name, value) values ('{row}', 'own', 'x') on conflict (id) do update set \"workspaceId\" = '{own}' returning *")]),
    attack("ON CONFLICT DO NOTHING in the victim's workspace", &[Sql("insert into \"Secret\" (\"workspaceId\", name, value) values ('{theirs}', 'fresh', 'x') on conflict do nothing"), Sql("with i as (insert into \"Secret\" (\"workspaceId\", name, value) values ('{theirs}', 'known', 'x') on conflict do nothing returning 1) select 'hit' where not exists (select from i)")]).proof(Hit),
    attack("that an id is taken", &[Sql("insert into \"Secret\" (id, name, value) values ('{row}', 'own', 'x')")]).proof(Code("23505")).open(Open::Always),
    attack("that an id is taken, without an error", &[Sql("with i as (insert into \"Secret\" (id, name, value) values ('{row}', 'own-too', 'x') on conflict (id) do nothing returning 1) select 'hit' where not exists (select from i)")]).proof(Hit).open(Open::Always),
    attack("MERGE", &[Sql("merge into \"Secret\" s using (values ('{row}'::uuid)) v (id) on s.id = v.id when matched then update set value = 'stolen' when not matched then insert (\"workspaceId\", name, value) values ('{theirs}', 'planted', 'x')"), Sql("merge into \"Secret\" s using \"Secret\" t on s.\"workspaceId\" = '{theirs}' when matched then delete")]),
    attack("writing into the victim's workspace", &[Sql("insert into \"Secret\" (\"workspaceId\", name, value) values ('{theirs}', 'planted', 'x')"), Sql("insert into \"Segment\" (\"workspaceId\", name) values ('{theirs}', 'planted')"), Sql("insert into \"Workspace\" (name) values ('planted')"), Sql("insert into \"JourneyStep\" (\"journeyId\", position, kind) values ('{journey}', 99, 'planted')")]),
    attack("writing by way of a view", &[Sql("insert into \"JourneyOverview\" (\"workspaceId\", name) values ('{theirs}', 'planted')"), Sql("update \"JourneyOverview\" set name = 'stolen'")]),
    attack("changing by id", &[Sql("update \"Secret\" set value = 'stolen' where id = '{row}' returning *"), Sql("update \"JourneyStep\" set kind = 'stolen' where \"journeyId\" = '{journey}'"), Sql("update \"Workspace\" set name = 'stolen' where id = '{theirs}'")]),
    attack("changing by joins", &[Sql("update \"Secret\" s set value = v.value from \"Secret\" v where v.id = '{row}' returning *"), Sql("update \"Segment\" g set name = v.value from \"Secret\" v where v.\"workspaceId\" = '{theirs}' returning *")]),
    attack("deleting by id", &[Sql("delete from \"Secret\" where id = '{row}' returning *"), Sql("delete from \"JourneyStep\" where \"journeyId\" = '{journey}'"), Sql("delete from \"Workspace\" where id = '{theirs}'"), Sql("delete from \"Secret\" using \"Workspace\" w where w.id = '{theirs}'")]),
    attack("deleting with a cascade", &[Sql("update \"Workspace\" set id = '{theirs}'"), Sql("delete from \"Journey\" where id = '{journey}'"), Sql("delete from \"Journey\" where \"workspaceId\" = '{theirs}'")]),
    attack("a reference to the victim's row", &[Sql("insert into \"JourneyStep\" (\"journeyId\", position, kind) values ('{journey}', 98, 'x')"), Sql("update \"JourneyStep\" set \"journeyId\" = '{journey}', position = position + 100"), Sql("insert into \"WriteKey\" (\"workspaceId\", \"secretId\") values ('{own}', '{row}')")]),
    attack("what a broken reference says", &[Sql("insert into \"WriteKey\" (\"secretId\") values ('{row}')"), Sql("insert into \"Segment\" (name, \"subscriptionGroupId\") values ('own', '{row}')")]),
    attack("what a failed check says", &[Sql("update \"Secret\" set name = null where id = '{row}'"), Sql("insert into \"Secret\" (\"workspaceId\", name) values ('{theirs}', 'known') on conflict (\"workspaceId\", name) do update set value = null"), Sql("update \"Segment\" set name = null where \"workspaceId\" = '{theirs}'")]),
    attack("locking rows", &[Sql("select * from \"Secret\" where id = '{row}' for update nowait"), Sql("select 'hit' from \"Secret\" where \"workspaceId\" = '{theirs}' for key share skip locked")]).proof(Hit),
    attack("whole tables as XML", &[Sql("select table_to_xml('\"Secret\"', true, true, '')"), Sql("select schema_to_xml('public', true, true, '')"), Sql("select database_to_xml(true, true, '')"), Sql("select query_to_xml('select * from \"Secret\"', true, true, '')"), Sql("select * from ts_stat('select to_tsvector(value) from \"Secret\"')")]),
    attack("whole rows as text", &[Sql("select s::text, to_jsonb(s), row(s.*), hash_record(s) from \"Secret\" s"), Sql("select json_agg(s) from \"Secret\" s"), Sql("select xmlforest(s.*) from \"Secret\" s"), Sql("select string_agg(s::text, ',') over () from \"Secret\" s")]),
    attack("recursion and CTEs", &[Sql("with recursive r as (select id, value from \"Secret\" union select s.id, s.value from \"Secret\" s, r) select * from r"), Sql("with d as (delete from \"Secret\" returning *), u as (update \"Segment\" set name = name returning *) select * from d, u; rollback")]),
    attack("a cursor WITH HOLD", &[Sql("declare c scroll cursor with hold for select * from \"Secret\""), Sql("fetch all from c"), Sql("move absolute 0 in c"), Sql("fetch all from c"), Sql("update \"Secret\" set value = 'x' where current of c")]),
    attack("the database of yesterday", &[Sql("begin isolation level repeatable read"), Victim, Sql("select * from \"Secret\""), Sql("commit"), Sql("set default_transaction_isolation = serializable"), Sql("select * from \"Secret\""), Sql("set transaction snapshot '00000003-00000001-1'")]),
    attack("numbers that others took", &[Sql("select last_value from \"Broadcast_number_seq\""), Sql("select setval('\"Broadcast_number_seq\"', 1)"), Sql("select currval('\"Broadcast_number_seq\"')"), Sql("select 'hit' where lastval() > 0")]).proof(Hit),
    attack("how many numbers others took", &[Sql("insert into \"Broadcast\" (name) values ('first')"), Victim, Sql("insert into \"Broadcast\" (name) values ('second')"), Sql("select 'hit' where (select max(number) - min(number) from \"Broadcast\" where name in ('first', 'second')) > 1")]).proof(Hit).open(Open::Always),
    attack("how many numbers there are", &[Sql("select 'hit' where pg_sequence_last_value('\"Broadcast_number_seq\"') > (select count(*) from \"Broadcast\")"), Sql("select 'hit' from pg_sequences where last_value is not null")]).proof(Hit).open(Open::Always),
    attack("which rows others have updated, by their place", &[Update, Sql("select 'hit' from generate_series(0, 2) b, generate_series(1, 120) i, lateral (select format('(%s,%s)', b, i)::tid) t (t) where b < pg_relation_size('\"Secret\"') / 8192 and currtid2('\"Secret\"'::text, t) <> t limit 1")]).proof(Hit),
];
