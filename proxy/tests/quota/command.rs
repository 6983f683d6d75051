//! `pgcordon quota` as a program.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::scratch::text;
use crate::stage::{Stage, acme, books};

fn quota(stage: &Stage, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgcordon"));
    command.arg("quota").args(arguments).env_clear();
    command.env("PGCORDON_UPSTREAM__HOST", stage.database.sockets());
    command.env("PGCORDON_UPSTREAM__DATABASES", format!("[\"{}\"]", stage.database.name()));
    command.output().unwrap()
}

fn said(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[tokio::test]
async fn usage_is_counted_and_shown_to_people_and_scripts() {
    let stage = Stage::new().await;
    stage.insert("note", acme(), 3).await;
    let (code, out, error) = said(&quota(&stage, &["show", "acme"]));
    assert_eq!((code, error.as_str()), (Some(0), ""));
    assert!(out.starts_with("acme  segments  3 of 5\nacme  messages  0 of 10, anew at 2"), "{out}");
    let (_, out, _) = said(&quota(&stage, &["show", &acme().to_string(), "--json"]));
    let shown: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        shown["quotas"][0],
        json!({"resourceType": "segments", "limit": 5, "currentUsage": 3, "remaining": 2, "percentUsed": 60.0,
               "resetsAt": null})
    );
}

#[tokio::test]
async fn a_limit_is_set_lifted_and_given_back_to_the_default() {
    let stage = Stage::new().await;
    for (limit, shown) in [("7", "0 of 7"), ("none", "0 no limit"), ("default", "0 of 5"), ("0", "0 of 0")] {
        let (code, out, error) = said(&quota(&stage, &["set", "acme", "segments", limit]));
        assert_eq!((code, out, error), (Some(0), format!("acme  segments  {shown}\n"), String::new()));
    }
    let globex = text(&stage.admin, "select count(*) from cordon.quota where workspace_id::text like '%b'").await;
    assert_eq!(globex, "0");
}

#[tokio::test]
async fn what_isnt_there_or_no_number_is_told_with_the_right_exit_code() {
    let stage = Stage::new().await;
    let (code, _, error) = said(&quota(&stage, &["set", "acme", "seats", "5"]));
    assert_eq!(code, Some(1));
    assert!(error.contains("no resource \"seats\"") && error.contains("segments"), "{error}");
    assert_eq!(said(&quota(&stage, &["show", "nobody"])).0, Some(1));
    for odd in ["-1", "1.5", "many", "9223372036854775808"] {
        let (code, _, error) = said(&quota(&stage, &["set", "acme", "segments", "--", odd]));
        assert_eq!(code, Some(2), "{error}");
    }
    stage.admin.batch_execute("alter table memo rename to elsewhere").await.unwrap();
    let (code, _, error) = said(&quota(&stage, &["show", "acme"]));
    assert_eq!(code, Some(3));
    assert!(error.contains("segments can't be counted") && error.contains("memo"), "{error}");
}

#[tokio::test]
async fn a_recount_reaches_the_proxies_that_run() {
    let stage = Stage::new().await;
    let mut control = pgcordon::control::Control::start(stage.control_target()).await.unwrap();
    let mut recounts = control.recounts.take().unwrap();
    let accounts = books(&stage, 1);
    accounts.recount(acme(), stage.id("segments")).await.unwrap();
    stage.insert("note", acme(), 2).await;
    let (code, out, _) = said(&quota(&stage, &["recount", "acme", "segments"]));
    assert_eq!((code, out.as_str()), (Some(0), "acme  segments  2 of 5\n"));
    let asked = recounts.recv().await.unwrap();
    assert_eq!((asked.workspace, asked.resource), (acme(), Some(stage.id("segments"))));
}
