//! A sound filter in front of the parser. Most of what applications send is one SELECT or a plain BEGIN or COMMIT, and
//! each fact that such a text can have needs one of a few words in it; any other text is parsed. A false alarm only costs
//! a parse.

use super::facts::Asks;
use super::guard_functions::{DYNAMIC_SQL, LARGE_OBJECTS, NOTIFY, SERVER_FILES, SIGNALS};
use super::guard_hit::{NAME_FUNCTIONS, NAME_TYPES};
use super::lexer::{is_space, is_word};

/// What begins a statement that has facts only if there is an alarm word in it.
const QUIET_BEGINNINGS: [&[u8]; 7] = [b"select", b"values", b"table", b"with", b"begin", b"start", b"show"];
/// What has no facts if nothing follows it.
const QUIET_ALONE: [&[u8]; 4] = [b"commit", b"end", b"rollback", b"abort"];
/// Words without which a statement with a quiet beginning has no fact, besides those that name a function or type whose
/// argument is a name.
const ALARMS: [&str; 18] = [
    "set",
    "reset",
    "temp",
    "temporary",
    "load",
    "hold",
    "listen",
    "prepare",
    "discard",
    "deallocate",
    "set_config",
    // In WITH, and of a SELECT INTO.
    "insert",
    "update",
    "delete",
    "into",
    "merge",
    "cordon",
    NOTIFY,
];
/// All alarm words.
const LISTS: [&[&str]; 8] =
    [&ALARMS, &NAME_TYPES, &NAME_FUNCTIONS, &Asks::FUNCTIONS, &DYNAMIC_SQL, &LARGE_OBJECTS, &SERVER_FILES, &SIGNALS];

/// Whether the text may have a fact, so that it must be parsed.
pub fn may_have_facts(text: &[u8]) -> bool {
    let Some(start) = first_word(text) else { return text.iter().any(|byte| !is_space(*byte) && *byte != b';') };
    let end = end_of_word(text, start);
    let is = |words: &[&[u8]]| words.iter().any(|word| text[start..end].eq_ignore_ascii_case(word));
    if is(&QUIET_BEGINNINGS) {
        has_alarm(text, end)
    } else {
        !is(&QUIET_ALONE) || !text[end..].iter().all(|byte| is_space(*byte) || *byte == b';')
    }
}

/// Whether the text may leave something behind in its session: what a text that can't be parsed is judged by.
pub fn may_leave_state(text: &[u8]) -> bool {
    let mut at = 0;
    while at < text.len() {
        if !is_word(text[at]) {
            at += 1;
            continue;
        }
        let end = end_of_word(text, at);
        if leaves_state(text, at, end) {
            return true;
        }
        at = end;
    }
    false
}

/// Where the first word begins, behind blanks, comments, parentheses and empty statements.
fn first_word(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match (*text.get(at)?, text.get(at + 1)) {
            (b'-', Some(b'-')) => at += text[at..].iter().position(|byte| matches!(byte, b'\n' | b'\r'))?,
            (b'/', Some(b'*')) => at = end_of_comment(text, at)?,
            (byte, _) if is_space(byte) || matches!(byte, b'(' | b';') => at += 1,
            (byte, _) if is_word(byte) => return Some(at),
            _ => return None,
        }
    }
}

/// Where a comment ends that may have others in it.
fn end_of_comment(text: &[u8], start: usize) -> Option<usize> {
    let (mut at, mut depth) = (start, 0_usize);
    loop {
        match (*text.get(at)?, *text.get(at + 1)?) {
            (b'/', b'*') => (at, depth) = (at + 2, depth + 1),
            (b'*', b'/') => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            return Some(at);
        }
    }
}

fn has_alarm(text: &[u8], from: usize) -> bool {
    let mut at = from;
    while let Some(&byte) = text.get(at) {
        if is_word(byte) {
            let end = end_of_word(text, at);
            if is_alarm(&text[at..end], text.get(end)) {
                return true;
            }
            at = end;
        } else if byte == b';' {
            // Whether another statement follows.
            return !text[at..].iter().all(|byte| is_space(*byte) || *byte == b';');
        } else {
            at += 1;
        }
    }
    false
}

