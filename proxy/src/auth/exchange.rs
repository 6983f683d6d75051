//! The server's side of authentication as a machine: SCRAM-SHA-256 (Postgres docs, "SASL Authentication") or a plain
//! password. It takes and gives message bodies without type and length; it knows no socket, no clock and no
//! randomness of its own.
//!
//! Whether a key exists, is revoked or expired can't be told from outside: all run the same exchange, an unknown user
//! against a mock verifier, and end with the same words at the same message.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use rand::Rng as _;

use super::scram::{self, ChannelBinding, ClientFinal, ClientFirst, Malformed};
use super::verifier::{SALT_BYTES, hmac};
use super::{Directory, KeyRecord, Verified, Verifier};
use crate::domain::limits::AUTH_MESSAGE_BYTES_MAX;
use crate::domain::{Fault, Origin, SqlState};

#[cfg(test)]
mod tests;

/// The length of the server's share of the nonce, in bytes before encoding (Postgres: SCRAM_RAW_NONCE_LEN).
pub const NONCE_BYTES: usize = 18;

const PLAIN: &str = "SCRAM-SHA-256";
const PLUS: &str = "SCRAM-SHA-256-PLUS";

/// `auth.method` of the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfiguredMethod {
    /// SCRAM for everybody.
    #[default]
    #[serde(rename = "scram-sha-256")]
    ScramSha256,
    /// A plain password where nobody can read along (TLS, loopback), SCRAM elsewhere.
    Password,
}

/// How this connection authenticates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// SCRAM-SHA-256, and -PLUS where the channel can be bound.
    Scram,
    /// AuthenticationCleartextPassword.
    Password,
}

impl Method {
    /// A secret crosses the wire only over TLS or to a loopback (or Unix socket) peer, whatever is configured.
    pub const fn choose(configured: ConfiguredMethod, tls: bool, loopback: bool) -> Self {
        match configured {
            ConfiguredMethod::Password if tls || loopback => Self::Password,
            _ => Self::Scram,
        }
    }
}

/// The secret of this process from which mock verifiers are derived, so that an unknown user is shown the same salt
/// at every attempt, as a known one is.
pub struct MockSecret([u8; 32]);

impl MockSecret {
    /// A secret for the life of this process.
    pub fn random() -> Self {
        Self(rand::rng().random())
    }

    fn verifier(&self, user: &str) -> Verifier {
        let derive = |label: &[u8]| hmac(&self.0, &[label, user.as_bytes()]);
        Verifier::mock(&derive(b"salt")[..SALT_BYTES], derive(b"stored"), derive(b"server"))
    }
}

/// What the caller does next.
#[derive(Debug)]
pub enum Step {
    /// Send this Authentication message (body: the code and what follows) and wait for the client's answer.
    Continue(Bytes),
    /// Send `last`, if any (AuthenticationSASLFinal), then AuthenticationOk.
    Done {
        /// The proof that binds the session.
        verified: Verified,
        /// The body of the last message before AuthenticationOk.
        last: Option<Bytes>,
    },
    /// Send the fault and close.
    Failed(Fault),
}

/// One client's authentication, between its messages.
pub struct Exchange {
    user: Arc<str>,
    verifier: Verifier,
    /// Why the exchange can't succeed, for the log; found out at the start, told at the end.
    doom: Option<&'static str>,
    channel: Option<Arc<[u8]>>,
    state: State,
}

enum State {
    Password,
    ClientFirst {
        nonce: [u8; NONCE_BYTES],
    },
    /// The client named a mechanism, was sent an empty challenge (RFC 4422), and owes its first message.
    ChallengedClientFirst {
        nonce: [u8; NONCE_BYTES],
        bound: bool,
    },
    ClientFinal(Opening),
    Over,
}

impl Exchange {
    /// Begins the exchange for `user`, and returns the body of the first Authentication message. `channel` is the
    /// `tls-server-end-point` data of our certificate where SCRAM-SHA-256-PLUS is to be offered. `nonce` is fresh
    /// randomness.
    pub fn start(
        directory: &dyn Directory,
        user: &str,
        method: Method,
        channel: Option<Arc<[u8]>>,
        mock: &MockSecret,
        nonce: [u8; NONCE_BYTES],
    ) -> (Self, Bytes) {
        // Both verifiers are made whatever the outcome, so that the time doesn't tell which is used.
        let mock = mock.verifier(user);
        let record = directory.key(user);
        let text = record.as_ref().map_or_else(|| mock.to_string(), |record| record.verifier.to_string());
        let (verifier, doom) = match (Verifier::parse(&text), record) {
            (Ok(verifier), Some(_)) => (verifier, None),
            (Err(_), Some(_)) => (mock, Some("the key's stored verifier is malformed")),
            (_, None) => (mock, Some("unknown key")),
        };
        let (state, body) = match method {
            Method::Password => (State::Password, authentication(3, b"")),
            Method::Scram => (State::ClientFirst { nonce }, offer(channel.is_some())),
        };
        (Self { user: user.into(), verifier, doom, channel, state }, body)
    }

