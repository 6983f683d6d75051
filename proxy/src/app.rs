//! The composition root: every part is made here, by hand, and handed to those that need it.
//!
//! Threads: one per core for clients and their server connections, and one for everything else (the door, control data,
//! HTTP), so that an operator's request never waits behind a tenant's.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::sync::{oneshot, watch};
use tokio::task::LocalSet;

use crate::auth::MockSecret;
use crate::config::Settings;
use crate::control::Control;
use crate::domain::clock;
use crate::pool::{Pools, PoolsShared};
use crate::pool::upstream::Upstream;
use crate::serve::accept::{self, CoreQueue, core_door};
use crate::serve::core::{CoreContext, Shared};
use crate::serve::registry::{Order, Registry};
use crate::tls::Acceptor;

/// How often sessions are looked through for keys that have expired.
const EXPIRY_SWEEP: Duration = Duration::from_secs(1);
/// How often a stopping proxy looks whether its clients are gone.
const DRAIN_POLL: Duration = Duration::from_millis(20);

/// A proxy that accepts connections.
pub struct Running {
    address: SocketAddr,
    http: Option<SocketAddr>,
    registry: Arc<Registry>,
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
}
