//! The tokens of a text, as Postgres' scanner would cut it. It knows no grammar and is quick; it serves where a text must
//! be judged before, or instead of, being parsed. Backslashes in plain strings are taken as Postgres takes them by default
//! (standard_conforming_strings).

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A keyword or an unquoted name.
    Word,
    /// A quoted name, `U&"…"` too.
    Quoted,
    /// A string in any notation: `'…'`, `E'…'`, `U&'…'`, `B'…'`, `X'…'`, `N'…'`, `$$…$$`.
    Text,
    /// A number.
    Number,
    /// `$1`.
    Param,
    /// A run of operator characters.
    Operator,
    /// Any other character on its own.
    Mark(u8),
}

/// One token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    /// Where it begins.
    pub(super) start: usize,
    /// Where it ends.
    pub(super) end: usize,
}

/// A string, quoted name or comment has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unterminated;

/// Cuts a text into tokens; blanks and comments are left out.
pub(super) struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Lexer<'a> {
    pub(super) const fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// The next token; `None` at the end.
    pub(super) fn token(&mut self) -> Result<Option<Token>, Unterminated> {
        self.blanks()?;
        let start = self.at;
        let Some(first) = self.peek(0) else { return Ok(None) };
        let kind = match first {
            b'\'' => self.string(false)?,
            b'"' => self.quoted()?,
            b'e' | b'E' if self.peek(1) == Some(b'\'') => {
                self.at += 1;
                self.string(true)?
            }
            b'b' | b'B' | b'x' | b'X' | b'n' | b'N' if self.peek(1) == Some(b'\'') => {
                self.at += 1;
                self.string(false)?
            }
            b'u' | b'U' if self.peek(1) == Some(b'&') && self.peek(2) == Some(b'\'') => {
                self.at += 2;
                self.string(false)?
            }
            b'u' | b'U' if self.peek(1) == Some(b'&') && self.peek(2) == Some(b'"') => {
                self.at += 2;
                self.quoted()?
            }
            b'$' if self.peek(1).is_some_and(|next| next.is_ascii_digit()) => {
                self.at += 1;
                self.skip(|byte| byte.is_ascii_digit());
                Kind::Param
            }
            b'$' => self.dollars()?,
            byte if byte.is_ascii_digit()
                || (byte == b'.' && self.peek(1).is_some_and(|next| next.is_ascii_digit())) =>
            {
                self.number();
                Kind::Number
            }
            byte if starts_word(byte) => {
                self.skip(is_word);
                Kind::Word
            }
            byte if is_operator(byte) => {
                self.operator();
                Kind::Operator
            }
            byte => {
                self.at += 1;
                Kind::Mark(byte)
            }
        };
        Ok(Some(Token { kind, start, end: self.at }))
    }

    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.get(self.at + ahead).copied()
    }

    fn skip(&mut self, belongs: impl Fn(u8) -> bool) {
        let rest = &self.text[self.at..];
        self.at += rest.iter().position(|byte| !belongs(*byte)).unwrap_or(rest.len());
    }

    fn blanks(&mut self) -> Result<(), Unterminated> {
        loop {
            self.skip(is_space);
            match (self.peek(0), self.peek(1)) {
                (Some(b'-'), Some(b'-')) => self.skip(|byte| !matches!(byte, b'\n' | b'\r')),
                (Some(b'/'), Some(b'*')) => self.comment()?,
                _ => return Ok(()),
            }
        }
    }

    /// A comment that may have others in it.
    fn comment(&mut self) -> Result<(), Unterminated> {
        let mut depth = 0_usize;
        loop {
            match (self.peek(0), self.peek(1)) {
                (Some(b'/'), Some(b'*')) => (self.at, depth) = (self.at + 2, depth + 1),
                (Some(b'*'), Some(b'/')) => (self.at, depth) = (self.at + 2, depth - 1),
                (Some(_), _) => self.at += 1,
                (None, _) => return Err(Unterminated),
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }

    /// From the opening quote on. A string goes on behind a line break, in the same notation.
    fn string(&mut self, escapes: bool) -> Result<Kind, Unterminated> {
        loop {
            self.at += 1;
            loop {
                match self.peek(0).ok_or(Unterminated)? {
                    b'\'' if self.peek(1) == Some(b'\'') => self.at += 2,
                    b'\'' => break,
                    b'\\' if escapes => self.at += 2,
                    _ => self.at += 1,
                }
            }
            self.at += 1;
            let end = self.at;
            self.skip(is_space);
            let mut broken = self.text[end..self.at].iter().any(|byte| matches!(byte, b'\n' | b'\r'));
            while self.peek(0) == Some(b'-') && self.peek(1) == Some(b'-') {
                self.skip(|byte| !matches!(byte, b'\n' | b'\r'));
                broken |= self.at < self.text.len();
                self.skip(is_space);
            }
            if !broken || self.peek(0) != Some(b'\'') {
                self.at = end;
                return Ok(Kind::Text);
            }
        }
    }

    fn quoted(&mut self) -> Result<Kind, Unterminated> {
        self.at += 1;
        loop {
            self.skip(|byte| byte != b'"');
            match (self.peek(0), self.peek(1)) {
                (Some(_), Some(b'"')) => self.at += 2,
                (Some(_), _) => break,
                (None, _) => return Err(Unterminated),
            }
        }
        self.at += 1;
        Ok(Kind::Quoted)
    }

    /// `$tag$ … $tag$`, or a dollar sign on its own.
    fn dollars(&mut self) -> Result<Kind, Unterminated> {
        let start = self.at;
        self.at += 1;
        if self.peek(0).is_some_and(starts_word) {
            self.skip(|byte| is_word(byte) && byte != b'$');
        }
        if self.peek(0) != Some(b'$') {
            self.at = start + 1;
            return Ok(Kind::Mark(b'$'));
        }
        self.at += 1;
        let tag = &self.text[start..self.at];
        let rest = &self.text[self.at..];
        let end = rest.windows(tag.len()).position(|window| window == tag).ok_or(Unterminated)?;
        self.at += end + tag.len();
        Ok(Kind::Text)
    }

    fn number(&mut self) {
        loop {
            let before = self.at;
            self.skip(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let exponent = self.at > before && matches!(self.text[self.at - 1], b'e' | b'E');
            match (self.peek(0), self.peek(1)) {
                (Some(b'.'), next) if next != Some(b'.') => self.at += 1,
                (Some(b'+' | b'-'), Some(digit)) if exponent && digit.is_ascii_digit() => self.at += 1,
                _ => return,
            }
        }
    }

    /// An operator ends where a comment begins.
    fn operator(&mut self) {
        while let Some(byte) = self.peek(0).filter(|byte| is_operator(*byte)) {
            if matches!((byte, self.peek(1)), (b'-', Some(b'-')) | (b'/', Some(b'*'))) {
                return;
            }
            self.at += 1;
        }
    }
}

/// What Postgres takes for a blank.
pub(super) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

const fn starts_word(byte: u8) -> bool {
    byte.is_ascii_alphabetic() || byte == b'_' || byte >= 0x80
}

/// Bytes of keywords and unquoted names. Those of other alphabets are counted in: they end no keyword.
pub(super) const fn is_word(byte: u8) -> bool {
    WORDS[byte as usize]
}

static WORDS: [bool; 256] = {
    let mut words = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let ascii = byte as u8;
        words[byte] = starts_word(ascii) || ascii.is_ascii_digit() || ascii == b'$';
        byte += 1;
    }
    words
};

const fn is_operator(byte: u8) -> bool {
    matches!(
        byte,
        b'+' | b'-'
            | b'*'
            | b'/'
            | b'<'
            | b'>'
            | b'='
            | b'~'
            | b'!'
            | b'@'
            | b'#'
            | b'%'
            | b'^'
            | b'&'
            | b'|'
            | b'`'
            | b'?'
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Result<Vec<(Kind, &str)>, Unterminated> {
        let mut lexer = Lexer::new(text.as_bytes());
        let mut tokens = Vec::new();
        while let Some(token) = lexer.token()? {
            tokens.push((token.kind, &text[token.start..token.end]));
        }
        Ok(tokens)
    }

    #[test]
    fn texts_are_cut_as_postgres_cuts_them() {
        use Kind::{Mark, Number, Operator, Param, Quoted, Text, Word};
        for (text, expected) in [
            ("a$1 $1", vec![(Word, "a$1"), (Param, "$1")]),
            ("'it''s' e'it\\'s' U&'\\0041'", vec![(Text, "'it''s'"), (Text, "e'it\\'s'"), (Text, "U&'\\0041'")]),
            ("'a\\' 'b'", vec![(Text, "'a\\'"), (Text, "'b'")]),
            ("'a' \n 'b' 'c'", vec![(Text, "'a' \n 'b'"), (Text, "'c'")]),
            ("e'a' -- c\n '\\'' ", vec![(Text, "e'a' -- c\n '\\''")]),
            ("'a' -- c", vec![(Text, "'a'")]),
            ("\"a\"\"b\" U&\"x\"", vec![(Quoted, "\"a\"\"b\""), (Quoted, "U&\"x\"")]),
            ("$$a'b$$ $x$ $$ $x$ $ 1", vec![(Text, "$$a'b$$"), (Text, "$x$ $$ $x$"), (Mark(b'$'), "$"), (Number, "1")]),
            (
                "1.5e-3 .5 0x1F 1..2 1-2",
                vec![
                    (Number, "1.5e-3"),
                    (Number, ".5"),
                    (Number, "0x1F"),
                    (Number, "1"),
                    (Mark(b'.'), "."),
                    (Number, ".2"),
                    (Number, "1"),
                    (Operator, "-"),
                    (Number, "2"),
                ],
            ),
            (
                "a<=b--c\n+/* /* x */ ' */d",
                vec![(Word, "a"), (Operator, "<="), (Word, "b"), (Operator, "+"), (Word, "d")],
            ),
            ("f(a);", vec![(Word, "f"), (Mark(b'('), "("), (Word, "a"), (Mark(b')'), ")"), (Mark(b';'), ";")]),
        ] {
            assert_eq!(tokens(text), Ok(expected), "{text}");
        }
        for text in ["'a", "e'\\'", "\"a", "/* /* */", "$a$ $b$", "$$"] {
            assert_eq!(tokens(text), Err(Unterminated), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_ends(text in proptest::collection::vec(proptest::prop_oneof![
            proptest::sample::select(&b"'\"$/*-\\eEuU&ax1.;( \n"[..]), proptest::num::u8::ANY], 0..60)) {
            let mut lexer = Lexer::new(&text);
            let mut end = 0;
            while let Ok(Some(token)) = lexer.token() {
                assert!(token.start >= end && token.end > token.start && token.end <= text.len());
                end = token.end;
            }
        }
    }
}
