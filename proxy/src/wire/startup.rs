//! The first packet of a connection: a startup, or one of the three requests that share its form.

use crate::domain::limits::STARTUP_PACKET_BYTES_MAX;
use crate::domain::{Fault, Origin, SqlState};

/// The newest protocol version we speak: 3.2.
pub const PROTOCOL_NEWEST: i32 = 3 << 16 | 2;

const CANCEL_REQUEST: u32 = 80_877_102;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;

/// What a client may begin with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstPacket {
    /// A session.
    Startup(Startup),
    /// SSLRequest: answered with one byte.
    Ssl,
    /// GSSENCRequest: answered with `N`.
    GssEncryption,
    /// CancelRequest: never answered.
    Cancel {
        /// The process id of BackendKeyData.
        pid: i32,
        /// The secret of BackendKeyData, 4 to 256 bytes.
        secret: Vec<u8>,
    },
    /// A session in a protocol before 3, which isn't spoken; its errors have another form.
    Ancient(Fault),
}

/// A startup packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// The minor version of protocol 3 that was asked for.
    pub minor: u16,
    /// Names and values in the order in which they came. `user` is among them.
    pub parameters: Vec<(String, String)>,
}

impl Startup {
    /// The last value of a parameter, as Postgres takes it.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.iter().rev().find(|(each, _)| each == name).map(|(_, value)| value.as_str())
    }

    /// Whether a replication connection is asked for.
    ///
    /// # Errors
    /// A value that says neither yes nor no.
    pub fn asks_for_replication(&self) -> Result<bool, Fault> {
        match self.parameter("replication").map(|value| (value, boolean(value))) {
            None | Some((_, Some(false))) => Ok(false),
            Some(("database", _) | (_, Some(true))) => Ok(true),
            Some((value, None)) => {
                let text = format!("invalid value for parameter \"replication\": \"{value}\"");
                Err(Fault::new(Origin::Client, SqlState::INVALID_PARAMETER_VALUE, text)
                    .hint("Valid values are: \"false\", 0, \"true\", 1, \"database\"."))
            }
        }
    }

    /// The protocol options (`_pq_.…`) that were asked for. We know none.
    pub fn protocol_options(&self) -> impl Iterator<Item = &str> {
        self.parameters.iter().map(|(name, _)| name.as_str()).filter(|name| name.starts_with("_pq_."))
    }
}

/// The length of a first packet, its length word included.
///
/// # Errors
/// A length outside 8 … [`STARTUP_PACKET_BYTES_MAX`].
pub fn first_packet_bytes(word: [u8; 4]) -> Result<usize, Fault> {
    let length = u32::from_be_bytes(word) as usize;
    if (8..=STARTUP_PACKET_BYTES_MAX).contains(&length) {
        Ok(length)
    } else {
        Err(Fault::protocol("invalid length of startup packet"))
    }
}

/// Opens a first packet without its length word.
///
/// # Errors
/// An unknown protocol version, or fields that don't fit the packet.
pub fn open(packet: &[u8]) -> Result<FirstPacket, Fault> {
    let invalid = || Fault::protocol("invalid startup packet layout");
    let (code, body) = packet.split_first_chunk::<4>().ok_or_else(invalid)?;
    match u32::from_be_bytes(*code) {
        SSL_REQUEST if body.is_empty() => Ok(FirstPacket::Ssl),
        GSSENC_REQUEST if body.is_empty() => Ok(FirstPacket::GssEncryption),
        CANCEL_REQUEST => {
            let (pid, secret) = body.split_first_chunk::<4>().ok_or_else(invalid)?;
            if !(4..=256).contains(&secret.len()) {
                return Err(invalid());
            }
            Ok(FirstPacket::Cancel { pid: i32::from_be_bytes(*pid), secret: secret.to_vec() })
        }
        version if version >> 16 == 3 => {
            let minor = u16::try_from(version & 0xffff).unwrap_or(u16::MAX);
            Ok(FirstPacket::Startup(Startup { minor, parameters: parameters(body)? }))
        }
        version => {
            let (major, minor) = (version >> 16, version & 0xffff);
            let text = format!("unsupported frontend protocol {major}.{minor}: server supports 3.0 to 3.2");
            let fault = Fault::new(Origin::Client, SqlState::FEATURE_NOT_SUPPORTED, text);
            if major < 3 { Ok(FirstPacket::Ancient(fault)) } else { Err(fault) }
        }
    }
}

