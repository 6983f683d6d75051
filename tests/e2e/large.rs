//! Messages of any length pass in bounded memory. `CORDON_TEST_LARGE_MB` says how long they are; tests/large.sh asks for
//! nearly as long as Postgres takes.
#![allow(clippy::print_stderr, reason = "tests/large.sh shows what was measured")]

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

use pgcordon_tests::dev::Dev;
use pgcordon_tests::wire::{Wire, execute, parse, query, sync};

/// By how much the proxy may grow, in KiB, whatever passes.
const GROWTH_KIB_MAX: u64 = 16 * 1024;
const CHUNK: usize = 1 << 20;

fn length() -> usize {
    std::env::var("CORDON_TEST_LARGE_MB").map_or(64, |text| text.parse::<usize>().unwrap()) << 20
}

/// A proxy, and the most memory it ever had in use before.
struct Stage {
    dev: Dev,
    before: u64,
}

impl Stage {
    fn new() -> Self {
        // Nothing is kept of what isn't parsed, and Postgres' own memory is another process's.
        let dev = Dev::start(&["--pool-size", "2"]);
        let mut warm = Wire::open(dev.acme());
        warm.query("select repeat('x', 10000000)");
        drop(warm);
        let before = peak(&dev);
        Self { dev, before }
    }

    /// A session of which much is asked at once.
    fn session(&self) -> Wire {
        let mut wire = Wire::open(self.dev.acme());
        wire.stream().set_read_timeout(Some(Duration::from_secs(600))).unwrap();
        wire
    }

    fn grew_little(&self, what: &str) {
        let grown = peak(&self.dev) - self.before;
        eprintln!("{what}: {} MiB passed, {grown} KiB more memory at the peak", length() >> 20);
        assert!(grown < GROWTH_KIB_MAX, "{what}: {grown} KiB");
    }
}

/// The most memory that the proxy ever had in use, in KiB.
fn peak(dev: &Dev) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", dev.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Sends the head of a message of `length` bytes, so many filling bytes, and its end.
fn send_long(wire: &mut Wire, tag: u8, head: &[u8], filling: usize, end: &[u8]) {
    let length = u32::try_from(4 + head.len() + filling + end.len()).unwrap();
    wire.send(&[&[tag][..], &length.to_be_bytes(), head].concat());
    let chunk = vec![b'x'; CHUNK];
    for at in (0..filling).step_by(CHUNK) {
        wire.send(&chunk[..CHUNK.min(filling - at)]);
    }
    wire.send(end);
}

/// Reads messages without keeping them, up to ReadyForQuery; the longest of each type, in bytes.
fn measure(stream: &mut TcpStream) -> Vec<(u8, u64)> {
    let mut seen: Vec<(u8, u64)> = Vec::new();
    loop {
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap();
        let length = u64::from(u32::from_be_bytes([head[1], head[2], head[3], head[4]])) - 4;
        std::io::copy(&mut stream.take(length), &mut std::io::sink()).unwrap();
        match seen.iter_mut().find(|(tag, _)| *tag == head[0]) {
            Some((_, longest)) => *longest = length.max(*longest),
            None => seen.push((head[0], length)),
        }
        if head[0] == b'Z' {
            return seen;
        }
    }
}

#[test]
fn a_long_parameter_passes_in_bounded_memory() {
    let stage = Stage::new();
    let mut wire = stage.session();
    wire.send(&parse("", "select length($1::text)"));
    let filling = length() - 1000;
    let head = [&b"\0\0\0\0\0\x01"[..], &u32::try_from(filling).unwrap().to_be_bytes()].concat();
    send_long(&mut wire, b'B', &head, filling, b"\0\0");
    wire.send(&[execute("", 0), sync()].concat());
    assert_eq!(wire.cycles(1), format!("1 2 D({filling}) C(SELECT 1) Z(I)"));
    assert_eq!(wire.value("select 40 + 2"), "42");
    stage.grew_little("a Bind");
}

#[test]
fn a_long_query_passes_in_bounded_memory() {
    let stage = Stage::new();
    let mut wire = stage.session();
    let filling = length() / 2;
    // It is copied several times by Postgres, which has a bound of its own for each copy.
    send_long(&mut wire, b'Q', b"select length('", filling, b"')\0");
    assert_eq!(wire.cycles(1), format!("T D({filling}) C(SELECT 1) Z(I)"));
    send_long(&mut wire, b'Q', b"select 40 + 2 /*", length(), b"*/\0");
    assert_eq!(wire.cycles(1), "T D(42) C(SELECT 1) Z(I)");
    stage.grew_little("a Query");
}

#[test]
fn a_long_row_passes_in_bounded_memory() {
    let stage = Stage::new();
    let mut wire = stage.session();
    let length = length();
    wire.send(&query(&format!("select repeat('x', {length})")));
    let seen = measure(wire.stream());
    assert!(seen.contains(&(b'D', length as u64 + 6)), "{seen:?}");
    assert_eq!(wire.value("select 40 + 2"), "42");
    stage.grew_little("a DataRow");
}

#[test]
fn long_rows_are_copied_in_and_out_in_bounded_memory() {
    let stage = Stage::new();
    let mut admin = stage.dev.admin();
    admin.rows("create table public.blob (t text)");
    admin.rows("grant select, insert on public.blob to pgcordon_app");
    let mut wire = stage.session();
    let row = length() / 2;
    // One row in one message, and one in many.
    for messages in [1, 1000] {
        wire.send(&query("copy blob from stdin"));
        assert_eq!(wire.until(b'G'), "G");
        let part = row / messages;
        for _ in 0..messages {
            send_long(&mut wire, b'd', b"", part, b"");
        }
        wire.send(b"d\0\0\0\x05\nc\0\0\0\x04");
        assert_eq!(wire.cycles(1), "C(COPY 1) Z(I)");
    }
    wire.send(&query("copy blob to stdout"));
    let seen = measure(wire.stream());
    assert!(seen.contains(&(b'd', row as u64 + 1)), "{seen:?}");
    assert_eq!(wire.value("select count(*) from blob"), "2");
    stage.grew_little("COPY");
}

#[test]
fn a_client_that_is_cut_off_in_mid_message_leaves_nothing_behind() {
    let stage = Stage::new();
    for tag in *b"QPBd" {
        let mut wire = Wire::open(stage.dev.acme());
        wire.stream().write_all(&[tag, 0x3f, 0, 0, 0]).unwrap();
        wire.send(&vec![b'x'; 4 << 20]);
        wire.hang_up();
        assert_eq!(Wire::open(stage.dev.globex()).value("select 40 + 2"), "42");
        assert_eq!(Wire::open(stage.dev.acme()).value("select 40 + 2"), "42");
    }
    stage.grew_little("broken messages");
}
