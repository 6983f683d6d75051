//! A statement's text without its data, for logs and the audit trail: every literal becomes a parameter, comments go, and
//! blanks become one. It works on tokens, not on a parse tree, so that nothing a literal can stand in is forgotten.

use std::sync::Arc;

use super::lexer::{Kind, Lexer, Token, Unterminated};

/// The longest normalized text, in bytes; what is longer is cut off and ends with an ellipsis.
pub const NORMALIZED_BYTES_MAX: usize = 2048;

/// The text with literals replaced by parameters that it doesn't have yet. `None` when that can't be done surely: it isn't
/// UTF-8, a string has no end, or where it ends depends on a setting.
pub fn normalize(text: &[u8]) -> Option<Arc<str>> {
    let mut out = String::new();
    written(std::str::from_utf8(text).ok()?, &mut out).ok()?.then(|| out.into())
}

/// The whole of it, if it isn't so long that some was cut off, in memory that is lent: nobody keeps it who knows it already.
pub(super) fn template<'a>(text: &[u8], out: &'a mut String) -> Option<&'a str> {
    out.clear();
    let is_sure = written(std::str::from_utf8(text).ok()?, out).ok()?;
    (is_sure && out.len() <= NORMALIZED_BYTES_MAX).then_some(out)
}

/// Writes it, and says whether it is sure.
fn written(text: &str, out: &mut String) -> Result<bool, Unterminated> {
    let mut next = 1 + highest_param(text)?;
    out.reserve(text.len().min(NORMALIZED_BYTES_MAX));
    let mut lexer = Lexer::new(text.as_bytes());
    let (mut end, mut place) = (0, Place::Start);
    while let Some(token) = lexer.token()? {
        let part = &text[token.start..token.end];
        if is_doubtful(token.kind, part) {
            return Ok(false);
        }
        place = place.after(token, part);
        if place == Place::ValueGoesOn {
            end = token.end;
            continue;
        }
        if token.start > end && !out.is_empty() {
            out.push(' ');
        }
        if place == Place::Value || matches!(token.kind, Kind::Text | Kind::Number) {
            out.push('$');
            out.push_str(itoa::Buffer::new().format(next));
            next += 1;
        } else {
            out.push_str(part);
        }
        end = token.end;
        if out.len() > NORMALIZED_BYTES_MAX {
            let cut = (0..=NORMALIZED_BYTES_MAX).rev().find(|at| out.is_char_boundary(*at)).unwrap_or(0);
            out.truncate(cut);
            out.push('…');
            // The rest may still be doubtful.
            while let Some(token) = lexer.token()? {
                if is_doubtful(token.kind, &text[token.start..token.end]) {
                    return Ok(false);
                }
            }
            break;
        }
    }
    Ok(true)
}

/// Whether a plain string ends in a backslash: with standard_conforming_strings off it would go on.
fn is_doubtful(kind: Kind, part: &str) -> bool {
    kind == Kind::Text && !part.starts_with(['e', 'E', '$']) && part.contains("\\'")
}

fn highest_param(text: &str) -> Result<u32, Unterminated> {
    if !text.bytes().any(|byte| byte == b'$') {
        return Ok(0);
    }
    let mut lexer = Lexer::new(text.as_bytes());
    let mut highest = 0;
    while let Some(token) = lexer.token()? {
        if token.kind == Kind::Param {
            let number = text[token.start + 1..token.end].parse().unwrap_or(0);
            highest = highest.max(number).min(u32::from(u16::MAX));
        }
    }
    Ok(highest)
}

/// Where in a statement a token stands. The values of SET may be bare words, so they are data whatever they look like.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first token of a statement.
    Start,
    /// In CREATE or ALTER, before a SET.
    Definition,
    /// Behind SET, before the value.
    Set,
    /// Behind `=` or TO.
    BeforeValue,
    /// At the first token of a value.
    Value,
    /// At a further one.
    ValueGoesOn,
    /// Anywhere else.
    Elsewhere,
}

