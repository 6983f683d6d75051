//! The routes, over a proxy that runs.

use std::time::Duration;

use pgcordon::app::{self, Running};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::scratch::{A, text};
use crate::stage::{Stage, acme};

const TOKEN: &str = "open sesame";

/// A proxy and its database.
struct Proxy {
    stage: Stage,
    running: Option<Running>,
}

impl Proxy {
    async fn start() -> Self {
        let stage = Stage::new().await;
        let mut settings = stage.settings();
        settings.server.listen = "127.0.0.1:0".to_owned();
        settings.server.cores = 1;
        settings.http.listen = "127.0.0.1:0".to_owned();
        settings.http.token = TOKEN.to_owned().into();
        settings.quota.wait_timeout_ms = 10;
        let running = tokio::task::spawn_blocking(move || app::start(settings)).await.unwrap().unwrap();
        Self { stage, running: Some(running) }
    }

    async fn raw(&self, method: &str, path: &str, token: &str, body: &[u8]) -> (u16, Value) {
        let address = self.running.as_ref().unwrap().http_address().unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        // A body that was too long to be read ends in a reset.
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, serde_json::from_str(body).unwrap_or(Value::String(body.to_owned())))
    }

    async fn call(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        self.raw(method, path, TOKEN, &body).await
    }

    async fn stop(mut self) -> Stage {
        let running = self.running.take().unwrap();
        tokio::task::spawn_blocking(move || running.stop(Duration::ZERO, || false)).await.unwrap();
        self.stage
    }
}

fn quota() -> String {
    format!("/api/workspaces/{A}/quota")
}

