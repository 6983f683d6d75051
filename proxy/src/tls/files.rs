//! Certificates and keys in PEM files, with errors that name the file and the cause.

use std::path::{Path, PathBuf};

use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// Why TLS can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file is missing or may not be read.
    #[error("cannot read {what} {}: {source}", path.display())]
    Unreadable {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The operating system's word.
        source: std::io::Error,
    },
    /// A file holds nothing of the kind.
    #[error("{what} {} holds no usable PEM section: {cause}", path.display())]
    NotPem {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The private key belongs to another certificate.
    #[error("private key {} does not match certificate {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// A mode that verifies certificates was given nothing to verify them with.
    #[error("tls mode {0} needs a root certificate file")]
    NoRoot(&'static str),
    /// rustls refuses what the files say.
    #[error("cannot use {what} {}: {source}", path.display())]
    Unusable {
        /// What the file is for.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// rustls' word.
        source: rustls::Error,
    },
}

pub(super) fn certificates(what: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(what, path)?;
    let not_pem = |cause: String| TlsError::NotPem { what, path: path.to_owned(), cause };
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if found.is_empty() => Err(not_pem("no CERTIFICATE section".to_owned())),
        Ok(found) => Ok(found),
        Err(error) => Err(not_pem(error.to_string())),
    }
}

pub(super) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let what = "private key";
    let text = zeroize::Zeroizing::new(read(what, path)?);
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| TlsError::NotPem {
        what,
        path: path.to_owned(),
        cause: error.to_string(),
    })
}

/// Why rustls takes a certificate and its key not.
pub(super) fn unusable_pair(certificate: &Path, key: &Path, source: rustls::Error) -> TlsError {
    match source {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::Mismatch { certificate: certificate.to_owned(), key: key.to_owned() }
        }
        source => TlsError::Unusable { what: "certificate", path: certificate.to_owned(), source },
    }
}

fn read(what: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Unreadable { what, path: path.to_owned(), source })
}
