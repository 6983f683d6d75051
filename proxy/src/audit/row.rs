//! A record as it is kept: the columns of `cordon.audit_event`, which are also the keys of its line in the spool and in an export.
//!
//! It holds names as texts, not as our types: a trail written by a newer version is verified all the same.

use core::net::IpAddr;
use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use uuid::Uuid;

use super::chain::Hash;
use super::event::Event;
use super::{line, timestamp};

/// The longest statement that is kept, in bytes; the rest is cut off.
pub const STATEMENT_BYTES_MAX: usize = 16 * 1024;
/// The longest name of anything.
pub const NAME_BYTES_MAX: usize = 256;
/// The longest detail, as JSON; a longer one is left out, and that is told.
pub const DETAIL_BYTES_MAX: usize = 8 * 1024;
/// No line is longer: every byte of the texts may need six in JSON.
pub const LINE_BYTES_MAX: usize = 256 * 1024;

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "the names are those of the columns")]
pub struct Row {
    pub stream: Arc<str>,
    pub seq: u64,
    #[serde(rename = "at", serialize_with = "write_time", deserialize_with = "read_time")]
    pub at_us: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workspace_id: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_id: Option<Arc<str>>,
    pub event_type: Cow<'static, str>,
    pub severity: Cow<'static, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub statement: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    pub outcome: Cow<'static, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlstate: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_us: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_addr: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_user: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub application_name: Option<Arc<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Value>,
    pub prev_hash: Hash,
    pub hash: Hash,
}

impl Row {
    /// An event that isn't linked yet.
    pub fn unlinked(stream: &Arc<str>, event: Event) -> Self {
        let number = |number: u64| number.min(i64::MAX.unsigned_abs());
        let name = |text: Arc<str>| Some(bounded(text, NAME_BYTES_MAX)).filter(|text| !text.is_empty());
        let client = &event.client;
        Self {
            stream: stream.clone(),
            seq: 0,
            at_us: event.at_us.clamp(0, timestamp::LAST_US),
            workspace_id: event.workspace.map(crate::domain::WorkspaceId::uuid),
            key_id: event.key_id.and_then(|key_id| name(key_id.as_str().into())),
            event_type: Cow::Borrowed(event.kind.as_str()),
            severity: Cow::Borrowed(event.severity.as_str()),
            relation: event.relation.and_then(name),
            resource: event.resource.and_then(name),
            statement: event.statement.map(|text| bounded(text, STATEMENT_BYTES_MAX)),
            rows: event.rows.map(number),
            outcome: Cow::Borrowed(event.outcome.as_str()),
            sqlstate: event.sqlstate.map(|code| String::from_utf8_lossy(&code).replace('\0', "\u{fffd}").into()),
            duration_us: event.duration_us.map(number),
            client_addr: client.addr.map(|addr| addr.to_canonical()),
            client_user: name(client.user.clone()),
            application_name: name(client.application_name.clone()),
            detail: event.detail.map(detail),
            prev_hash: Hash::default(),
            hash: Hash::default(),
        }
    }

    /// Appends the record's line.
    pub fn write(&self, out: &mut Vec<u8>) {
        line::write(self, out);
    }

    /// Reads a line, without its end. None unless it is, to the byte, what [`Row::write`] writes for it.
    pub fn read(line: &[u8]) -> Option<Self> {
        let row: Self = serde_json::from_slice(line).ok()?;
        let mut again = Vec::with_capacity(line.len() + 1);
        row.write(&mut again);
        (again.pop() == Some(b'\n') && again == line).then_some(row)
    }
}

/// The number that a line says it has, without reading the rest: enough to pass over one that isn't wanted.
pub(super) fn seq_of(line: &[u8]) -> Option<u64> {
    const STREAM: &[u8] = b"{\"stream\":\"";
    const SEQ: &[u8] = b"\",\"seq\":";
    let rest = line.strip_prefix(STREAM)?;
    let rest = rest[rest.iter().position(|byte| *byte == b'"')?..].strip_prefix(SEQ)?;
    let digits = &rest[..rest.iter().position(|byte| !byte.is_ascii_digit())?];
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Cuts a text to a length, and takes out the one character that Postgres can't store.
fn bounded(text: Arc<str>, bytes_max: usize) -> Arc<str> {
    let whole = text.len() <= bytes_max;
    if whole && !text.contains('\0') {
        return text;
    }
    let mut end = bytes_max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut kept = text[..end].replace('\0', "\u{fffd}");
    if !whole {
        kept.push_str(&format!("… ({} bytes)", text.len()));
    }
    kept.into()
}

/// JSON that comes back from a `jsonb` column as it went in: no NUL, no fractions (their digits may change), not too long.
fn detail(value: Value) -> Value {
    fn plain(value: Value, depth: usize) -> Value {
        match value {
            _ if depth > 8 => Value::Null,
            Value::Number(number) if !number.is_i64() && !number.is_u64() => Value::String(number.to_string()),
            Value::String(text) => Value::String(text.replace('\0', "\u{fffd}")),
            Value::Array(items) => items.into_iter().map(|item| plain(item, depth + 1)).collect(),
            Value::Object(items) => {
                items.into_iter().map(|(key, item)| (key.replace('\0', "\u{fffd}"), plain(item, depth + 1))).collect()
            }
            other => other,
        }
    }
    let value = plain(value, 0);
    let bytes = value.to_string().len();
    if bytes <= DETAIL_BYTES_MAX { value } else { serde_json::json!({ "left_out_bytes": bytes }) }
}

fn write_time<S: Serializer>(at_us: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&timestamp::write(*at_us))
}

fn read_time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let text = Cow::<str>::deserialize(deserializer)?;
    timestamp::read(&text).ok_or_else(|| serde::de::Error::custom("not a time"))
}

#[cfg(test)]
mod tests;
