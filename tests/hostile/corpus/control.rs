//! Reaching for the control data: keys, workspaces, the signing key, the quotas, the trail, and the functions beside them.

use pgcordon_tests::wire::{frame, function_call};

use super::Proof::Hit;
use super::Step::{Bytes, Sql, Victim};
use super::{Attack, Open, attack};
use crate::range::Known;

/// A report of a meter, as a client's message and as a notice that it can't send.
fn a_report_as_a_message(_: &Known) -> Vec<u8> {
    let fields = b"SINFO\0VINFO\0CCM100\0Mpgcordon meter\0D0000000000000000000000000000000000000000000000000000000000000000 1:+1000\0\0";
    [frame(b'N', fields), frame(b'E', fields), frame(b'A', b"\0\0\0\x01cordon_control\0\0")].concat()
}

/// Functions of the schema cordon, by whatever number they have.
fn calls_by_number(_: &Known) -> Vec<u8> {
    (16_384..16_700).step_by(7).flat_map(|oid| function_call(oid, &[])).collect()
}

pub(super) const ATTACKS: &[Attack] = &[
    attack(
        "reading the keys",
        &[
            Sql("select * from cordon.api_key"),
            Sql("table cordon.signing_key"),
            Sql("select * from cordon.workspace"),
            Sql("select * from cordon.quota"),
            Sql("select * from cordon.flow"),
            Sql("select * from cordon.schema_history"),
        ],
    ),
    attack(
        "reading the keys by other roads",
        &[
            Sql("copy cordon.api_key to stdout"),
            Sql("select table_to_xml('cordon.signing_key', true, true, '')"),
            Sql("select query_to_xml('select * from cordon.workspace', true, true, '')"),
            Sql("select k from cordon.signing_key k for share"),
            Sql("select * from pg_stats where schemaname = 'cordon'"),
        ],
    ),
    attack(
        "that the victim is a workspace",
        &[
            Sql("select 'hit' from cordon.workspace where id = '{theirs}'"),
            Sql("select 'hit' where has_table_privilege('cordon.workspace', 'select')"),
            Sql("select 'hit' from pg_stats where schemaname = 'cordon' and tablename = 'workspace'"),
        ],
    )
    .proof(Hit),
    attack(
        "the trail",
        &[
            Sql("select * from cordon.audit_event"),
            Sql("select * from cordon.audit_stream"),
            Sql("select cordon.audit_append('x', '[]', true)"),
            Sql("select cordon.audit_lock('x')"),
            Sql("select cordon.audit_month('2020-01-01')"),
            Sql("delete from cordon.audit_event"),
        ],
    ),
    attack(
        "writing keys",
        &[
            Sql(
                "insert into cordon.api_key (key_id, workspace_id, kind, verifier) values ('thief', '{theirs}', 'workspace', 'SCRAM-SHA-256$4096:x$y:z')",
            ),
            Sql("update cordon.api_key set workspace_id = '{theirs}'"),
            Sql("delete from cordon.api_key"),
            Sql("truncate cordon.api_key cascade"),
        ],
    ),
    attack(
        "writing workspaces and quotas",
        &[
            Sql("update cordon.workspace set status = 'suspended' where id = '{theirs}'"),
            Sql("insert into cordon.quota values ('{own}', 1, null)"),
            Sql("delete from cordon.quota"),
            Sql("update cordon.workspace set channel_key = decode(repeat('00', 32), 'hex')"),
        ],
    ),
    attack(
        "the signing key",
        &[
            Sql("update cordon.signing_key set retired_at = now()"),
            Sql("insert into cordon.signing_key (secret, inner_pad, outer_pad) values ('', '', '')"),
            Sql("alter table cordon.signing_key alter column secret drop not null"),
            Sql("lock table cordon.signing_key in access share mode"),
        ],
    ),
    attack(
        "replacing the functions",
        &[
            Sql(
                "create or replace function cordon.workspace_id() returns uuid language sql as $$ select '{theirs}'::uuid $$",
            ),
            Sql("alter function cordon.workspace_id() set search_path = pg_temp"),
            Sql("drop function cordon.workspace_id() cascade"),
            Sql("alter schema cordon rename to x"),
            Sql("create table cordon.t (x int)"),
        ],
    ),
    attack(
        "denying with odd codes",
        &[
            Sql("select cordon.deny('CM100')"),
            Sql("select cordon.deny('57P01')"),
            Sql("select cordon.deny('00000')"),
            Sql("select cordon.deny('57014')"),
            Sql("select cordon.deny('08006')"),
            Sql("select cordon.deny(null)"),
            Sql("select cordon.deny('')"),
            Sql("select cordon.deny('0A000; select')"),
            Sql("select cordon.deny('26000')"),
            Sql("select cordon.deny('40001')"),
        ],
    ),
    attack(
        "denying in a transaction",
        &[
            Sql("begin"),
            Sql("select cordon.deny('25P02')"),
            Sql("select * from \"Secret\""),
            Sql("rollback"),
            Sql("select cordon.deny('53400')"),
        ],
    ),
    attack(
        "marking at odd moments",
        &[
            Victim,
            Sql("begin; select cordon.mark(); rollback"),
            Sql("select cordon.mark() from generate_series(1, 500)"),
            Sql("declare c cursor with hold for select cordon.mark()"),
            Sql("fetch all from c"),
            Sql("discard all"),
            Sql("select cordon.mark()"),
            Sql("select * from \"Secret\""),
        ],
    ),
    attack(
        "names of channels",
        &[
            Sql("select cordon.channel(decode(repeat('00', 32), 'hex'), 'gossip')"),
            Sql("select cordon.channel(null, null), cordon.channel('', repeat('x', 100000))"),
            Sql("select cordon.channel(channel_key, 'gossip') from cordon.workspace"),
        ],
    ),
    attack(
        "notifying a workspace",
        &[
            Sql("select cordon.notify_workspace('{theirs}', 'gossip', 'x')"),
            Sql("select cordon.pg_notify('gossip', repeat('x', 8000))"),
            Sql("select cordon.pg_notify(null, null), cordon.pg_notify('', '')"),
            Sql("select pg_notify('cordon_control', '')"),
        ],
    ),
    attack(
        "the proxy's own channel",
        &[
            Sql("notify cordon_control"),
            Sql("notify cordon_recount, '{theirs}'"),
            Sql("select query_to_xml('notify cordon_control', true, true, '')"),
        ],
    ),
    attack(
        "reports of a meter",
        &[
            Sql("select cordon.report(array[1], array[-1000]::bigint[], true)"),
            Sql("select cordon.report(null, null, null)"),
            Sql("select cordon.workspace_at_end()"),
            Sql("select cordon.forget_dropped()"),
            Sql("select cordon.notify_control()"),
            Sql("select cordon.hand_over()"),
        ],
    ),
    attack(
        "a report raised in DO",
        &[
            Sql(
                "do $$ begin raise info using errcode = 'CM100', message = 'pgcordon meter', detail = repeat('0', 64) || ' 1:-1000'; end $$",
            ),
            Sql(
                "do $$ begin raise exception using errcode = 'CM100', message = 'pgcordon meter', detail = ' 1:-1000'; end $$",
            ),
            Victim,
        ],
    ),
    attack("a report as a message", &[Bytes(a_report_as_a_message), Victim]),
    attack("functions by number", &[Bytes(calls_by_number)]),
    attack(
        "triggers of the meters",
        &[
            Sql("alter table \"Segment\" disable trigger user"),
            Sql("drop trigger if exists pgcordon_meter on \"Segment\""),
            Sql("set session_replication_role = replica; insert into \"Segment\" (name) values ('unmetered')"),
            Sql("rollback"),
        ],
    ),
    attack(
        "temporary tables in the way of the control data",
        &[
            Sql("create temp table signing_key (id int, secret bytea)"),
            Sql("create temp table workspace (id uuid, status text)"),
            Sql("set search_path = pg_temp, cordon"),
            Sql("select cordon.mark()"),
            Victim,
        ],
    ),
    attack(
        "large inputs to all of them",
        &[
            Sql("select cordon.deny(repeat('x', 1000000))"),
            Sql("select cordon.pg_notify(repeat('x', 1000000), '')"),
            Sql("select set_config('app.workspace_seal', repeat('9', 1000000), false), cordon.mark()"),
            Sql("select * from \"Secret\""),
        ],
    ),
    attack(
        "locking what the proxy needs",
        &[
            Sql("begin; lock table cordon.api_key"),
            Sql("rollback; begin; lock table pg_authid in access exclusive mode"),
            Sql("rollback; begin; lock table pg_class in access exclusive mode"),
            Victim,
            Sql("rollback"),
        ],
    ),
    attack("a password of the upstream role's own", &[Sql("alter role current_user password 'mine'")])
        .open(Open::WithoutGuard),
];
