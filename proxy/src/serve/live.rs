//! What an operator may change under running clients. It is swapped as a whole; a login looks at it once.

use crate::auth;
use crate::tls::Acceptor;

/// The settings that SIGHUP changes for the next login.
pub struct Live {
    /// TLS for clients, if it is configured.
    pub tls: Option<Acceptor>,
    /// How clients prove their secrets.
    pub auth: auth::Settings,
}
