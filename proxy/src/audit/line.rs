//! A record as its line of JSON. It is what `serde_json` writes for a [`Row`], to the byte (a test holds them together), in a
//! third of the time: every write of every tenant has one.

use std::io::Write as _;

use super::row::Row;
use super::timestamp;
use crate::domain::digits::{decimal, hex};

/// Appends the record's line, with its end.
pub(super) fn write(row: &Row, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"stream\":");
    text(out, &row.stream);
    out.extend_from_slice(b",\"seq\":");
    decimal(out, row.seq);
    out.extend_from_slice(b",\"at\":\"");
    timestamp::append(out, row.at_us);
    out.push(b'"');
    if let Some(id) = row.workspace_id {
        out.extend_from_slice(b",\"workspace_id\":\"");
        out.extend_from_slice(id.as_hyphenated().encode_lower(&mut [0; 36]).as_bytes());
        out.push(b'"');
    }
    some_text(out, b",\"key_id\":", row.key_id.as_deref());
    some_text(out, b",\"event_type\":", Some(&row.event_type));
    some_text(out, b",\"severity\":", Some(&row.severity));
    some_text(out, b",\"relation\":", row.relation.as_deref());
    some_text(out, b",\"resource\":", row.resource.as_deref());
    some_text(out, b",\"statement\":", row.statement.as_deref());
    some_number(out, b",\"rows\":", row.rows);
    some_text(out, b",\"outcome\":", Some(&row.outcome));
    some_text(out, b",\"sqlstate\":", row.sqlstate.as_deref());
    some_number(out, b",\"duration_us\":", row.duration_us);
    if let Some(addr) = row.client_addr {
        out.extend_from_slice(b",\"client_addr\":\"");
        // Writing to memory can't fail.
        let _ = write!(out, "{addr}");
        out.push(b'"');
    }
    some_text(out, b",\"client_user\":", row.client_user.as_deref());
    some_text(out, b",\"application_name\":", row.application_name.as_deref());
    if let Some(detail) = &row.detail {
        out.extend_from_slice(b",\"detail\":");
        let _ = serde_json::to_writer(&mut *out, detail);
    }
    out.extend_from_slice(b",\"prev_hash\":\"");
    out.extend_from_slice(&hex(row.prev_hash.0));
    out.extend_from_slice(b"\",\"hash\":\"");
    out.extend_from_slice(&hex(row.hash.0));
    out.extend_from_slice(b"\"}\n");
}

fn some_text(out: &mut Vec<u8>, key: &[u8], value: Option<&str>) {
    if let Some(value) = value {
        out.extend_from_slice(key);
        text(out, value);
    }
}

fn some_number(out: &mut Vec<u8>, key: &[u8], value: Option<u64>) {
    if let Some(value) = value {
        out.extend_from_slice(key);
        decimal(out, value);
    }
}

fn text(out: &mut Vec<u8>, value: &str) {
    if value.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        out.push(b'"');
        out.extend_from_slice(value.as_bytes());
        out.push(b'"');
    } else {
        let _ = serde_json::to_writer(&mut *out, value);
    }
}
