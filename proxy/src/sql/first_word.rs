//! What the first word of a text tells, where the text can't be parsed or isn't there as a whole.

use super::lexer::{Kind, Lexer};

/// What may execute prepared statements: EXECUTE itself, and CREATE TABLE … AS EXECUTE.
const EXECUTES: [&str; 2] = ["execute", "create"];

/// Whether a text that begins so may be one that executes prepared statements. Of one that isn't there as a whole it may, if
/// its first word isn't there.
pub fn may_execute(text: &[u8], is_whole: bool) -> bool {
    let mut lexer = Lexer::new(text);
    loop {
        match lexer.token() {
            // An empty statement in front of it is none.
            Ok(Some(token)) if token.kind == Kind::Mark(b';') => {}
            Ok(Some(token)) if is_whole || token.end < text.len() => {
                let word = &text[token.start..token.end];
                let begins = EXECUTES.iter().any(|each| word.eq_ignore_ascii_case(each.as_bytes()));
                return token.kind == Kind::Word && begins && (!is_whole || names_it(text));
            }
            // What has no end Postgres refuses itself, and what has no statement does nothing.
            Ok(_) | Err(_) => return !is_whole,
        }
    }
}

/// Whether the keyword is there at all, which has one spelling. What is a string depends on a setting.
fn names_it(text: &[u8]) -> bool {
    text.windows(EXECUTES[0].len()).any(|each| each.eq_ignore_ascii_case(EXECUTES[0].as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_executes_is_found_behind_whatever_is_nothing() {
        for text in [
            "execute a",
            "EXECUTE a",
            ";; /* a /* b */ select */ -- c\n\t\x0b\x0c Execute(1)",
            "create table t as execute a",
        ] {
            assert!(may_execute(text.as_bytes(), true), "{text}");
            let long = format!("{text} {}", " ".repeat(99));
            assert!(may_execute(long.as_bytes(), false), "{text}");
        }
        for text in [
            "select execute",
            "(select 1)",
            "",
            ";",
            "'execute'",
            "\"execute\"",
            "/* execute",
            "executes",
            "create table t ()",
        ] {
            assert!(!may_execute(text.as_bytes(), true), "{text}");
        }
    }

    #[test]
    fn what_isnt_there_yet_may_be_anything() {
        for text in ["", "/* a", "-- b", "  ", "sel", "select", ";", "'a", "\"a"] {
            assert!(may_execute(text.as_bytes(), false), "{text}");
        }
        for text in ["select ", "(select", "insert into", "/* a */ with a as"] {
            assert!(!may_execute(text.as_bytes(), false), "{text}");
        }
    }
}
