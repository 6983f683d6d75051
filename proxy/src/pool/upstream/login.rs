//! Logging in to the server: from the startup packet to the first ReadyForQuery.

use bytes::Bytes;
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256};
use zeroize::Zeroizing;

use super::frames::{Frames, error_fields, int32, parameter, text};
use super::{Protocol, Target, garbled, not_let_in, unreachable};
use crate::domain::{Fault, Origin, SqlState};

/// More rounds than this are refused: a server could occupy us for hours with one number.
const SCRAM_ITERATIONS_MAX: u32 = 1_000_000;
/// The longest secret of BackendKeyData, in bytes (protocol 3.2).
const SECRET_BYTES_MAX: usize = 256;

/// What the server tells between AuthenticationOk and ReadyForQuery.
pub(super) struct Session {
    pub(super) pid: i32,
    pub(super) secret: Vec<u8>,
    pub(super) parameters: Vec<(String, String)>,
}

pub(super) async fn log_in(frames: &mut Frames<'_>, target: &Target, role: &str) -> Result<Session, Fault> {
    authenticate(frames, target, role).await?;
    let mut parameters = Vec::with_capacity(16);
    let mut key = None;
    loop {
        let mut frame = frames.next().await?;
        match frame.kind {
            b'S' => parameter(frame.body, &mut parameters)?,
            b'K' => {
                let pid = int32(&mut frame.body)?;
                if !(4..=SECRET_BYTES_MAX).contains(&frame.body.len()) {
                    return Err(garbled("the secret of BackendKeyData has an impossible length"));
                }
                key = Some((pid, frame.body.to_vec()));
            }
            b'Z' if frame.body.as_ref() == b"I" => {
                let (pid, secret) = key.ok_or_else(|| garbled("it never sent BackendKeyData"))?;
                return Ok(Session { pid, secret, parameters });
            }
            b'E' => return Err(refused(&frame.body)),
            b'N' => {}
            _ => return Err(garbled("an unexpected message before ReadyForQuery")),
        }
    }
}

async fn authenticate(frames: &mut Frames<'_>, target: &Target, role: &str) -> Result<(), Fault> {
    let password = || {
        target.passwords.of(role).ok_or_else(|| {
            not_let_in(format!("the server asks for the password of role {role:?}, and none is configured"))
        })
    };
    loop {
        let mut frame = frames.next().await?;
        match frame.kind {
            b'R' => {}
            b'E' => return Err(refused(&frame.body)),
            b'N' => continue,
            b'v' => {
                negotiated(frame.body, target.protocol)?;
                continue;
            }
            _ => return Err(garbled("an unexpected message during authentication")),
        }
        match int32(&mut frame.body)? {
            0 => return Ok(()),
            3 if frames.is_private() => {
                let password = password()?;
                answer(frames, &[password.as_bytes(), b"\0"]).await?;
            }
            3 => {
                return Err(not_let_in("the server asks for a plain password over an unencrypted network connection"));
            }
            5 => {
                let salt = frame.body.as_ref().try_into().map_err(|_| garbled("the MD5 salt isn't four bytes long"))?;
                let hash = md5_hash(role.as_bytes(), password()?.as_bytes(), salt);
                answer(frames, &[hash.as_bytes(), b"\0"]).await?;
            }
            10 => {
                scram(frames, frame.body, password()?.clone()).await?;
            }
            code => {
                return Err(not_let_in(format!(
                    "the server asks for authentication method {code}, which is not supported"
                )));
            }
        }
    }
}

/// NegotiateProtocolVersion: an older minor version of protocol 3, and that there is nothing we asked for beside it.
fn negotiated(mut body: Bytes, asked: Protocol) -> Result<(), Fault> {
    let (version, unknown_options) = (int32(&mut body)?, int32(&mut body)?);
    let is_older = u32::try_from(version).is_ok_and(|version| (3 << 16..asked.number()).contains(&version));
    if is_older && unknown_options == 0 && body.is_empty() {
        Ok(())
    } else {
        Err(garbled("it negotiates a protocol that nobody asked for"))
    }
}

