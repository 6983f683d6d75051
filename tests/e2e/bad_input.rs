//! Peers that send what no client sends. Each ends itself at most; the others go on.

use pgcordon_tests::dev::Dev;
use pgcordon_tests::fault::{Fault, Relay};
use pgcordon_tests::wire::{Url, Wire, frame, query, startup};

#[test]
fn garbage_in_place_of_a_startup_packet_is_refused() {
    let dev = Dev::shared(1);
    let (host, port) = dev.address();
    let huge = [&u32::MAX.to_be_bytes()[..], b"x"].concat();
    for bytes in
        [b"GET / HTTP/1.1\r\n\r\n".to_vec(), vec![0; 64], vec![0xff; 64], huge, startup(2 << 16, &[("user", "x")])]
    {
        let mut wire = Wire::raw((&host, port));
        wire.send(&bytes);
        let said = wire.until(b'E');
        assert!(said == "E(08P01)" || said == "EOF", "{bytes:?}: {said}");
    }
    assert_eq!(Wire::open(dev.acme()).value("select 1"), "1");
}

#[test]
fn lengths_that_cant_be_end_the_session_and_no_other() {
    let dev = Dev::shared(1);
    let mut other = Wire::open(dev.globex());
    for length in [0_u32, 3, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
        for tag in *b"QPBDECSFHdcfX" {
            let mut wire = Wire::open(dev.acme());
            wire.send(&[&[tag][..], &length.to_be_bytes(), b"body"].concat());
            wire.send(&query("select 1"));
            let said = wire.until(b'E');
            assert!(said.contains("E(08P01)") || said == "EOF", "{} {length}: {said}", tag as char);
        }
    }
    assert_eq!(other.value("select 1"), "1");
}

#[test]
fn a_message_of_no_known_type_is_a_protocol_violation() {
    let dev = Dev::shared(1);
    for tag in *b"p\0aZR~" {
        let mut wire = Wire::open(dev.acme());
        wire.send(&frame(tag, b""));
        assert_eq!(wire.until(b'E'), "E(08P01)");
        assert_eq!(wire.read(), None);
    }
}

#[test]
fn a_client_whose_bytes_come_one_by_one_is_served() {
    let dev = Dev::shared(1);
    let (host, port) = dev.address();
    let relay = Relay::to((host.as_str(), port), Fault::Trickle);
    let url = Url::parse(dev.acme());
    let slow = dev.acme().replace(&format!(":{}/", url.port), &format!(":{}/", relay.port()));
    assert_eq!(Wire::open(&slow).value("select 40 + 2"), "42");
}

#[test]
fn a_bent_byte_anywhere_in_a_login_lets_nobody_in_and_harms_nobody() {
    let dev = Dev::shared(1);
    let (host, port) = dev.address();
    let url = Url::parse(dev.acme());
    let mut bytes = startup(3 << 16, &[("user", &url.user), ("database", "app")]);
    for at in 0..bytes.len() {
        bytes[at] ^= 0xff;
        let mut wire = Wire::raw((&host, port));
        wire.send(&bytes);
        // Whatever is asked, nothing is answered but by a request for proof, a refusal, or the end.
        if let Some(message) = (at >= 4)
            .then(|| {
                wire.hang_up();
                wire.read()
            })
            .flatten()
        {
            assert!(matches!(message.tag, b'R' | b'E' | b'v'), "{at}: {message:?}");
        }
        bytes[at] ^= 0xff;
    }
    assert_eq!(Wire::open(dev.globex()).value("select 1"), "1");
}

#[test]
fn a_connection_that_breaks_at_any_byte_of_a_session_harms_nobody() {
    let dev = Dev::shared(1);
    let (host, port) = dev.address();
    let url = Url::parse(dev.acme());
    for limit in (1..900).step_by(61) {
        let relay = Relay::to((host.as_str(), port), Fault::DropAfter(limit));
        let broken = dev.acme().replace(&format!(":{}/", url.port), &format!(":{}/", relay.port()));
        let _ = std::panic::catch_unwind(|| {
            let mut wire = Wire::open(&broken);
            wire.query("begin");
            wire.query("select 1");
            wire.query("commit");
        });
    }
    assert_eq!(Wire::open(dev.globex()).value("select 1"), "1");
}
