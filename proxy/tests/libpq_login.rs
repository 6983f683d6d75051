//! Our side of authentication against libpq: psql logs in to a server that is nothing but the acceptor and the exchange.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::process::Stdio;
use std::sync::Arc;

use pgcordon::auth::{ApiKeySecret, Directory, Exchange, KeyRecord, Method, MockSecret, Step};
use pgcordon::domain::KeyKind;
use pgcordon::tls::Acceptor;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

struct OneKey(Arc<KeyRecord>);

impl Directory for OneKey {
    fn key(&self, key_id: &str) -> Option<Arc<KeyRecord>> {
        (key_id == self.0.key_id.as_str()).then(|| Arc::clone(&self.0))
    }
}

trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// Lets psql log in once; whether it got in, and by which mechanism.
async fn log_in(key: &ApiKeySecret, secret: &str, method: Method, options: &str) -> (bool, String) {
    let directory = OneKey(Arc::new(KeyRecord {
        key_id: key.key_id.clone(),
        kind: KeyKind::Workspace,
        workspace: None,
        role: "app".into(),
        verifier: key.verifier.as_str().into(),
        expires_at: None,
        allow: pgcordon::sql::Rules::default(),
        revoked: false,
        suspended: false,
    }));
    let files = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (certificate, private) = (files.path().join("certificate.pem"), files.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&private, made.signing_key.serialize_pem()).unwrap();
    let acceptor = Acceptor::from_files(&certificate, &private, None).unwrap();

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = format!("host=127.0.0.1 port={port} dbname=app user={} password={secret} {options}", key.key_id);
    let mut psql = tokio::process::Command::new("psql")
        .args(["-X", "-c", "select 1", &url])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (mut plain, _) = listener.accept().await.unwrap();
    let mut request = [0; 8];
    let mut socket: Box<dyn Socket> = if options.contains("sslmode=require") {
        plain.read_exact(&mut request).await.unwrap();
        plain.write_all(b"S").await.unwrap();
        Box::new(acceptor.accept(plain).await.unwrap().stream)
    } else {
        Box::new(plain)
    };
    let length = socket.read_u32().await.unwrap();
    socket.read_exact(&mut vec![0; length as usize - 4]).await.unwrap();
    let channel = acceptor.channel_binding().filter(|_| options.contains("sslmode=require"));
    let user = key.key_id.as_str();
    let (mut exchange, first) = Exchange::start(&directory, user, method, channel, &MockSecret::random(), [7; 18]);
    let (mut body, mut mechanism) = (first, String::new());
    let got_in = loop {
        send(&mut socket, &body).await;
        let Ok(b'p') = socket.read_u8().await else { break false };
        let length = socket.read_u32().await.unwrap();
        let mut answer = vec![0; length as usize - 4];
        socket.read_exact(&mut answer).await.unwrap();
        if mechanism.is_empty() {
            let end = answer.iter().position(|byte| *byte == 0).unwrap();
            mechanism = String::from_utf8_lossy(&answer[..end]).into_owned();
        }
        match exchange.on_message(&answer, &directory, 0) {
            Step::Continue(next) => body = next,
            Step::Done { last, .. } => {
                if let Some(last) = last {
                    send(&mut socket, &last).await;
                }
                break true;
            }
            Step::Failed(_) => break false,
        }
    };
    drop(socket);
    psql.wait().await.unwrap();
    (got_in, mechanism)
}

async fn send(socket: &mut Box<dyn Socket>, body: &[u8]) {
    socket.write_u8(b'R').await.unwrap();
    socket.write_u32(u32::try_from(body.len() + 4).unwrap()).await.unwrap();
    socket.write_all(body).await.unwrap();
    socket.flush().await.unwrap();
}

#[tokio::test]
async fn psql_logs_in_by_every_mechanism_and_not_with_a_wrong_secret() {
    let key = ApiKeySecret::generate();
    for (options, expected) in [
        ("sslmode=disable", "SCRAM-SHA-256"),
        ("sslmode=require channel_binding=disable", "SCRAM-SHA-256"),
        ("sslmode=require channel_binding=require", "SCRAM-SHA-256-PLUS"),
    ] {
        assert_eq!(log_in(&key, &key.secret, Method::Scram, options).await, (true, expected.to_owned()), "{options}");
        assert_eq!(log_in(&key, "wrong", Method::Scram, options).await, (false, expected.to_owned()), "{options}");
    }
    assert!(log_in(&key, &key.secret, Method::Password, "sslmode=require").await.0);
    assert!(!log_in(&key, "wrong", Method::Password, "sslmode=require").await.0);
}
