//! Messages that no driver sends: each is answered as Postgres answers it, word for word, ends its client at most, and leaves
//! the server connection clean for the next.

use pgcordon_tests::cluster::Cluster;
use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{
    Message, Wire, bind, close, describe, execute, extended, flush, frame, function_call, parse, query, sync,
};

/// Bind, byte by byte: names, parameter formats, parameters (none for NULL), result formats.
fn raw_bind(names: &[u8], formats: &[u16], values: &[Option<&[u8]>], results: &[u16]) -> Vec<u8> {
    let mut body = names.to_vec();
    let shorts = |body: &mut Vec<u8>, all: &[u16]| {
        body.extend_from_slice(&u16::try_from(all.len()).unwrap().to_be_bytes());
        all.iter().for_each(|each| body.extend_from_slice(&each.to_be_bytes()));
    };
    shorts(&mut body, formats);
    body.extend_from_slice(&u16::try_from(values.len()).unwrap().to_be_bytes());
    for value in values {
        match value {
            Some(value) => {
                body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
                body.extend_from_slice(value);
            }
            None => body.extend_from_slice(&(-1_i32).to_be_bytes()),
        }
    }
    shorts(&mut body, results);
    frame(b'B', &body)
}

fn scripts() -> Vec<(&'static str, Vec<u8>)> {
    let s = |parts: &[Vec<u8>]| parts.concat();
    let one = || parse("", "select $1::int");
    let named = || parse("named", "select $1::int");
    let unnamed = b"\0\0";
    vec![
        ("an unknown type", frame(b'y', b"")),
        ("a server's type", frame(b'T', b"")),
        ("a password", frame(b'p', b"secret\0")),
        ("a Query without its end", frame(b'Q', b"select 1")),
        ("a Query with more than one text", frame(b'Q', b"select 1\0select 2\0")),
        ("a Query without anything", frame(b'Q', b"")),
        ("a Sync with a body", frame(b'S', b"x")),
        ("a Flush with a body", frame(b'H', b"x")),
        ("a Parse without its end", frame(b'P', b"\0select 1")),
        ("a Parse without counts", frame(b'P', b"\0select 1\0")),
        ("a Parse with fewer types than it says", frame(b'P', b"\0select 1\0\0\x02\0\0\0\x17")),
        ("a Parse with more than it says", frame(b'P', b"\0select 1\0\0\0x")),
        ("a Parse of two statements", parse("", "select 1; select 2")),
        ("a Parse of an unknown type", frame(b'P', b"\0select $1\0\0\x01\x7f\xff\xff\xff")),
        ("a Parse of what isn't SQL", parse("", "selct 1")),
        ("a named Parse of what isn't SQL", parse("named", "selct 1")),
        ("a named Parse without counts", frame(b'P', b"named\0select 1\0")),
        ("a second Parse of one name", s(&[named(), named()])),
        ("a Bind of nothing", raw_bind(b"\0nothing\0", &[], &[], &[])),
        ("a Bind of nothing unnamed", raw_bind(unnamed, &[], &[], &[])),
        ("a Bind with too few parameters", s(&[one(), raw_bind(unnamed, &[], &[], &[])])),
        ("a Bind with too many parameters", s(&[one(), raw_bind(unnamed, &[], &[Some(b"1"), Some(b"2")], &[])])),
        ("the same of a named statement", s(&[named(), raw_bind(b"\0named\0", &[], &[Some(b"1"), Some(b"2")], &[])])),
        ("a Bind with wrong formats", s(&[one(), raw_bind(unnamed, &[0, 0], &[Some(b"1")], &[])])),
        ("a Bind with an unknown format", s(&[one(), raw_bind(unnamed, &[7], &[Some(b"1")], &[])])),
        (
            "a Bind with wrong result formats",
            s(&[one(), raw_bind(unnamed, &[], &[Some(b"1")], &[0, 0]), execute("", 0)]),
        ),
        (
            "a Bind with an unknown result format",
            s(&[one(), raw_bind(unnamed, &[], &[Some(b"1")], &[9]), describe(b'P', ""), execute("", 0)]),
        ),
        ("a Bind of no number", s(&[one(), bind("", "", &["x"])])),
        ("a Bind of a short binary", s(&[one(), raw_bind(unnamed, &[1], &[Some(b"1")], &[])])),
        ("a Bind that is cut off", s(&[one(), frame(b'B', b"\0\0\0\0\0\x01\0\0\0\x09abc")])),
        ("a Bind with a negative length", s(&[one(), frame(b'B', b"\0\0\0\0\0\x01\x80\0\0\0\0\0")])),
        ("a Bind with more than it says", s(&[one(), frame(b'B', b"\0\0\0\0\0\x01\0\0\0\x011\0\0x")])),
        ("a Bind without anything", s(&[one(), frame(b'B', b"")])),
        ("a Bind without the end of a name", s(&[one(), frame(b'B', b"portal")])),
        (
            "a second portal of one name",
            s(&[parse("", "select 1"), raw_bind(b"p\0\0", &[], &[], &[]), raw_bind(b"p\0\0", &[], &[], &[])]),
        ),
        ("an Execute of nothing", execute("", 0)),
        ("an Execute of nothing named", execute("nothing", 5)),
        ("an Execute without its count", frame(b'E', b"\0")),
        ("an Execute with more", frame(b'E', b"\0\0\0\0\0x")),
        ("a Describe of nothing", describe(b'S', "nothing")),
        ("a Describe of nothing unnamed", describe(b'S', "")),
        ("a Describe of no portal", describe(b'P', "nothing")),
        ("a Describe of neither", describe(b'Q', "x")),
        ("a Describe without anything", frame(b'D', b"")),
        ("a Describe without the end of a name", frame(b'D', b"Sx")),
        ("a Describe with more", frame(b'D', b"Sx\0y")),
        ("a Close of neither", close(b'Q', "x")),
        ("a Close of nothing", close(b'S', "nothing")),
        ("a Close without anything", frame(b'C', b"")),
        ("a Close with more", frame(b'C', b"Sx\0y")),
        (
            "a text that isn't valid",
            query("select 'x'").into_iter().map(|b| if b == b'x' { 0xff } else { b }).collect(),
        ),
        ("a Parse whose text isn't valid", frame(b'P', b"\0select '\xc3('\0\0\0")),
        ("a Parse whose name isn't valid", frame(b'P', b"a\xff\0select 1\0\0\0")),
        ("a Bind whose names aren't valid", s(&[one(), raw_bind(b"\xfe\0a\xff\0", &[], &[], &[])])),
        ("a Bind whose portal's name isn't valid", s(&[one(), raw_bind(b"\xfe\0\0", &[], &[Some(b"1")], &[])])),
        ("a Describe whose name isn't valid", frame(b'D', b"Sa\xff\0")),
        ("a Close whose name isn't valid", frame(b'C', b"Sa\xff\0")),
        (
            "a parameter that isn't valid",
            s(&[parse("", "select $1::text"), raw_bind(unnamed, &[], &[Some(b"\xed\xa0\x80")], &[])]),
        ),
        (
            "a binary parameter that isn't valid",
            s(&[parse("", "select $1::text"), raw_bind(unnamed, &[1], &[Some(b"\xff")], &[])]),
        ),
        (
            "a parameter with a zero byte",
            s(&[parse("", "select $1::text"), raw_bind(unnamed, &[], &[Some(b"a\0b")], &[])]),
        ),
        ("a FunctionCall of nothing", function_call(0, &[])),
        ("a FunctionCall with too many arguments", function_call(1598, &["1"])),
        ("a FunctionCall without anything", frame(b'F', b"")),
        ("a FunctionCall that is cut off", frame(b'F', b"\0\0\x06\x3e\0\0\0\x01\0\0\0\x09x")),
        ("a FunctionCall with more", frame(b'F', b"\0\0\x06\x3e\0\0\0\0\0\0x")),
        ("copying without a COPY", s(&[frame(b'd', b"x"), frame(b'c', b""), frame(b'f', b"why\0")])),
        ("an end of a COPY with a body", frame(b'c', b"x")),
        ("a Query in mid-COPY", s(&[query("copy t from stdin"), frame(b'd', b"1\n"), query("select 1")])),
        ("a Bind in mid-COPY", s(&[query("copy t from stdin"), bind("", "", &[])])),
        ("a Sync in mid-COPY", s(&[query("copy t from stdin"), sync(), flush(), frame(b'c', b"")])),
        ("an unknown type in mid-COPY", s(&[query("copy t from stdin"), frame(b'y', b"")])),
        ("a failed COPY", s(&[query("copy t from stdin"), frame(b'f', b"the reason\0")])),
        ("a failed COPY without a reason", s(&[query("copy t from stdin"), frame(b'f', b"")])),
        ("a COPY of no number", s(&[query("copy t from stdin"), frame(b'd', b"x\n"), frame(b'c', b"")])),
        ("a COPY of what isn't valid", s(&[query("copy t from stdin"), frame(b'd', b"\xff\n"), frame(b'c', b"")])),
        (
            "a COPY, extended, of no number",
            s(&[
                parse("", "copy t from stdin"),
                bind("", "", &[]),
                execute("", 0),
                frame(b'd', b"x\n"),
                frame(b'c', b""),
            ]),
        ),
        (
            "an error and what is skipped for it",
            s(&[execute("", 0), frame(b'Q', b"no end"), extended("select 1", &[])]),
        ),
        ("an error and an unknown type", s(&[execute("", 0), frame(b'y', b"")])),
        ("a FunctionCall in mid-cycle", s(&[parse("", "select 1"), function_call(0, &[])])),
    ]
}