    /// Whether the next message costs about a millisecond of computation (PBKDF2) and belongs on a blocking thread.
    pub const fn computes_long(&self) -> bool {
        matches!(self.state, State::Password)
    }

    /// Takes the body of a PasswordMessage, SASLInitialResponse or SASLResponse. `unix_now` is in seconds.
    pub fn on_message(&mut self, body: &[u8], directory: &dyn Directory, unix_now: i64) -> Step {
        // Whatever fails below stays failed: the state is only put back by what goes on.
        let outcome = match std::mem::replace(&mut self.state, State::Over) {
            State::Over => Err(Fault::protocol("authentication is over")),
            _ if body.len() > AUTH_MESSAGE_BYTES_MAX => Err(Fault::protocol("authentication message is too long")),
            State::Password => self.on_password(body, directory, unix_now),
            State::ClientFirst { nonce } => self.on_initial_response(body, nonce),
            State::ChallengedClientFirst { nonce, bound } => self.on_client_first(body, bound, nonce),
            State::ClientFinal(opening) => self.on_client_final(body, &opening, directory, unix_now),
        };
        outcome.unwrap_or_else(Step::Failed)
    }

    fn on_password(&self, body: &[u8], directory: &dyn Directory, unix_now: i64) -> Result<Step, Fault> {
        let Some((0, password)) = body.split_last() else {
            return Err(Fault::protocol("invalid password packet size"));
        };
        if password.contains(&0) {
            return Err(Fault::protocol("invalid password packet size"));
        }
        if password.is_empty() {
            return Err(self.refused("empty password"));
        }
        let proven = self.verifier.matches(password);
        let verified = self.conclude(proven, directory, unix_now)?;
        Ok(Step::Done { verified, last: None })
    }

    fn on_initial_response(&mut self, body: &[u8], nonce: [u8; NONCE_BYTES]) -> Result<Step, Fault> {
        let (mechanism, data) = initial_response(body)?;
        let bound = match mechanism {
            b if b == PLAIN.as_bytes() => false,
            b if b == PLUS.as_bytes() && self.channel.is_some() => true,
            _ => return Err(Fault::protocol("client selected an invalid SASL authentication mechanism")),
        };
        match data {
            Some(data) => self.on_client_first(data, bound, nonce),
            None => {
                self.state = State::ChallengedClientFirst { nonce, bound };
                Ok(Step::Continue(authentication(11, b"")))
            }
        }
    }

    fn on_client_first(&mut self, data: &[u8], bound: bool, nonce: [u8; NONCE_BYTES]) -> Result<Step, Fault> {
        let first = ClientFirst::parse(text(data)?).map_err(refuse)?;
        self.check_channel_binding(first.channel_binding, bound)?;
        let ours = STANDARD.encode(nonce);
        let nonce = format!("{}{ours}", first.nonce);
        let server_first = scram::server_first(&nonce, &self.verifier);
        let body = authentication(11, server_first.as_bytes());
        self.state = State::ClientFinal(Opening {
            gs2_header: first.gs2_header.to_owned(),
            bound,
            nonce,
            server_first,
            client_first_bare: first.bare.to_owned(),
        });
        Ok(Step::Continue(body))
    }

    fn check_channel_binding(&self, flag: ChannelBinding<'_>, bound: bool) -> Result<(), Fault> {
        match (flag, bound) {
            (ChannelBinding::None, false) | (ChannelBinding::Required("tls-server-end-point"), true) => Ok(()),
            (ChannelBinding::NotOffered, false) if self.channel.is_none() => Ok(()),
            (ChannelBinding::NotOffered, false) => {
                let message = "SCRAM channel binding negotiation error";
                Err(Fault::new(Origin::Client, SqlState::INVALID_AUTHORIZATION, message).detail(
                    "The client supports SCRAM channel binding but thinks the server does not. \
                     However, this server does support channel binding.",
                ))
            }
            (ChannelBinding::Required(_), true) => Err(Fault::protocol("unsupported SCRAM channel-binding type")),
            (ChannelBinding::Required(_), false) => Err(malformed(
                "the client selected SCRAM-SHA-256 without channel binding, \
                 but the SCRAM message includes channel binding data",
            )),
            (_, true) => Err(malformed(
                "the client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data",
            )),
        }
    }

