//! TLS towards clients.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::server::TlsStream;

use super::client_certificate::{Authority, ClientCertificate};
use super::{TlsError, end_point, files, provider};

/// What it takes to answer a client's SSLRequest with `S`. Cheap to clone.
#[derive(Clone)]
pub struct Acceptor {
    config: Arc<ServerConfig>,
    end_point: Option<Arc<[u8]>>,
    authority: Option<Arc<Authority>>,
}

/// A client with which a handshake was done.
pub struct Accepted<S> {
    /// Its connection.
    pub stream: TlsStream<S>,
    /// What it showed of itself.
    pub certificate: ClientCertificate,
}

impl Acceptor {
    /// Reads a certificate chain, leaf first, and its private key from PEM files. With the PEM file of an authority, clients
    /// are asked for certificates of its.
    ///
    /// # Errors
    /// A file that is missing, unreadable, or not what it should be.
    pub fn from_files(certificate: &Path, key: &Path, client_ca: Option<&Path>) -> Result<Self, TlsError> {
        let chain = files::certificates("certificate", certificate)?;
        let private = files::private_key(key)?;
        let end_point = chain.first().and_then(|leaf| end_point::of_certificate(leaf));
        let authority = client_ca.map(Authority::from_file).transpose()?.map(Arc::new);
        let unusable = |source| files::unusable_pair(certificate, key, source);
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(unusable)?;
        let config = match &authority {
            Some(authority) => config.with_client_cert_verifier(authority.clone()),
            None => config.with_no_client_auth(),
        };
        let mut config = config.with_single_cert(chain, private).map_err(unusable)?;
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Self { config: Arc::new(config), end_point, authority })
    }

    /// The `tls-server-end-point` data of the certificate, for SCRAM-SHA-256-PLUS.
    pub fn channel_binding(&self) -> Option<Arc<[u8]>> {
        self.end_point.clone()
    }

    /// Does the handshake. The caller bounds its time, and has refused early bytes before.
    ///
    /// # Errors
    /// The peer is gone or doesn't speak TLS as we do.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(&self, socket: S) -> io::Result<Accepted<S>> {
        let stream = tokio_rustls::TlsAcceptor::from(Arc::clone(&self.config)).accept(socket).await?;
        let certificate = match &self.authority {
            Some(authority) => authority.judge(stream.get_ref().1.peer_certificates()),
            None => ClientCertificate::None,
        };
        Ok(Accepted { stream, certificate })
    }
}

impl fmt::Debug for Acceptor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Acceptor")
    }
}
