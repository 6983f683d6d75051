//! Postgres' own tools, used as people use them.

use std::io::Write as _;
use std::process::{Command, Stdio};

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::Wire;

fn psql(url: &str, script: &str) -> String {
    let mut psql = Command::new("psql")
        .args(["-XAt", url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("psql is installed");
    psql.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = psql.wait_with_output().unwrap();
    [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat()
}

#[test]
fn psql_shows_the_schema_and_runs_scripts() {
    let dev = Dev::start(&["--pool-size", "2"]);
    let tables = psql(dev.acme(), "\\dt");
    assert!(tables.contains("|Segment|table|"), "{tables}");
    let described = psql(dev.acme(), "\\d \"Segment\"");
    assert!(described.contains("workspaceId|uuid"), "{described}");
    let script = "\\set ON_ERROR_STOP on\nbegin;\ninsert into \"Segment\" (name) values ('one'), ('two');\n\
                  \\copy (select name from \"Segment\" where name in ('one', 'two') order by 1) to stdout\n\
                  select count(*) from \"Segment\" \\gset\nrollback;\nselect 'had ' || (:count > 2);\n";
    let said = psql(dev.acme(), script);
    assert_eq!(said, "BEGIN\nINSERT 0 2\none\ntwo\nROLLBACK\nhad true\n");
    let error = psql(dev.acme(), "select nothing;\n");
    assert!(
        error.contains("ERROR:  column \"nothing\" does not exist\nLINE 1: select nothing;\n               ^"),
        "{error}"
    );
}

#[test]
fn pgbench_runs_for_two_tenants_at_once_on_one_server_connection_in_every_mode() {
    let dev = Dev::start(&["--pool-size", "1"]);
    let directory = tempfile::tempdir().unwrap();
    let script = directory.path().join("script.sql");
    // Each transaction checks what it reads: a row of another tenant would divide by zero.
    let text = "\\set number random(1, 1000)\nbegin;\n\
                select 1 / (count(*) - (select count(*) from \"Segment\" where \"workspaceId\" = current_setting('app.workspace_id')::uuid) + 1) \
                from \"Segment\" where :number > 0;\ncommit;\n";
    std::fs::write(&script, text).unwrap();
    let pgbench = |url: &str, mode: &str| {
        Command::new("pgbench")
            // A thread for each client: pgbench waits for each statement it prepares, also for the transaction of another
            // client of the same thread.
            .args(["-n", "-c", "4", "-j", "4", "-t", "50", "-M", mode, "-f"])
            .arg(&script)
            .arg(url)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("pgbench is installed")
    };
    for mode in ["simple", "extended", "prepared"] {
        for running in [pgbench(dev.acme(), mode), pgbench(dev.globex(), mode)] {
            let output = running.wait_with_output().unwrap();
            let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap()).concat();
            assert!(output.status.success() && said.contains("200/200"), "{mode}: {said}");
        }
    }
    assert_eq!(Wire::open(dev.globex()).value("select 1"), "1");
}
