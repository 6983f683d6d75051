//! Where a text speaks of channels, and the same text with other names for them. What the names are is told by whoever
//! asks.

use super::lexer::{Kind, Lexer, Token, Unterminated};

/// One place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mention {
    /// Where what is to be replaced begins, in bytes of the text.
    pub start: usize,
    /// Where it ends; where it begins, if something is to be put in.
    pub end: usize,
    /// What it is.
    pub channel: Channel,
}

/// What a place is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Channel {
    /// The name in LISTEN, as Postgres reads it: folded, unescaped and cut to its length.
    Listen(Box<str>),
    /// The name in UNLISTEN or NOTIFY.
    Named(Box<str>),
    /// The schema of a call of `pg_notify`, or where it would stand.
    Call,
}

impl Channel {
    /// The name, where it stands in the text.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Listen(name) | Self::Named(name) => Some(name),
            Self::Call => None,
        }
    }
}

/// A text with other names for its channels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Renamed {
    /// The text.
    pub text: Vec<u8>,
    /// What of the new text stands for what of the old one.
    pub shifts: Shifts,
}

/// What changed places when a text was rewritten, in characters, in the order of the text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shifts(Vec<Shift>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shift {
    /// Where it begins in the old text, from 0.
    start: usize,
    old: usize,
    new: usize,
}

impl Shifts {
    /// Where in the old text stands what has this position in the new one; positions count characters, from 1.
    pub fn back(&self, position: usize) -> usize {
        // How much longer the new text is up to here.
        let mut longer = 0_isize;
        for shift in &self.0 {
            let begins = shift.start.saturating_add_signed(longer) + 1;
            if position < begins {
                break;
            }
            if position < begins + shift.new {
                return shift.start + 1;
            }
            longer += shift.new as isize - shift.old as isize;
        }
        position.saturating_add_signed(-longer)
    }
}

/// The text with what stands at its mentions replaced. `name` says what, or that it can't be said.
pub fn renamed<'m>(
    text: &[u8],
    mentions: &'m [Mention],
    mut name: impl FnMut(&'m Channel) -> Option<String>,
) -> Option<Renamed> {
    let mut renamed = Renamed { text: Vec::with_capacity(text.len() + 64 * mentions.len()), shifts: Shifts::default() };
    let (mut from, mut characters) = (0, 0);
    for mention in mentions {
        let (before, replaced) = (text.get(from..mention.start)?, text.get(mention.start..mention.end)?);
        let new = match (&mention.channel, name(&mention.channel)?) {
            (Channel::Call, schema) if replaced.is_empty() => format!("{schema}."),
            (Channel::Call, schema) => schema,
            (_, name) => format!("\"{name}\""),
        };
        renamed.text.extend_from_slice(before);
        renamed.text.extend_from_slice(new.as_bytes());
        characters += count(before);
        let shift = Shift { start: characters, old: count(replaced), new: count(new.as_bytes()) };
        characters += shift.old;
        renamed.shifts.0.push(shift);
        from = mention.end;
    }
    renamed.text.extend_from_slice(text.get(from..)?);
    Some(renamed)
}

fn count(text: &[u8]) -> usize {
    String::from_utf8_lossy(text).chars().count()
}

/// Where the name stands in a LISTEN, UNLISTEN or NOTIFY, which begins somewhere behind `from`.
pub(super) fn name_at(text: &str, from: usize) -> Option<(usize, usize)> {
    let mut lexer = Lexer::new(text.get(from..)?.as_bytes());
    let mut next = || lexer.token().ok().flatten();
    next().filter(|token| token.kind == Kind::Word)?;
    let name = next().filter(|token| matches!(token.kind, Kind::Word | Kind::Quoted))?;
    Some((from + name.start, from + name_end(&text[from..], name, next)))
}

/// Where the schema of a call stands whose name begins at `from`.
pub(super) fn schema_at(text: &str, from: usize) -> Option<(usize, usize)> {
    let mut lexer = Lexer::new(text.get(from..)?.as_bytes());
    let mut next = || lexer.token().ok().flatten();
    let first = next().filter(|token| matches!(token.kind, Kind::Word | Kind::Quoted))?;
    let mut end = first.end;
    let mut token = next();
    if token.is_some_and(|token| is_word(&text[from..], token, "uescape")) {
        end = next()?.end;
        token = next();
    }
    match token?.kind {
        Kind::Mark(b'.') => Some((from, from + end)),
        Kind::Mark(b'(') => Some((from, from)),
        _ => None,
    }
}

/// Where a name ends: `U&"…"` may be followed by what its escapes begin with.
fn name_end(text: &str, name: Token, mut next: impl FnMut() -> Option<Token>) -> usize {
    match next() {
        Some(token) if name.kind == Kind::Quoted && is_word(text, token, "uescape") => {
            next().map_or(name.end, |escape| escape.end)
        }
        _ => name.end,
    }
}

