//! Servers that are none.

use std::time::Duration;

use pgcordon::domain::SqlState;
use pgcordon::tls::{Connector, Mode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::{connect, tcp};

/// A server that answers the startup packet with these bytes and closes, or stays.
async fn answering(bytes: Vec<u8>, stay: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut startup = [0; 1024];
        let _ = socket.read(&mut startup).await;
        let _ = socket.write_all(&bytes).await;
        while stay && socket.read(&mut startup).await.is_ok_and(|read| read > 0) {}
    });
    port
}

fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap();
    [&[kind], &length.to_be_bytes()[..], body].concat()
}

#[tokio::test]
async fn a_server_that_talks_garbage_is_left_at_once() {
    let ok = message(b'R', &[0, 0, 0, 0]);
    let key = message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]);
    let ready = message(b'Z', b"I");
    let offer = message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");
    let mut random = vec![0; 4096];
    random.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at * 197 + at / 3) as u8);
    let cases = [
        vec![],
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        random,
        [b'R', 0, 0, 0, 0].to_vec(),
        [b'R', 0, 0, 0, 3].to_vec(),
        [b'R', 0xff, 0xff, 0xff, 0xff].to_vec(),
        [b'R', 0x80, 0, 0, 0].to_vec(),
        [b'R', 0x7f, 0xff, 0xff, 0xff].to_vec(),
        message(b'R', b""),
        message(b'R', &[0, 0, 0, 99]),
        message(b'R', &[0, 0, 0, 5, 1]),
        message(b'E', b""),
        message(b'E', b"\0"),
        message(b'E', b"Mno code\0"),
        message(b'E', b"Cunterminated"),
        message(b'R', b"\0\0\0\x0aSCRAM"),
        message(b'R', b"\0\0\0\x0aPLAIN\0\0"),
        [&offer[..], &message(b'R', b"\0\0\0\x0br=x,s=x,i=4294967295")].concat(),
        [&offer[..], &message(b'R', b"\0\0\0\x0br=,s=QQ==,i=1")].concat(),
        [&offer[..], &ok].concat(),
        [&message(b'v', b"\0\x03\0\x02\0\0\0\0"), &ok[..], &key, &ready].concat(),
        [&message(b'v', b"\0\x02\0\0\0\0\0\0"), &ok[..], &key, &ready].concat(),
        [&message(b'v', b"\0\x03\0\0\0\0\0\x01_pq_.x\0"), &ok[..], &key, &ready].concat(),
        [&message(b'v', b"\0\x03"), &ok[..], &key, &ready].concat(),
        [&ok[..], &message(b'v', b"\0\x03\0\0\0\0\0\0"), &key, &ready].concat(),
        [&ok[..], &message(b'S', b"name\0value")].concat(),
        [&ok[..], &message(b'K', &[0, 0, 0, 1])].concat(),
        [&ok[..], &message(b'K', &[0; 400])].concat(),
        [&ok[..], &ready].concat(),
        [&ok[..], &key, &message(b'Z', b"T")].concat(),
        [&ok[..], &key, &message(b'Z', b"")].concat(),
        [&ok[..], &key, &ready, &message(b'D', &[0, 3, 0x7f, 0xff, 0xff, 0xff])].concat(),
        [&ok[..], &key, &ready, &message(b'D', &[0, 3, 0xff, 0xff, 0xff, 0xff])].concat(),
        [&ok[..], &key, &ready, &message(b'D', &[0])].concat(),
        [&ok[..], &key, &ready, &message(b'D', &[0x7f, 0xff])].concat(),
        [&ok[..], &key, &ready, &message(b'C', b"SELECT 0\0"), &ready].concat(),
        [&ok[..], &message(b'N', &[b'x'; 200_000]).repeat(20)].concat(),
    ];
    for case in cases {
        for stay in [false, true] {
            let mut target = tcp("127.0.0.1", answering(case.clone(), stay && !case.is_empty()).await);
            target.passwords.insert("app", "secret");
            target.connect_timeout = Duration::from_millis(1500);
            let fault = connect(target, "app").await.unwrap_err();
            let shown = String::from_utf8_lossy(&case[..case.len().min(60)]).into_owned();
            assert_eq!(fault.sqlstate, SqlState::CANNOT_CONNECT_NOW, "{shown:?}");
        }
    }
}

#[tokio::test]
async fn bytes_before_the_tls_handshake_are_refused() {
    for (answer, word) in [(&b"SE"[..], "unencrypted"), (b"N", "does not offer"), (b"E", "neither"), (b"", "closed")] {
        let mut target = tcp("127.0.0.1", answering(answer.to_vec(), false).await);
        target.tls = Connector::new(Mode::Require, None).unwrap();
        let fault = connect(target, "app").await.unwrap_err();
        assert!(fault.log.as_ref().is_some_and(|log| log.contains(word)), "{fault:?}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_know_the_password_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut said = [0; 1024];
        let _ = socket.read(&mut said).await;
        socket.write_all(&message(b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0")).await.unwrap();
        let read = socket.read(&mut said).await.unwrap();
        let first = String::from_utf8_lossy(&said[..read]).into_owned();
        let nonce = first.rsplit_once("r=").unwrap().1;
        let challenge = format!("\0\0\0\x0br={nonce}ours,s=c2FsdA==,i=1");
        socket.write_all(&message(b'R', challenge.as_bytes())).await.unwrap();
        let _ = socket.read(&mut said).await;
        // It lets everybody in, for it can't tell; and it can't sign.
        let signature = b"\0\0\0\x0cv=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let rest = [message(b'R', signature), message(b'R', &[0, 0, 0, 0])].concat();
        socket.write_all(&rest).await.unwrap();
        let key = message(b'K', &[0, 0, 0, 1, 0, 0, 0, 2]);
        let _ = socket.write_all(&[key, message(b'Z', b"I")].concat()).await;
        let _ = socket.read(&mut said).await;
    });
    let mut target = tcp("127.0.0.1", port);
    target.passwords.insert("app", "secret");
    let fault = connect(target, "app").await.unwrap_err();
    assert!(fault.log.as_ref().is_some_and(|log| log.contains("does not know the password")), "{fault:?}");
}