/// A message with what its reader reads of it. Where an error was raised in Postgres' source isn't for the client.
fn told(message: &Message) -> String {
    match message.tag {
        b'E' | b'N' => {
            let fields =
                b"SCMDHWP".iter().filter_map(|code| Some(format!("{}={}", *code as char, message.field(*code)?)));
            fields.collect::<Vec<_>>().join(" ").replace("M=pgcordon: ", "M=")
        }
        _ => message.word(),
    }
}

/// The client's name in place of the one on the server connection.
fn shared_name(word: &str) -> String {
    match word.split_once("\"pgcordon:") {
        Some((before, rest)) => format!("{before}\"named{}", rest.trim_start_matches(|c: char| c.is_ascii_digit())),
        None => word.to_owned(),
    }
}

/// What a client reads that sends this, and then Sync and a Query.
fn answer(mut wire: Wire, bytes: &[u8]) -> Vec<String> {
    wire.send(bytes);
    wire.send(&[sync(), query("select 'still there'")].concat());
    let (mut said, mut last) = (Vec::new(), false);
    while let Some(message) = wire.read() {
        said.push(told(&message));
        last |= said.last().is_some_and(|word| word.contains("still there"));
        if last && message.tag == b'Z' {
            return said;
        }
    }
    said.push("EOF".to_owned());
    said
}

