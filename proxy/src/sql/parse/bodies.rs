//! Visible attempts in what isn't taken apart node by node: definitions of objects, and the bodies of functions and DO,
//! which are text in a language of their own. It goes by tokens.

use super::super::guard_hit::{GuardHit, SCHEMA};
use super::super::lexer::{Kind, Lexer, Token};
use super::attempts::Attempts;

/// How deep strings may stand in strings (EXECUTE in a body).
const NESTED_MAX: usize = 3;
/// The longest body that is looked at, in bytes.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// A token as it is compared: a name as Postgres would look it up, the contents of a string.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    Name(String),
    Text(String),
    Mark(u8),
    Other,
}

impl Part {
    fn is(&self, words: &[&str]) -> bool {
        matches!(self, Self::Name(name) if words.contains(&name.as_str()))
    }

    fn name(&self) -> Option<&str> {
        match self {
            Self::Name(name) => Some(name),
            _ => None,
        }
    }
}

impl Attempts<'_> {
    /// The definition of an object. `calls`: expressions stand in it, in which `cordon.workspace_id()` is a call.
    pub(super) fn definition(&mut self, text: &str, calls: bool) {
        let Some(parts) = parts(text) else { return };
        self.names(&parts, calls);
    }

    /// The body of a function or of DO, or a statement that one of them makes.
    pub(super) fn body(&mut self, text: &str) {
        self.nested(text, NESTED_MAX);
    }

    fn nested(&mut self, text: &str, depth: usize) {
        let Some(parts) = parts(text) else { return };
        self.names(&parts, true);
        let mut executes = false;
        for (at, part) in parts.iter().enumerate() {
            let rest = &parts[at + 1..];
            match part {
                Part::Mark(b';') => executes = false,
                Part::Text(text) if executes && depth > 0 => self.nested(text, depth - 1),
                part if part.is(&["execute"]) => executes = true,
                part if part.is(&["set_config"]) => self.body_call(rest),
                // SET of an UPDATE stands behind a name.
                part if part.is(&["set", "reset"]) && begins(&parts[..at]) => self.body_set(part.is(&["set"]), rest),
                part if part.is(&["alter", "create", "drop"]) && begins(&parts[..at]) => self.body_alter(rest),
                _ => {}
            }
        }
    }

    /// Names in the schema, wherever they stand.
    fn names(&mut self, parts: &[Part], calls: bool) {
        for (at, _) in parts.iter().enumerate().filter(|(_, part)| part.is(&[SCHEMA])) {
            let (before, behind) = (at.checked_sub(1).map(|at| &parts[at]), &parts[at + 1..]);
            let named = match behind {
                [Part::Mark(b'.'), Part::Name(name), Part::Mark(b'('), Part::Mark(b')'), ..]
                    if calls && name == "workspace_id" && !before.is_some_and(|before| before.is(&["function"])) =>
                {
                    continue;
                }
                [Part::Mark(b'.'), Part::Name(name), ..] => format!("{SCHEMA}.{name}"),
                _ if before.is_some_and(|before| before.is(&["schema", "exists"])) => SCHEMA.to_owned(),
                _ => continue,
            };
            if before != Some(&Part::Mark(b'.')) {
                self.hit(GuardHit::NamesSchema(named.as_str().into()));
            }
        }
    }

    fn body_call(&mut self, rest: &[Part]) {
        if let [Part::Mark(b'('), Part::Text(setting), ..] = rest {
            let value = match rest.get(3) {
                Some(Part::Text(value)) => Some(value.as_str()),
                _ => None,
            };
            self.set_config(&setting.to_ascii_lowercase(), value);
        }
    }

    fn body_set(&mut self, sets: bool, rest: &[Part]) {
        let rest = match rest {
            [first, rest @ ..]
                if first.is(&["local", "session"]) && !rest.first().is_some_and(|next| next.is(&["authorization"])) =>
            {
                rest
            }
            rest => rest,
        };
        let is = |at: usize, words: &[&str]| rest.get(at).is_some_and(|part| part.is(words));
        let takes = if is(0, &["session"]) && is(1, &["authorization"]) {
            sets && !is(2, &["default"])
        } else {
            sets && is(0, &["role"]) && !is(1, &["none", "default"])
        };
        if takes {
            self.hit(GuardHit::ChangesRole);
        } else if let [Part::Name(class), Part::Mark(b'.'), Part::Name(name), ..] = rest {
            self.setting(&format!("{class}.{name}").to_ascii_lowercase());
        }
    }

    fn body_alter(&mut self, rest: &[Part]) {
        let mapping = rest.get(1).is_some_and(|next| next.is(&["mapping"]));
        let command = match rest.first().and_then(Part::name) {
            Some("role" | "user" | "group") if !mapping => "ALTER ROLE",
            Some("database") => "ALTER DATABASE",
            Some("system") => "ALTER SYSTEM",
            _ => return,
        };
        self.hit(GuardHit::AltersRole(command));
    }
}

/// Whether a statement begins behind these parts.
fn begins(before: &[Part]) -> bool {
    match before.last() {
        None | Some(Part::Mark(b';')) => true,
        Some(part) => part.is(&["begin", "then", "else", "loop", "atomic"]),
    }
}

/// The tokens of a text; `None` if it is too long or can't be cut.
fn parts(text: &str) -> Option<Vec<Part>> {
    if text.len() > BODY_BYTES_MAX {
        return None;
    }
    let mut lexer = Lexer::new(text.as_bytes());
    let mut parts = Vec::new();
    while let Some(token) = lexer.token().ok()? {
        parts.push(part(token, &text[token.start..token.end]));
    }
    Some(parts)
}

fn part(token: Token, text: &str) -> Part {
    match token.kind {
        Kind::Word => Part::Name(text.to_ascii_lowercase()),
        Kind::Quoted => {
            let escaped = text.starts_with(['u', 'U']);
            let inner = text.trim_start_matches(['u', 'U', '&']).trim_matches('"').replace("\"\"", "\"");
            Part::Name(if escaped { unescaped(&inner) } else { inner })
        }
        Kind::Text if text.starts_with('\'') => Part::Text(text.trim_matches('\'').replace("''", "'")),
        Kind::Text if text.starts_with('$') => {
            let tag = text[1..].find('$').map_or(0, |at| at + 2);
            Part::Text(text.get(tag..text.len() - tag).unwrap_or_default().to_owned())
        }
        Kind::Text => Part::Other,
        Kind::Mark(mark) => Part::Mark(mark),
        Kind::Number | Kind::Param | Kind::Operator => Part::Other,
    }
}

/// The name that `\0063` and `\+000063` spell.
fn unescaped(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let (skip, digits) = if rest.starts_with('+') { (1, 6) } else { (0, 4) };
        let point =
            rest.get(skip..skip + digits).and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
        if let Some(point) = point {
            out.push(point);
            rest = &rest[skip + digits..];
        }
    }
    out + rest
}
