//! The first packet of a connection: a startup, or one of the three requests that share its form.

use crate::domain::Fault;
use crate::domain::limits::STARTUP_PACKET_BYTES_MAX;

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
        version => Err(Fault::protocol(format!(
            "unsupported frontend protocol {}.{}: server supports 3.0 to 3.2",
            version >> 16,
            version & 0xffff
        ))),
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
    fn protocol_two_and_http_are_refused() {
        assert!(open(b"\0\x02\0\0user\0x\0\0").is_err());
        assert!(open(b"GET / HTTP/1.1\r\n").is_err());
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = open(&bytes);
        }
    }
}
