//! Messages as clients and servers send them.

/// One message: its type, its length and its body.
pub(super) fn message(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a short body");
    [&[tag], &length.to_be_bytes()[..], body].concat()
}

/// A point select in a simple query.
pub(super) fn simple_cycle() -> Vec<u8> {
    message(b'Q', b"SELECT abalance FROM bench_account WHERE aid = 4711;\0")
}

/// The same through the unnamed statement, with a parameter: Parse, Bind, Describe, Execute, Sync.
pub(super) fn unnamed_cycle() -> Vec<u8> {
    let parse = message(b'P', b"\0SELECT abalance FROM bench_account WHERE aid = $1;\0\0\0");
    [parse, bind(b""), message(b'D', b"P\0"), execute(), message(b'S', b"")].concat()
}

/// What names a statement for the cycles that use it.
pub(super) fn prepare_cycle() -> Vec<u8> {
    let parse = message(b'P', b"P0_1\0SELECT abalance FROM bench_account WHERE aid = $1;\0\0\0");
    [parse, message(b'S', b"")].concat()
}

/// A named statement that is prepared already: Bind, Describe, Execute, Sync.
pub(super) fn named_cycle() -> Vec<u8> {
    [bind(b"P0_1"), message(b'D', b"P\0"), execute(), message(b'S', b"")].concat()
}

/// The unnamed portal, the statement, no parameter formats, one value, no result formats.
fn bind(statement: &[u8]) -> Vec<u8> {
    let body = [b"\0", statement, b"\0\0\0\0\x01\0\0\0\x044711\0\0"].concat();
    message(b'B', &body)
}

fn execute() -> Vec<u8> {
    message(b'E', b"\0\0\0\0\0")
}

/// RowDescription, one row, CommandComplete, ReadyForQuery.
pub(super) fn answer() -> Vec<u8> {
    let column = b"\0\x01abalance\0\0\0\x40\0\0\x03\0\0\0\x17\0\x04\xff\xff\xff\xff\0\0";
    let row = b"\0\x01\0\0\0\x0242";
    [message(b'T', column), message(b'D', row), message(b'C', b"SELECT 1\0"), message(b'Z', b"I")].concat()
}

/// BindComplete in front of it, and ParseComplete if something was parsed.
pub(super) fn extended_answer(parsed: bool) -> Vec<u8> {
    let parse_complete = if parsed { message(b'1', b"") } else { Vec::new() };
    [parse_complete, message(b'2', b""), answer()].concat()
}
