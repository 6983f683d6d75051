//! From an accepted socket to an authenticated client: the first packets, TLS, the exchange, and the checks that follow
//! it. Everything happens under one bound of time, and nothing a client sends before its proof reaches Postgres.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{BufMut, BytesMut};
use rand::RngCore;
use rustix::net::RecvFlags;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;

use crate::audit::Client;
use crate::auth::exchange::NONCE_BYTES;
use crate::auth::{Directory, Exchange, Method, Step, Verified};
use crate::domain::limits::{AUTH_MESSAGE_BYTES_MAX, CANCEL_BEAT};
use crate::domain::{Fault, KeyKind, Origin, SqlState, clock};
use crate::pool::upstream::CancelFailure;
use crate::tls::{self, Accepted, Acceptor};
use crate::wire::author;
use crate::wire::startup::{FirstPacket, PROTOCOL_NEWEST, Startup, first_packet_bytes, open};

use super::core::CoreContext;
use super::outlet::Outlet;
use super::socket::{ClientSocket, Secured};
use super::{audit, farewell};

/// A client that has proven who it is.
pub(super) struct LoggedIn {
    pub(super) socket: ClientSocket,
    pub(super) startup: Startup,
    pub(super) verified: Verified,
    pub(super) database: String,
    pub(super) client: Arc<Client>,
}

/// How a login ended without a session.
pub(super) enum Refused {
    /// Nothing is to be said: the peer is gone, or wanted no session.
    Silently,
    /// The peer is told.
    Told(ClientSocket, Fault),
    /// The peer is told: it said who it is, and isn't let in.
    Known(ClientSocket, Fault, Arc<Client>),
}

/// Lets a client in.
pub(super) async fn login(core: &Rc<CoreContext>, stream: TcpStream, peer: SocketAddr) -> Result<LoggedIn, Refused> {
    let (mut socket, startup) = first_packets(core, stream).await?;
    let client = audit::client(&startup, peer);
    match prove(core, &mut socket, &startup, peer).await {
        Ok((verified, database)) => Ok(LoggedIn { socket, startup, verified, database, client }),
        Err(Some(fault)) => Err(Refused::Known(socket, fault, client)),
        Err(None) => Err(Refused::Silently),
    }
}

async fn first_packets(core: &Rc<CoreContext>, stream: TcpStream) -> Result<(ClientSocket, Startup), Refused> {
    let mut socket =
        if begins_with_tls(&stream).await { directly_secure(core, stream).await? } else { ClientSocket::Plain(stream) };
    let mut requests = 0;
    loop {
        let packet = match first_packet(&mut socket).await {
            Ok(packet) => packet,
            Err(Some(fault)) => return Err(Refused::Told(socket, fault)),
            Err(None) => return Err(Refused::Silently),
        };
        let encrypted = matches!(socket, ClientSocket::Tls(_));
        requests += 1;
        match packet {
            FirstPacket::Startup(startup) => return Ok((socket, startup)),
            FirstPacket::Cancel { pid, secret } => {
                cancel(core, pid, &secret).await;
                return Err(Refused::Silently);
            }
            FirstPacket::Ancient(fault) => {
                let mut message = BytesMut::new();
                author::ancient_error(&mut message, &fault);
                farewell::send_message(&mut socket, &mut Outlet::default(), &message).await;
                return Err(Refused::Silently);
            }
            FirstPacket::Ssl | FirstPacket::GssEncryption if encrypted || requests > 2 => {
                return Err(Refused::Told(socket, Fault::protocol("unexpected encryption request")));
            }
            FirstPacket::Ssl => socket = secure(core, socket).await?,
            FirstPacket::GssEncryption => say(&mut socket, b"N").await?,
        }
    }
}

/// Whether a peer begins with a TLS handshake in place of a packet (libpq: `sslnegotiation=direct`). No packet begins with
/// this byte, for it would be too long.
pub(super) async fn begins_with_tls(stream: &TcpStream) -> bool {
    const HANDSHAKE: u8 = 0x16;
    let mut first = [0];
    matches!(stream.peek(&mut first).await, Ok(1)) && first[0] == HANDSHAKE
}

/// A handshake that nobody asked for must name the protocol (ALPN): so nothing that speaks another one over TLS can be made
/// to talk to us.
async fn directly_secure(core: &CoreContext, stream: TcpStream) -> Result<ClientSocket, Refused> {
    let acceptor = core.shared.live.load().tls.clone().ok_or(Refused::Silently)?;
    let socket = handshake(&acceptor, stream).await?;
    match &socket {
        ClientSocket::Tls(secured) if secured.stream.get_ref().1.alpn_protocol().is_none() => {
            let text = "received direct SSL connection request without ALPN protocol negotiation extension";
            Err(Refused::Told(socket, Fault::protocol(text)))
        }
        _ => Ok(socket),
    }
}

