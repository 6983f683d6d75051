//! One connection from accept to end.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::BytesMut;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::domain::{Fault, Origin, SqlState};
use crate::limits::Entered;
use crate::pool::Home;
use crate::session::Session;
use crate::tenant::Binding;
use crate::wire::author;

use super::accept::Counted;
use super::core::CoreContext;
use super::drive::{Driver, Places};
use super::lobby::Guest;
use super::login::{LoggedIn, Refused, is_still_good, login};
use super::outlet::Outlet;
use super::registry::Who;
use super::socket::ClientSocket;
use super::{audit, farewell, greeting, startup_settings};

/// BackendKeyData's secret in protocol 3.0, in bytes.
const SECRET_BYTES: usize = 4;
/// The same from protocol 3.2 on.
const LONG_SECRET_BYTES: usize = 32;

/// Serves one connection. Whatever happens to it happens to it alone.
pub(super) async fn serve(
    core: Rc<CoreContext>,
    stream: TcpStream,
    peer: SocketAddr,
    (guest, counted): (Arc<Guest>, Counted),
) {
    let bound = core.shared.live.load().auth.timeout();
    let logged_in = tokio::select! {
        logged_in = timeout(bound, login(&core, stream, peer)) => logged_in,
        () = guest.shown_out() => {
            core.counters.login(false);
            tracing::info!(%peer, "a login made room for others");
            return;
        }
    };
    guest.settle();
    let refused = match logged_in {
        Ok(Ok(client)) => {
            core.counters.login(true);
            return session(core, client, counted).await;
        }
        Ok(Err(refused)) => refused,
        Err(_) => {
            core.counters.login(false);
            tracing::info!(%peer, "a login took too long");
            return;
        }
    };
    let (mut socket, fault) = match refused {
        Refused::Silently => return,
        Refused::Told(socket, fault) => (socket, fault),
        Refused::Known(socket, fault, client) => {
            audit::login_refused(&core, &client, &fault);
            (socket, fault)
        }
    };
    core.counters.login(false);
    // As a string it is written with escapes: it quotes what the peer called itself.
    tracing::warn!(%peer, fault = fault.to_string(), "a login was refused");
    farewell::send(&mut socket, &mut Outlet::default(), &fault).await;
}

async fn session(core: Rc<CoreContext>, client: LoggedIn, counted: Counted) {
    let LoggedIn { mut socket, startup, verified, database, client } = client;
    let binding = Binding::of(&verified);
    let pool = core.pools.get(&database, binding.role());
    let opened = async {
        let entered = enter(&core, &binding)?;
        let allowed = core.shared.snapshot.load().allowed(binding.key_id());
        let guard = &core.shared.live.load().guard;
        let settings = startup_settings::of(&startup, &binding, &core.shared.names, guard, allowed)?;
        let greeting = greeting::learn(&core, &pool, &database, &binding, &settings, &client).await?;
        let home = pool.settle(&binding).await;
        let secret_bytes = if startup.minor >= 2 { LONG_SECRET_BYTES } else { SECRET_BYTES };
        let who = Who { key_id: binding.key_id().clone(), workspace: binding.workspace(), pool: pool.number() };
        let registered = core.shared.registry.enter(who, secret_bytes, home.as_ref().map(Home::pid));
        if !is_still_good(&core, &verified) {
            return Err(Fault::new(
                Origin::Proxy,
                SqlState::ADMIN_SHUTDOWN,
                "the API key was revoked while the session was opened",
            ));
        }
        let encrypted = matches!(socket, ClientSocket::Tls(_));
        audit::session_opened(&core, &client, &binding, &database, encrypted).await?;
        Ok((greeting, registered, home, entered))
    };
    let (greeting, registered, home, entered) = match opened.await {
        Ok(opened) => opened,
        Err(fault) => {
            tracing::warn!(key = %binding.key_id(), %fault, "a session couldn't be opened");
            audit::session_refused(&core, &client, &binding, &fault).await;
            return farewell::send(&mut socket, &mut Outlet::default(), &fault).await;
        }
    };
    let mut out = BytesMut::new();
    author::authentication_ok(&mut out);
    greeting::write(&mut out, &greeting);
    author::backend_key_data(&mut out, registered.pid(), registered.secret());
    author::ready(&mut out);
    if greet(&mut socket, &out).await.is_err() {
        return;
    }
    drop(out);
    let session = Session::new(registered.slot().id, binding.workspace(), greeting.settings)
        .of_key(binding.key_id().clone())
        .greeted(greeting.parameters, registered.pid());
    let places = Places { _core: counted, _workspace: entered, _counters: core.counters.client() };
    let place = (greeting.database, pool, home, places);
    let mut driver = Driver::new(core, socket, session, registered, binding, client, place);
    // A task of its own: what a login takes of memory is given back, and waking the client goes through none of it.
    tokio::task::spawn_local(async move { driver.run().await });
}

/// A client of a workspace counts for it.
fn enter(core: &CoreContext, binding: &Binding) -> Result<Option<Entered>, Fault> {
    let Some(workspace) = binding.workspace() else { return Ok(None) };
    let most = core.shared.live.load().limits.clients_of_workspace(core.shared.connections_max);
    let entered = core.shared.clients.enter(workspace, most);
    entered.map(Some).inspect_err(|_| core.shared.tally.refused())
}

async fn greet(socket: &mut ClientSocket, bytes: &[u8]) -> std::io::Result<()> {
    socket.write_all(bytes).await?;
    socket.flush().await
}
