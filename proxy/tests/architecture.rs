//! The rooms of `proxy/src` stand in dependency order, and a module imports only from what stands above it. Small files
//! are not architecture; import direction is. This test reads every path that starts with `crate::`, and what does IO.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

use std::fs;
use std::path::Path;

/// What asks the operating system for something.
const IO: [&str; 9] = [
    "tokio::",
    "std::net::",
    "std::fs::",
    "std::os::unix::net::",
    "std::process::Command",
    "tokio_postgres::",
    "redis::",
    "reqwest::",
    "axum::",
];
/// Where that is allowed: whole rooms, or single files of a room that otherwise decides.
const EDGES: [&str; 25] = [
    "audit/recorder",
    "audit/segments",
    "audit/shipper",
    "audit/spool",
    "audit/storage",
    "audit/writer",
    "tls/",
    "control/",
    "serve/",
    "admin/",
    "cli/",
    "app.rs",
    "app/",
    "main.rs",
    "config/",
    "pool/upstream",
    "pool/cancel",
    "pool/shell",
    "pool/lease",
    "pool/pools",
    "pool/reset",
    "pool/signals",
    "quota/bell",
    "quota/decide",
    "quota/bookkeeper",
];
/// A word and the only file that may say it.
const ONLY: [(&str, &str); 4] = [
    ("SystemTime::now", "domain/clock.rs"),
    ("Instant::now", "domain/clock.rs"),
    ("pg_query::", "sql/parse.rs"),
    ("unsafe {", "nowhere"),
];

/// The names of the rooms, from top to bottom.
fn rooms(lib: &str) -> Vec<String> {
    lib.lines().filter_map(|line| line.trim().strip_prefix("pub mod ")?.strip_suffix(';')).map(str::to_owned).collect()
}

/// Source without line comments and without the tests at the end of a file, which may use what they like.
fn code(source: &str) -> String {
    let source = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    source.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

/// The first names after `crate::`: of `use crate::a::b`, of `use crate::{a::…, b}` and of a path in mid-code.
fn imports(code: &str) -> Vec<String> {
    let word =
        |text: &str| text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let rest = &code[at + "crate::".len()..];
        let Some(list) = rest.strip_prefix('{') else {
            found.push(word(rest));
            continue;
        };
        let (mut depth, mut item) = (1, true);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 1 => item = true,
                c if depth == 1 && item && !c.is_whitespace() => {
                    found.push(word(&list[at..]));
                    item = false;
                }
                _ => {}
            }
            if depth == 0 {
                break;
            }
        }
    }
    found.retain(|name| !name.is_empty());
    found
}

/// Whether a word stands in the code as a name of its own, not as the end of a longer one.
fn says(code: &str, word: &str) -> bool {
    code.match_indices(word).any(|(at, _)| !code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// What is wrong with one file; `file` is its path under `src`.
fn violations(rooms: &[String], file: &str, source: &str) -> Vec<String> {
    let code = code(source);
    let room = file.split('/').next().unwrap_or_default().trim_end_matches(".rs");
    let place = |name: &str| rooms.iter().position(|room| room == name);
    let mut wrong = Vec::new();
    if let Some(here) = place(room) {
        for import in imports(&code) {
            match place(&import) {
                Some(there) if there <= here => {}
                Some(_) => wrong.push(format!("{file} imports from {import}, which stands below {room}")),
                None => wrong.push(format!("{file} imports from {import}, which is no room of lib.rs")),
            }
        }
    } else if file != "lib.rs" && file != "main.rs" {
        wrong.push(format!("{file} is in no room of lib.rs"));
    }
    if !EDGES.iter().any(|edge| file.starts_with(edge)) {
        wrong.extend(IO.iter().filter(|io| says(&code, io)).map(|io| format!("{file} does IO ({io}) and is no edge")));
    }
    let misplaced = ONLY.iter().filter(|(word, only)| file != *only && says(&code, word));
    wrong.extend(misplaced.map(|(word, only)| format!("{file} says {word}, which is for {only} alone")));
    wrong
}

fn walk(directory: &Path, under: &str, visit: &mut impl FnMut(&str, &str)) {
    for entry in fs::read_dir(directory).expect("a readable directory") {
        let entry = entry.expect("an entry");
        let name = format!("{under}{}", entry.file_name().to_string_lossy());
        if entry.path().is_dir() {
            walk(&entry.path(), &format!("{name}/"), visit);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            visit(&name, &fs::read_to_string(entry.path()).expect("a readable file"));
        }
    }
}

#[test]
fn imports_run_one_way_and_only_the_edges_do_io() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let rooms = rooms(&fs::read_to_string(source.join("lib.rs")).expect("lib.rs"));
    assert!(rooms.len() > 10, "lib.rs lists the rooms: {rooms:?}");
    let (mut wrong, mut files) = (Vec::new(), 0);
    walk(&source, "", &mut |file, text| {
        files += 1;
        wrong.extend(violations(&rooms, file, text));
    });
    assert!(files > rooms.len(), "{files} files were read");
    assert!(wrong.is_empty(), "\n  {}", wrong.join("\n  "));
}

#[test]
fn the_scanner_catches_what_is_planted() {
    let rooms = rooms("pub mod domain;\npub mod session;\npub mod pool;\npub mod cli;\n");
    let wrong = |file: &str, source: &str| violations(&rooms, file, source).len();
    assert_eq!(wrong("session/mod.rs", "use crate::domain::Fault;\nuse crate::session::x;\n//! [`crate::pool`]\n"), 0);
    assert_eq!(wrong("session/mod.rs", "use crate::pool::Lease;"), 1, "an arrow that runs back");
    assert_eq!(
        wrong("session/x.rs", "use crate::{domain::{Fault, ids}, pool::{self, Lease},\n    session};"),
        1,
        "a nested one"
    );
    assert_eq!(wrong("session/x.rs", "fn f() { crate::pool::g() }"), 1, "one in mid-code");
    assert_eq!(wrong("session/x.rs", "use crate::nowhere::X;"), 1, "one to no room");
    assert_eq!(wrong("odd/x.rs", ""), 1, "a file in no room");
    assert_eq!(wrong("session/x.rs", "use tokio::net::TcpStream;"), 1, "IO in deciding code");
    assert_eq!(wrong("session/x.rs", "let x = std::fs::read(p);"), 1, "IO in mid-code");
    assert_eq!(
        (wrong("pool/upstream/x.rs", "use tokio::net::X;"), wrong("pool/roster.rs", "use tokio::net::X;")),
        (0, 1),
        "a listed edge"
    );
    assert_eq!(wrong("cli/x.rs", "let t = std::time::Instant::now();"), 1, "the time, asked elsewhere");
    assert_eq!(wrong("cli/x.rs", "use pg_query::parse;"), 1, "the parser, named elsewhere");
    assert_eq!(wrong("session/x.rs", "fn f() {}\n#[cfg(test)]\nmod tests { use crate::pool::X; }"), 0, "tests may");
}