/// Reads exactly one packet: what a peer sends behind it stays in the kernel, and is never taken for encrypted.
pub(super) async fn first_packet(socket: &mut ClientSocket) -> Result<FirstPacket, Option<Fault>> {
    let mut word = [0; 4];
    socket.read_exact(&mut word).await.map_err(|_| None)?;
    let length = first_packet_bytes(word).map_err(Some)?;
    let mut packet = vec![0; length - 4];
    socket.read_exact(&mut packet).await.map_err(|_| None)?;
    open(&packet).map_err(Some)
}

/// Answers an SSLRequest.
async fn secure(core: &CoreContext, mut socket: ClientSocket) -> Result<ClientSocket, Refused> {
    let acceptor = core.shared.live.load().tls.clone();
    let Some(acceptor) = acceptor else {
        say(&mut socket, b"N").await?;
        return Ok(socket);
    };
    let ClientSocket::Plain(stream) = &socket else { return Err(Refused::Silently) };
    // A client waits for the answer: what is there already isn't its handshake.
    let mut early = [0];
    let peeked = rustix::net::recv(stream, &mut early, RecvFlags::PEEK | RecvFlags::DONTWAIT);
    if let Err(fault) = tls::refuse_early_bytes(&early[..peeked.map_or(0, |(read, _)| read)]) {
        return Err(Refused::Told(socket, fault));
    }
    say(&mut socket, b"S").await?;
    match socket {
        ClientSocket::Plain(stream) => handshake(&acceptor, stream).await,
        socket => Ok(socket),
    }
}

async fn handshake(acceptor: &Acceptor, stream: TcpStream) -> Result<ClientSocket, Refused> {
    match acceptor.accept(stream).await {
        Ok(Accepted { stream, certificate }) => {
            let channel_binding = acceptor.channel_binding();
            Ok(ClientSocket::Tls(Box::new(Secured { stream, channel_binding, certificate })))
        }
        Err(error) => {
            tracing::info!(%error, "a TLS handshake failed");
            Err(Refused::Silently)
        }
    }
}

/// Passes a cancel request on and waits until Postgres has dealt with it. The peer learns nothing from the answer, for
/// there is none, and nothing from the time: its connection is closed on the next beat, whether its key was right or not.
async fn cancel(core: &CoreContext, pid: i32, secret: &[u8]) {
    let mut beat = tokio::time::interval(CANCEL_BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Skip);
    // The first is now.
    beat.tick().await;
    if let Some(in_flight) = core.shared.registry.cancel(pid, secret, clock::unix_seconds()) {
        match core.shared.upstream.cancel(in_flight.target.pid, &in_flight.target.secret).await {
            Ok(()) => in_flight.settle(),
            Err(CancelFailure::Unsent(fault)) => {
                tracing::warn!(%fault, "a cancel request didn't reach Postgres");
                in_flight.settle();
            }
            Err(CancelFailure::Unknown(fault)) => tracing::warn!(%fault, "a cancel request was lost sight of"),
        }
    }
    beat.tick().await;
}

async fn prove(
    core: &CoreContext,
    socket: &mut ClientSocket,
    startup: &Startup,
    peer: SocketAddr,
) -> Result<(Verified, String), Option<Fault>> {
    negotiate(socket, startup).await?;
    if startup.asks_for_replication()? {
        let text = "replication connections are not offered";
        return Err(Some(Fault::new(Origin::Client, SqlState::FEATURE_NOT_SUPPORTED, text)));
    }
    let user = startup.parameter("user").filter(|user| !user.is_empty()).ok_or_else(|| {
        Fault::new(
            Origin::Client,
            SqlState::INVALID_AUTHORIZATION,
            "no user name specified in startup packet: it is the key id",
        )
    })?;
    check_certificate(core, socket, user)?;
    let verified = exchange(core, socket, user, peer).await?;
    let database = database(core, startup, user, &verified)?;
    Ok((verified, database))
}

/// A newer minor version and unknown options are answered with what we speak (Postgres docs, "Start-up").
async fn negotiate(socket: &mut ClientSocket, startup: &Startup) -> Result<(), Option<Fault>> {
    let unknown: Vec<String> = startup.protocol_options().map(str::to_owned).collect();
    let newest = u16::try_from(PROTOCOL_NEWEST & 0xffff).unwrap_or_default();
    if startup.minor <= newest && unknown.is_empty() {
        return Ok(());
    }
    let mut out = BytesMut::new();
    author::negotiate_version(&mut out, 3 << 16 | i32::from(startup.minor.min(newest)), unknown);
    write(socket, &out).await
}

