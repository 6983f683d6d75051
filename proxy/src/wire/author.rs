//! The messages we send to a client in our own name, encoded by pgwire.

use bytes::{BufMut, Bytes, BytesMut};
use pgwire::error::PgWireResult;
use pgwire::messages::Message;
use pgwire::messages::response::{ErrorResponse, ReadyForQuery, TransactionStatus};
use pgwire::messages::startup::{Authentication, BackendKeyData, NegotiateProtocolVersion, SecretKey};

use crate::domain::Fault;

/// How bad an error is, as its `S` field says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The statement failed; the session goes on.
    Error,
    /// The session ends.
    Fatal,
}

/// Writes an ErrorResponse. Postgres' own error, if the fault carries one, passes untouched except for its severity,
/// which is the session's, not the server connection's.
pub fn error(out: &mut BytesMut, severity: Severity, fault: &Fault) {
    let word = match severity {
        Severity::Error => "ERROR",
        Severity::Fatal => "FATAL",
    };
    if let Some(body) = &fault.verbatim {
        return verbatim_error(out, word, body);
    }
    let mut fields = vec![
        (b'S', word.to_owned()),
        (b'V', word.to_owned()),
        (b'C', fault.sqlstate.0.to_owned()),
        (b'M', format!("pgcordon: {}", fault.message)),
    ];
    fields.extend(fault.detail.iter().map(|detail| (b'D', detail.clone())));
    fields.extend(fault.hint.iter().map(|hint| (b'H', hint.clone().into_owned())));
    put(out, &ErrorResponse::new(fields));
}

/// Writes an error as it was before protocol 3, for clients that speak nothing newer.
pub fn ancient_error(out: &mut BytesMut, fault: &Fault) {
    out.put_slice(b"EFATAL:  pgcordon: ");
    out.put_slice(fault.message.as_bytes());
    out.put_slice(b"\n\0");
}

fn verbatim_error(out: &mut BytesMut, severity: &str, body: &[u8]) {
    let start = out.len();
    out.put_slice(b"E\0\0\0\0");
    for field in body.split(|byte| *byte == 0) {
        match field.split_first() {
            Some((code @ (b'S' | b'V'), _)) => {
                out.put_u8(*code);
                out.put_slice(severity.as_bytes());
            }
            Some(_) => out.put_slice(field),
            None => break,
        }
        out.put_u8(0);
    }
    out.put_u8(0);
    let length = u32::try_from(out.len() - start - 1).unwrap_or(u32::MAX);
    out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
}

/// Writes an ErrorResponse of Postgres with another name in its message, in place of the first quoted one with this prefix.
pub fn renamed_error(out: &mut BytesMut, error: &[u8], prefix: &[u8], name: &[u8]) {
    let quoted = super::open::error_field(error, b'M').and_then(|message| {
        let begin =
            error[message.clone()].windows(prefix.len() + 1).position(|at| at[0] == b'"' && at[1..] == *prefix)?;
        let begin = message.start + begin + 1;
        let end = begin + error[begin..message.end].iter().position(|byte| *byte == b'"')?;
        Some(begin..end)
    });
    match quoted {
        Some(quoted) => replaced(out, error, quoted, name),
        None => out.put_slice(error),
    }
}

/// Writes ReadyForQuery outside a transaction.
pub fn ready(out: &mut BytesMut) {
    put(out, &ReadyForQuery::new(TransactionStatus::Idle));
}

/// Writes ParseComplete.
pub fn parse_complete(out: &mut BytesMut) {
    out.put_slice(&[b'1', 0, 0, 0, 4]);
}

/// Writes ReadyForQuery with a status that Postgres told: `I`, `T` or `E`.
pub fn ready_in(out: &mut BytesMut, status: u8) {
    out.put_slice(&[b'Z', 0, 0, 0, 5, status]);
}

/// Writes a message without a body: ParseComplete (`1`), CloseComplete (`3`).
pub fn bare(out: &mut BytesMut, tag: u8) {
    out.put_u8(tag);
    out.put_u32(4);
}

/// Writes a ParameterStatus. Values are bytes: they needn't be UTF-8.
pub fn parameter_status(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    out.put_u8(b'S');
    out.put_u32(u32::try_from(4 + name.len() + value.len() + 2).unwrap_or(u32::MAX));
    out.put_slice(name);
    out.put_u8(0);
    out.put_slice(value);
    out.put_u8(0);
}

