use std::collections::HashMap;

use postgres_protocol::authentication::sasl::{ChannelBinding as ClientBinding, ScramSha256};
use proptest::prelude::*;

use super::*;
use crate::domain::{KeyId, KeyKind};

const NOW: i64 = 1_000_000;

#[derive(Default)]
struct Keys(HashMap<String, Arc<KeyRecord>>);

impl Directory for Keys {
    fn key(&self, key_id: &str) -> Option<Arc<KeyRecord>> {
        self.0.get(key_id).cloned()
    }
}

fn record(id: &str, secret: &str) -> KeyRecord {
    KeyRecord {
        key_id: KeyId::new(id),
        kind: KeyKind::Workspace,
        workspace: None,
        role: "app".into(),
        verifier: Verifier::derive(secret, &[5; SALT_BYTES], super::super::verifier::ITERATIONS).to_string().into(),
        expires_at: None,
        allow: crate::sql::Rules::default(),
        revoked: false,
        suspended: false,
    }
}

fn keys() -> Keys {
    let good = record("good", "pencil");
    let with = |id: &str, change: fn(&mut KeyRecord)| {
        let mut record = KeyRecord { key_id: KeyId::new(id), ..good.clone() };
        change(&mut record);
        (id.to_owned(), Arc::new(record))
    };
    Keys(HashMap::from([
        with("good", |_| {}),
        with("revoked", |record| record.revoked = true),
        with("expired", |record| record.expires_at = Some(NOW)),
        with("valid", |record| record.expires_at = Some(NOW + 1)),
        with("suspended", |record| record.suspended = true),
        with("broken", |record| record.verifier = "md5".into()),
    ]))
}

fn start(keys: &Keys, user: &str, method: Method, channel: Option<Arc<[u8]>>) -> (Exchange, Bytes) {
    Exchange::start(keys, user, method, channel, &MockSecret([1; 32]), [3; NONCE_BYTES])
}

fn initial(mechanism: &str, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).expect("short").to_be_bytes();
    [mechanism.as_bytes(), b"\0", &length, data].concat()
}

/// Plays the client to the end.
fn log_in(keys: &Keys, user: &str, secret: &str, channel: Option<&[u8]>) -> (Vec<&'static str>, Step) {
    let (mut exchange, _) = start(keys, user, Method::Scram, channel.map(Arc::from));
    let (mechanism, binding) = match channel {
        Some(data) => (PLUS, ClientBinding::tls_server_end_point(data.to_vec())),
        None => (PLAIN, ClientBinding::unsupported()),
    };
    let mut client = ScramSha256::new(secret.as_bytes(), binding);
    let mut seen = Vec::new();
    let step = exchange.on_message(&initial(mechanism, client.message()), keys, NOW);
    let Step::Continue(challenge) = step else { return (seen, step) };
    seen.push("challenge");
    assert_eq!(challenge[..4], [0, 0, 0, 11]);
    client.update(&challenge[4..]).expect("a challenge");
    let step = exchange.on_message(client.message(), keys, NOW);
    if let Step::Done { last: Some(last), .. } = &step {
        assert_eq!(last[..4], [0, 0, 0, 12]);
        client.finish(&last[4..]).expect("the server knows the verifier");
    }
    (seen, step)
}