/// SCRAM-SHA-256 as the client, bound to the TLS connection where both sides can. It returns only when the server has proven that it knows the password too.
async fn scram(frames: &mut Frames<'_>, mut mechanisms: Bytes, password: Zeroizing<String>) -> Result<(), Fault> {
    let (mut offers_plain, mut offers_plus) = (false, false);
    while !mechanisms.is_empty() {
        match text(&mut mechanisms)?.as_str() {
            SCRAM_SHA_256 => offers_plain = true,
            SCRAM_SHA_256_PLUS => offers_plus = true,
            _ => {}
        }
    }
    let (mechanism, binding) = match frames.channel_binding() {
        Some(data) if offers_plus => (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(data.to_vec())),
        // The server is told that we would have: if it did offer it, somebody in between took the offer away.
        Some(_) if offers_plain => (SCRAM_SHA_256, ChannelBinding::unrequested()),
        None if offers_plain => (SCRAM_SHA_256, ChannelBinding::unsupported()),
        _ => return Err(unreachable("the server offers no SASL mechanism that is supported")),
    };
    let mut exchange = ScramSha256::new(password.as_bytes(), binding);
    let first = exchange.message();
    let length = u32::try_from(first.len()).unwrap_or(u32::MAX).to_be_bytes();
    answer(frames, &[mechanism.as_bytes(), b"\0", &length, first]).await?;

    let challenge = sasl_message(frames, 11).await?;
    check_iterations(&challenge)?;
    // Thousands of hash rounds would hold up everybody else on this core.
    let derived = tokio::task::spawn_blocking(move || exchange.update(&challenge).map(|()| exchange));
    let mut exchange = match derived.await {
        Ok(Ok(exchange)) => exchange,
        Ok(Err(error)) => return Err(garbled(format!("SCRAM: {error}"))),
        Err(error) => return Err(unreachable(format!("SCRAM: {error}"))),
    };
    let proof = exchange.message().to_vec();
    answer(frames, &[&proof]).await?;

    let signature = sasl_message(frames, 12).await?;
    exchange.finish(&signature).map_err(|error| unreachable(format!("the server does not know the password: {error}")))
}

async fn sasl_message(frames: &mut Frames<'_>, expected: i32) -> Result<Bytes, Fault> {
    loop {
        let mut frame = frames.next().await?;
        match frame.kind {
            b'R' if int32(&mut frame.body)? == expected => return Ok(frame.body),
            b'E' => return Err(refused(&frame.body)),
            b'N' => {}
            _ => return Err(garbled("an unexpected message during SASL authentication")),
        }
    }
}

fn check_iterations(challenge: &[u8]) -> Result<(), Fault> {
    let text = std::str::from_utf8(challenge).map_err(|_| garbled("SCRAM: not UTF-8"))?;
    let iterations = text.split(',').find_map(|attribute| attribute.strip_prefix("i=")?.parse::<u32>().ok());
    match iterations {
        Some(1..=SCRAM_ITERATIONS_MAX) => Ok(()),
        _ => Err(garbled("SCRAM: an impossible iteration count")),
    }
}

async fn answer(frames: &mut Frames<'_>, parts: &[&[u8]]) -> Result<(), Fault> {
    let length = parts.iter().map(|part| part.len()).sum::<usize>();
    let mut message = Zeroizing::new(Vec::with_capacity(length + 5));
    message.push(b'p');
    message.extend_from_slice(&u32::try_from(length + 4).unwrap_or(u32::MAX).to_be_bytes());
    parts.iter().for_each(|part| message.extend_from_slice(part));
    frames.send(&message).await
}

/// What an ErrorResponse during start-up means for the client. Its own words are passed on where they are about the
/// database or its capacity; where they are about the proxy's own login they are for the log, and the client learns only
/// that it is the login.
fn refused(body: &Bytes) -> Fault {
    const PASSED_ON: [&str; 9] = ["3D000", "53000", "53100", "53200", "53300", "55000", "57P01", "57P02", "57P03"];
    let (sqlstate, message) = error_fields(body);
    let log = format!("the server refused the connection: {message} ({sqlstate})");
    match PASSED_ON.into_iter().find(|passed| *passed == sqlstate) {
        Some(state) => Fault::new(Origin::Upstream, SqlState(state), message).verbatim(body.clone()).log(log),
        // Class 28 is invalid authorization; without the right to connect to a database it is 42501.
        None if sqlstate.starts_with("28") || sqlstate == "42501" => not_let_in(log),
        None => unreachable(log),
    }
}
