//! Channels of a workspace's own.

use super::*;
use crate::sql::Rule;
use crate::tenant::guard::Mode;

/// What the channel is called at Postgres.
fn own(channel: &str) -> String {
    ChannelKey::new(vec![1; 32]).name(channel)
}

/// A notification of process 9, as a word of a script.
fn notified(channel: &str) -> String {
    format!("A(\0\0\0\t{channel}\0x\0)")
}

#[test]
fn what_goes_out_has_the_workspaces_name_and_what_comes_back_the_clients() {
    let mut stage = Stage::attached();
    let news = own("news");
    assert_eq!(stage.client("Q(listen News)"), format!("Q(listen \"{news}\")"));
    stage.server("C(LISTEN) Z(I)");
    assert_eq!(stage.server(&notified(&news)), "A(|||\tnews|x)");
    // Whatever else it may be listening to was never asked for in a text that was seen.
    for channel in ["news", "cordon_control", &own("gossip"), ""] {
        assert_eq!(stage.server(&notified(channel)), "", "{channel}");
    }
    let sent = stage.client("P(,select pg_notify($1) B(,) E() S");
    assert_eq!(sent, "P(|select pg_notify($1) B E S", "what isn't understood goes as it came");
    stage.server("E(SQLSTATE42601) Z(I)");
    let mut stage = Stage::attached();
    assert_eq!(stage.client("P(n,notify a) S"), format!("P(pgcordon:1|notify \"{}\") S", own("a")));
    stage.server("1 Z(I)");
    assert_eq!(stage.client("P(,unlisten a) S"), format!("P(|unlisten \"{}\") S", own("a")));
}

#[test]
fn a_key_that_is_allowed_has_the_plain_channels_and_so_has_everybody_without_the_rule() {
    for (mode, allowed) in [
        (Mode::Enforce, Rules::from_iter([Rule::Channels])),
        (Mode::Off, Rules::default()),
        (Mode::Warn, Rules::default()),
    ] {
        let mut stage = Stage::attached();
        (stage.guard.channels, stage.allowed) = (mode, allowed);
        assert_eq!(stage.client("Q(listen news)"), "Q(listen news)");
        stage.server("C(LISTEN) Z(I)");
        assert_eq!(stage.server(&notified("news")), "A(|||\tnews|x)");
        assert_eq!(stage.session.take_happened().len(), usize::from(mode == Mode::Warn));
    }
}

#[test]
fn an_error_of_a_changed_text_points_at_the_clients_own_and_one_of_another_text_stays() {
    let mut stage = Stage::attached();
    let error = |position: usize| format!("SERROR\0VERROR\0C42703\0Mx\0P{position}\0\0");
    let told = |stage: &mut Stage, position: usize| {
        let mut bytes = vec![b'E'];
        let body = error(position);
        bytes.extend_from_slice(&u32::try_from(body.len() + 4).expect("short").to_be_bytes());
        bytes.extend_from_slice(body.as_bytes());
        stage.lent(|session, backend, core, lanes| session.on_server(&bytes, backend, core, lanes)).expect("no fault");
        let sent = stage.lanes.client.bytes(&bytes).to_vec();
        stage.lanes.client.clear();
        let field = crate::wire::open::error_field(&sent, b'P').expect("a position");
        String::from_utf8_lossy(&sent[field]).into_owned()
    };
    stage.client("Q(listen a; select x)");
    // The name is 57 characters where it was one.
    assert_eq!(told(&mut stage, 18 + 56), "18");
    stage.server("Z(I)");
    stage.client("Q(select x, y)");
    assert_eq!(told(&mut stage, 11), "11");
    stage.server("Z(I)");
}

#[test]
fn a_text_that_may_be_read_otherwise_is_denied_until_it_is_known_that_it_isnt() {
    let mut stage = Stage::attached();
    let hiding = "Q(select 'a\\''; notify evil; --')";
    assert_eq!(stage.client(hiding), hiding);
    stage.server("T C(SELECT 1) Z(I)");
    stage.client("Q(set standard_conforming_strings = off)");
    assert!(stage.client(hiding).contains("cordon.deny('42501')"));
    stage.server("C(SET) Z(I) E(SQLSTATE42501) Z(I)");
    // Without one of the words nothing can hide.
    assert!(stage.client("Q(select 'a\\'')").ends_with("Q(select 'a\\'')"));
}
