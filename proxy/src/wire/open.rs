//! The client messages we look into, as borrowed views of their bytes. A view never reaches beyond its message.

use std::ops::Range;

use super::frame::HEAD;

/// A message whose fields don't fit its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid message format")]
pub struct BadFields;

/// A Parse message.
#[derive(Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The statement's name; empty for the unnamed one.
    pub name: &'a [u8],
    /// The query string.
    pub text: &'a [u8],
    /// From the query string to the end of the message: text, terminator and parameter types.
    pub rest: &'a [u8],
}

/// What stands in front of a Bind's formats and values.
#[derive(Debug, PartialEq, Eq)]
pub struct BindHead<'a> {
    /// The portal's name.
    pub portal: &'a [u8],
    /// The statement's name.
    pub statement: &'a [u8],
    /// Bytes of type, length word and both names with their terminators.
    pub bytes: usize,
}

/// What a Describe or a Close is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// A prepared statement.
    Statement(&'a [u8]),
    /// A portal.
    Portal(&'a [u8]),
}

impl<'a> Parse<'a> {
    /// Opens a whole Parse message.
    ///
    /// # Errors
    /// Fields that don't fit the message.
    pub fn open(message: &'a [u8]) -> Result<Self, BadFields> {
        let body = message.get(HEAD..).ok_or(BadFields)?;
        let (name, rest) = cstr(body)?;
        let (text, types) = cstr(rest)?;
        let (count, oids) = types.split_first_chunk::<2>().ok_or(BadFields)?;
        if oids.len() != usize::from(u16::from_be_bytes(*count)) * 4 {
            return Err(BadFields);
        }
        Ok(Self { name, text, rest })
    }
}

impl<'a> BindHead<'a> {
    /// Opens the head of a Bind of which at least the first bytes are there; `None` while a name isn't complete.
    ///
    /// # Errors
    /// Names that reach beyond the message, which has `total` bytes.
    pub fn open(message: &'a [u8], total: usize) -> Result<Option<Self>, BadFields> {
        let seen = &message[..message.len().min(total)];
        let body = seen.get(HEAD..).unwrap_or_default();
        let names = cstr(body).and_then(|(portal, rest)| Ok((portal, cstr(rest)?.0)));
        match names {
            Ok((portal, statement)) => {
                Ok(Some(Self { portal, statement, bytes: HEAD + portal.len() + statement.len() + 2 }))
            }
            Err(BadFields) if seen.len() < total => Ok(None),
            Err(bad) => Err(bad),
        }
    }
}

/// Opens a whole Describe or Close.
///
/// # Errors
/// Neither `S` nor `P`, or a name that doesn't fit the message.
pub fn named(message: &[u8]) -> Result<Named<'_>, BadFields> {
    let (kind, rest) = message.get(HEAD..).and_then(<[u8]>::split_first).ok_or(BadFields)?;
    let (name, rest) = cstr(rest)?;
    match kind {
        b'S' if rest.is_empty() => Ok(Named::Statement(name)),
        b'P' if rest.is_empty() => Ok(Named::Portal(name)),
        _ => Err(BadFields),
    }
}

/// The text of a whole Query.
///
/// # Errors
/// No terminator, or bytes behind it.
pub fn query(message: &[u8]) -> Result<&[u8], BadFields> {
    let (text, rest) = cstr(message.get(HEAD..).ok_or(BadFields)?)?;
    if rest.is_empty() { Ok(text) } else { Err(BadFields) }
}

/// The portal of a whole Execute.
pub fn portal(message: &[u8]) -> Option<&[u8]> {
    cstr(message.get(HEAD..)?).ok().map(|(name, _)| name)
}

/// The most rows that a whole Execute asks for; none is no bound.
pub fn rows_max(message: &[u8]) -> u32 {
    let rest = message.get(HEAD..).and_then(|body| cstr(body).ok()).map(|(_, rest)| rest);
    rest.and_then(|rest| rest.first_chunk::<4>()).map_or(0, |rows| u32::from_be_bytes(*rows))
}

/// The function a FunctionCall calls, as its OID.
pub fn function_oid(message: &[u8]) -> Option<u32> {
    message.get(HEAD..)?.first_chunk::<4>().map(|oid| u32::from_be_bytes(*oid))
}

/// Setting and new value of a whole FunctionCall of `set_config`, in whatever format they come; `None` for NULL.
///
/// # Errors
/// Arguments that don't fit the message, or too few.
pub fn set_config(message: &[u8]) -> Result<[Option<&[u8]>; 2], BadFields> {
    let word = |bytes: &[u8]| bytes.first_chunk::<2>().map(|word| usize::from(u16::from_be_bytes(*word)));
    let body = message.get(HEAD + 4..).ok_or(BadFields)?;
    let formats = word(body).ok_or(BadFields)?;
    let mut rest = body.get(2 + 2 * formats..).ok_or(BadFields)?;
    if word(rest).is_none_or(|count| count < 2) {
        return Err(BadFields);
    }
    rest = &rest[2..];
    let mut arguments = [None; 2];
    for argument in &mut arguments {
        let (length, behind) = rest.split_first_chunk::<4>().ok_or(BadFields)?;
        rest = behind;
        if let Ok(length) = usize::try_from(i32::from_be_bytes(*length)) {
            *argument = Some(rest.get(..length).ok_or(BadFields)?);
            rest = &rest[length..];
        }
    }
    Ok(arguments)
}