/// A boolean as Postgres reads one: any beginning of its words that is no other's.
fn boolean(text: &str) -> Option<bool> {
    let text = text.to_ascii_lowercase();
    let begins = |word: &str, least: usize| text.len() >= least && word.starts_with(&text);
    if begins("true", 1) || begins("yes", 1) || text == "on" || text == "1" {
        Some(true)
    } else if begins("false", 1) || begins("no", 1) || begins("off", 2) || text == "0" {
        Some(false)
    } else {
        None
    }
}

fn parameters(mut body: &[u8]) -> Result<Vec<(String, String)>, Fault> {
    let mut all = Vec::new();
    loop {
        let name = text(&mut body)?;
        if name.is_empty() {
            return if body.is_empty() {
                Ok(all)
            } else {
                Err(Fault::protocol("invalid startup packet layout: expected terminator as last byte"))
            };
        }
        let value = text(&mut body)?;
        all.push((name, value));
    }
}

fn text(body: &mut &[u8]) -> Result<String, Fault> {
    let end = body
        .iter()
        .position(|byte| *byte == 0)
        .ok_or_else(|| Fault::protocol("invalid startup packet layout: expected terminator as last byte"))?;
    let text = String::from_utf8(body[..end].to_vec())
        .map_err(|_| Fault::protocol("a startup parameter isn't valid UTF-8"))?;
    *body = &body[end + 1..];
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_startup_opens_into_its_parameters() {
        let packet = b"\0\x03\0\0user\0acme\0database\0app\0\0";
        let FirstPacket::Startup(startup) = open(packet).expect("well formed") else { panic!("a startup") };
        assert_eq!(
            (startup.minor, startup.parameter("user"), startup.parameter("database")),
            (0, Some("acme"), Some("app"))
        );
    }

    #[test]
    fn the_three_requests_are_told_apart() {
        assert_eq!(open(&80_877_103_u32.to_be_bytes()), Ok(FirstPacket::Ssl));
        assert_eq!(open(&80_877_104_u32.to_be_bytes()), Ok(FirstPacket::GssEncryption));
        let cancel = [&80_877_102_u32.to_be_bytes()[..], &7_i32.to_be_bytes(), b"abcd"].concat();
        assert_eq!(open(&cancel), Ok(FirstPacket::Cancel { pid: 7, secret: b"abcd".to_vec() }));
    }

    #[test]
    fn lengths_that_no_packet_has_are_refused() {
        for length in [0_u32, 7, 10_001, u32::MAX] {
            assert!(first_packet_bytes(length.to_be_bytes()).is_err(), "{length}");
        }
    }

    #[test]
    fn other_protocols_are_refused_in_postgres_words() {
        for (bytes, version) in
            [(&b"\0\x02\0\0user\0x\0\0"[..], "2.0"), (b"\0\x04\0\0\0", "4.0"), (b"GET / HTTP", "18245.21536")]
        {
            let (fault, is_ancient) = match open(bytes) {
                Ok(FirstPacket::Ancient(fault)) => (fault, true),
                other => (other.expect_err(version), false),
            };
            assert_eq!((fault.sqlstate, is_ancient), (SqlState::FEATURE_NOT_SUPPORTED, version == "2.0"));
            assert_eq!(fault.message, format!("unsupported frontend protocol {version}: server supports 3.0 to 3.2"));
        }
    }

    #[test]
    fn whether_replication_is_asked_for_is_read_as_postgres_reads_it() {
        let asks = |value: &str| {
            Startup { minor: 0, parameters: vec![("replication".to_owned(), value.to_owned())] }.asks_for_replication()
        };
        for yes in ["database", "true", "T", "on", "Yes", "y", "1"] {
            assert_eq!(asks(yes), Ok(true), "{yes}");
        }
        for no in ["false", "f", "of", "OFF", "n", "0"] {
            assert_eq!(asks(no), Ok(false), "{no}");
        }
        for neither in ["", "o", "2", "Database", "truely", "\u{e4}"] {
            assert_eq!(asks(neither).expect_err(neither).sqlstate, SqlState::INVALID_PARAMETER_VALUE);
        }
        assert_eq!(Startup { minor: 0, parameters: Vec::new() }.asks_for_replication(), Ok(false));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = open(&bytes);
        }
    }
}
