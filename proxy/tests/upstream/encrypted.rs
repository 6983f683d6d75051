//! What TLS to the server is good for when somebody sits in between, and who we are there.

use pgcordon::pool::upstream::{ServerSocket, Target};
use pgcordon::tls::{Acceptor, Connector, Mode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};

use crate::scratch::Scratch;
use crate::{ask, connect, tcp};

const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// What somebody in between does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tampering {
    /// Says that there is no encryption.
    NoTls,
    /// Passes everything on, under a certificate of its own.
    Certificate,
    /// The same, and takes SCRAM-SHA-256-PLUS out of what the server offers.
    Offer,
}

/// Somebody in between, for one connection.
async fn between(server: u16, tampering: Tampering) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
        client.read_exact(&mut [0; 8]).await.unwrap();
        if tampering == Tampering::NoTls {
            client.write_all(b"N").await.unwrap();
            let _ = copy_bidirectional(&mut client, &mut server).await;
            return;
        }
        client.write_all(b"S").await.unwrap();
        let mut client = own_acceptor().accept(client).await.unwrap().stream;
        server.write_all(&SSL_REQUEST).await.unwrap();
        server.read_exact(&mut [0]).await.unwrap();
        let connector = Connector::new(Mode::Require, None).unwrap().unwrap();
        let mut server = connector.connect("localhost", server).await.unwrap();
        if tampering == Tampering::Offer {
            shorten_offer(&mut client, &mut server).await;
        }
        let _ = copy_bidirectional(&mut client, &mut server).await;
    });
    port
}

fn own_acceptor() -> Acceptor {
    let files = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let [certificate, key] = ["certificate.pem", "key.pem"].map(|name| files.path().join(name));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    Acceptor::from_files(&certificate, &key, None).unwrap()
}

/// Passes the startup packet on, and what the server answers to it, but for the mechanism that would find us out.
async fn shorten_offer<C, S>(client: &mut C, server: &mut S)
where
    C: AsyncRead + AsyncWrite + Unpin,
    S: AsyncRead + AsyncWrite + Unpin,
{
    let length = client.read_u32().await.unwrap();
    let mut startup = vec![0; length as usize - 4];
    client.read_exact(&mut startup).await.unwrap();
    server.write_all(&[&length.to_be_bytes()[..], &startup].concat()).await.unwrap();
    server.flush().await.unwrap();
    loop {
        let (kind, length) = (server.read_u8().await.unwrap(), server.read_u32().await.unwrap());
        let mut body = vec![0; length as usize - 4];
        server.read_exact(&mut body).await.unwrap();
        let is_offer = kind == b'R';
        if is_offer {
            assert!(body.windows(19).any(|window| window == b"SCRAM-SHA-256-PLUS\0"));
            body = b"\0\0\0\x0aSCRAM-SHA-256\0\0".to_vec();
        }
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        client.write_all(&[&[kind][..], &length, &body].concat()).await.unwrap();
        client.flush().await.unwrap();
        if is_offer {
            return;
        }
    }
}

fn target(port: u16, mode: Mode) -> Target {
    let mut target = tcp("localhost", port);
    target.tls = Connector::new(mode, None).unwrap();
    target.passwords.insert("scram_role", "secret");
    target
}

#[tokio::test]
async fn the_proof_is_bound_to_the_certificate_and_somebody_in_between_is_found_out() {
    let scratch = Scratch::shared();
    let good = connect(target(scratch.port, Mode::Require), "scram_role").await.unwrap();
    assert!(matches!(good.socket, ServerSocket::Tls(_)));
    let relayed = target(between(scratch.port, Tampering::Certificate).await, Mode::Require);
    let log = connect(relayed, "scram_role").await.unwrap_err().log.clone().unwrap();
    assert!(log.contains("channel binding"), "{log}");
    // The server hears that we could have bound it.
    let shortened = target(between(scratch.port, Tampering::Offer).await, Mode::Require);
    let log = connect(shortened, "scram_role").await.unwrap_err().log.clone().unwrap();
    assert!(log.contains("channel binding negotiation error"), "{log}");
}

#[tokio::test]
async fn encryption_that_is_preferred_is_used_where_it_is_offered_and_else_done_without() {
    let scratch = Scratch::shared();
    let encrypted = connect(target(scratch.port, Mode::Prefer), "scram_role").await.unwrap();
    assert!(matches!(encrypted.socket, ServerSocket::Tls(_)));
    let plain = target(between(scratch.port, Tampering::NoTls).await, Mode::Prefer);
    let mut plain = connect(plain, "scram_role").await.unwrap();
    assert!(matches!(plain.socket, ServerSocket::Tcp(_)));
    assert_eq!(ask(&mut plain, "select 40 + 2").await.unwrap(), ["42"]);
    let required = target(between(scratch.port, Tampering::NoTls).await, Mode::Require);
    assert!(connect(required, "scram_role").await.unwrap_err().log.clone().unwrap().contains("does not offer TLS"));
}

#[tokio::test]
async fn a_certificate_of_ours_is_shown_to_a_server_that_asks_for_one() {
    let scratch = Scratch::shared();
    let (certificate, key) = &scratch.client_certificate;
    let with = |identity| {
        let mut target = tcp("localhost", scratch.port);
        target.tls = Connector::with_identity(Mode::VerifyFull, Some(&scratch.root_certificate), identity).unwrap();
        target
    };
    let mut connection = connect(with(Some((certificate, key))), "cert_role").await.unwrap();
    let shown = "select client_dn from pg_stat_ssl where pid = pg_backend_pid()";
    assert_eq!(ask(&mut connection, shown).await.unwrap(), ["/CN=cert_role"]);
    let log = connect(with(None), "cert_role").await.unwrap_err().log.clone().unwrap();
    assert!(log.contains("certificate"), "{log}");
    let other = scratch.other_root_certificate.as_path();
    assert!(Connector::with_identity(Mode::Require, None, Some((other, key))).is_err(), "that isn't its key");
}