fn is_word(text: &str, token: Token, word: &str) -> bool {
    token.kind == Kind::Word && text[token.start..token.end].eq_ignore_ascii_case(word)
}

/// What begins a statement that is about channels.
const BEGINNINGS: [&str; 3] = ["listen", "unlisten", "notify"];

/// Whether in a text that isn't understood such a statement may be hidden. One alone isn't, where the parser has looked at
/// it: what that doesn't take for one is none for Postgres either, and gets its own error.
pub(super) fn may_hide(text: &[u8], was_parsed: bool) -> bool {
    if !mentions(text) {
        return false;
    }
    match beginnings(text) {
        Ok((statements, found)) => found && (statements > 1 || !was_parsed),
        Err(Unterminated) => true,
    }
}

/// Whether one of the words is anywhere in a text.
pub fn mentions(text: &[u8]) -> bool {
    // UNLISTEN has LISTEN in it.
    ["listen", "notify"].iter().any(|word| text.windows(word.len()).any(|at| at.eq_ignore_ascii_case(word.as_bytes())))
}

/// How many statements there are, and whether one of them begins with such a word.
fn beginnings(text: &[u8]) -> Result<(usize, bool), Unterminated> {
    let mut lexer = Lexer::new(text);
    let (mut statements, mut found, mut begins) = (0, false, true);
    while let Some(token) = lexer.token()? {
        let ends = token.kind == Kind::Mark(b';');
        if begins && !ends {
            statements += 1;
            let word = &text[token.start..token.end];
            found |= BEGINNINGS.iter().any(|each| word.eq_ignore_ascii_case(each.as_bytes()));
        }
        begins = ends;
    }
    Ok((statements, found))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(text: &str, mentions: &[Mention]) -> Renamed {
        renamed(text.as_bytes(), mentions, |channel| Some(channel.name().map_or("cordon".into(), |_| "hash".into())))
            .expect("renamed")
    }

    #[test]
    fn names_and_schemas_are_found_in_every_spelling() {
        let name = |text: &str| name_at(text, 0).map(|(start, end)| text[start..end].to_owned());
        for (text, found) in [
            ("listen News", "News"),
            (" /* listen x */ -- y\n NOTIFY \"a \"\"b\" , 'payload'", "\"a \"\"b\""),
            ("unlisten U&\"\\0061\" uescape '!'", "U&\"\\0061\" uescape '!'"),
            ("listen é", "é"),
        ] {
            assert_eq!(name(text).as_deref(), Some(found), "{text}");
        }
        assert_eq!(name("unlisten *"), None);
        let schema = |text: &str| schema_at(text, 0).map(|(start, end)| text[start..end].to_owned());
        assert_eq!(schema("pg_notify ('a')").as_deref(), Some(""));
        assert_eq!(schema("pg_catalog . \"pg_notify\"('a')").as_deref(), Some("pg_catalog"));
        assert_eq!(
            schema("U&\"pg!005fcatalog\" UESCAPE '!' . pg_notify()").as_deref(),
            Some("U&\"pg!005fcatalog\" UESCAPE '!'")
        );
    }

    #[test]
    fn positions_lead_back_to_what_the_client_wrote() {
        let text = "é; listen ab; select pg_notify(x), y";
        let at = |part: &str| text.find(part).expect("there");
        let mentions = [
            Mention { start: at("ab"), end: at("ab") + 2, channel: Channel::Listen("ab".into()) },
            Mention { start: at("pg_n"), end: at("pg_n"), channel: Channel::Call },
        ];
        let Renamed { text: new, shifts } = rewritten(text, &mentions);
        let new = String::from_utf8(new).expect("text");
        assert_eq!(new, "é; listen \"hash\"; select cordon.pg_notify(x), y");
        let position = |text: &str, part: &str| text[..text.find(part).expect("there")].chars().count() + 1;
        for part in ["é", "listen", "; select", "pg_notify", "x)", "y"] {
            assert_eq!(shifts.back(position(&new, part)), position(text, part), "{part}");
        }
        assert_eq!(shifts.back(position(&new, "hash")), position(text, "ab"));
    }

    #[test]
    fn only_a_statement_among_others_can_be_hidden() {
        for text in ["selec 1; listen x", "listen x; selec 1", "NOTIFY x; ;'", "selec 'listen"] {
            assert!(may_hide(text.as_bytes(), true), "{text}");
        }
        assert!(may_hide(b"notify x, '\xe9'", false) && may_hide(b"/* long */ listen x", false));
        for text in ["listen \"\"", "notify", "selec 'x; listen y'", "selec 1; select 'notify'", "selec 1"] {
            assert!(!may_hide(text.as_bytes(), true), "{text}");
        }
    }
}
