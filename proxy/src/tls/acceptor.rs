//! TLS towards clients.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;

use super::{TlsError, end_point, files, provider};

/// What it takes to answer a client's SSLRequest with `S`. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    end_point: Option<Arc<[u8]>>,
}

impl Acceptor {
    /// Reads a certificate chain, leaf first, and its private key from PEM files.
    pub fn from_files(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let chain = files::certificates("certificate", certificate)?;
        let private = files::private_key(key)?;
        let end_point = chain.first().and_then(|leaf| end_point::of_certificate(leaf));
        let unusable = |source| match source {
            rustls::Error::InconsistentKeys(_) => {
                TlsError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() }
            }
            source => TlsError::Unusable { what: "certificate", path: certificate.to_owned(), source },
        };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(unusable)?
            .with_no_client_auth()
            .with_single_cert(chain, private)
            .map_err(unusable)?;
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Self { config: Arc::new(config), end_point })
    }

    /// The `tls-server-end-point` data of the certificate, for SCRAM-SHA-256-PLUS.
    pub fn channel_binding(&self) -> Option<Arc<[u8]>> {
        self.end_point.clone()
    }

    /// Does the handshake. The caller bounds its time, and has refused early bytes before.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, socket: S) -> io::Result<TlsStream<S>> {
        tokio_rustls::TlsAcceptor::from(Arc::clone(&self.config)).accept(socket).await
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Acceptor")
    }
}
