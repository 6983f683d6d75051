//! Leaving something behind on a connection that the victim will work on, or finding what it left.

use pgcordon_tests::wire::{bind, execute, parse, query, sync};

use super::Proof::Hit;
use super::Step::{Again, Bytes, Sql, Start, Victim};
use super::{Attack, Open, attack};
use crate::range::Known;

/// Statements under names that a pool might use for the victim's.
fn statements(_: &Known) -> Vec<u8> {
    let mut bytes = Vec::new();
    for name in ["", "theirs", "pgcordon:1", "pgcordon:2", "s_1", "PGBOUNCER_1", "honest"] {
        bytes.extend([parse(name, "select 'planted' as name, 'planted' as value"), sync()].concat());
        bytes.extend([bind("", name, &[]), execute("", 0), sync()].concat());
    }
    bytes
}

/// Executes what the victim may have prepared.
fn others_statements(_: &Known) -> Vec<u8> {
    let names = ["", "theirs", "pgcordon:1", "pgcordon:2", "pgcordon:3", "s_1", "honest"];
    names.iter().flat_map(|name| [bind("", name, &[]), execute("", 0), sync()].concat()).collect()
}

/// Portals that others may have open.
fn others_portals(_: &Known) -> Vec<u8> {
    ["", "p", "c", "honest"].iter().flat_map(|name| [execute(name, 0), sync()].concat()).collect()
}

fn failed_transaction(_: &Known) -> Vec<u8> {
    [query("begin"), query("select 1/0"), query("savepoint a"), query("select * from \"Secret\"")].concat()
}