/// The second factor, if one is configured. It is asked for first, as Postgres does.
fn check_certificate(core: &CoreContext, socket: &ClientSocket, user: &str) -> Result<(), Fault> {
    match &core.shared.live.load().client_certificates {
        Some(rules) => {
            let shown = match socket {
                ClientSocket::Tls(secured) => Some(&secured.certificate),
                ClientSocket::Plain(_) => None,
            };
            rules.check(shown, user)
        }
        None => Ok(()),
    }
}

async fn exchange(
    core: &CoreContext,
    socket: &mut ClientSocket,
    user: &str,
    peer: SocketAddr,
) -> Result<Verified, Option<Fault>> {
    let (method, channel) = {
        let live = core.shared.live.load();
        let channel = match socket {
            ClientSocket::Tls(secured) => secured.channel_binding.clone(),
            ClientSocket::Plain(_) => None,
        };
        let encrypted = matches!(socket, ClientSocket::Tls(_));
        (Method::choose(live.auth.method, encrypted, peer.ip().is_loopback()), channel)
    };
    let mut nonce = [0; NONCE_BYTES];
    rand::rng().fill_bytes(&mut nonce);
    let (mut exchange, mut body) =
        Exchange::start(&*core.shared.snapshot.load_full(), user, method, channel, &core.shared.mock_secret, nonce);
    loop {
        write_authentication(socket, &body).await?;
        let message = password_message(socket).await?;
        // The key as it is now: it may have been revoked since the last message.
        let directory = core.shared.snapshot.load_full();
        let step = if exchange.computes_long() {
            let computed = tokio::task::spawn_blocking(move || {
                let step = exchange.on_message(&message, &*directory, clock::unix_seconds());
                (exchange, step)
            });
            let (returned, step) = computed.await.map_err(|_| None)?;
            exchange = returned;
            step
        } else {
            exchange.on_message(&message, &*directory, clock::unix_seconds())
        };
        match step {
            Step::Continue(next) => body = next,
            Step::Failed(fault) => return Err(Some(fault)),
            Step::Done { verified, last } => {
                if let Some(last) = last {
                    write_authentication(socket, &last).await?;
                }
                return Ok(verified);
            }
        }
    }
}

async fn password_message(socket: &mut ClientSocket) -> Result<Vec<u8>, Option<Fault>> {
    let mut head = [0; 5];
    socket.read_exact(&mut head).await.map_err(|_| None)?;
    let [tag, length @ ..] = head;
    if tag != b'p' {
        return Err(Some(Fault::protocol(format!("expected password response, got message type {tag}"))));
    }
    let length = u32::from_be_bytes(length) as usize;
    if !(4..=AUTH_MESSAGE_BYTES_MAX).contains(&length) {
        return Err(Some(Fault::protocol("invalid length of password message")));
    }
    let mut body = vec![0; length - 4];
    socket.read_exact(&mut body).await.map_err(|_| None)?;
    Ok(body)
}

async fn write_authentication(socket: &mut ClientSocket, body: &[u8]) -> Result<(), Option<Fault>> {
    let mut out = BytesMut::with_capacity(body.len() + 5);
    out.put_u8(b'R');
    out.put_u32(u32::try_from(body.len() + 4).unwrap_or(u32::MAX));
    out.put_slice(body);
    write(socket, &out).await
}

async fn write(socket: &mut ClientSocket, bytes: &[u8]) -> Result<(), Option<Fault>> {
    socket.write_all(bytes).await.map_err(|_| None)?;
    socket.flush().await.map_err(|_| None)
}

async fn say(socket: &mut ClientSocket, byte: &[u8]) -> Result<(), Refused> {
    write(socket, byte).await.map_err(|_| Refused::Silently)
}

/// The database a client gets. Drivers send the user name when the URL names no database; that stands for the first one.
fn database(core: &CoreContext, startup: &Startup, user: &str, verified: &Verified) -> Result<String, Fault> {
    let databases = &core.shared.databases;
    let asked = startup.parameter("database").filter(|name| !name.is_empty() && *name != user);
    let Some(asked) = asked.or(databases.first().map(String::as_str)) else {
        return Err(Fault::new(Origin::Client, SqlState::UNKNOWN_DATABASE, "no database specified"));
    };
    if verified.key().kind != KeyKind::System && !databases.iter().any(|each| each == asked) {
        let text = format!("database \"{asked}\" does not exist");
        return Err(Fault::new(Origin::Client, SqlState::UNKNOWN_DATABASE, text));
    }
    Ok(asked.to_owned())
}

/// Whether the key that was proven is still good. Asked again once the session can be found, so that a revocation
/// which came in between isn't missed.
pub(super) fn is_still_good(core: &CoreContext, verified: &Verified) -> bool {
    let known: Option<Arc<crate::auth::KeyRecord>> = core.shared.snapshot.load().key(verified.key().key_id.as_str());
    known.is_some_and(|key| key.is_usable(clock::unix_seconds()))
}
