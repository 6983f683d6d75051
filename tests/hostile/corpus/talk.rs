//! The protocol: half messages, messages in the wrong place, lengths and bytes that lie.

use pgcordon_tests::wire::{
    bind, bind_as, close, describe, execute, extended, flush, frame, function_call, parse, parse_typed, query, sync,
};

use super::Step::{Bytes, Half, Sql, Victim};
use super::{Attack, attack};
use crate::range::Known;

const ALL: &str = "select * from \"Secret\"";

/// A message that says it is longer, or shorter, than it is.
fn of_length(tag: u8, length: u32, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

fn statement_in_pieces(known: &Known) -> Vec<u8> {
    let text = query(&format!("set app.workspace_id = '{}'; {ALL}", known.theirs));
    text[..text.len() - 7].to_vec()
}

fn copy_with_guests(known: &Known) -> Vec<u8> {
    [
        query("copy \"Secret\" (name, value) from stdin"),
        frame(b'd', b"own\tx\n"),
        function_call(2078, &["app.workspace_id", &known.theirs, "f"]),
        extended(ALL, &[]),
        frame(b'c', b""),
        query(ALL),
        frame(b'f', b"no\0"),
        sync(),
    ]
    .concat()
}

fn copy_abandoned(_: &Known) -> Vec<u8> {
    [query("copy \"Country\" from stdin"), frame(b'd', b"XX\tx\n"), frame(b'd', b"half a li")].concat()
}

fn many_cycles(_: &Known) -> Vec<u8> {
    [extended("select 1", &[]).repeat(200), extended("rollback", &[]), extended(ALL, &[]), sync().repeat(50)].concat()
}

fn names_of_every_kind(_: &Known) -> Vec<u8> {
    ["", "x", "pgcordon:1", "\u{e9}", "a b", "'", "\"", "%s", "../x"]
        .iter()
        .flat_map(|name| {
            [
                [parse(name, ALL), describe(b'S', name), bind(name, name, &[]), describe(b'P', name)].concat(),
                [execute(name, 1), flush(), close(b'P', name), close(b'S', name), sync()].concat(),
            ]
            .concat()
        })
        .collect()
}

fn counts_that_lie(_: &Known) -> Vec<u8> {
    [
        [frame(b'P', b"\0select $1::int\0\xff\xff"), sync()].concat(),
        [frame(b'P', b"\0select $1::int\0\x7f\xff\0\0\0\x17"), sync()].concat(),
        [parse("", "select $1::text"), frame(b'B', b"\0\0\0\0\0\x01\x7f\xff\xff\xff"), sync()].concat(),
        [parse("", "select $1::text"), frame(b'B', b"\0\0\0\0\xff\xff"), sync()].concat(),
        [parse("", "select $1::text"), frame(b'B', b"\0\0\0\x02\0\x01\0\x09\0\x01\0\0\0\x01x\0\0"), sync()].concat(),
        [frame(b'F', b"\0\0\x08\x1e\0\0\x7f\xff"), frame(b'F', b""), sync()].concat(),
        [frame(b'D', b""), frame(b'C', b"Z"), frame(b'E', b"\0"), frame(b'H', b"x"), sync()].concat(),
        query(ALL),
    ]
    .concat()
}

fn zero_bytes(known: &Known) -> Vec<u8> {
    [
        query(&format!("select 1\0; set app.workspace_id = '{}'", known.theirs)),
        frame(b'Q', b"select 1\0\0"),
        frame(b'Q', b"\0"),
        frame(b'Q', b""),
        frame(b'Q', b"no terminator"),
        frame(b'P', b"a\0b\0c\0d\0\0\0"),
        frame(b'p', b"secret\0"),
        query(ALL),
    ]
    .concat()
}

/// In EUC_JP and SJIS a byte that looks like a backslash or a quote may be the second half of a letter.
fn halves_of_letters(known: &Known) -> Vec<u8> {
    let mut all = Vec::new();
    for encoding in ["EUC_JP", "SJIS", "BIG5", "GBK", "GB18030", "SQL_ASCII", "MULE_INTERNAL", "UTF8"] {
        all.extend(query(&format!("set client_encoding = '{encoding}'")));
        for lead in [&b"\x95"[..], b"\xa1", b"\x81", b"\xf0\x8f", b"\xc0"] {
            let set = format!("\\'; set app.workspace_id = '{}'; {ALL}; --'", known.theirs);
            all.extend(frame(b'Q', &[b"select E'", lead, set.as_bytes(), b"\0"].concat()));
            all.extend(frame(b'Q', &[b"select '", lead, b"'; ", ALL.as_bytes(), b"\0"].concat()));
        }
    }
    all.extend(query("set client_encoding = 'UTF8'"));
    all
}

fn formats_and_types(_: &Known) -> Vec<u8> {
    [
        [parse_typed("", "select $1, $2", &[705, 2276]), bind_as("", "", &["x", "y"], &[1, 0]), execute("", 0), sync()]
            .concat(),
        [parse_typed("", "select * from \"Secret\" where id = $1", &[0]), bind("", "", &["x"]), sync()].concat(),
        [parse("", ALL), bind_as("", "", &[], &[1, 1, 1]), execute("", 0), sync()].concat(),
        [parse("", ALL), bind_as("", "", &[], &[7]), execute("", u32::MAX), sync()].concat(),
    ]
    .concat()
}

fn messages_of_a_server(_: &Known) -> Vec<u8> {
    let mut all = Vec::new();
    for tag in [b'Z', b'K', b'R', b'T', b'D', b'S', b'G', b'W', b'V', b'n', b't', b'1', b'2', b'3', b'I', b's'] {
        all.extend(frame(tag, b"\0\0\0\0I"));
    }
    all.extend(query(ALL));
    all
}

pub(super) const ATTACKS: &[Attack] = &[
    attack("a statement that breaks off", &[Victim, Half(statement_in_pieces), Victim]),
    attack("a message that breaks off in its head", &[Half(|_| b"Q".to_vec()), Half(|_| b"Q\0\0\0".to_vec()), Victim]),
    attack(
        "a cycle without its end",
        &[
            Half(|_| [parse("", ALL), bind("", "", &[])].concat()),
            Half(|_| [parse("", ALL), bind("", "", &[]), execute("", 1)].concat()),
            Victim,
        ],
    ),
    attack(
        "a flush and no more",
        &[
            Half(|_| [parse("", ALL), flush()].concat()),
            Half(|_| [parse("p", ALL), bind("p", "p", &[]), execute("p", 1), flush()].concat()),
            Victim,
        ],
    ),
    attack(
        "hanging up in a transaction",
        &[
            Half(|_| query("begin; delete from \"Secret\"; select 1")),
            Half(|_| [query("begin"), query("select 1/0")].concat()),
            Victim,
        ],
    ),
    attack(
        "hanging up in a statement",
        &[
            Half(|_| query("select pg_sleep(30)")),
            Half(|_| extended("select count(*) from generate_series(1, 20000000)", &[])),
            Victim,
        ],
    ),
    attack(
        "hanging up in the middle of many rows",
        &[
            Half(|_| query("select repeat('x', 1000) from generate_series(1, 20000)")),
            Half(|_| query("copy (select repeat('x', 1000) from generate_series(1, 20000)) to stdout")),
            Victim,
        ],
    ),
    attack("hanging up in a COPY", &[Half(copy_abandoned), Half(|_| query("copy \"Country\" from stdin")), Victim]),
    attack(
        "hanging up with portals open",
        &[
            Half(|_| {
                [
                    query("begin"),
                    parse("", "select * from generate_series(1, 1000)"),
                    bind("p", "", &[]),
                    execute("p", 1),
                    sync(),
                ]
                .concat()
            }),
            Victim,
        ],
    ),
    attack(
        "hanging up behind a goodbye",
        &[
            Half(|_| [query("begin"), frame(b'X', b""), query(ALL)].concat()),
            Half(|_| [frame(b'X', b""), query("delete from \"Secret\"")].concat()),
            Victim,
        ],
    ),
    attack(
        "lengths beyond all bounds",
        &[
            Half(|_| of_length(b'Q', 0x7fff_ffff, b"select 1")),
            Half(|_| of_length(b'd', 0xffff_ffff, b"x")),
            Half(|_| of_length(b'P', 0x3fff_ffff, b"\0select")),
            Half(|_| of_length(b'B', 0x8000_0000, b"\0\0")),
            Victim,
        ],
    ),
    attack(
        "lengths below all bounds",
        &[
            Half(|_| of_length(b'Q', 0, b"select 1\0")),
            Half(|_| of_length(b'Q', 3, b"select 1\0")),
            Half(|_| of_length(b'S', 0x8000_0004, b"")),
            Victim,
        ],
    ),
    attack("counts that lie", &[Bytes(counts_that_lie), Victim]),
    attack("zero bytes", &[Bytes(zero_bytes), Victim]),
    attack("halves of letters", &[Bytes(halves_of_letters), Victim]),
    attack("formats and types that nobody has", &[Bytes(formats_and_types)]),
    attack("names of every kind", &[Victim, Bytes(names_of_every_kind)]),
    attack("a thousand messages at once", &[Bytes(many_cycles), Victim]),
    attack("COPY with guests", &[Bytes(copy_with_guests), Victim]),
    attack(
        "COPY data that nobody asked for",
        &[Bytes(|_| [frame(b'd', &[b'x'; 70_000]), frame(b'c', b""), frame(b'f', b"\0"), query(ALL)].concat()), Victim],
    ),
    attack("messages of a server", &[Bytes(messages_of_a_server), Victim]),
    attack(
        "a type that nobody knows",
        &[
            Half(|_| [frame(b'y', b""), query("delete from \"Secret\"")].concat()),
            Half(|_| [parse("", "delete from \"Secret\""), bind("", "", &[]), execute("", 0), frame(0, b"")].concat()),
            Victim,
        ],
    ),
    attack(
        "authentication in mid-session",
        &[Bytes(|_| [frame(b'p', b"SCRAM-SHA-256\0\0\0\0\x05n,,n="), query(ALL)].concat()), Victim],
    ),
    attack(
        "a startup packet in mid-session",
        &[Half(|known| [pgcordon_tests::wire::startup(3 << 16, &[("user", &known.key)]), query(ALL)].concat()), Victim],
    ),
    attack(
        "an error in every segment",
        &[
            Bytes(|_| {
                [extended("select 1/0", &[]), extended("selec", &[]), query("select 1/0; select 2"), extended(ALL, &[])]
                    .concat()
                    .repeat(20)
            }),
            Victim,
        ],
    ),
    attack(
        "Sync in the middle of what is owed",
        &[
            Bytes(|_| {
                [
                    parse("a", ALL),
                    sync(),
                    sync(),
                    bind("", "a", &[]),
                    flush(),
                    sync(),
                    execute("", 0),
                    sync(),
                    query(ALL),
                ]
                .concat()
            }),
            Victim,
        ],
    ),
    attack(
        "many statements in one string",
        &[
            Sql("select 1; begin; select 2; commit; select 3; rollback; select * from \"Secret\""),
            Sql("select 1; select 1/0; select * from \"Secret\""),
            Sql(";;; ; -- \n ; /* */ select * from \"Secret\""),
        ],
    ),
    attack(
        "an enormous text",
        &[
            Bytes(|_| {
                [
                    query(&format!("select '{}'", "x".repeat(2_000_000))),
                    extended(&format!("select 1 /* {} */", "y".repeat(1_100_000)), &[]),
                    query(ALL),
                ]
                .concat()
            }),
            Victim,
        ],
    ),
];
