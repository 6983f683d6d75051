//! The machine behind the database: files, programs, other servers, other sessions, extensions.

use super::Step::{Busy, Sql, Victim};
use super::{Attack, attack};

pub(super) const ATTACKS: &[Attack] = &[
    attack(
        "reading files",
        &[
            Sql("select pg_read_file('PG_VERSION')"),
            Sql("select pg_read_binary_file('global/pg_control')"),
            Sql("select pg_stat_file('PG_VERSION')"),
            Sql("select pg_read_file('/etc/passwd')"),
        ],
    ),
    attack(
        "listing files",
        &[
            Sql("select pg_ls_dir('.')"),
            Sql("select * from pg_ls_waldir()"),
            Sql("select * from pg_ls_logdir()"),
            Sql("select * from pg_ls_tmpdir()"),
            Sql("select pg_current_logfile()"),
        ],
    ),
    attack(
        "COPY FROM a file",
        &[Sql("copy \"Segment\" (name) from '/etc/passwd'"), Sql("copy \"Segment\" (name) from program 'id'")],
    ),
    attack(
        "COPY TO a file",
        &[
            Sql("copy (select 1) to '/tmp/hostile'"),
            Sql("copy (select 1) to program 'true'"),
            Sql("copy \"Secret\" to program 'cat >/tmp/hostile'"),
        ],
    ),
    attack(
        "files as large objects",
        &[
            Sql("select lo_import('/etc/passwd')"),
            Sql("select lo_export(1, '/tmp/hostile')"),
            Sql("select lo_import('/etc/passwd', 1)"),
        ],
    ),
    attack(
        "adminpack and its like",
        &[
            Sql("select pg_file_write('x', 'y', false)"),
            Sql("select pg_file_unlink('PG_VERSION')"),
            Sql("create extension adminpack"),
            Sql("create extension file_fdw"),
        ],
    ),
    attack(
        "extensions",
        &[
            Sql("create extension dblink"),
            Sql("create extension postgres_fdw"),
            Sql("create extension plperlu"),
            Sql("create extension pg_stat_statements"),
            Sql("create extension hstore"),
            Sql("create extension citext"),
            Sql("alter extension plpgsql update"),
            Sql("drop extension plpgsql cascade"),
        ],
    ),
    attack(
        "other servers",
        &[
            Sql("select * from dblink('dbname=postgres', 'select 1') as t (x int)"),
            Sql("create server s foreign data wrapper postgres_fdw"),
            Sql("create foreign data wrapper w"),
            Sql("create user mapping for current_user server s"),
            Sql("create subscription s connection 'dbname=app' publication p"),
            Sql("create publication p for all tables"),
        ],
    ),
    attack(
        "languages and libraries",
        &[
            Sql("create function public.f() returns int language c as 'libc', 'system'"),
            Sql("create function public.f() returns int language internal as 'pg_read_file'"),
            Sql("create language plpythonu"),
            Sql("create or replace trusted language plpgsql"),
            Sql("load '/tmp/x.so'"),
        ],
    ),
    attack(
        "event triggers",
        &[
            Sql("create event trigger e on ddl_command_start execute function cordon.forget_dropped()"),
            Sql("alter event trigger cordon_forget_dropped disable"),
            Sql("drop event trigger cordon_forget_dropped"),
        ],
    ),
    attack(
        "settings of the server",
        &[
            Sql("alter system set work_mem = '1GB'"),
            Sql("alter system reset all"),
            Sql("select pg_reload_conf()"),
            Sql("set log_statement = 'none'"),
            Sql("set shared_preload_libraries = 'x'"),
            Sql("set archive_command = 'id'"),
            Sql("set ssl_passphrase_command = 'id'"),
        ],
    ),
    attack(
        "settings of the database",
        &[
            Sql("alter database app set search_path = 'evil'"),
            Sql("alter database app connection limit 0"),
            Sql("alter database app owner to current_user"),
            Sql("alter database app rename to x"),
            Sql("drop database app"),
            Sql("create database x template app"),
        ],
    ),
    attack(
        "ending other sessions",
        &[
            Busy,
            Sql("select pg_terminate_backend({pid})"),
            Sql("select pg_cancel_backend({pid})"),
            Sql("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"),
            Victim,
        ],
    ),
    attack(
        "ending whoever there is",
        &[
            Busy,
            Sql(
                "select pg_terminate_backend(g) from generate_series(pg_backend_pid() - 40, pg_backend_pid() + 40) g where g <> pg_backend_pid()",
            ),
            Sql(
                "select pg_cancel_backend(g) from generate_series(pg_backend_pid() - 40, pg_backend_pid() + 40) g where g <> pg_backend_pid()",
            ),
            Victim,
        ],
    ),
    attack(
        "ending the server's own processes",
        &[
            Sql("select pg_promote(), pg_switch_wal(), pg_rotate_logfile()"),
            Sql("select pg_create_restore_point('x')"),
            Sql("select pg_backup_start('x')"),
            Sql("checkpoint"),
            Sql("select pg_wal_replay_pause()"),
            Sql("select pg_log_standby_snapshot()"),
        ],
    ),
    attack(
        "replication",
        &[
            Sql("select pg_create_physical_replication_slot('x')"),
            Sql("select pg_drop_replication_slot('x')"),
            Sql("select pg_replication_origin_create('x')"),
            Sql("select pg_export_snapshot()"),
        ],
    ),
    attack(
        "two-phase commit",
        &[
            Sql("begin; insert into \"Segment\" (name) values ('prepared')"),
            Sql("prepare transaction 'thief'"),
            Sql("commit prepared 'theirs'"),
            Sql("rollback prepared 'theirs'"),
            Victim,
        ],
    ),
    attack(
        "tablespaces and databases",
        &[
            Sql("create tablespace t location '/tmp'"),
            Sql("alter table \"Secret\" set tablespace pg_default"),
            Sql("set default_tablespace = pg_global"),
            Sql("set temp_tablespaces = pg_global"),
        ],
    ),
    attack(
        "types, casts, operators and collations",
        &[
            Sql("create type public.t as (x int)"),
            Sql("create cast (text as uuid) with inout as implicit"),
            Sql("create operator class public.c default for type text using btree as operator 1 <"),
            Sql("create collation public.c from \"C\""),
            Sql("create aggregate public.count(text) (sfunc = textcat, stype = text)"),
            Sql("create text search configuration public.c (copy = simple)"),
            Sql("create conversion public.c for 'UTF8' to 'LATIN1' from utf8_to_iso8859_1"),
            Sql("create transform for text language sql (from sql with function f(internal))"),
            Sql("create access method m type index handler bthandler"),
        ],
    ),
    attack(
        "the catalog itself",
        &[
            Sql("insert into pg_auth_members values (1, 2, 3, true)"),
            Sql("update pg_class set relrowsecurity = false"),
            Sql("delete from pg_policy"),
            Sql("set allow_system_table_mods = on"),
            Sql("update pg_authid set rolsuper = true"),
            Sql("vacuum full pg_class"),
            Sql("reindex system app"),
            Sql("select pg_nextoid('pg_class', 'oid', 'pg_class_oid_index'), binary_upgrade_set_next_pg_authid_oid(1)"),
        ],
    ),
];
