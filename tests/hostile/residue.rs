//! Leaving something behind for the next tenant, or finding what the last one left.

use pgcordon_tests::wire::{Wire, bind, execute, parse, sync};

use crate::stage::on_one_and_on_many;

#[test]
fn a_planted_table_shadows_nobody_elses() {
    on_one_and_on_many(|stage| {
        for sql in [
            "create temp table \"Secret\" as select 'planted' as name, 'planted' as value",
            "create table \"Secret2\" (x int)",
            "create schema evil",
            "create temp view \"Segment\" as select 1",
            "select * into temp \"Journey\" from \"Journey\"",
            "create function pg_temp.count() returns int language sql as 'select 1'",
            "create type pg_temp.uuid as (x int)",
        ] {
            let answer = stage.attempt(sql);
            assert!(answer.contains("E(42501)"), "{sql}: {answer}");
        }
    });
}

#[test]
fn settings_that_would_change_what_others_mean_stay_behind() {
    on_one_and_on_many(|stage| {
        for sql in [
            "set search_path = pg_temp, pg_catalog",
            "set row_security = off",
            "set datestyle = 'German'",
            "set standard_conforming_strings = off",
            "set statement_timeout = 1",
            "set default_transaction_read_only = on",
            "set transform_null_equals = on",
            "set session_replication_role = replica",
            "set client_encoding = 'LATIN1'",
            "set lc_messages = 'C'",
            "set plpgsql.variable_conflict = 'use_column'",
            "select set_config('search_path', '', false)",
        ] {
            stage.attempt(sql);
            // But for what says that it is bound, and to whom.
            let settings = "select string_agg(name || '=' || setting, ',' order by name) from pg_settings where source = 'session' \
                and name not in ('app.workspace_id', 'app.workspace_seal') \
                and (name <> 'backtrace_functions' or setting <> replace(current_setting('app.workspace_id'), '-', ''))";
            assert_eq!(stage.victim().rows(settings), ["NULL"], "{sql}");
            stage.renew();
        }
    });
}

#[test]
fn what_a_role_gives_itself_reaches_no_new_connection() {
    on_one_and_on_many(|stage| {
        for sql in [
            "alter role current_user set search_path = 'evil, public'",
            "alter role current_user set statement_timeout = 1",
            "alter role current_user set local_preload_libraries = 'nope'",
            "alter role current_user set role = 'pgcordon_system'",
        ] {
            stage.attempt(sql);
            // New server connections are made: the old ones are closed.
            stage
                .dev
                .admin()
                .value("select count(pg_terminate_backend(pid)) from pg_stat_activity where usename = 'pgcordon_app'");
            let mut fresh = (0..50)
                .find_map(|_| {
                    std::thread::sleep(std::time::Duration::from_millis(100));
                    Wire::try_open(stage.dev.globex(), &[]).ok()
                })
                .expect("the victim is let in again");
            assert_eq!(fresh.value("show search_path"), "\"$user\", public", "{sql}");
            assert_eq!(fresh.value("show statement_timeout"), "0", "{sql}");
            assert_eq!(fresh.value("select current_user"), "pgcordon_app", "{sql}");
            stage.renew();
            stage.attempt("alter role current_user reset all");
        }
    });
}

#[test]
fn names_of_prepared_statements_are_nobodys_business() {
    on_one_and_on_many(|stage| {
        stage.victim().send(&[parse("theirs", "select 'canary-of-globex'"), sync()].concat());
        stage.victim().cycles(1);
        for name in ["theirs", "pgcordon:1", "pgcordon:2", "s_1", ""] {
            stage.attacker.send(&[bind("", name, &[]), execute("", 0), sync()].concat());
            assert!(stage.attacker.cycles(1).starts_with("E(26000)"), "{name:?}");
            stage.attempt(&format!("execute \"{name}\""));
        }
        // One of the attacker's, under a name the pool might use, runs for nobody else.
        for number in 0..20 {
            stage.attempt(&format!("prepare \"pgcordon:{number}\" as delete from \"Secret\""));
        }
        stage.renew();
        stage.victim().send(&[bind("", "theirs", &[]), execute("", 0), sync()].concat());
        assert_eq!(stage.victim().cycles(1), "2 D(canary-of-globex) C(SELECT 1) Z(I)");
    });
}

#[test]
fn cursors_locks_and_listening_end_with_their_session() {
    on_one_and_on_many(|stage| {
        stage.attempt("listen gossip");
        stage.attempt("declare held cursor with hold for select * from \"Secret\"");
        stage.attempt("select pg_advisory_lock(1)");
        stage.renew();
        assert_eq!(stage.victim().query("fetch all from held"), "E(34000) Z(I)");
        stage.victim().query("notify gossip, 'canary-of-globex'");
        // Another server connection may be quicker than the clearing of the attacker's.
        let lock = stage.victim().query("set local lock_timeout = '10s'; select pg_advisory_xact_lock(1)");
        assert!(lock.ends_with("C(SELECT 1) Z(I)"), "{lock}");
        assert_eq!(stage.attempt("select 1"), "T D(1) C(SELECT 1) Z(I)");
    });
}

#[test]
fn the_sequence_of_random_numbers_tells_nothing_of_the_victims() {
    on_one_and_on_many(|stage| {
        stage.attempt("select setseed(0.5)");
        let own = stage.attacker.value("select random()");
        let theirs = stage.victim().value("select random()");
        let next = stage.attacker.value("select random()");
        assert!(own != theirs && theirs != next);
        let lastval = stage.attempt("select lastval()");
        assert!(lastval.contains("E("), "{lastval}");
    });
}

#[test]
fn a_transaction_left_open_is_nobodys_transaction() {
    on_one_and_on_many(|stage| {
        for sql in [
            "begin; update \"Segment\" set name = name || 'x'",
            "begin; select 1/0",
            "begin; lock table \"Segment\" in access share mode",
            "begin; savepoint a",
        ] {
            stage.attempt(sql);
            stage.attacker.hang_up();
            stage.renew();
            assert_eq!(stage.victim().value("select count(*) from \"Segment\" where name like '%x%x'"), "0");
        }
    });
}
