//! From the first byte to ReadyForQuery.

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Url, Wire, frame, startup};

#[test]
fn a_client_is_greeted_with_what_the_server_itself_reports() {
    let dev = Dev::shared(1);
    let mut direct = dev.admin();
    let through = Wire::open_with(
        dev.acme(),
        &[("application_name", "a test"), ("client_encoding", "LATIN1"), ("options", "-c datestyle=German")],
    );
    let names = |wire: &Wire| wire.parameters.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&through), names(&direct));
    let value = |name: &str| through.parameters.iter().find(|(each, _)| each == name).map(|(_, value)| value.as_str());
    assert_eq!(value("application_name"), Some("a test"));
    assert_eq!(value("client_encoding"), Some("LATIN1"));
    assert_eq!(value("DateStyle"), Some("German, DMY"));
    assert_eq!(value("server_version"), Some(direct.value("show server_version").as_str()));
    assert_eq!(value("is_superuser"), Some("off"));
}

#[test]
fn whatever_is_wrong_with_a_key_the_answer_is_the_same() {
    let dev = Dev::shared(1);
    let mut admin = dev.admin();
    let acme = Url::parse(dev.acme());
    let (expired, revoked) = (format!("x{}", acme.user), format!("r{}", acme.user));
    for (id, what) in [(&expired, "expires_at = now() - interval '1 s'"), (&revoked, "revoked_at = now()")] {
        admin.rows(&format!(
            "insert into cordon.api_key (key_id, workspace_id, kind, verifier) select '{id}', workspace_id, kind, verifier from cordon.api_key where key_id = '{}' on conflict do nothing",
            acme.user
        ));
        admin.rows(&format!("update cordon.api_key set {what} where key_id = '{id}'"));
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    let refusal = |user: &str, secret: &str| {
        let refused = Wire::login((&acme.host, acme.port), secret, &[("user", user), ("database", "app")])
            .err()
            .expect("refused");
        (refused.field(b'S'), refused.field(b'C'), refused.field(b'M').map(|text| text.replace(user, "KEY")))
    };
    let wrong = refusal(&acme.user, "not the secret");
    assert_eq!(wrong.1.as_deref(), Some("28P01"));
    assert_eq!(wrong.2.as_deref(), Some("pgcordon: password authentication failed for user \"KEY\""));
    assert_eq!(refusal("nobody", "x"), wrong);
    admin.query("drop role if exists of_postgres; create role of_postgres login password 'x'");
    assert_eq!(refusal("of_postgres", "x"), wrong);
    assert_eq!(refusal(&expired, &acme.password), wrong);
    assert_eq!(refusal(&revoked, &acme.password), wrong);
}

#[test]
fn encryption_requests_are_answered_and_the_session_goes_on_in_plain_text() {
    let dev = Dev::shared(1);
    let acme = Url::parse(dev.acme());
    let mut wire = Wire::raw((&acme.host, acme.port));
    for code in [80_877_104_u32, 80_877_103] {
        wire.send(&[8_u32.to_be_bytes(), code.to_be_bytes()].concat());
        assert_eq!(wire.byte(), Some(b'N'));
    }
    wire.send(&startup(3 << 16, &[("user", &acme.user), ("database", "app")]));
    wire.authenticate(&acme.password).expect("a session");
    assert_eq!(wire.value("select 1"), "1");
}

#[test]
fn a_newer_protocol_is_negotiated_and_gets_a_long_cancel_key() {
    let dev = Dev::shared(1);
    let acme = Url::parse(dev.acme());
    let login = |version: i32, further: &[(&str, &str)]| {
        let mut wire = Wire::raw((&acme.host, acme.port));
        let parameters = [&[("user", acme.user.as_str()), ("database", "app")], further].concat();
        wire.send(&startup(version, &parameters));
        let first = wire.read().expect("an answer");
        let negotiated = (first.tag == b'v').then_some(first.body);
        if negotiated.is_none() {
            // The SASL offer was read here: begin anew with the same version.
            wire = Wire::raw((&acme.host, acme.port));
            wire.send(&startup(version, &parameters));
        }
        wire.authenticate(&acme.password).expect("a session");
        (negotiated, wire.key.1.len())
    };
    assert_eq!(login(3 << 16, &[]), (None, 4));
    assert_eq!(login(3 << 16 | 2, &[]), (None, 32));
    let (negotiated, _) = login(3 << 16 | 9999, &[("_pq_.unheard_of", "1")]);
    let body = negotiated.expect("NegotiateProtocolVersion");
    assert_eq!(body[..8], [0, 3, 0, 2, 0, 0, 0, 1]);
    assert_eq!(&body[8..], b"_pq_.unheard_of\0");
}

#[test]
fn what_isnt_offered_is_refused_with_its_own_code() {
    let dev = Dev::shared(1);
    let acme = Url::parse(dev.acme());
    let refusal = |parameters: &[(&str, &str)]| {
        Wire::login((&acme.host, acme.port), &acme.password, parameters).err().and_then(|error| error.field(b'C'))
    };
    let user = ("user", acme.user.as_str());
    assert_eq!(refusal(&[user, ("replication", "database")]).as_deref(), Some("0A000"));
    assert_eq!(refusal(&[user, ("database", "postgres")]).as_deref(), Some("3D000"));
    assert_eq!(refusal(&[user, ("database", "nonsense")]).as_deref(), Some("3D000"));
    assert_eq!(refusal(&[("database", "app")]).as_deref(), Some("28000"));
    assert_eq!(refusal(&[user, ("nonsense_parameter", "1")]).as_deref(), Some("42704"), "Postgres' own error");
    assert_eq!(refusal(&[user, ("work_mem", "lots")]).as_deref(), Some("22023"), "Postgres' own error");
    let other = ("options", "-c app.workspace_id=00000000-0000-0000-0000-000000000000");
    assert_eq!(refusal(&[user, other]).as_deref(), Some("42501"));
}

#[test]
fn sql_before_authentication_is_a_protocol_violation() {
    let dev = Dev::shared(1);
    let acme = Url::parse(dev.acme());
    let mut wire = Wire::raw((&acme.host, acme.port));
    wire.send(&startup(3 << 16, &[("user", &acme.user), ("database", "app")]));
    wire.send(&frame(b'Q', b"select 1\0"));
    assert!(wire.until(b'E').ends_with("E(08P01)"));
    assert_eq!(wire.read(), None);
}

#[test]
fn a_suspended_workspace_is_refused_and_its_sessions_end() {
    let dev = Dev::start(&["--pool-size", "2"]);
    let mut admin = dev.admin();
    let mut session = Wire::open(dev.globex());
    admin.rows("update cordon.workspace set status = 'suspended' where name = 'globex'");
    assert!(session.until(b'E').ends_with("E(57P01)"));
    let refused = Wire::try_open(dev.globex(), &[]).err().expect("refused");
    assert_eq!(refused.field(b'C').as_deref(), Some("28000"));
    assert_eq!(Wire::open(dev.acme()).value("select 1"), "1");
    admin.rows("update cordon.workspace set status = 'active' where name = 'globex'");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut back = loop {
        match Wire::try_open(dev.globex(), &[]) {
            Ok(wire) => break wire,
            Err(refused) => assert!(std::time::Instant::now() < deadline, "{:?}", refused.field(b'M')),
        }
    };
    assert_eq!(back.value("select 1"), "1");
}
