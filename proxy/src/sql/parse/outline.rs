//! What kind of statement a text is that the parser doesn't know: Postgres may be newer than the parser. Only a text that
//! surely is one statement, and may write rows by what is visible in it, has a kind; what else it does stays hidden.

use super::super::lexer::{Kind, Lexer, Token, Unterminated};
use super::super::statement::{Statement, StatementKind};

/// The one statement of the text.
pub(super) fn statement(text: &[u8]) -> Option<Statement> {
    let kind = kind(text).ok().flatten()?;
    Some(Statement { hidden: true, ..Statement::new(kind) })
}

fn kind(text: &[u8]) -> Result<Option<StatementKind>, Unterminated> {
    let mut lexer = Lexer::new(text);
    let (mut found, mut depth, mut ended) = (None, 0_u32, false);
    let mut first = true;
    while let Some(token) = lexer.token()? {
        if ended {
            return Ok(None);
        }
        match token.kind {
            Kind::Mark(b'(') => depth += 1,
            Kind::Mark(b')') => depth = depth.saturating_sub(1),
            Kind::Mark(b';') => ended = true,
            Kind::Word if found.is_none() && depth == 0 => {
                let word = &text[token.start..token.end];
                found = of_word(word).filter(|kind| !first || *kind != StatementKind::Select);
                if first && found.is_none() && !word.eq_ignore_ascii_case(b"with") {
                    return Ok(None);
                }
            }
            // Where it ends may depend on a setting.
            Kind::Text if is_escaped(text, token) => return Ok(None),
            _ => {}
        }
        first = false;
    }
    Ok(found)
}

fn of_word(word: &[u8]) -> Option<StatementKind> {
    let kinds = [
        (&b"insert"[..], StatementKind::Insert),
        (b"update", StatementKind::Update),
        (b"delete", StatementKind::Delete),
        (b"merge", StatementKind::Merge),
        (b"select", StatementKind::Select),
    ];
    kinds.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name)).map(|(_, kind)| kind)
}

fn is_escaped(text: &[u8], token: Token) -> bool {
    text[token.start..token.end].contains(&b'\\')
}
