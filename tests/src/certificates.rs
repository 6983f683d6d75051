//! Certificates for tests: an authority of their own, and what it issues.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    /// A new one.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = parameters.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(parameters, key), pem }
    }

    /// Its certificate, in PEM.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A server's certificate and key, in PEM.
    pub fn server(&self, host: &str) -> (String, String) {
        let mut parameters = CertificateParams::new(vec![host.to_owned()]).unwrap();
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(parameters)
    }

    /// A client's certificate, with a common name and perhaps a DNS name, and its key, in PEM.
    pub fn client(&self, common_name: &str, dns_name: Option<&str>) -> (String, String) {
        self.issue(client(common_name, dns_name))
    }

    /// The same, long expired.
    pub fn expired_client(&self, common_name: &str) -> (String, String) {
        let mut parameters = client(common_name, None);
        parameters.not_before = date_time_ymd(2020, 1, 1);
        parameters.not_after = date_time_ymd(2020, 2, 1);
        self.issue(parameters)
    }

    fn issue(&self, parameters: CertificateParams) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        (parameters.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn client(common_name: &str, dns_name: Option<&str>) -> CertificateParams {
    let mut parameters = CertificateParams::new(dns_name.map(str::to_owned).into_iter().collect::<Vec<_>>()).unwrap();
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    parameters
}

/// A directory for them.
pub struct Files(tempfile::TempDir);

impl Default for Files {
    fn default() -> Self {
        Self(tempfile::tempdir().unwrap())
    }
}

impl Files {
    /// Writes a file that only its owner may read, as libpq asks of keys.
    pub fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Writes `NAME.pem` and `NAME.key`.
    pub fn write_pair(&self, name: &str, (certificate, key): &(String, String)) -> (String, String) {
        (self.write(&format!("{name}.pem"), certificate), self.write(&format!("{name}.key"), key))
    }

    /// The path of a file.
    pub fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        self.0.path()
    }

    /// The configuration that a `pgcordon dev` with this as its data directory wrote, with further lines.
    pub fn configuration(&self, data: &str, further: &str) -> PathBuf {
        let written = std::fs::read_to_string(self.0.path().join(data).join("pgcordon.toml")).unwrap();
        self.write("serve.toml", &format!("{written}\n{further}")).into()
    }
}