/// Writes a NotificationResponse of a process.
pub fn notification(out: &mut BytesMut, pid: i32, channel: &[u8], payload: &[u8]) {
    out.put_u8(b'A');
    out.put_u32(u32::try_from(8 + channel.len() + payload.len() + 2).unwrap_or(u32::MAX));
    out.put_i32(pid);
    out.put_slice(channel);
    out.put_u8(0);
    out.put_slice(payload);
    out.put_u8(0);
}

/// Writes an ErrorResponse of Postgres with another position.
pub fn repositioned_error(out: &mut BytesMut, error: &[u8], position: usize) {
    match super::open::error_field(error, b'P') {
        Some(field) => replaced(out, error, field, position.to_string().as_bytes()),
        None => out.put_slice(error),
    }
}

/// A message with something else in place of some of its bytes.
fn replaced(out: &mut BytesMut, message: &[u8], old: std::ops::Range<usize>, new: &[u8]) {
    let start = out.len();
    out.put_slice(&message[..old.start]);
    out.put_slice(new);
    out.put_slice(&message[old.end..]);
    let length = u32::try_from(out.len() - start - 1).unwrap_or(u32::MAX);
    out[start + 1..start + 5].copy_from_slice(&length.to_be_bytes());
}

/// Writes AuthenticationOk.
pub fn authentication_ok(out: &mut BytesMut) {
    put(out, &Authentication::Ok);
}

/// Writes BackendKeyData with a key of ours: four bytes for protocol 3.0, longer ones from 3.2 on.
pub fn backend_key_data(out: &mut BytesMut, pid: i32, secret: &[u8]) {
    put(out, &BackendKeyData::new(pid, SecretKey::Bytes(Bytes::copy_from_slice(secret))));
}

/// Writes NegotiateProtocolVersion: the newest version we speak and the `_pq_.` options we don't know.
pub fn negotiate_version(out: &mut BytesMut, newest: i32, unknown_options: Vec<String>) {
    put(out, &NegotiateProtocolVersion::new(newest, unknown_options));
}

/// Everything written here is far below any limit of the encoder, which can therefore not refuse it.
fn put(out: &mut BytesMut, message: &impl Message) {
    let before = out.len();
    let written: PgWireResult<()> = message.encode(out);
    if written.is_err() {
        out.truncate(before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Origin, SqlState};

    #[test]
    fn our_errors_say_whose_they_are() {
        let mut out = BytesMut::new();
        let fault = Fault::new(Origin::Proxy, SqlState::TOO_MANY_CONNECTIONS, "no server connection became free");
        error(&mut out, Severity::Error, &fault);
        assert_eq!(&out[..], b"E\0\0\0\x46SERROR\0VERROR\0C53300\0Mpgcordon: no server connection became free\0\0");
    }

    #[test]
    fn a_name_in_an_error_is_the_clients_own() {
        let renamed = |error: &[u8]| {
            let mut out = BytesMut::new();
            renamed_error(&mut out, error, b"ours:", b"theirs");
            out.to_vec()
        };
        assert_eq!(
            renamed(b"E\0\0\0\x14C08P01\0Mno \"ours:17\"\0\0"),
            b"E\0\0\0\x19C08P01\0Mno \"theirs\"\0\0"[..].to_vec()
        );
        for kept in [&b"E\0\0\0\x12C08P01\0M\"ours\"\0\0"[..], b"E\0\0\0\x0dC08P01\0\0", b"E\0\0\0\x0cM\"ours:\0\0"] {
            assert_eq!(renamed(kept), kept);
        }
    }

    #[test]
    fn an_error_of_postgres_keeps_every_field_but_its_severity() {
        let mut out = BytesMut::new();
        let body = Bytes::from_static(b"SERROR\0VERROR\0C22023\0Mbad\0\0");
        let fault = Fault::new(Origin::Upstream, SqlState::INTERNAL_ERROR, "unused").verbatim(body);
        error(&mut out, Severity::Fatal, &fault);
        assert_eq!(&out[..], b"E\0\0\0\x1fSFATAL\0VFATAL\0C22023\0Mbad\0\0");
    }
}
