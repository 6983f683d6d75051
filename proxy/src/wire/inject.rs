//! The messages we put into a server connection beside the client's own. They are written into the buffer of the
//! client's first message, so that they cost no system call.

use bytes::{BufMut, BytesMut};

/// `set_config(text, text, boolean)`, as `pg_proc.dat` numbers it; built-in OIDs never change.
pub const SET_CONFIG_OID: u32 = 2078;
/// `current_setting(text, boolean)`.
pub const CURRENT_SETTING_OID: u32 = 3294;
/// `setseed(double precision)`.
pub const SETSEED_OID: u32 = 1599;

/// Writes a FunctionCall with text arguments; `None` is NULL. It is a cycle of its own: ReadyForQuery ends its answer.
pub fn function_call(out: &mut BytesMut, oid: u32, arguments: &[Option<&[u8]>]) {
    let start = begin(out, b'F');
    out.put_u32(oid);
    out.put_slice(&[0, 1, 0, 0]);
    out.put_u16(u16::try_from(arguments.len()).unwrap_or(u16::MAX));
    for argument in arguments {
        match argument {
            Some(value) => {
                out.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
                out.put_slice(value);
            }
            None => out.put_i32(-1),
        }
    }
    out.put_u16(0);
    finish(out, start);
}

/// Writes `set_config(name, value, false)`; no value resets the setting to the server connection's own default.
pub fn set_config(out: &mut BytesMut, name: &[u8], value: Option<&[u8]>) {
    set_config_as(out, name, value, false);
}

/// The same; what is local lasts as long as the transaction.
pub fn set_config_as(out: &mut BytesMut, name: &[u8], value: Option<&[u8]>, is_local: bool) {
    function_call(out, SET_CONFIG_OID, &[Some(name), value, Some(if is_local { b"t" } else { b"f" })]);
}

/// Writes `set_config(name, value, true)`: the answer echoes the value, and with its own transaction it is gone.
pub fn set_config_locally(out: &mut BytesMut, name: &[u8], value: &[u8]) {
    function_call(out, SET_CONFIG_OID, &[Some(name), Some(value), Some(b"t")]);
}

/// Writes a Parse of `name` with what follows a name in that message: text, terminator and types.
pub fn parse(out: &mut BytesMut, name: &[u8], rest: &[u8]) {
    let start = begin(out, b'P');
    put_cstr(out, name);
    out.put_slice(rest);
    finish(out, start);
}

/// Writes the head of a Bind whose remaining `rest` bytes (formats and values) follow as they came.
pub fn bind_head(out: &mut BytesMut, portal: &[u8], statement: &[u8], rest: usize) {
    out.put_u8(b'B');
    out.put_u32(u32::try_from(4 + portal.len() + statement.len() + 2 + rest).unwrap_or(u32::MAX));
    put_cstr(out, portal);
    put_cstr(out, statement);
}

/// Writes a Describe (`D`) or Close (`C`) of a statement.
pub fn about_statement(out: &mut BytesMut, tag: u8, name: &[u8]) {
    let start = begin(out, tag);
    out.put_u8(b'S');
    put_cstr(out, name);
    finish(out, start);
}

/// Writes a Bind of the unnamed statement, without parameters, to the unnamed portal.
pub fn bind_unnamed(out: &mut BytesMut) {
    bind_head(out, b"", b"", 6);
    out.put_slice(&[0; 6]);
}

/// Writes a Describe of the unnamed portal.
pub fn describe_portal(out: &mut BytesMut) {
    let start = begin(out, b'D');
    out.put_slice(b"P\0");
    finish(out, start);
}

/// Writes an Execute of the unnamed portal, for all rows.
pub fn execute_unnamed(out: &mut BytesMut) {
    let start = begin(out, b'E');
    out.put_slice(&[0; 5]);
    finish(out, start);
}

/// Writes a Query.
pub fn query(out: &mut BytesMut, text: &[u8]) {
    let start = begin(out, b'Q');
    put_cstr(out, text);
    finish(out, start);
}

/// Writes a CopyFail.
pub fn copy_fail(out: &mut BytesMut, reason: &[u8]) {
    let start = begin(out, b'f');
    put_cstr(out, reason);
    finish(out, start);
}

/// Writes a message without a body: Sync (`S`), Flush (`H`), Terminate (`X`).
pub fn bare(out: &mut BytesMut, tag: u8) {
    out.put_u8(tag);
    out.put_u32(4);
}

fn begin(out: &mut BytesMut, tag: u8) -> usize {
    out.put_u8(tag);
    let start = out.len();
    out.put_u32(0);
    start
}

fn finish(out: &mut BytesMut, start: usize) {
    let length = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

fn put_cstr(out: &mut BytesMut, bytes: &[u8]) {
    out.put_slice(bytes);
    out.put_u8(0);
}
