//! TLS towards the upstream server, with libpq's modes and their meaning.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::client::TlsStream;

use super::{TlsError, end_point, files, provider};

/// `upstream.tls`, in libpq's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Plain text.
    #[default]
    Disable,
    /// Encrypted, to whoever answers, if the server offers it; else plain text. It protects from nobody who can change what
    /// passes.
    Prefer,
    /// Encrypted, to whoever answers.
    Require,
    /// The certificate must come from the root; its name is not looked at.
    VerifyCa,
    /// The certificate must come from the root and name the host.
    VerifyFull,
}

impl Mode {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Disable => "disable",
            Self::Prefer => "prefer",
            Self::Require => "require",
            Self::VerifyCa => "verify-ca",
            Self::VerifyFull => "verify-full",
        }
    }
}

/// What it takes to encrypt a connection to the upstream server. Cheap to clone; all clones take over new certificates at once.
#[derive(Clone)]
pub struct Connector {
    config: Arc<ArcSwap<ClientConfig>>,
    mode: Mode,
}

impl Connector {
    /// A connector for this mode, or none for [`Mode::Disable`]. `root` is a PEM file of root certificates; with
    /// [`Mode::Prefer`] and [`Mode::Require`] it is not looked at.
    ///
    /// # Errors
    /// A file that is missing, unreadable, or not what it should be.
    pub fn new(mode: Mode, root: Option<&Path>) -> Result<Option<Self>, TlsError> {
        Self::with_identity(mode, root, None)
    }

    /// The same, with the PEM files of a certificate and its private key that are shown to a server which asks for them.
    ///
    /// # Errors
    /// As [`Connector::new`].
    pub fn with_identity(
        mode: Mode,
        root: Option<&Path>,
        identity: Option<(&Path, &Path)>,
    ) -> Result<Option<Self>, TlsError> {
        let verifier: Arc<dyn ServerCertVerifier> = match (mode, root) {
            (Mode::Disable, _) => return Ok(None),
            (Mode::Prefer | Mode::Require, _) => Arc::new(Lenient { inner: None, provider: provider() }),
            (_, None) => return Err(TlsError::NoRoot(mode.as_str())),
            (Mode::VerifyCa, Some(root)) => {
                Arc::new(Lenient { inner: Some(chain_verifier(root)?), provider: provider() })
            }
            (Mode::VerifyFull, Some(root)) => chain_verifier(root)?,
        };
        let path = root.unwrap_or(Path::new("")).to_owned();
        let config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|source| TlsError::Unusable { what: "root certificate", path, source })?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match identity {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = files::certificates("certificate", certificate)?;
                config
                    .with_client_auth_cert(chain, files::private_key(key)?)
                    .map_err(|source| files::unusable_pair(certificate, key, source))?
            }
        };
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Some(Self { config: Arc::new(ArcSwap::from_pointee(config)), mode }))
    }

    /// Whether a server that offers no encryption is spoken to in plain text.
    pub fn may_be_refused(&self) -> bool {
        self.mode == Mode::Prefer
    }

    /// The same for a library that does its own handshake, as it is now.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.load_full()
    }

    /// Takes over the certificates of another connector, unless that one is of another mode.
    pub fn renew(&self, new: &Self) {
        if self.mode == new.mode {
            self.config.store(new.config.load_full());
        }
    }

    /// Does the handshake with the server called `host` (a name or an address). The caller bounds its time.
    pub async fn connect<S: AsyncRead + AsyncWrite + Unpin>(&self, host: &str, socket: S) -> io::Result<TlsStream<S>> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "the host is no valid TLS server name"))?;
        tokio_rustls::TlsConnector::from(self.config()).connect(name, socket).await
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Connector")
    }
}

/// The `tls-server-end-point` data of the certificate that the server has shown.
pub fn channel_binding<S>(stream: &TlsStream<S>) -> Option<Arc<[u8]>> {
    stream.get_ref().1.peer_certificates()?.first().and_then(|leaf| end_point::of_certificate(leaf))
}

fn chain_verifier(root: &Path) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
    let what = "root certificate";
    let mut store = RootCertStore::empty();
    for certificate in files::certificates(what, root)? {
        store.add(certificate).map_err(|source| TlsError::Unusable { what, path: root.to_owned(), source })?;
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider()).build().map_err(|error| TlsError::NotPem {
        what,
        path: root.to_owned(),
        cause: error.to_string(),
    })
}

/// Verifies less than everything: the chain without the name (`verify-ca`), or nothing but that the server holds the
/// key of the certificate it shows (`require`).
#[derive(Debug)]
struct Lenient {
    inner: Option<Arc<WebPkiServerVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else {
            return Ok(ServerCertVerified::assertion());
        };
        // The name is looked at last, when the chain has been found good.
        match inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
