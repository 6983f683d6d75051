//! A sound filter in front of the parser: each fact we look for needs one of a few words in the text, so a text with
//! none of them has none of the facts. A false alarm only costs a parse.

/// Whether the text may have a fact, so that it must be parsed.
pub fn may_have_facts(text: &[u8]) -> bool {
    let mut at = 0;
    while at < text.len() {
        let byte = text[at];
        if !is_word(byte) {
            at += 1;
            continue;
        }
        let start = at;
        while at < text.len() && is_word(text[at]) {
            at += 1;
        }
        if is_alarm(text, start, at) {
            return true;
        }
    }
    false
}

/// Bytes of keywords and unquoted names. Those of other alphabets are counted in: they end no keyword.
const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

fn is_alarm(text: &[u8], start: usize, end: usize) -> bool {
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
    let has = |part: &[u8]| word.windows(part.len()).any(|each| each.eq_ignore_ascii_case(part));
    has(b"advisory_lock") && !has(b"xact")
}

/// Whether the word at `start` stands behind a name or a closing parenthesis, as the SET of an UPDATE does. A statement
/// never begins there — unless what looks like a name is the end of a comment, so texts with comments don't count.
fn follows_a_name(text: &[u8], start: usize) -> bool {
    let before = text[..start].iter().rposition(|byte| !byte.is_ascii_whitespace());
    let behind_a_name = before.is_some_and(|at| is_word(text[at]) || matches!(text[at], b'"' | b')'));
    behind_a_name && !text[..start].windows(2).any(|pair| pair == b"--" || pair == b"/*")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_applications_mostly_send_needs_no_parse() {
        for text in [
            &b"select abalance from pgbench_accounts where aid = $1"[..],
            b"UPDATE \"Segment\" SET name = $1 WHERE id = $2",
            b"insert into a(b) values (1) on conflict (id) do update set b = 2",
            b"begin isolation level repeatable read",
            b"commit",
            b"select a offset 10",
        ] {
            assert!(!may_have_facts(text), "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn whatever_may_leave_state_is_parsed() {
        for text in [
            &b"set work_mem = '1MB'"[..],
            b"select 1;SET x.y = 1",
            b"-- a name\nset x.y = 1",
            b"/* name */ set x.y = 1",
            b"select pg_catalog.\"set_config\"('a', 'b', false)",
            b"select U&\"\\0073et_config\"('a', 'b', false)",
            b"create Temp table x()",
            b"create table pg_temp.x()",
            b"select pg_try_advisory_lock(1)",
            b"declare c cursor with hold for select 1",
            b"deallocate all",
            b"discard all",
            b"listen x",
            b"load 'x'",
        ] {
            assert!(may_have_facts(text), "{}", String::from_utf8_lossy(text));
        }
    }
}
