//! Certificates of clients, as a second factor beside the key's secret.
//!
//! The handshake lets every client through whose certificate is its own, also one that we don't trust: a client that is
//! refused in mid-handshake reads an alert at best. What it showed is judged right behind the handshake, anew for each
//! connection, and it is told in words what is wrong.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::{TlsError, files, provider};
use crate::domain::{Fault, Origin, SqlState, clock};

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const SUBJECT_ALT_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");

/// Whether a client may do without (`tls.client_cert`).
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// Everybody must show one, and so come over TLS.
    #[default]
    Required,
    /// Who shows one must show a good one.
    Optional,
}

/// What a certificate has to do with the key (`tls.client_cert_names`).
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Names {
    /// Nothing: any certificate of the authority will do.
    #[default]
    Any,
    /// Its common name, or a DNS name of it, is the key id.
    KeyId,
}

/// What a client showed of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientCertificate {
    /// Nothing.
    None,
    /// A certificate of the authority, which holds now. These are its names.
    Good(Vec<String>),
    /// A certificate that isn't good, and why.
    Bad(String),
}

/// What clients must show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientRules {
    /// Whether a client may do without.
    pub need: Need,
    /// What a certificate has to do with the key.
    pub names: Names,
}

impl ClientRules {
    /// Whether a client that says it has this key may go on. `shown` is none for an unencrypted connection.
    ///
    /// # Errors
    /// It may not.
    pub fn check(&self, shown: Option<&ClientCertificate>, key_id: &str) -> Result<(), Fault> {
        let refused = |detail: String| {
            Err(Fault::new(
                Origin::Client,
                SqlState::INVALID_AUTHORIZATION,
                "connection requires a valid client certificate",
            )
            .detail(detail))
        };
        match (shown, self.need, self.names) {
            (None | Some(ClientCertificate::None), Need::Optional, _)
            | (Some(ClientCertificate::Good(_)), _, Names::Any) => Ok(()),
            (None, Need::Required, _) => refused("The connection isn't encrypted.".to_owned()),
            (Some(ClientCertificate::None), Need::Required, _) => refused("The client has shown none.".to_owned()),
            (Some(ClientCertificate::Bad(why)), ..) => refused(format!("The one that the client has shown {why}.")),
            (Some(ClientCertificate::Good(names)), _, Names::KeyId) => {
                if names.iter().any(|name| name == key_id) {
                    Ok(())
                } else {
                    refused("The one that the client has shown is for another key: neither its common name nor a DNS name of it is the key id.".to_owned())
                }
            }
        }
    }
}

/// An authority whose certificates are asked for.
#[derive(Debug)]
pub(super) struct Authority {
    inner: Arc<dyn ClientCertVerifier>,
}

impl Authority {
    pub(super) fn from_file(path: &Path) -> Result<Self, TlsError> {
        let what = "client CA";
        let mut store = RootCertStore::empty();
        for certificate in files::certificates(what, path)? {
            store.add(certificate).map_err(|source| TlsError::Unusable { what, path: path.to_owned(), source })?;
        }
        let inner = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider()).build();
        let inner =
            inner.map_err(|error| TlsError::NotPem { what, path: path.to_owned(), cause: error.to_string() })?;
        Ok(Self { inner })
    }

    /// What the certificates are that a client has shown, the leaf first.
    pub(super) fn judge(&self, shown: Option<&[CertificateDer<'_>]>) -> ClientCertificate {
        let Some((leaf, intermediates)) = shown.and_then(<[_]>::split_first) else { return ClientCertificate::None };
        let now = Duration::from_secs(u64::try_from(clock::unix_seconds()).unwrap_or_default());
        match self.inner.verify_client_cert(leaf, intermediates, UnixTime::since_unix_epoch(now)) {
            Ok(_) => ClientCertificate::Good(names(leaf)),
            Err(error) => ClientCertificate::Bad(why(&error)),
        }
    }
}

fn why(error: &rustls::Error) -> String {
    use CertificateError as Wrong;
    let words = match error {
        rustls::Error::InvalidCertificate(Wrong::Expired | Wrong::ExpiredContext { .. }) => "has expired",
        rustls::Error::InvalidCertificate(Wrong::NotValidYet | Wrong::NotValidYetContext { .. }) => "isn't valid yet",
        rustls::Error::InvalidCertificate(Wrong::UnknownIssuer) => "comes from no authority that is trusted here",
        rustls::Error::InvalidCertificate(Wrong::InvalidPurpose | Wrong::InvalidPurposeContext { .. }) => {
            "isn't meant for clients"
        }
        other => return format!("can't be verified: {other}"),
    };
    words.to_owned()
}

/// The common names and DNS names of a certificate that was found good.
fn names(leaf: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = Certificate::from_der(leaf) else { return Vec::new() };
    let certificate = certificate.tbs_certificate;
    let subject = certificate.subject.0.iter().flat_map(|part| part.0.iter());
    let common = subject
        .filter(|attribute| attribute.oid == COMMON_NAME)
        .filter_map(|attribute| std::str::from_utf8(attribute.value.value()).ok().map(str::to_owned));
    let mut names: Vec<String> = common.collect();
    let extensions = certificate.extensions.iter().flatten();
    for extension in extensions.filter(|extension| extension.extn_id == SUBJECT_ALT_NAME) {
        let Ok(alternatives) = SubjectAltName::from_der(extension.extn_value.as_bytes()) else { continue };
        names.extend(alternatives.0.iter().filter_map(|name| match name {
            GeneralName::DnsName(name) => Some(name.as_str().to_owned()),
            _ => None,
        }));
    }
    names
}

impl ClientCertVerifier for Authority {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.inner.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        // See `judge`.
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_go_on_without_a_certificate_and_with_which() {
        let (required, optional) = (ClientRules::default(), ClientRules { need: Need::Optional, ..Default::default() });
        let named = |need| ClientRules { need, names: Names::KeyId };
        let good = ClientCertificate::Good(vec!["else".to_owned(), "key".to_owned()]);
        let bad = ClientCertificate::Bad("has expired".to_owned());
        for (rules, shown, goes_on) in [
            (required, None, false),
            (required, Some(&ClientCertificate::None), false),
            (required, Some(&bad), false),
            (required, Some(&good), true),
            (optional, None, true),
            (optional, Some(&ClientCertificate::None), true),
            (optional, Some(&bad), false),
            (named(Need::Required), Some(&good), true),
            (named(Need::Optional), None, true),
            (named(Need::Optional), Some(&ClientCertificate::Good(vec!["keys".to_owned()])), false),
            (named(Need::Required), Some(&ClientCertificate::Good(Vec::new())), false),
        ] {
            let checked = rules.check(shown, "key");
            assert_eq!(checked.is_ok(), goes_on, "{rules:?} {shown:?}");
            assert!(checked.err().is_none_or(|fault| fault.sqlstate == SqlState::INVALID_AUTHORIZATION));
        }
    }
}
