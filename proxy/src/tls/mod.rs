//! TLS on both sides: the acceptor for clients and the connector to the upstream server.

pub mod acceptor;
pub mod client_certificate;
pub mod connector;
mod end_point;
mod files;

#[cfg(test)]
mod tests;

pub use acceptor::{Accepted, Acceptor};
pub use client_certificate::{ClientCertificate, ClientRules};
pub use connector::{Connector, Mode};
pub use files::TlsError;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

use crate::domain::Fault;

/// Refuses what a peer sent before its TLS handshake: whoever sits in between could have put it there, to be read as
/// if it had been encrypted (CVE-2021-23214, CVE-2021-23222).
pub fn refuse_early_bytes(buffered: &[u8]) -> Result<(), Fault> {
    if buffered.is_empty() {
        Ok(())
    } else {
        Err(Fault::protocol("received unencrypted data after SSL request")
            .detail("This could be either a client-software bug or evidence of an attempted man-in-the-middle attack."))
    }
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
