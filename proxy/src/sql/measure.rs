//! What a text may cost, told before it is parsed. The parser recurses on Postgres' own terms, and takes hundreds of
//! times a text's size in memory: a text that would be too deep or too long isn't parsed at all, and of the rows of a
//! long INSERT … VALUES one stands for all that are like it.

use std::borrow::Cow;

use super::lexer::{Kind, Lexer, Token, Unterminated};

/// The longest text that is parsed, in bytes (parsing takes up to 0.5 µs and 350 bytes for each).
pub const PARSED_BYTES_MAX: usize = 64 * 1024;
/// How deep the parse tree may become (the parser takes up to 1.4 kB of stack for a level, of a core's 2 MiB). A text of
/// as many bytes can't exceed it.
const DEPTH_MAX: usize = 1000;
/// From how many bytes on the rows of an INSERT are counted instead of parsed.
const SHORTENED_FROM: usize = 1024;
/// What may stand in a row besides constants so that it needn't be looked at: none of it changes what a statement does.
const PLAIN_WORDS: [&str; 28] = [
    "null",
    "default",
    "true",
    "false",
    "now",
    "gen_random_uuid",
    "current_timestamp",
    "current_date",
    "text",
    "int",
    "integer",
    "int4",
    "bigint",
    "int8",
    "smallint",
    "numeric",
    "json",
    "jsonb",
    "uuid",
    "date",
    "timestamp",
    "timestamptz",
    "bool",
    "boolean",
    "float8",
    "bytea",
    "varchar",
    "interval",
];

/// A text that can be parsed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Measured<'a> {
    /// The text, or one that says the same with fewer rows.
    pub(super) text: Cow<'a, str>,
    /// How many rows the first statement's own INSERT has besides those in `text`.
    pub(super) rows_left_out: u64,
}

/// Makes a text fit to be parsed; `None` where that isn't possible.
pub(super) fn measure(text: &str) -> Option<Measured<'_>> {
    let whole = Measured { text: Cow::Borrowed(text), rows_left_out: 0 };
    if text.len() <= DEPTH_MAX {
        return Some(whole);
    }
    let measured = if text.len() < SHORTENED_FROM { whole } else { shorten(text).ok()?.unwrap_or(whole) };
    fits(measured)
}

/// The text with all its rows, if it can be parsed so.
pub(super) fn whole(text: &str) -> Option<Measured<'_>> {
    fits(Measured { text: Cow::Borrowed(text), rows_left_out: 0 })
}

fn fits(measured: Measured<'_>) -> Option<Measured<'_>> {
    let fits = measured.text.len() <= PARSED_BYTES_MAX && depth(measured.text.as_bytes()).ok()? <= DEPTH_MAX;
    fits.then_some(measured)
}

/// One level of parentheses, brackets or CASE.
#[derive(Default)]
struct Level {
    is_case: bool,
    /// What nests for as long as the level lasts.
    kept: usize,
    /// Tokens since the last sibling began.
    tokens: usize,
    /// The deepest of the levels since then.
    inner: usize,
    /// The deepest sibling.
    deepest: usize,
    /// BETWEENs whose AND is still to come.
    betweens: usize,
}

impl Level {
    fn sibling(&mut self) {
        self.deepest = self.deepest.max(self.tokens + self.inner);
        (self.tokens, self.inner) = (0, 0);
    }

    fn depth(mut self) -> usize {
        self.sibling();
        self.kept + self.deepest
    }
}

/// At least how deep a text's parse tree becomes. Every token may nest what stands before or behind it, until something
/// comes that makes siblings: a comma, AND, OR, the parts of a CASE. UNION and JOIN nest across those.
fn depth(text: &[u8]) -> Result<usize, Unterminated> {
    let mut lexer = Lexer::new(text);
    let mut levels = vec![Level::default()];
    while let Some(token) = lexer.token()? {
        let word = if token.kind == Kind::Word { &text[token.start..token.end] } else { &[] };
        let is = |words: &[&[u8]]| words.iter().any(|each| word.eq_ignore_ascii_case(each));
        let Some(level) = levels.last_mut() else { break };
        level.tokens += 1;
        match token.kind {
            Kind::Mark(b',' | b';') => level.sibling(),
            Kind::Mark(b'(' | b'[') => levels.push(Level::default()),
            Kind::Mark(b')' | b']') => {
                // A CASE without END is no CASE.
                while levels.last().is_some_and(|level| level.is_case) {
                    close(&mut levels);
                }
                close(&mut levels);
            }
            Kind::Word if is(&[b"case"]) => levels.push(Level { is_case: true, ..Level::default() }),
            Kind::Word if is(&[b"end"]) && level.is_case => close(&mut levels),
            Kind::Word if is(&[b"when", b"then", b"else", b"or"]) => level.sibling(),
            Kind::Word if is(&[b"between"]) => level.betweens += 1,
            Kind::Word if is(&[b"and"]) && level.betweens > 0 => level.betweens -= 1,
            Kind::Word if is(&[b"and"]) => level.sibling(),
            Kind::Word if is(&[b"union", b"intersect", b"except", b"join"]) => level.kept += 1,
            _ => {}
        }
        if levels.len() > DEPTH_MAX {
            return Ok(levels.len());
        }
    }
    while levels.len() > 1 {
        close(&mut levels);
    }
    Ok(levels.pop().map_or(0, Level::depth))
}

fn close(levels: &mut Vec<Level>) {
    if levels.len() > 1
        && let Some(closed) = levels.pop()
        && let Some(level) = levels.last_mut()
    {
        level.inner = level.inner.max(closed.depth() + 1);
    }
}

/// Leaves out the rows of a leading INSERT … VALUES that are made of constants alone, but for the first row.
fn shorten(text: &str) -> Result<Option<Measured<'_>>, Unterminated> {
    let bytes = text.as_bytes();
    let mut lexer = Lexer::new(bytes);
    let mut token = lexer.token()?;
    if !token.is_some_and(|token| is_word(bytes, token, "insert")) {
        return Ok(None);
    }
    let mut depth = 0_usize;
    while let Some(each) = token {
        match each.kind {
            Kind::Mark(b'(') => depth += 1,
            Kind::Mark(b')') => depth = depth.saturating_sub(1),
            Kind::Mark(b';') => return Ok(None),
            _ => {}
        }
        token = lexer.token()?;
        if depth == 0 && is_word(bytes, each, "values") {
            break;
        }
    }
    let (mut kept, mut from, mut rows_left_out) = (String::new(), 0, 0);
    let mut is_first = true;
    // Each turn takes one row, and the comma before it.
    while let Some(open) = token.filter(|token| token.kind == Kind::Mark(b'(')) {
        let Some((close, is_plain)) = row(bytes, &mut lexer)? else { return Ok(None) };
        let (start, end) = (open.start, close.end);
        if is_plain && !is_first {
            let before = text[..start].rfind(',').unwrap_or(start);
            kept.push_str(&text[from..before.max(from)]);
            from = end;
            rows_left_out += 1;
        }
        is_first = false;
        token = lexer.token()?;
        if !token.is_some_and(|token| token.kind == Kind::Mark(b',')) {
            break;
        }
        token = lexer.token()?;
    }
    kept.push_str(&text[from..]);
    Ok((rows_left_out > 0).then_some(Measured { text: Cow::Owned(kept), rows_left_out }))
}

