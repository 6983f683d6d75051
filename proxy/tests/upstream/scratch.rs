//! A Postgres of this test binary's own: initialised in a temporary directory, listening on a Unix socket and on TCP
//! with TLS, gone with the last test that holds it.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex, Weak};

/// A running server.
pub(crate) struct Scratch {
    directory: tempfile::TempDir,
    pub(crate) port: u16,
    pub(crate) root_certificate: PathBuf,
    pub(crate) other_root_certificate: PathBuf,
    /// A certificate of the root's for `cert_role`, and its key.
    pub(crate) client_certificate: (PathBuf, PathBuf),
}

static SHARED: Mutex<Weak<Scratch>> = Mutex::new(Weak::new());

const HBA: &str = "\
local all all trust
host all md5_role 127.0.0.1/32 md5
host all clear_role 127.0.0.1/32 password
hostssl all cert_role 127.0.0.1/32 cert
hostnossl all tls_role 127.0.0.1/32 reject
host all all 127.0.0.1/32 scram-sha-256
";

const ROLES: &str = "\
set password_encryption = 'md5'; create role md5_role login password 'secret';
set password_encryption = 'scram-sha-256'; create role scram_role login password 'secret';
create role clear_role login password 'secret'; create role tls_role login password 'secret';
create role trust_role login; create role cert_role login;";

impl Scratch {
    /// The server of this moment's tests.
    pub(crate) fn shared() -> Arc<Self> {
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let fresh = Arc::new(Self::start());
            *shared = Arc::downgrade(&fresh);
            fresh
        })
    }

    fn start() -> Self {
        let directory = tempfile::Builder::new().prefix("pgcordon-upstream-").tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let path = |name: &str| directory.path().join(name);
        own(directory.path());
        run("initdb", &["-D", path("data").to_str().unwrap(), "-A", "trust", "-U", "postgres", "--no-sync"]);
        std::fs::write(path("data/pg_hba.conf"), HBA).unwrap();
        let (root_certificate, other_root_certificate) = (path("root.pem"), path("other.pem"));
        let client_certificate = (path("client.pem"), path("client.key"));
        make_certificates(&path("data"), &root_certificate, &other_root_certificate, &client_certificate);
        let options = format!(
            "-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={} -c fsync=off -c ssl=on -c ssl_ca_file={}",
            directory.path().display(),
            root_certificate.display()
        );
        let (data, log) = (path("data"), path("log"));
        run("pg_ctl", &["-D", data.to_str().unwrap(), "-l", log.to_str().unwrap(), "-w", "-o", &options, "start"]);
        let scratch = Self { directory, port, root_certificate, other_root_certificate, client_certificate };
        scratch.sql(ROLES);
        scratch
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Runs SQL as the superuser and returns its unaligned output.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.sql_as("postgres", sql)
    }

    /// Runs SQL as a role.
    pub(crate) fn sql_as(&self, role: &str, sql: &str) -> String {
        let (directory, port) = (self.directory().to_str().unwrap(), self.port.to_string());
        run(
            "psql",
            &["-XAtq", "-v", "ON_ERROR_STOP=1", "-h", directory, "-p", &port, "-U", role, "-d", "postgres", "-c", sql],
        )
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let data = self.directory.path().join("data");
        let _ = command("pg_ctl").args(["-D"]).arg(data).args(["-m", "immediate", "-w", "stop"]).output();
    }
}

fn make_certificates(data: &Path, root: &Path, other: &Path, client: &(PathBuf, PathBuf)) {
    let authority = |file: &Path| {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        std::fs::write(file, parameters.self_signed(&key).unwrap().pem()).unwrap();
        rcgen::Issuer::new(parameters, key)
    };
    authority(other);
    let issuer = authority(root);
    let key = rcgen::KeyPair::generate().unwrap();
    let parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(data.join("server.crt"), parameters.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    let key_file = data.join("server.key");
    std::fs::write(&key_file, key.serialize_pem()).unwrap();
    std::fs::set_permissions(&key_file, std::fs::Permissions::from_mode(0o600)).unwrap();
    own(&key_file);
    let key = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, "cert_role");
    std::fs::write(&client.0, parameters.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    std::fs::write(&client.1, key.serialize_pem()).unwrap();
}

/// Gives a file to the user that runs Postgres, which refuses to be root.
fn own(path: &Path) {
    if is_root() {
        let id = |flag: &str| {
            let output = Command::new("id").args([flag, "postgres"]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().parse::<u32>().unwrap()
        };
        chown(path, Some(id("-u")), Some(id("-g"))).unwrap();
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let Output { status, stdout, stderr } = command(program).args(arguments).output().unwrap();
    assert!(status.success(), "{program}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// A program of the server that is tested: beside the initdb on PATH, as `pgcordon dev` looks for it, else Debian's newest.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut directories: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|version| version.path().join("bin"))
        .collect();
    directories.sort();
    directories.extend(std::env::split_paths(&path).find(|directory| directory.join("initdb").exists()));
    let installed = directories.into_iter().rev().map(|directory| directory.join(name)).find(|path| path.exists());
    installed.unwrap_or_else(|| PathBuf::from(name))
}

fn command(name: &str) -> Command {
    let program = program(name);
    // pg_ctl's server must not keep the pipes of the tests open: pg_ctl -l sees to that.
    let mut command = if is_root() {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    command.current_dir("/");
    command
}