pub(super) const ATTACKS: &[Attack] = &[
    attack(
        "a planted table",
        &[Sql("create temp table \"Secret\" as select 'planted' as name, 'planted' as value"), Again, Victim],
    ),
    attack(
        "a planted view",
        &[Sql("create temp view \"Secret\" as select 'planted' as name, 'planted' as value"), Again, Victim],
    ),
    attack(
        "a planted table by SELECT INTO",
        &[
            Sql("select 'planted' as name, 'planted' as value into temp \"Secret\""),
            Sql("select 'planted' as name, 'planted' as value into pg_temp.\"Segment\""),
            Again,
            Victim,
        ],
    ),
    attack(
        "a planted function",
        &[
            Sql("create function pg_temp.count() returns bigint language sql as 'select 0::bigint'"),
            Sql("set search_path = pg_temp, public, pg_catalog"),
            Again,
            Victim,
        ],
    ),
    attack(
        "a planted operator",
        &[
            Sql("create function pg_temp.same(text, text) returns bool language sql as 'select true'"),
            Sql("create operator pg_temp.= (leftarg = text, rightarg = text, function = pg_temp.same)"),
            Sql("set search_path = pg_temp, pg_catalog, public"),
            Again,
            Victim,
        ],
    ),
    attack(
        "a planted type",
        &[
            Sql("create domain pg_temp.uuid as text check (false)"),
            Sql("create type pg_temp.text as (x int)"),
            Sql("set search_path = pg_temp, pg_catalog, public"),
            Again,
            Victim,
        ],
    ),
    attack(
        "a planted function in public",
        &[
            Sql("create function public.lower(uuid) returns text language sql as 'select 1'"),
            Sql("create schema {role} create table \"Secret\" (name text)"),
            Sql("create table public.\"secret\" (x int)"),
            Again,
            Victim,
        ],
    ),
    attack(
        "a search path",
        &[
            Sql("set search_path = pg_temp, pg_catalog"),
            Again,
            Victim,
            Sql("select set_config('search_path', 'pg_catalog', false)"),
            Again,
            Victim,
        ],
    ),
    attack(
        "a search path given to oneself",
        &[Sql("alter role current_user set search_path = 'pg_catalog'"), Again, Victim],
    )
    .open(Open::WithoutGuard),
    attack(
        "a timeout",
        &[
            Sql("set statement_timeout = 1"),
            Again,
            Victim,
            Sql("set lock_timeout = 1; set idle_in_transaction_session_timeout = 1; set idle_session_timeout = 1"),
            Again,
            Victim,
        ],
    ),
    attack(
        "a timeout given to oneself",
        &[
            Sql("alter role current_user set statement_timeout = 1"),
            Sql("alter role all set statement_timeout = 1"),
            Again,
            Victim,
        ],
    )
    .open(Open::WithoutGuard),
    attack(
        "read only for ever",
        &[
            Sql("set default_transaction_read_only = on"),
            Again,
            Victim,
            Sql("set session characteristics as transaction isolation level serializable read only deferrable"),
            Again,
            Victim,
        ],
    ),
    attack(
        "another meaning of strings",
        &[
            Sql(
                "set standard_conforming_strings = off; set escape_string_warning = off; set backslash_quote = on; set quote_all_identifiers = on",
            ),
            Again,
            Victim,
        ],
    ),
    attack(
        "another meaning of dates and numbers",
        &[
            Sql(
                "set datestyle = 'German, DMY'; set timezone = 'Asia/Tokyo'; set intervalstyle = 'iso_8601'; set bytea_output = 'escape'; set extra_float_digits = -15; set xmloption = document",
            ),
            Again,
            Victim,
        ],
    ),
    attack(
        "another encoding",
        &[
            Sql("set client_encoding = 'EUC_JP'"),
            Again,
            Victim,
            Sql("set names 'SQL_ASCII'"),
            Again,
            Victim,
            Start(&[("client_encoding", "LATIN1")]),
            Victim,
        ],
    ),
    attack(
        "another meaning of null",
        &[
            Sql("set transform_null_equals = on; set array_nulls = off; set default_toast_compression = pglz"),
            Again,
            Victim,
        ],
    ),
    attack(
        "triggers off",
        &[
            Sql("set session_replication_role = replica; set check_function_bodies = off; set row_security = off"),
            Again,
            Victim,
        ],
    ),
    attack(
        "no plans at all",
        &[
            Sql(
                "set enable_seqscan = off; set enable_indexscan = off; set join_collapse_limit = 1; set work_mem = '64kB'; set jit_above_cost = 0; set plan_cache_mode = force_generic_plan",
            ),
            Again,
            Victim,
        ],
    ),
    attack(
        "settings by RESET of what the startup said",
        &[
            Start(&[(
                "options",
                "-c search_path=pg_catalog -c statement_timeout=1 -c default_transaction_read_only=on",
            )]),
            Again,
            Victim,
        ],
    ),
    attack(
        "the plain setting of the context",
        &[
            Sql("set app.workspace_id = '{own}'"),
            Again,
            Victim,
            Sql("select set_config('app.workspace_id', '', false)"),
            Again,
            Victim,
        ],
    ),
    attack(
        "a role",
        &[
            Sql("set role none; set session authorization default"),
            Again,
            Victim,
            Sql("set role {role}"),
            Again,
            Victim,
        ],
    ),
    attack(
        "SQL PREPARE under the victim's names",
        &[
            Sql("prepare theirs as select 'planted'"),
            Sql("prepare \"pgcordon:1\" as delete from \"Secret\""),
            Sql("prepare \"pgcordon:2\" as delete from \"Secret\""),
            Sql("prepare honest as select 'planted'"),
            Again,
            Victim,
        ],
    ),
    attack("protocol statements under the victim's names", &[Bytes(statements), Again, Victim]),
    attack(
        "DEALLOCATE ALL",
        &[
            Victim,
            Sql("deallocate all"),
            Again,
            Victim,
            Sql("discard plans; discard temp; discard sequences"),
            Again,
            Victim,
        ],
    ),
    attack(
        "statements that were replaced inside DO",
        &[
            Victim,
            Sql(
                "do $$ begin execute 'deallocate all'; execute 'prepare honest as select ''planted'''; execute 'prepare \"pgcordon:1\" as delete from \"Secret\"'; end $$",
            ),
            Again,
            Victim,
        ],
    ),
    attack(
        "the victim's statements",
        &[
            Victim,
            Bytes(others_statements),
            Sql("execute honest"),
            Sql("execute theirs"),
            Sql("execute \"pgcordon:1\""),
            Sql("execute \"pgcordon:2\""),
        ],
    ),
    attack(
        "the victim's portals and cursors",
        &[
            Victim,
            Bytes(others_portals),
            Sql("fetch all from c"),
            Sql("fetch all from honest"),
            Sql("move all in c"),
            Sql("close all"),
        ],
    ),
    attack(
        "the victim's temporary tables",
        &[Victim, Sql("select * from pg_temp.theirs"), Sql("select 'hit' from pg_class where relname = 'theirs'")],
    )
    .proof(Hit),
    attack(
        "the victim's numbers",
        &[
            Victim,
            Sql("select lastval()"),
            Sql("select currval('\"Broadcast_number_seq\"')"),
            Sql("select currval(pg_get_serial_sequence('\"JourneyStep\"', 'id'))"),
        ],
    ),
    attack(
        "the victim's settings",
        &[
            Victim,
            Sql("show all"),
            Sql("select * from pg_settings"),
            Sql("select current_setting('app.workspace_id'), current_setting('application_name')"),
        ],
    ),
    attack(
        "what the victim's transaction left",
        &[
            Victim,
            Sql("select 1; rollback; select * from \"Secret\""),
            Sql("commit; select * from \"Secret\""),
            Sql("rollback and chain; select * from \"Secret\""),
        ],
    ),
    attack("a failed transaction", &[Bytes(failed_transaction), Again, Victim]),
    attack(
        "a transaction left open",
        &[
            Sql("begin; update \"Segment\" set name = name || '!'"),
            Again,
            Victim,
            Sql("begin; delete from \"Secret\""),
            Again,
            Victim,
        ],
    ),
    attack(
        "advisory locks",
        &[
            Sql("select pg_advisory_lock(42)"),
            Again,
            Victim,
            Sql("begin; select pg_advisory_xact_lock(42)"),
            Again,
            Victim,
        ],
    ),
    attack(
        "cursors with hold under the victim's names",
        &[
            Sql("declare honest cursor with hold for select 'planted'"),
            Sql("declare c cursor with hold for select 'planted'"),
            Again,
            Victim,
        ],
    ),
    attack("listening", &[Sql("listen gossip; listen \"honest\""), Again, Victim]),
    attack(
        "what was loaded",
        &[
            Sql("load 'plpgsql'"),
            Sql("load '$libdir/plugins/x'"),
            Sql("set local_preload_libraries = 'nope'"),
            Sql("set session_preload_libraries = 'nope'"),
            Again,
            Victim,
        ],
    ),
    attack(
        "random numbers of the victim's",
        &[Sql("select setseed(0.5)"), Again, Victim, Sql("select 'hit' where random() = (select 0.2499104186659835)")],
    )
    .proof(Hit),
    attack(
        "what stays of a rolled back DISCARD",
        &[
            Sql("begin; discard temp; rollback"),
            Victim,
            Sql("begin; reset all; select * from \"Secret\""),
            Sql("rollback"),
            Again,
            Victim,
        ],
    ),
];
