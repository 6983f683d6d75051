//! Forging the context.

use pgcordon_tests::wire::{Wire, bind, execute, extended, function_call, parse, query, sync};

use crate::stage::on_one_and_on_many;

const ALL: &str = "select * from \"Secret\"";

/// Every way to set a setting from SQL.
fn settings(name: &str, value: &str) -> Vec<String> {
    vec![
        format!("set {name} = '{value}'"),
        format!("set session {name} = '{value}'"),
        format!("set local {name} = '{value}'"),
        format!("select set_config('{name}', '{value}', false)"),
        format!("select set_config('{name}', '{value}', true)"),
        format!(
            "with x as materialized (select set_config('{name}', '{value}', false)) select s.* from x, \"Secret\" s"
        ),
        format!("select set_config('{name}', '{value}', false), s.* from \"Secret\" s"),
        format!("update pg_settings set setting = '{value}' where name = '{name}'"),
        format!("alter role current_user set {name} = '{value}'"),
        format!("alter database app set {name} = '{value}'"),
        format!("prepare forge as select set_config('{name}', '{value}', false); execute forge; deallocate forge"),
        format!("select query_to_xml('select set_config(''{name}'', ''{value}'', false)', true, true, '')"),
        format!("do $$ begin perform set_config('{name}', '{value}', false); end $$"),
    ]
}

#[test]
fn the_workspace_setting_alone_opens_nothing() {
    on_one_and_on_many(|stage| {
        let theirs = stage.dev.text("/workspaces/1/id").to_owned();
        for sql in settings("app.workspace_id", &theirs) {
            stage.attempt(&format!("{sql}; {ALL}"));
            stage.attempt("begin");
            stage.attempt(&sql);
            stage.attempt(ALL);
            stage.attempt("commit");
            stage.attempt(ALL);
            stage.attempt(&format!(
                "insert into \"Secret\" (\"workspaceId\", name, value) values ('{theirs}', 'planted', 'x')"
            ));
            stage.attempt("discard all");
        }
    });
}

#[test]
fn no_seal_that_a_tenant_can_make_or_has_seen_fits_another_workspace() {
    on_one_and_on_many(|stage| {
        let theirs = stage.dev.text("/workspaces/1/id").to_owned();
        let own = stage.attacker.value("select current_setting('app.workspace_seal', true)");
        let seals = [
            own.clone(),
            String::new(),
            ".".into(),
            "9999999999.".into(),
            own.to_uppercase(),
            own.replace('.', ".."),
            format!("9{own}"),
            "9".repeat(5000),
            "é.é".into(),
        ];
        for seal in seals {
            for (workspace, seal) in
                [(theirs.as_str(), seal.as_str()), (&theirs.to_uppercase(), &seal), (&format!("{theirs}|1"), &seal)]
            {
                stage.attempt(&format!("select set_config('app.workspace_id', '{workspace}', false), set_config('app.workspace_seal', '{seal}', false)"));
                stage.attempt(ALL);
                stage.attempt("delete from \"Secret\" where name like 'canary%'");
            }
        }
    });
}

#[test]
fn a_seal_of_ones_own_is_no_good_on_another_server_process() {
    on_one_and_on_many(|stage| {
        // Whatever process the seal was read on, the binding of each session is its own.
        let seal = stage.attacker.value("select current_setting('app.workspace_seal', true)");
        let own = stage.dev.text("/workspaces/0/id").to_owned();
        stage.victim().query(&format!(
            "select set_config('app.workspace_id', '{own}', false), set_config('app.workspace_seal', '{seal}', false)"
        ));
        stage.victim().query("discard all");
        assert_eq!(stage.attempt("select count(distinct \"workspaceId\") from \"Segment\""), "T D(1) C(SELECT 1) Z(I)");
    });
}

#[test]
fn startup_options_choose_no_workspace_and_no_role() {
    on_one_and_on_many(|stage| {
        let theirs = stage.dev.text("/workspaces/1/id").to_owned();
        let workspace = format!("-c app.workspace_id={theirs}");
        for (name, value) in [
            ("options", workspace.as_str()),
            ("app.workspace_id", &theirs),
            ("APP.WORKSPACE_ID", &theirs),
            ("options", "-c role=pgcordon_system"),
            ("options", "-c role=postgres"),
            ("options", "-c session_authorization=postgres"),
            ("options", "-c row_security=off"),
            ("options", "-c search_path=pg_temp"),
            ("session_authorization", "pgcordon_system"),
        ] {
            if let Ok(mut wire) = Wire::try_open(stage.dev.acme(), &[(name, value)]) {
                let rows = wire.query(ALL);
                assert!(!rows.contains("canary"), "{name} {value}: {rows}");
            }
        }
    });
}

#[test]
fn a_bind_is_not_undone_by_whatever_ends_a_transaction() {
    on_one_and_on_many(|stage| {
        for sql in [
            "select 1; rollback; ",
            "begin; rollback; ",
            "abort; ",
            "commit; ",
            "select 1; commit; ",
            "begin; commit and chain; rollback; ",
        ] {
            stage.victim().query("select 1");
            stage.attempt(&format!("{sql}{ALL}"));
            stage.victim().query("select 1");
            stage.attacker.send(
                &[parse("", "select 1/0"), bind("", "", &[]), execute("", 0), sync(), extended(ALL, &[]), query(ALL)]
                    .concat(),
            );
            stage.attacker.cycles(3);
            stage.attacker.send(&[extended("rollback", &[]), extended(ALL, &[])].concat());
            stage.attacker.cycles(2);
        }
    });
}

#[test]
fn a_function_call_forges_nothing() {
    on_one_and_on_many(|stage| {
        let theirs = stage.dev.text("/workspaces/1/id").to_owned();
        stage.attacker.send(&[function_call(2078, &["app.workspace_id", &theirs, "f"]), query(ALL)].concat());
        stage.attacker.cycles(2);
        stage.attacker.send(&[function_call(2078, &["role", "pgcordon_system", "f"]), query(ALL)].concat());
        stage.attacker.cycles(2);
    });
}

#[test]
fn resets_leave_no_workspace_rather_than_anothers() {
    on_one_and_on_many(|stage| {
        for sql in [
            "discard all",
            "reset all",
            "reset app.workspace_id",
            "reset app.workspace_seal",
            "set app.workspace_id to default",
            "begin; reset all; rollback",
            "begin; reset all; commit",
            "set session authorization default",
            "reset role",
        ] {
            stage.victim().query("select 1");
            stage.attempt(sql);
            stage.attempt(ALL);
            stage.attempt(&format!("{sql}; {ALL}"));
            stage.attacker.send(&[extended(sql, &[]), extended(ALL, &[])].concat());
            stage.attacker.cycles(2);
            stage.renew();
        }
    });
}