impl Place {
    fn after(self, token: Token, part: &str) -> Self {
        let is = |words: &[&str]| token.kind == Kind::Word && words.iter().any(|word| part.eq_ignore_ascii_case(word));
        match self {
            _ if token.kind == Kind::Mark(b';') => Self::Start,
            Self::Start | Self::Definition if is(&["set"]) => Self::Set,
            Self::Start if is(&["alter", "create"]) => Self::Definition,
            Self::Start => Self::Elsewhere,
            Self::Set if is(&["to", "authorization", "role", "zone", "names", "schema"]) => Self::BeforeValue,
            Self::Set if token.kind == Kind::Operator && part.starts_with('=') => Self::BeforeValue,
            Self::BeforeValue => Self::Value,
            Self::Value | Self::ValueGoesOn => Self::ValueGoesOn,
            Self::Set | Self::Definition | Self::Elsewhere => self,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalized(text: &str) -> String {
        normalize(text.as_bytes()).map_or_else(|| "none".to_owned(), |text| text.to_string())
    }

    #[test]
    fn literals_of_every_notation_become_parameters() {
        for (text, expected) in [
            (
                "select  *\n from \"My T\" where a = 'x' -- mine\n and b=$2",
                "select * from \"My T\" where a = $3 and b=$2",
            ),
            (
                "select 1, -2.5e3, E'a\\'b', $$c$$, B'01', x'1f', U&'\\0041', N'd'",
                "select $1, -$2, $3, $4, $5, $6, $7, $8",
            ),
            ("alter role a password 'secret'", "alter role a password $1"),
            ("notify c, 'payload'", "notify c, $1"),
            ("do $do$ begin secret; end $do$", "do $1"),
            ("set app.token = s3cret", "set app.token = $1"),
            ("SET LOCAL a.b TO x, y; select 1", "SET LOCAL a.b TO $1; select $2"),
            ("set time zone utc", "set time zone $1"),
            ("set role nobody", "set role $1"),
            ("alter role r set app.token = s3cret", "alter role r set app.token = $1"),
            ("update t set a = b", "update t set a = b"),
            ("select 'a'\n'b', /* c */ f('d')", "select $1, f($2)"),
            ("", ""),
        ] {
            assert_eq!(normalized(text), expected, "{text}");
        }
    }

    #[test]
    fn what_cannot_be_done_surely_isnt_done() {
        for text in ["select 'a", "select 'it\\'s secret'", "select \"a", "select $a$ b"] {
            assert_eq!(normalized(text), "none", "{text}");
        }
        assert_eq!(normalize(b"select '\xff'"), None);
    }

    #[test]
    fn a_long_text_is_cut_and_still_has_no_literal() {
        let text = format!("insert into t values {}", "('secret', 4711), ".repeat(10_000));
        let told = normalized(&text);
        assert!(told.len() <= NORMALIZED_BYTES_MAX + 3 && told.ends_with('…'), "{}", told.len());
        assert!(!told.contains("secret") && !told.contains("4711"));
        assert_eq!(normalized(&format!("{text} 'it\\'s'")), "none");
    }

    proptest::proptest! {
        #[test]
        fn no_literal_survives(
            before in "[a-z ,(=]{0,12}",
            literal in "[A-Z0-9 ;\"$/*-]{1,12}",
            form in 0..6_usize,
            after in "[a-z ,)]{0,12}",
        ) {
            let secret = format!("SECRET{literal}");
            let written = match form {
                0 => format!("'{secret}'"),
                1 => format!("E'\\'{secret}'"),
                2 => format!("$t${secret}$t$"),
                3 => format!("U&'{secret}'"),
                4 => format!("'x' \n '{secret}'"),
                _ => format!("''''||'{secret}'"),
            };
            if let Some(told) = normalize(format!("{before} {written} {after}").as_bytes()) {
                assert!(!told.contains("SECRET"), "{told}");
            }
        }
    }
}
