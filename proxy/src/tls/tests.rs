use std::path::Path;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

struct Files {
    directory: tempfile::TempDir,
    der: Vec<u8>,
}

impl Files {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("a file");
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a certificate");
        write("certificate.pem", &made.cert.pem());
        write("key.pem", &made.signing_key.serialize_pem());
        write("other.pem", &rcgen::KeyPair::generate().expect("a key").serialize_pem());
        write("garbage.pem", "-----BEGIN CERTIFICATE-----\nnot base64!\n-----END CERTIFICATE-----\n");
        write("empty.pem", "");
        Self { der: made.cert.der().to_vec(), directory }
    }

    fn acceptor(&self, certificate: &str, key: &str) -> Result<Acceptor, TlsError> {
        Acceptor::from_files(&self.directory.path().join(certificate), &self.directory.path().join(key), None)
    }
}

#[tokio::test]
async fn both_sides_talk_and_the_end_point_is_the_certificates_hash() {
    let files = Files::new();
    let acceptor = files.acceptor("certificate.pem", "key.pem").expect("good files");
    assert_eq!(acceptor.channel_binding().as_deref(), Some(Sha256::digest(&files.der).as_slice()));
    let connector = Connector::new(Mode::Require, None).expect("no files").expect("a connector");
    let (client, server) = tokio::io::duplex(4096);
    let (client, server) = tokio::join!(connector.connect("localhost", client), acceptor.accept(server));
    let (mut client, mut server) = (client.expect("a handshake"), server.expect("a handshake").stream);
    client.write_all(b"Q").await.expect("written");
    client.flush().await.expect("flushed");
    assert_eq!(server.read_u8().await.expect("read"), b'Q');
    assert_eq!(server.get_ref().1.alpn_protocol(), Some(&b"postgresql"[..]));
}

#[test]
fn unusable_files_are_named_with_their_cause() {
    let files = Files::new();
    for (certificate, key, words) in [
        ("nowhere.pem", "key.pem", ["cannot read certificate", "nowhere.pem"]),
        ("certificate.pem", "nowhere.pem", ["cannot read private key", "nowhere.pem"]),
        ("empty.pem", "key.pem", ["certificate", "empty.pem holds no usable PEM"]),
        ("garbage.pem", "key.pem", ["certificate", "garbage.pem holds no usable PEM"]),
        ("certificate.pem", "certificate.pem", ["private key", "certificate.pem holds no usable PEM"]),
        ("certificate.pem", "other.pem", ["other.pem does not match", "certificate.pem"]),
    ] {
        let error = files.acceptor(certificate, key).expect_err(certificate).to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
    assert!(Connector::new(Mode::VerifyCa, Some(Path::new("nowhere.pem"))).is_err());
    assert!(Connector::new(Mode::VerifyCa, None).expect_err("no root").to_string().contains("verify-ca"));
    assert!(Connector::new(Mode::Disable, None).expect("nothing to do").is_none());
}

#[test]
fn certificates_that_are_none_have_no_end_point() {
    let files = Files::new();
    for length in 0..files.der.len() {
        end_point::of_certificate(&files.der[..length]);
    }
    for bytes in [&b""[..], &[0x30], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff], &[0x30, 0x80], &[0x30, 0xff, 1]] {
        assert!(end_point::of_certificate(bytes).is_none());
    }
}

#[test]
fn early_bytes_are_refused() {
    assert!(refuse_early_bytes(b"").is_ok() && refuse_early_bytes(b"Q").is_err());
}