fn segments(answer: &Value) -> Value {
    let all = answer["quotas"].as_array().unwrap_or_else(|| panic!("{answer}"));
    all.iter().find(|quota| quota["resourceType"] == "segments").cloned().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_proxy_is_ready_while_postgres_can_be_reached() {
    let proxy = Proxy::start().await;
    let until = async |status: u16, word: &str| {
        let told = async {
            while proxy.call("GET", "/health/ready", Value::Null).await != (status, json!(word)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), told).await.expect(word);
    };
    until(200, "ready\n").await;
    let (admin, name) = (&proxy.stage.admin, proxy.stage.database.name());
    admin.batch_execute(&format!("revoke connect on database {name} from public")).await.unwrap();
    let gone = "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database() and usename <> 'postgres'";
    admin.batch_execute(gone).await.unwrap();
    until(503, "upstream unreachable\n").await;
    assert_eq!(proxy.call("GET", "/health/live", Value::Null).await.0, 200);
    admin.batch_execute(&format!("grant connect on database {name} to public")).await.unwrap();
    until(200, "ready\n").await;
    proxy.stop().await;
}

#[tokio::test]
async fn usage_is_shown_limits_are_set_and_what_would_fit_is_told() {
    let proxy = Proxy::start().await;
    proxy.stage.insert("note", acme(), 3).await;
    let (status, answer) = proxy.call("GET", &quota(), Value::Null).await;
    let expected = json!({"resourceType": "segments", "limit": 5, "currentUsage": 3, "remaining": 2,
                          "percentUsed": 60.0, "resetsAt": null});
    assert_eq!((status, segments(&answer)), (200, expected));

    let validate = format!("{}/validate", quota());
    let fits = proxy.call("POST", &validate, json!({"resourceType": "segments", "increment": 2})).await;
    assert_eq!(fits, (200, json!({"allowed": true, "currentUsage": 3, "limit": 5, "remaining": 2})));
    let (status, refused) = proxy.call("POST", &validate, json!({"resourceType": "segments", "increment": 3})).await;
    assert_eq!((status, &refused["error"]), (429, &json!("QUOTA_EXCEEDED")));
    assert_eq!(
        refused["details"],
        json!({"kind": "quota", "resourceType": "segments", "currentUsage": 3, "limit": 5, "requested": 3,
               "remaining": 2, "resetsAt": null})
    );

    // Who changes a limit finds it in force.
    let higher = json!({"quotas": [{"resourceType": "segments", "limit": 6}]});
    let (status, answer) = proxy.call("PUT", &quota(), higher).await;
    assert_eq!((status, &segments(&answer)["limit"]), (200, &json!(6)));
    let fits = proxy.call("POST", &validate, json!({"resourceType": "segments", "increment": 3})).await;
    assert_eq!(fits.0, 200);
    let lower =
        json!({"quotas": [{"resourceType": "segments", "limit": 1}, {"resourceType": "messages", "limit": null}]});
    let (_, answer) = proxy.call("PUT", &quota(), lower).await;
    assert_eq!(
        segments(&answer),
        json!({"resourceType": "segments", "limit": 1, "currentUsage": 3, "remaining": 0, "percentUsed": 300.0,
               "resetsAt": null})
    );
    assert_eq!(answer["quotas"][1]["limit"], Value::Null);

    let (status, metrics) = proxy.call("GET", "/metrics", Value::Null).await;
    let metrics = metrics.as_str().unwrap();
    assert_eq!(status, 200);
    assert!(metrics.contains("pgcordon_quota_refusals_total{resource=\"segments\"} 1"), "{metrics}");
    proxy.stop().await;
}

#[tokio::test]
async fn bad_input_is_the_callers_fault_and_changes_nothing() {
    let proxy = Proxy::start().await;
    let (path, validate) = (quota(), format!("{}/validate", quota()));
    assert_eq!(proxy.raw("GET", &path, "guessed", b"").await.0, 401);
    assert_eq!(proxy.raw("PUT", &path, "", b"{}").await.0, 401);
    for unknown in [
        "/api/workspaces/00000000-0000-0000-0000-0000000000ff/quota",
        "/api/workspaces/acme/quota",
        "/api/workspaces/%00/quota",
        "/api/workspaces/'/quota",
    ] {
        assert_eq!(proxy.call("GET", unknown, Value::Null).await.0, 404, "{unknown}");
    }
    let one = |limit: Value| json!({"quotas": [{"resourceType": "segments", "limit": limit}]});
    let too_large = json!(u64::MAX);
    for body in [
        json!([]),
        json!({}),
        json!({"quotas": 5}),
        json!({"quotas": [5]}),
        json!({"quotas": [{"limit": 5}]}),
        json!({"quotas": [{"resourceType": "segments"}]}),
        json!({"quotas": [{"resourceType": "nothing", "limit": 5}]}),
        json!({"quotas": [{"resourceType": "segments", "limit": 7}, {"resourceType": "segments", "limit": 8}]}),
        json!({"quotas": [{"resourceType": "segments", "limit": 7}, {"resourceType": "messages", "limit": -1}]}),
        one(json!(-1)),
        one(json!(1.5)),
        one(json!("5")),
        one(json!(true)),
        one(too_large),
    ] {
        let (status, answer) = proxy.call("PUT", &path, body.clone()).await;
        assert_eq!((status, &answer["error"]), (400, &json!("BAD_REQUEST")), "{body}");
    }
    for body in [
        json!({}),
        json!({"resourceType": "segments"}),
        json!({"resourceType": 5, "increment": 1}),
        json!({"resourceType": "segments", "increment": -1}),
        json!({"resourceType": "segments", "increment": 0.5}),
        json!({"resourceType": "nothing", "increment": 1}),
    ] {
        assert_eq!(proxy.call("POST", &validate, body.clone()).await.0, 400, "{body}");
    }
    for garbage in [&b"{"[..], b"\xff\xfe", b"", b"[[[[[[", b"null"] {
        assert_eq!(proxy.raw("PUT", &path, TOKEN, garbage).await.0, 400);
    }
    let deep = "[".repeat(60_000);
    assert_eq!(proxy.raw("PUT", &path, TOKEN, deep.as_bytes()).await.0, 400);
    assert_eq!(proxy.raw("PUT", &path, TOKEN, &vec![b' '; 70_000]).await.0, 413);
    assert_eq!(proxy.call("DELETE", &path, Value::Null).await.0, 405);
    let (status, answer) =
        proxy.call("POST", &validate, json!({"resourceType": "segments", "increment": u64::MAX})).await;
    assert_eq!((status, &answer["error"]), (429, &json!("QUOTA_EXCEEDED")));
    let stage = proxy.stop().await;
    assert_eq!(text(&stage.admin, "select count(*) from cordon.quota").await, "0");
}

#[tokio::test]
async fn usage_that_cant_be_counted_is_no_error_of_ours() {
    let proxy = Proxy::start().await;
    proxy.stage.admin.batch_execute("alter table memo rename to elsewhere").await.unwrap();
    let (status, answer) = proxy.call("GET", &quota(), Value::Null).await;
    assert_eq!((status, &answer["error"]), (503, &json!("UNAVAILABLE")));
    proxy.stop().await;
}