    fn on_client_final(
        &self,
        body: &[u8],
        opening: &Opening,
        directory: &dyn Directory,
        unix_now: i64,
    ) -> Result<Step, Fault> {
        let last = ClientFinal::parse(text(body)?).map_err(refuse)?;
        let channel = self.channel.as_deref().filter(|_| opening.bound).unwrap_or_default();
        if !last.binds(&opening.gs2_header, channel) {
            return Err(if opening.bound {
                Fault::new(Origin::Client, SqlState::INVALID_AUTHORIZATION, "SCRAM channel binding check failed")
            } else {
                malformed("unexpected SCRAM channel-binding attribute in client-final-message")
            });
        }
        if last.nonce != opening.nonce {
            return Err(Fault::protocol("invalid SCRAM response").detail("Nonce does not match."));
        }
        let auth_message = format!("{},{},{}", opening.client_first_bare, opening.server_first, last.without_proof);
        let proven = scram::proof_holds(&self.verifier, &auth_message, &last.proof);
        let signature = scram::server_final(&self.verifier, &auth_message);
        let verified = self.conclude(proven, directory, unix_now)?;
        Ok(Step::Done { verified, last: Some(authentication(12, signature.as_bytes())) })
    }

    /// The one place where an exchange ends well. The key is looked up again: it may have been revoked, expired or
    /// given another secret while the client was thinking.
    fn conclude(&self, proven: bool, directory: &dyn Directory, unix_now: i64) -> Result<Verified, Fault> {
        let record = directory.key(&self.user);
        let is_current =
            |record: &KeyRecord| Verifier::parse(&record.verifier).is_ok_and(|now| self.verifier.is_same(&now));
        let rotated = record.as_deref().is_some_and(|record| !is_current(record));
        let failure = match (&record, self.doom) {
            (_, Some(doom)) => Some(doom),
            (None, None) => Some("the key was deleted"),
            (Some(_), None) if !proven => Some("wrong secret"),
            (Some(_), None) if rotated => Some("the secret was rotated"),
            (Some(record), None) if record.revoked => Some("the key is revoked"),
            (Some(record), None) if record.expires_at.is_some_and(|end| end <= unix_now) => Some("the key has expired"),
            (Some(_), None) => None,
        };
        match (failure, record) {
            (None, Some(record)) if record.suspended => {
                Err(Fault::new(Origin::Client, SqlState::INVALID_AUTHORIZATION, "the workspace is suspended")
                    .log(format!("key {:?}", self.user)))
            }
            (None, Some(record)) => Ok(Verified::new(record)),
            (failure, _) => Err(self.refused(failure.unwrap_or("unknown key"))),
        }
    }

    fn refused(&self, reason: &'static str) -> Fault {
        let message = format!("password authentication failed for user \"{}\"", self.user);
        Fault::new(Origin::Client, SqlState::INVALID_PASSWORD, message).log(reason)
    }
}

/// What the first two messages of the exchange settled.
struct Opening {
    gs2_header: String,
    bound: bool,
    nonce: String,
    server_first: String,
    client_first_bare: String,
}

/// The body of AuthenticationOk.
pub fn authentication_ok() -> Bytes {
    authentication(0, b"")
}

fn authentication(code: u32, data: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(4 + data.len());
    body.put_u32(code);
    body.put_slice(data);
    body.freeze()
}

fn offer(plus: bool) -> Bytes {
    let mechanisms = if plus { format!("{PLUS}\0{PLAIN}\0\0") } else { format!("{PLAIN}\0\0") };
    authentication(10, mechanisms.as_bytes())
}

/// SASLInitialResponse: the mechanism, and the client's first message unless its length is -1.
fn initial_response(body: &[u8]) -> Result<(&[u8], Option<&[u8]>), Fault> {
    let broken = || Fault::protocol("malformed SASLInitialResponse");
    let end = body.iter().position(|byte| *byte == 0).ok_or_else(broken)?;
    let (length, data) = body[end + 1..].split_first_chunk::<4>().ok_or_else(broken)?;
    match (i32::from_be_bytes(*length), data) {
        (-1, []) => Ok((&body[..end], None)),
        (length, data) if usize::try_from(length) == Ok(data.len()) => Ok((&body[..end], Some(data))),
        _ => Err(broken()),
    }
}

fn text(data: &[u8]) -> Result<&str, Fault> {
    match std::str::from_utf8(data) {
        Ok("") => Err(malformed("the message is empty")),
        Ok(text) if text.contains('\0') => Err(malformed("message length does not match input length")),
        Ok(text) => Ok(text),
        Err(_) => Err(malformed("the message is not UTF-8")),
    }
}

fn malformed(detail: &'static str) -> Fault {
    Fault::protocol("malformed SCRAM message").detail(detail)
}

fn refuse(malformation: Malformed) -> Fault {
    match malformation {
        Malformed::Grammar(detail) => malformed(detail),
        Malformed::Unsupported(message) => Fault::new(Origin::Client, SqlState::FEATURE_NOT_SUPPORTED, message),
    }
}