/// The end of the row that was just opened, and whether it is made of constants alone.
fn row(text: &[u8], lexer: &mut Lexer<'_>) -> Result<Option<(Token, bool)>, Unterminated> {
    let (mut depth, mut is_plain) = (1_usize, true);
    while let Some(token) = lexer.token()? {
        match token.kind {
            Kind::Mark(b'(') => depth += 1,
            Kind::Mark(b')') => depth -= 1,
            Kind::Mark(b',' | b':') | Kind::Text | Kind::Number | Kind::Param => {}
            Kind::Operator => is_plain &= matches!(&text[token.start..token.end], b"-" | b"+"),
            Kind::Word => is_plain &= PLAIN_WORDS.iter().any(|word| is_word(text, token, word)),
            Kind::Quoted | Kind::Mark(_) => is_plain = false,
        }
        if depth == 0 {
            return Ok(Some((token, is_plain)));
        }
    }
    Ok(None)
}

fn is_word(text: &[u8], token: Token, word: &str) -> bool {
    token.kind == Kind::Word && text[token.start..token.end].eq_ignore_ascii_case(word.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_stands_for_all_that_are_like_it() {
        let rows = ", ($1, 'it''s, ('::text, -1.5, now(), null)".repeat(100);
        let text = format!("insert into t (a, b) values (f(), 2){rows}, (f(), 3){rows} on conflict do nothing");
        let measured = measure(&text).expect("parsable");
        assert_eq!(measured.text, "insert into t (a, b) values (f(), 2), (f(), 3) on conflict do nothing");
        assert_eq!(measured.rows_left_out, 200);
    }

    #[test]
    fn what_is_no_list_of_rows_stays_whole() {
        let filler = format!("/* {} */", "x".repeat(SHORTENED_FROM));
        for text in [
            "select 1",
            "insert into t select 1",
            "insert into values (a) values (1)",
            "insert into t select (values (1), (2))",
            "insert into t values (1)",
            "insert into t values (1), (2",
            "insert into t values (1), (f(2)), (\"a\"), ((select 1))",
            "insert into s select 1; insert into t values (1), (2)",
        ] {
            let text = format!("{text}{filler}");
            assert_eq!(measure(&text), Some(Measured { text: Cow::Borrowed(&text), rows_left_out: 0 }), "{text}");
        }
    }

    #[test]
    fn what_is_too_deep_or_too_long_is_told() {
        let deep = |open: &str, close: &str| format!("select {}1{}", open.repeat(2000), close.repeat(2000));
        for text in [
            deep("(", ")"),
            deep("(select ", ")"),
            deep("not ", ""),
            deep("array[", "]"),
            deep("case when ", " then 1 end"),
            deep("", "+1"),
            deep("", "::x"),
            deep("", " is null between 1 and 2"),
            deep("", " union select 1, 2"),
            deep("", " from a cross join b on true and true"),
            deep("((", "),1)"),
            deep("(1 as end, (", "))"),
            deep("1 as case, (", ")"),
        ] {
            assert_eq!(measure(&text), None, "{}", &text[..100]);
        }
        let long = format!("select '{}'", "x".repeat(PARSED_BYTES_MAX));
        assert_eq!(measure(&long), None);
        for text in
            [deep("", ", 1"), deep("true and ", ""), deep("", " or a = (1)"), deep("", ",case when a then 1 end")]
        {
            assert!(measure(&text).is_some(), "{}", &text[..100]);
        }
    }
}