/// The process that sent a NotificationResponse.
pub fn notifier(message: &[u8]) -> Option<i32> {
    message.get(HEAD..)?.first_chunk::<4>().map(|pid| i32::from_be_bytes(*pid))
}

/// Channel and payload of a NotificationResponse.
pub fn notification(message: &[u8]) -> Option<(&[u8], &[u8])> {
    let (channel, rest) = cstr(message.get(HEAD + 4..)?).ok()?;
    let (payload, _) = cstr(rest).ok()?;
    Some((channel, payload))
}

/// The status of a ReadyForQuery.
pub fn ready_status(message: &[u8]) -> Option<u8> {
    match message.get(HEAD..)? {
        [status] => Some(*status),
        _ => None,
    }
}

/// The value of a FunctionCallResponse: `None` for NULL.
///
/// # Errors
/// A length that doesn't fit the message.
pub fn function_result(message: &[u8]) -> Result<Option<&[u8]>, BadFields> {
    let (length, value) = message.get(HEAD..).and_then(<[u8]>::split_first_chunk::<4>).ok_or(BadFields)?;
    match usize::try_from(i32::from_be_bytes(*length)) {
        Ok(length) if length == value.len() => Ok(Some(value)),
        Err(_) if value.is_empty() => Ok(None),
        _ => Err(BadFields),
    }
}

/// Name and value of a ParameterStatus.
///
/// # Errors
/// Fields that don't fit the message.
pub fn parameter_status(message: &[u8]) -> Result<(&[u8], &[u8]), BadFields> {
    let (name, rest) = cstr(message.get(HEAD..).ok_or(BadFields)?)?;
    let (value, _) = cstr(rest)?;
    Ok((name, value))
}

/// Where in an ErrorResponse the value of field `code` stands. Every field is optional.
pub fn error_field(message: &[u8], code: u8) -> Option<Range<usize>> {
    let mut at = HEAD;
    loop {
        let field = *message.get(at)?;
        if field == 0 {
            return None;
        }
        let length = message.get(at + 1..)?.iter().position(|byte| *byte == 0)?;
        if field == code {
            return Some(at + 1..at + 1 + length);
        }
        at += length + 2;
    }
}

fn cstr(bytes: &[u8]) -> Result<(&[u8], &[u8]), BadFields> {
    let end = bytes.iter().position(|byte| *byte == 0).ok_or(BadFields)?;
    Ok((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_parse_opens_into_its_fields() {
        let message = b"P\0\0\0\x13s1\0select 1\0\0\0";
        let parse = Parse::open(message).expect("well formed");
        assert_eq!((parse.name, parse.text, parse.rest), (&b"s1"[..], &b"select 1"[..], &b"select 1\0\0\0"[..]));
    }

    #[test]
    fn a_parse_with_more_types_than_bytes_is_refused() {
        assert_eq!(Parse::open(b"P\0\0\0\x0a\0\0\0\x05\0\0"), Err(BadFields));
    }

    #[test]
    fn a_bind_whose_names_are_split_is_awaited_and_one_that_overruns_is_refused() {
        assert_eq!(BindHead::open(b"B\0\0\0\x20p\0s", 33), Ok(None));
        assert_eq!(BindHead::open(b"B\0\0\0\x06ps", 7), Err(BadFields));
        let head = BindHead::open(b"B\0\0\0\x20p\0s1\0\0\0", 33).expect("fits").expect("complete");
        assert_eq!((head.portal, head.statement, head.bytes), (&b"p"[..], &b"s1"[..], 10));
    }

    #[test]
    fn a_field_of_an_error_is_found_and_a_missing_one_is_none() {
        let message = b"E\0\0\0\x11SERROR\0C57014\0\0";
        assert_eq!(error_field(message, b'C').map(|range| &message[range]), Some(&b"57014"[..]));
        assert_eq!(error_field(message, b'M'), None);
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64), total in 0_usize..80) {
            let _ = Parse::open(&bytes);
            let _ = BindHead::open(&bytes, total);
            let _ = named(&bytes);
            let _ = query(&bytes);
            let _ = function_result(&bytes);
            let _ = set_config(&bytes);
            let _ = notifier(&bytes);
            let _ = notification(&bytes);
            let _ = parameter_status(&bytes);
            let _ = error_field(&bytes, b'C');
        }
    }
}
