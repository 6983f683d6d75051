use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::audit::chain::{self, Head};
use crate::audit::{Client, EventType};

fn event(text: &str) -> Event {
    let client = Client { addr: "192.0.2.7".parse().ok(), user: text.into(), application_name: text.into() };
    Event {
        at_us: 1_795_585_055_123_456,
        relation: Some("public.note".into()),
        statement: Some(text.into()),
        rows: Some(3),
        sqlstate: Some(*b"23505"),
        detail: Some(json!({ "reason": text })),
        ..Event::new(EventType::ResourceCreated, Arc::new(client))
    }
}

fn line(text: &str) -> (Row, Vec<u8>) {
    let mut row = Row::unlinked(&"s".into(), event(text));
    Head::default().link(&mut row);
    let mut out = Vec::new();
    row.write(&mut out);
    (row, out)
}

#[test]
fn whatever_a_client_calls_itself_is_one_line_that_postgres_can_store() {
    for hostile in
        ["a\nb\r\n{\"seq\":1}", "nul\0nul", "\u{1b}[2J\u{202e}", "😀'; drop table x; --", "\\u0000", "=cmd()"]
    {
        let (row, out) = line(hostile);
        assert_eq!(out.iter().filter(|byte| **byte == b'\n').count(), 1, "{hostile:?}");
        let said = String::from_utf8(out.clone()).expect("UTF-8").replace("\\\\", "");
        assert!(!said.contains("\\u0000"), "{hostile:?}");
        assert_eq!(Row::read(&out[..out.len() - 1]), Some(row), "{hostile:?}");
    }
}

#[test]
fn huge_texts_are_cut_at_a_character_and_say_how_long_they_were() {
    let huge = "é".repeat(1_000_000);
    let (row, out) = line(&huge);
    assert!(out.len() < LINE_BYTES_MAX, "{}", out.len());
    assert!(row.statement.expect("a statement").ends_with("é… (2000000 bytes)"));
    assert_eq!(row.detail, Some(json!({"left_out_bytes": 2_000_013})));
    let (_, out) = line(&"\u{1}".repeat(1_000_000));
    assert!(out.len() < LINE_BYTES_MAX, "the dearest bytes: {}", out.len());
}

#[test]
fn a_detail_is_what_jsonb_gives_back() {
    let value = detail(json!({"f": 1.50, "big": u64::MAX, "n": -3, "nested": [{"\0": "\0"}]}));
    assert_eq!(value, json!({"f": "1.5", "big": u64::MAX, "n": -3, "nested": [{"\u{fffd}": "\u{fffd}"}]}));
    let deep = (0..100).fold(json!(1), |inner, _| json!([inner]));
    assert!(detail(deep).to_string().len() < 40);
}

#[test]
fn the_hash_is_what_the_description_says() {
    // Computed by hand from the words at the top of chain.rs (python3, hashlib).
    let mut row = Row::unlinked(&"s".into(), event("x"));
    Head::default().link(&mut row);
    assert_eq!(row.hash.to_string(), include_str!("known_hash.txt").trim());
}

#[test]
fn the_same_words_written_otherwise_are_no_record() {
    let (row, out) = line("x");
    let whole = String::from_utf8(out).expect("UTF-8");
    let whole = whole.trim_end();
    assert_eq!(Row::read(whole.as_bytes()), Some(row));
    for other in [
        whole.replacen(':', ": ", 1),
        whole.replacen("\"s\"", "\"\\u0073\"", 1),
        whole.replacen("\"rows\"", "\"resource\":null,\"rows\"", 1),
        format!("{whole} "),
        whole.replacen("{\"stream\":\"s\",\"seq\":1,", "{\"seq\":1,\"stream\":\"s\",", 1),
    ] {
        assert!(other != whole && Row::read(other.as_bytes()).is_none(), "{other}");
    }
}

proptest! {
    #[test]
    fn any_changed_byte_of_a_line_is_found(at in 0_usize..1000, to in any::<u8>(), text in ".{0,40}") {
        let (row, out) = line(&text);
        let mut changed = out[..out.len() - 1].to_vec();
        let at = at % changed.len();
        prop_assume!(changed[at] != to);
        changed[at] = to;
        let whole = Row::read(&changed).is_some_and(|read| chain::hash(&read) == read.hash);
        prop_assert!(!whole, "{} of {row:?}", String::from_utf8_lossy(&changed));
    }

    /// A line is what it was before it was written by hand: spools and exports of older builds are read as they are.
    #[test]
    fn a_line_is_what_the_library_writes(
        text in "\\PC*|.*",
        rows in any::<Option<u64>>(),
        at_us in any::<i64>(),
        addr in any::<Option<std::net::IpAddr>>(),
        workspace in any::<Option<u128>>(),
        is_bare in any::<bool>(),
    ) {
        let client = Client { addr, user: text.as_str().into(), application_name: text.as_str().into() };
        let full = Event { duration_us: rows, resource: Some(text.as_str().into()), ..event(&text) };
        let bare = Event::new(EventType::AuditStopped, Arc::default());
        let given = if is_bare { bare } else { full };
        let workspace = workspace.map(|id| crate::domain::WorkspaceId::new(Uuid::from_u128(id)));
        let mut row = Row::unlinked(&"s".into(), Event { rows, at_us, workspace, client: Arc::new(client), ..given });
        Head { seq: 41, hash: chain::Hash([0xa7; 32]) }.link(&mut row);
        let mut out = Vec::new();
        row.write(&mut out);
        let mut expected = serde_json::to_vec(&row).expect("JSON");
        expected.push(b'\n');
        prop_assert_eq!(seq_of(&out), Some(42));
        prop_assert_eq!(String::from_utf8(out), String::from_utf8(expected));
    }

    #[test]
    fn what_is_written_is_read(text in "\\PC*|.*", rows in any::<Option<u64>>(), at_us in any::<i64>()) {
        let mut row = Row::unlinked(&"s".into(), Event { rows, at_us, ..event(&text) });
        Head::default().link(&mut row);
        let mut out = Vec::new();
        row.write(&mut out);
        prop_assert_eq!(Row::read(&out[..out.len() - 1]), Some(row));
    }
}
