//! What an operator may change under running clients. It is swapped as a whole; a login looks at it once.

use crate::auth;
use crate::limits;
use crate::tenant::Guard;
use crate::tls::{Acceptor, ClientRules};

/// The settings that SIGHUP changes: TLS and authentication for the next login, the guard and the limits at once.
pub struct Live {
    /// TLS for clients, if it is configured.
    pub tls: Option<Acceptor>,
    /// What clients must show of themselves, if certificates are asked for.
    pub client_certificates: Option<ClientRules>,
    /// How clients prove their secrets.
    pub auth: auth::Settings,
    /// What becomes of visible attempts on the walls.
    pub guard: Guard,
    /// What one workspace may take.
    pub limits: limits::Settings,
}