fn is_alarm(word: &[u8], next: Option<&u8>) -> bool {
    // U&"…" and U&'…' may spell any name in escapes.
    if word.len() == 1 {
        return word.eq_ignore_ascii_case(b"u") && next == Some(&b'&');
    }
    let may_be_listed = LENGTHS[usize::from(word[0].to_ascii_lowercase())] & (1 << word.len().min(31)) != 0;
    if may_be_listed && LISTS.iter().any(|list| list.iter().any(|alarm| word.eq_ignore_ascii_case(alarm.as_bytes()))) {
        return true;
    }
    word.len() > 6 && (is_temporary_schema(word) || is_session_lock(word))
}

/// For each first letter, a bit for each length that an alarm word with it has.
static LENGTHS: [u32; 256] = {
    let mut lengths = [0; 256];
    let mut list = 0;
    while list < LISTS.len() {
        let mut word = 0;
        while word < LISTS[list].len() {
            let letters = LISTS[list][word].as_bytes();
            lengths[letters[0] as usize] |= 1 << if letters.len() < 31 { letters.len() } else { 31 };
            word += 1;
        }
        list += 1;
    }
    lengths
};

fn end_of_word(text: &[u8], start: usize) -> usize {
    start + text[start..].iter().position(|byte| !is_word(*byte)).unwrap_or(text.len() - start)
}

fn leaves_state(text: &[u8], start: usize, end: usize) -> bool {
    let word = &text[start..end];
    match word.len() {
        // U&"…" and U&'…' may spell any name in escapes.
        1 => word.eq_ignore_ascii_case(b"u") && text.get(end) == Some(&b'&'),
        3 => word.eq_ignore_ascii_case(b"set") && !follows_a_name(text, start),
        4 => [&b"temp"[..], b"load", b"hold"].iter().any(|each| word.eq_ignore_ascii_case(each)),
        5 => word.eq_ignore_ascii_case(b"reset"),
        6 => word.eq_ignore_ascii_case(b"listen"),
        7 if [&b"prepare"[..], b"discard"].iter().any(|each| word.eq_ignore_ascii_case(each)) => true,
        9 if word.eq_ignore_ascii_case(b"temporary") => true,
        10 if [&b"set_config"[..], b"deallocate"].iter().any(|each| word.eq_ignore_ascii_case(each)) => true,
        11 if word.eq_ignore_ascii_case(b"pg_settings") => true,
        7.. => is_temporary_schema(word) || is_session_lock(word),
        _ => false,
    }
}

/// The words of a text, as the filter sees them.
pub fn words(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| !is_word(*byte)).filter(|word| !word.is_empty())
}

/// `pg_temp`, `pg_temp_3`, …
pub fn is_temporary_schema(word: &[u8]) -> bool {
    word.get(..7).is_some_and(|start| start.eq_ignore_ascii_case(b"pg_temp"))
}

/// The functions that take an advisory lock for the session, and not only for the transaction.
pub fn is_session_lock(word: &[u8]) -> bool {
    const LOCK: &[u8] = b"advisory_lock";
    let has = |part: &[u8]| word.windows(part.len()).any(|each| each.eq_ignore_ascii_case(part));
    word.len() >= LOCK.len() && has(LOCK) && !has(b"xact")
}

/// Whether the word at `start` stands behind a name or a closing parenthesis, as the SET of an UPDATE does. A statement
/// never begins there — unless what looks like a name is the end of a comment, so texts with comments don't count.
fn follows_a_name(text: &[u8], start: usize) -> bool {
    let before = text[..start].iter().rposition(|byte| !byte.is_ascii_whitespace());
    let behind_a_name = before.is_some_and(|at| is_word(text[at]) || matches!(text[at], b'"' | b')'));
    behind_a_name && !text[..start].windows(2).any(|pair| pair == b"--" || pair == b"/*")
}

#[cfg(test)]
mod tests;
