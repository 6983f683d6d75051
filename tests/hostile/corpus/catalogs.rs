//! What the catalogs, the statistics and the views of the server say about others.

use super::Proof::{Hit, Row};
use super::Step::{Bytes, Counted, Sql, Victim};
use super::{Attack, Open, attack};
use crate::range::Known;
use pgcordon_tests::wire::function_call;

/// Readers of the statistics, called by number: no name of theirs is looked up.
fn readers_by_number(known: &Known) -> Vec<u8> {
    // pg_stat_get_activity, pg_stat_get_backend_activity, pg_prepared_statement, pg_cursor, pg_lock_status.
    let pid = known.pid.to_string();
    let calls = [(2022, vec![pid.as_str()]), (1940, vec!["1"]), (2510, vec![]), (2511, vec![]), (1371, vec![])];
    calls.iter().flat_map(|(oid, arguments)| function_call(*oid, arguments)).collect()
}

pub(super) const ATTACKS: &[Attack] = &[
    attack(
        "pg_stat_activity",
        &[
            Victim,
            Sql("select * from pg_stat_activity"),
            Sql("select query from pg_stat_activity where usename = '{role}'"),
        ],
    ),
    attack(
        "its functions",
        &[
            Victim,
            Sql("select * from pg_stat_get_activity(null)"),
            Sql("select pg_stat_get_backend_activity(s) from pg_stat_get_backend_idset() s"),
            Sql("select * from pg_stat_get_backend_idset()"),
        ],
    ),
    attack("its functions by number", &[Victim, Bytes(readers_by_number)]),
    attack(
        "the pid of others",
        &[Victim, Sql("select 'hit' from pg_stat_activity where usename = '{role}' and pid <> pg_backend_pid()")],
    )
    .proof(Hit),
    attack(
        "pg_stat_replication and its like",
        &[
            Sql("select * from pg_stat_replication"),
            Sql("select * from pg_stat_ssl"),
            Sql("select * from pg_stat_gssapi"),
            Sql("select * from pg_stat_progress_vacuum"),
            Sql("select * from pg_stat_progress_create_index"),
        ],
    ),
    attack(
        "statements of others",
        &[
            Victim,
            Sql("select * from pg_prepared_statements"),
            Sql("select * from pg_prepared_statement()"),
            Sql("select * from pg_cursors"),
            Sql("select * from pg_cursor()"),
        ],
    ),
    attack(
        "pg_stat_statements",
        &[
            Sql("select * from pg_stat_statements"),
            Sql("select * from pg_stat_statements(true)"),
            Sql("select pg_stat_statements_reset()"),
        ],
    ),
    attack(
        "locks of others",
        &[
            Sql("select 'hit' from pg_locks where pid <> pg_backend_pid()"),
            Sql("select 'hit' from pg_lock_status() l where pid <> pg_backend_pid()"),
            Sql("select pg_blocking_pids({pid}), pg_safe_snapshot_blocking_pids({pid})"),
        ],
    )
    .proof(Hit),
    attack(
        "transactions of others",
        &[
            Sql("select * from pg_prepared_xacts"),
            Sql("select * from pg_prepared_xact()"),
            Sql("select * from pg_stat_get_xact_tuples_inserted('\"Secret\"'::regclass)"),
        ],
    ),
    attack(
        "statistics of values",
        &[
            Sql("select * from pg_stats where tablename = 'Secret'"),
            Sql("select most_common_vals, histogram_bounds from pg_stats"),
            Sql("select * from pg_statistic"),
        ],
    ),
    attack(
        "statistics of several columns",
        &[
            Sql("select * from pg_stats_ext"),
            Sql("select most_common_vals from pg_stats_ext where tablename = 'Secret'"),
        ],
    ),
    attack(
        "statistics of expressions",
        &[
            Sql("select * from pg_stats_ext_exprs"),
            Sql("select * from pg_statistic_ext_data"),
            Sql("select stxdmcv from pg_statistic_ext_data"),
            Sql("select pg_mcv_list_items(stxdmcv) from pg_statistic_ext_data"),
        ],
    ),
    attack(
        "statistics that are written",
        &[
            Sql("select pg_clear_relation_stats('public', 'Secret')"),
            Sql("select pg_restore_relation_stats('relation', 'Secret', 'reltuples', 1::real)"),
            Sql("select pg_stat_reset(), pg_stat_reset_shared('bgwriter')"),
        ],
    ),
    attack(
        "counts of what others did",
        &[
            Sql("select 'hit' from pg_stat_user_tables where n_tup_ins > 0"),
            Sql("select 'hit' from pg_stat_all_tables where relname = 'Secret' and n_live_tup > 0"),
            Sql("select 'hit' where pg_stat_get_live_tuples('\"Secret\"'::regclass) > 0"),
            Sql("select 'hit' from pg_statio_user_tables where heap_blks_hit > 0"),
            Sql("select 'hit' from pg_stat_user_indexes where idx_scan > 0"),
            Sql("select 'hit' from pg_stat_database where datname = current_database() and xact_commit > 0"),
        ],
    )
    .proof(Hit),
    attack(
        "the size of a table",
        &[
            Sql("select 'hit' where pg_relation_size('\"Secret\"') > 0"),
            Sql("select 'hit' where pg_total_relation_size('\"Secret\"') > 0"),
        ],
    )
    .proof(Hit)
    .open(Open::Always),
    attack(
        "how many rows the planner believes in",
        &[Sql(
            "select 'hit' from pg_class where relname = 'Segment' and reltuples > (select count(*) from \"Segment\")",
        )],
    )
    .proof(Hit)
    .open(Open::Always),
    attack(
        "the size of the database",
        &[
            Sql("select 'hit' where pg_database_size(current_database()) > 0"),
            Sql("select 'hit' where pg_tablespace_size('pg_default') > 0"),
        ],
    )
    .proof(Hit),
    attack(
        "EXPLAIN of the victim's rows",
        &[
            Sql("explain select * from \"Secret\" where value like 'canary%'"),
            Sql("explain (analyze, verbose, buffers) select * from \"Secret\""),
            Sql("explain (format json, settings, verbose) select * from \"Secret\" where \"workspaceId\" = '{theirs}'"),
        ],
    ),
    // There are as many, and the attacker has 24.
    attack(
        "how many rows the victim has, by EXPLAIN",
        &[Counted, Sql("explain select 1 from \"Segment\" where \"workspaceId\" = '{theirs}'")],
    )
    .proof(Row("rows=16 "))
    .open(Open::WithoutGuard),
    attack(
        "the same where no EXPLAIN shows",
        &[
            Sql(
                "do $$ declare j json; begin execute 'explain (format json) select 1 from \"Segment\"' into j; raise notice '%', j; end $$",
            ),
            Sql("select query_to_xml('explain select 1 from \"Segment\"', true, true, '')"),
        ],
    ),
    attack(
        "plans in the log that a client sees",
        &[
            Sql(
                "set client_min_messages = debug5; set debug_print_plan = on; set debug_print_rewritten = on; set debug_pretty_print = off",
            ),
            Sql(
                "set log_min_duration_statement = 0; set log_statement = 'all'; set log_parameter_max_length_on_error = -1",
            ),
            Sql("select * from \"Secret\" where value like 'canary%'"),
        ],
    ),
    attack(
        "memory of others",
        &[
            Sql("select * from pg_backend_memory_contexts"),
            Sql("select pg_log_backend_memory_contexts({pid})"),
            Sql("select * from pg_get_backend_memory_contexts()"),
            Sql("select * from pg_shmem_allocations"),
            Sql("select pg_get_process_memory_contexts({pid}, false, 1.0)"),
        ],
    ),
    attack(
        "channels of others",
        &[Victim, Sql("select * from pg_listening_channels()"), Sql("select pg_notification_queue_usage()")],
    ),
    attack(
        "large objects of others",
        &[
            Sql("select * from pg_largeobject"),
            Sql("select convert_from(lo_get(oid), 'UTF8') from pg_largeobject_metadata"),
            Sql("begin; select loread(lo_open(oid, 262144), 1000) from pg_largeobject_metadata; rollback"),
        ],
    ),
    attack(
        "large objects that are written",
        &[
            Sql("select lo_put(oid, 0, 'stolen') from pg_largeobject_metadata"),
            Sql("select lo_unlink(oid) from pg_largeobject_metadata"),
            Sql("select lo_create(4711), lo_from_bytea(4712, 'x')"),
        ],
    ),
    attack(
        "publications and slots",
        &[
            Sql("select * from pg_publication_tables"),
            Sql("select * from pg_replication_slots"),
            Sql("select subconninfo from pg_subscription"),
            Sql("select * from pg_logical_slot_peek_changes('x', null, null)"),
            Sql("select * from pg_create_logical_replication_slot('x', 'test_decoding')"),
            Sql("select pg_logical_emit_message(false, 'x', 'y')"),
        ],
    ),
    attack(
        "passwords",
        &[
            Sql("select * from pg_authid"),
            Sql("select * from pg_shadow"),
            Sql("select passwd from pg_user"),
            Sql("select rolpassword from pg_roles"),
            Sql("select umoptions from pg_user_mapping"),
            Sql("select * from pg_hba_file_rules"),
            Sql("select * from pg_file_settings"),
            Sql("select * from pg_ident_file_mappings"),
        ],
    ),
    attack(
        "transaction ids and the log",
        &[
            Sql("select pg_current_snapshot(), pg_current_xact_id_if_assigned()"),
            Sql("select * from pg_last_committed_xact()"),
            Sql("select pg_xact_commit_timestamp(xmin) from \"Secret\""),
            Sql("select * from pg_get_multixact_members('1')"),
            Sql("select * from pg_walfile_name(pg_current_wal_lsn())"),
            Sql("select * from pg_get_wal_records_info('0/1', 'FFFFFFFF/0')"),
        ],
    ),
    attack(
        "how much is written altogether",
        &[
            Sql("select set_config('x.lsn', pg_current_wal_insert_lsn()::text, false)"),
            Victim,
            Sql("select 'hit' where pg_current_wal_insert_lsn() > current_setting('x.lsn')::pg_lsn"),
        ],
    )
    .proof(Hit)
    .open(Open::Always),
    attack(
        "pages of the table",
        &[
            Sql("select * from heap_page_items(get_raw_page('Secret', 0))"),
            Sql("select * from bt_page_items('Secret_pkey', 1)"),
            Sql("select * from pgstattuple('\"Secret\"')"),
            Sql("select pg_read_binary_file(pg_relation_filepath('\"Secret\"'))"),
            Sql("create extension pageinspect"),
            Sql("create extension pgstattuple"),
        ],
    ),
    attack(
        "comments and names",
        &[
            Sql("select * from pg_description"),
            Sql("select * from pg_shdescription"),
            Sql("select * from pg_db_role_setting"),
            Sql("select * from pg_roles"),
            Sql("select * from pg_database"),
            Sql("select * from information_schema.tables"),
            Sql("select * from information_schema.enabled_roles"),
            Sql("select * from pg_policies"),
        ],
    ),
    attack(
        "defaults and bodies",
        &[
            Sql("select pg_get_expr(adbin, adrelid) from pg_attrdef"),
            Sql("select prosrc from pg_proc where pronamespace::regnamespace::text in ('cordon', 'public')"),
            Sql("select pg_get_viewdef(oid) from pg_class where relkind = 'v'"),
            Sql(
                "select pg_get_functiondef(p.oid) from pg_proc p where prokind = 'f' and pronamespace = 'cordon'::regnamespace",
            ),
        ],
    ),
];
