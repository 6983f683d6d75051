//! The messages of SCRAM-SHA-256 (RFC 5802, RFC 7677) as a server reads and writes them. Pure text: what a message
//! says, not what follows from it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;

use super::Verifier;
use super::verifier::{Digest32, hmac, sha256};

/// What a client's message has wrong, in the words Postgres uses for the DETAIL of `malformed SCRAM message`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Malformed {
    /// The message doesn't follow the grammar.
    Grammar(&'static str),
    /// The client insists on something that RFC 5802 lets a server refuse.
    Unsupported(&'static str),
}

/// What the client says about channel binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ChannelBinding<'a> {
    /// `n`: the client can't.
    None,
    /// `y`: the client can, but believes that the server can't.
    NotOffered,
    /// `p=NAME`.
    Required(&'a str),
}

/// The client's first message.
#[derive(Debug)]
pub(super) struct ClientFirst<'a> {
    pub(super) channel_binding: ChannelBinding<'a>,
    /// The part before the bare message, which the last message repeats under `c=`.
    pub(super) gs2_header: &'a str,
    pub(super) bare: &'a str,
    pub(super) nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Malformed> {
        let (flag, rest) = text.split_once(',').ok_or(Malformed::Grammar("comma expected"))?;
        let channel_binding = match flag {
            "n" => ChannelBinding::None,
            "y" => ChannelBinding::NotOffered,
            _ => match flag.strip_prefix("p=") {
                Some(name) => ChannelBinding::Required(name),
                None => return Err(Malformed::Grammar("unexpected channel-binding flag")),
            },
        };
        let (authorization, bare) = rest.split_once(',').ok_or(Malformed::Grammar("comma expected"))?;
        if authorization.starts_with("a=") {
            return Err(Malformed::Unsupported("client uses authorization identity, but it is not supported"));
        }
        if !authorization.is_empty() {
            return Err(Malformed::Grammar("unexpected attribute in client-first-message"));
        }
        if bare.starts_with("m=") {
            return Err(Malformed::Unsupported("client requires an unsupported SCRAM extension"));
        }
        let mut attributes = bare.split(',');
        attribute(attributes.next(), 'n')?;
        let nonce = attribute(attributes.next(), 'r')?;
        if nonce.is_empty() || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(Malformed::Grammar("non-printable characters in SCRAM nonce"));
        }
        attributes.try_for_each(extension)?;
        Ok(Self { channel_binding, gs2_header: &text[..text.len() - bare.len()], bare, nonce })
    }
}

/// The client's last message.
#[derive(Debug)]
pub(super) struct ClientFinal<'a> {
    pub(super) channel_binding: &'a str,
    pub(super) nonce: &'a str,
    pub(super) without_proof: &'a str,
    pub(super) proof: Digest32,
}

impl<'a> ClientFinal<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, Malformed> {
        let mut attributes = text.split(',');
        let channel_binding = attribute(attributes.next(), 'c')?;
        let nonce = attribute(attributes.next(), 'r')?;
        let proof_text = attribute(attributes.next_back(), 'p')?;
        attributes.try_for_each(extension)?;
        let proof = STANDARD.decode(proof_text).ok().and_then(|bytes| bytes.try_into().ok());
        let proof = proof.ok_or(Malformed::Grammar("malformed proof in client-final-message"))?;
        let without_proof = &text[..text.len() - proof_text.len() - ",p=".len()];
        Ok(Self { channel_binding, nonce, without_proof, proof })
    }

    /// Whether `c=` repeats what the first message said, with the channel's data for a bound one.
    pub(super) fn binds(&self, gs2_header: &str, channel: &[u8]) -> bool {
        let expected = STANDARD.encode([gs2_header.as_bytes(), channel].concat());
        expected.as_bytes().ct_eq(self.channel_binding.as_bytes()).into()
    }
}

fn attribute(text: Option<&str>, name: char) -> Result<&str, Malformed> {
    text.and_then(|text| text.strip_prefix(name)?.strip_prefix('='))
        .ok_or(Malformed::Grammar("expected attribute not found"))
}

fn extension(text: &str) -> Result<(), Malformed> {
    match text.as_bytes() {
        [name, b'=', ..] if name.is_ascii_alphabetic() => Ok(()),
        _ => Err(Malformed::Grammar("attribute expected")),
    }
}

/// The server's first message.
pub(super) fn server_first(nonce: &str, verifier: &Verifier) -> String {
    format!("r={nonce},s={},i={}", STANDARD.encode(verifier.salt()), verifier.iterations())
}

/// Whether the client's proof shows knowledge of the secret behind `verifier`.
pub(super) fn proof_holds(verifier: &Verifier, auth_message: &str, proof: &Digest32) -> bool {
    let mut client_key = hmac(verifier.stored_key(), &[auth_message.as_bytes()]);
    client_key.iter_mut().zip(proof).for_each(|(byte, proof)| *byte ^= proof);
    sha256(&client_key).ct_eq(verifier.stored_key()).into()
}

/// The server's last message.
pub(super) fn server_final(verifier: &Verifier, auth_message: &str) -> String {
    format!("v={}", STANDARD.encode(hmac(verifier.server_key(), &[auth_message.as_bytes()])))
}