#[test]
fn every_malformed_message_is_answered_as_postgres_answers_it() {
    let cluster = Cluster::shared();
    let mut admin = cluster.open("postgres");
    admin.query("create role plain login");
    let dev = Dev::start(&["--pool-size", "1"]);
    let mut owner = dev.admin();
    for (session, role) in [(&mut admin, "plain"), (&mut owner, "pgcordon_app")] {
        session.query("create table public.t (i int)");
        session.rows(&format!("grant insert, select on public.t to {role}"));
    }
    let mut different = Vec::new();
    for (name, bytes) in scripts() {
        let (mut direct, mut through) = (answer(cluster.open("plain"), &bytes), answer(Wire::open(dev.acme()), &bytes));
        if name.contains("unknown type in") || name.contains("and an unknown type") {
            // Such a message ends its client in both; what stood in front of it in the same packet needn't have been answered.
            for said in [&mut direct, &mut through] {
                said.drain(..said.len() - 2);
                said[0].truncate("S=FATAL C=08P01".len());
            }
        }
        if name.starts_with("a Query in mid-COPY") || name.starts_with("a Bind in mid-COPY") {
            // Both fail the copy by it. Postgres ends the connection since its minor releases of 2025; here the session may go on.
            for said in [&mut direct, &mut through] {
                assert!(said[1].contains("unexpected message type"), "{name}: {said:?}");
                said.truncate(1);
            }
        }
        // The name that a named statement has on the server connection is told in this one error.
        through.iter_mut().for_each(|word| *word = shared_name(word));
        if direct != through {
            different.push(format!("{name}:\n  direct  {direct:?}\n  through {through:?}"));
        }
        // Whoever comes next finds the only server connection as it should be.
        let mut next = Wire::open(dev.globex());
        next.send(&[bind("", "", &[]), sync()].concat());
        assert_eq!(next.cycles(1), "E(26000) Z(I)", "{name}");
        assert_eq!(next.query("select count(*) from t where false"), "T D(0) C(SELECT 1) Z(I)", "{name}");
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
    let _ = admin.query("drop table public.t");
}