fn fault(step: Step) -> Fault {
    match step {
        Step::Failed(fault) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_example_of_rfc_7677() {
    let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").expect("base64");
    let verifier = Verifier::derive("pencil", &salt, 4096);
    let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
    let server_first = scram::server_first(nonce, &verifier);
    assert_eq!(server_first, format!("r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"));
    let first = ClientFirst::parse("n,,n=user,r=rOprNGfwEbeRWgbNEkqO").expect("the example");
    let text = format!("c=biws,r={nonce},p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=");
    let last = ClientFinal::parse(&text).expect("the example");
    assert!(last.binds(first.gs2_header, b""));
    let auth_message = format!("{},{server_first},{}", first.bare, last.without_proof);
    assert!(scram::proof_holds(&verifier, &auth_message, &last.proof));
    assert_eq!(scram::server_final(&verifier, &auth_message), "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
}

#[test]
fn a_client_with_the_secret_gets_in() {
    let keys = keys();
    for (user, channel) in [("good", None), ("valid", None), ("good", Some(&b"certificate hash"[..]))] {
        match log_in(&keys, user, "pencil", channel).1 {
            Step::Done { verified, last: Some(_) } => assert_eq!(verified.key().key_id.as_str(), user),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn unknown_wrong_revoked_and_expired_look_alike() {
    let keys = keys();
    let mut reasons = Vec::new();
    for (user, secret) in
        [("nobody", "pencil"), ("good", "pen"), ("revoked", "pencil"), ("expired", "pencil"), ("broken", "pencil")]
    {
        let (seen, step) = log_in(&keys, user, secret, None);
        let fault = fault(step);
        assert_eq!(seen, ["challenge"], "{user}");
        assert_eq!(fault.sqlstate, SqlState::INVALID_PASSWORD);
        assert_eq!(fault.message, format!("password authentication failed for user \"{user}\""));
        assert_eq!((&fault.detail, &fault.hint), (&None, &None));
        reasons.push(fault.log.clone());
    }
    reasons.dedup();
    assert_eq!(reasons.len(), 5, "the log tells them apart");
}

#[test]
fn an_unknown_user_is_shown_the_same_salt_every_time_and_its_own() {
    let keys = keys();
    let challenge = |user: &str| {
        let (mut exchange, _) = start(&keys, user, Method::Scram, None);
        match exchange.on_message(&initial(PLAIN, b"n,,n=,r=abc"), &keys, NOW) {
            Step::Continue(body) => body,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(challenge("nobody"), challenge("nobody"));
    assert_ne!(challenge("nobody"), challenge("somebody"));
    assert_eq!(challenge("nobody").len(), challenge("good").len());
}

#[test]
fn a_suspended_workspace_is_told_only_to_who_knows_the_secret() {
    let keys = keys();
    assert_eq!(fault(log_in(&keys, "suspended", "pencil", None).1).sqlstate, SqlState::INVALID_AUTHORIZATION);
    assert_eq!(fault(log_in(&keys, "suspended", "pen", None).1).sqlstate, SqlState::INVALID_PASSWORD);
}

#[test]
fn what_happens_to_the_key_during_the_exchange_counts() {
    let changes: [fn(&mut KeyRecord); 3] = [
        |record| record.revoked = true,
        |record| record.expires_at = Some(NOW),
        |record| record.verifier = Verifier::derive("pencil", b"another salt", 4096).to_string().into(),
    ];
    for change in changes {
        let mut keys = keys();
        let (mut exchange, _) = start(&keys, "good", Method::Scram, None);
        let mut client = ScramSha256::new(b"pencil", ClientBinding::unsupported());
        let Step::Continue(challenge) = exchange.on_message(&initial(PLAIN, client.message()), &keys, NOW) else {
            panic!("no challenge")
        };
        client.update(&challenge[4..]).expect("a challenge");
        let mut changed = record("good", "pencil");
        change(&mut changed);
        keys.0.insert("good".to_owned(), Arc::new(changed));
        let step = exchange.on_message(client.message(), &keys, NOW);
        assert_eq!(fault(step).sqlstate, SqlState::INVALID_PASSWORD);
    }
}

#[test]
fn a_plain_password_is_checked_like_a_proof() {
    let keys = keys();
    let answer = |user: &str, body: &[u8]| {
        let (mut exchange, first) = start(&keys, user, Method::Password, None);
        assert_eq!(first[..], [0, 0, 0, 3]);
        assert!(exchange.computes_long());
        exchange.on_message(body, &keys, NOW)
    };
    assert!(matches!(answer("good", b"pencil\0"), Step::Done { last: None, .. }));
    for (user, body) in [
        ("good", &b"pen\0"[..]),
        ("nobody", b"pencil\0"),
        ("revoked", b"pencil\0"),
        ("expired", b"pencil\0"),
        ("good", b"\0"),
    ] {
        assert_eq!(fault(answer(user, body)).sqlstate, SqlState::INVALID_PASSWORD, "{user}");
    }
    for body in [&b""[..], b"pencil", b"pen\0cil\0"] {
        assert_eq!(fault(answer("good", body)).sqlstate, SqlState::PROTOCOL_VIOLATION);
    }
}

#[test]
fn a_plain_password_is_asked_for_only_where_nobody_reads_along() {
    use ConfiguredMethod::{Password, ScramSha256};
    assert_eq!(Method::choose(Password, false, false), Method::Scram);
    assert_eq!(Method::choose(Password, true, false), Method::Password);
    assert_eq!(Method::choose(Password, false, true), Method::Password);
    assert_eq!(Method::choose(ScramSha256, true, true), Method::Scram);
}

#[test]
fn malformed_first_messages_are_refused() {
    let keys = keys();
    let refused = |body: &[u8], channel: Option<&[u8]>| {
        let (mut exchange, _) = start(&keys, "good", Method::Scram, channel.map(Arc::from));
        let sqlstate = fault(exchange.on_message(body, &keys, NOW)).sqlstate;
        // Whatever failed stays failed.
        assert_eq!(fault(exchange.on_message(body, &keys, NOW)).message, "authentication is over");
        sqlstate
    };
    for text in [
        "",
        "n",
        "n,",
        "x,,n=,r=abc",
        "n,,r=abc",
        "n,,n=",
        "n,,n=,r=",
        "n,,n=,x=abc",
        "n,,n=,r=a b",
        "n,,n=,r=abc,",
        "n,,n=,r=abc,1=x",
        "p=tls-unique,,n=,r=abc",
        "n,x,n=,r=abc",
        "n,,n=,r=\u{7f}",
        "p=tls-server-end-point,,n=,r=abc",
        "n,,n=,r=ab\0c",
    ] {
        assert_eq!(refused(&initial(PLAIN, text.as_bytes()), None), SqlState::PROTOCOL_VIOLATION, "{text}");
    }
    for text in ["n,a=admin,n=,r=abc", "n,,m=ext,n=,r=abc"] {
        assert_eq!(refused(&initial(PLAIN, text.as_bytes()), None), SqlState::FEATURE_NOT_SUPPORTED, "{text}");
    }
    let good = b"n,,n=,r=abc";
    for body in [
        initial("SCRAM-SHA-1", good),
        initial("", good),
        initial(PLUS, good),
        initial(PLAIN, &[0xff, 0xfe]),
        vec![],
        b"SCRAM-SHA-256".to_vec(),
        b"SCRAM-SHA-256\0\0\0".to_vec(),
        b"SCRAM-SHA-256\0\0\0\0\x09n,,".to_vec(),
        b"SCRAM-SHA-256\0\xff\xff\xff\xfe".to_vec(),
        b"SCRAM-SHA-256\0\xff\xff\xff\xffn,,n=,r=a".to_vec(),
        b"SCRAM-SHA-256\0\x7f\xff\xff\xffn,,n=,r=a".to_vec(),
        vec![b'n'; AUTH_MESSAGE_BYTES_MAX + 1],
    ] {
        assert_eq!(refused(&body, None), SqlState::PROTOCOL_VIOLATION, "{body:?}");
    }
    // With PLUS on offer, `y` means that somebody took the offer away.
    assert_eq!(refused(&initial(PLAIN, b"y,,n=,r=abc"), Some(b"x")), SqlState::INVALID_AUTHORIZATION);
    assert_eq!(refused(&initial(PLUS, good), Some(b"x")), SqlState::PROTOCOL_VIOLATION);
    assert_eq!(refused(&initial(PLUS, b"p=tls-unique,,n=,r=abc"), Some(b"x")), SqlState::PROTOCOL_VIOLATION);
}

#[test]
fn a_client_that_can_bind_channels_but_is_not_offered_it_is_welcome() {
    let keys = keys();
    let (mut exchange, _) = start(&keys, "good", Method::Scram, None);
    assert!(matches!(exchange.on_message(&initial(PLAIN, b"y,,n=,r=abc"), &keys, NOW), Step::Continue(_)));
    // A mechanism without a message is answered with an empty challenge.
    let (mut exchange, offer) = start(&keys, "good", Method::Scram, None);
    assert_eq!(&offer[4..], b"SCRAM-SHA-256\0\0");
    let asked = exchange.on_message(b"SCRAM-SHA-256\0\xff\xff\xff\xff", &keys, NOW);
    assert!(matches!(asked, Step::Continue(body) if body[..] == [0, 0, 0, 11]));
    assert!(matches!(exchange.on_message(b"n,,n=,r=abc", &keys, NOW), Step::Continue(_)));
}

#[test]
fn malformed_last_messages_are_refused() {
    let keys = keys();
    let nonce = format!("abc{}", STANDARD.encode([3; NONCE_BYTES]));
    let proof = STANDARD.encode([0; 32]);
    let answer = |text: &str| {
        let (mut exchange, _) = start(&keys, "good", Method::Scram, None);
        assert!(matches!(exchange.on_message(&initial(PLAIN, b"n,,n=,r=abc"), &keys, NOW), Step::Continue(_)));
        fault(exchange.on_message(text.as_bytes(), &keys, NOW)).sqlstate
    };
    assert_eq!(answer(&format!("c=biws,r={nonce},p={proof}")), SqlState::INVALID_PASSWORD);
    assert_eq!(answer(&format!("c=biws,r={nonce},x=extension,p={proof}")), SqlState::INVALID_PASSWORD);
    for text in [
        String::new(),
        format!("c=biws,r={nonce}"),
        format!("c=biws,r={nonce},p="),
        format!("c=biws,r={nonce},p=*"),
        format!("c=biws,r={nonce},p={}", STANDARD.encode([0; 31])),
        format!("c=eSws,r={nonce},p={proof}"),
        format!("c=,r={nonce},p={proof}"),
        format!("r={nonce},p={proof}"),
        format!("c=biws,r={nonce}x,p={proof}"),
        format!("c=biws,r=abc,p={proof}"),
        format!("c=biws,p={proof}"),
        format!("c=biws,r={nonce},p={proof},x=y"),
        format!("c=biws,r={nonce},,p={proof}"),
    ] {
        assert_eq!(answer(&text), SqlState::PROTOCOL_VIOLATION, "{text}");
    }
}

proptest! {
    #[test]
    fn garbage_never_gets_in_and_never_panics(
        bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..4),
        password in any::<bool>(),
    ) {
        let keys = keys();
        let method = if password { Method::Password } else { Method::Scram };
        let (mut exchange, _) = start(&keys, "good", method, None);
        for body in bodies {
            let step = exchange.on_message(&body, &keys, NOW);
            let got_in = matches!(step, Step::Done { .. });
            prop_assert!(!got_in, "garbage got in");
        }
    }

    #[test]
    fn text_that_is_nearly_scram_never_panics(first in "[npy]?(=[a-z-]{0,9})?,(a=x)?,[nrmc=,a-z]{0,20}", last in "[crp=,a-z0-9+/]{0,60}") {
        let keys = keys();
        let (mut exchange, _) = start(&keys, "good", Method::Scram, None);
        exchange.on_message(&initial(PLAIN, first.as_bytes()), &keys, NOW);
        let step = exchange.on_message(last.as_bytes(), &keys, NOW);
        let got_in = matches!(step, Step::Done { .. });
        prop_assert!(!got_in);
    }
}
