//! A database as `pgcordon dev` makes it, made once and copied for whoever needs one of its own: most of the time that a
//! start takes goes into initdb and into hardening a fresh catalog.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use tempfile::TempDir;

use crate::cluster::server_version;
use crate::dev::{Dev, binary};

/// What a database that only tests need has no use for. It stands behind what `pgcordon dev` writes, so it counts.
const UNSAFE_SETTINGS: &str = "\nfsync = off\nsynchronous_commit = off\nfull_page_writes = off\n";

/// One test binary at a time makes the template; tests of the same one wait for it.
static MAKING: Mutex<()> = Mutex::new(());

/// A copy, for `--data-dir`: the directory in it that [`data`] names.
pub(crate) fn copy() -> TempDir {
    let made = MAKING.lock().unwrap();
    let template = kept();
    if !template.exists() {
        make(template);
    }
    drop(made);
    let directory = reachable();
    duplicate(template, &data(&directory));
    directory
}

/// Where in a copy the database is.
pub(crate) fn data(copy: &TempDir) -> PathBuf {
    copy.path().join("data")
}

/// Where the template is kept until the program or the server is another one: among what tests leave in `target`.
fn kept() -> &'static Path {
    static KEPT: OnceLock<PathBuf> = OnceLock::new();
    KEPT.get_or_init(place)
}

fn place() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.ancestors().nth(3).expect("target/PROFILE/deps");
    let program = std::fs::metadata(binary()).unwrap();
    let mut hasher = DefaultHasher::new();
    (program.len(), program.modified().unwrap(), server_version()).hash(&mut hasher);
    target.join("tmp").join(format!("database-{:016x}", hasher.finish()))
}

fn make(template: &Path) {
    let directory = reachable();
    let made = data(&directory);
    drop(Dev::run(&["--data-dir", made.to_str().unwrap()]));
    let settings = made.join("postgres/postgresql.conf");
    let mut file = std::fs::OpenOptions::new().append(true).open(settings).unwrap();
    file.write_all(UNSAFE_SETTINGS.as_bytes()).unwrap();
    let beside = template.parent().unwrap();
    std::fs::create_dir_all(beside).unwrap();
    forget_old(beside);
    // Whole or not at all, also when another process makes the same one.
    let copied = template.with_extension(std::process::id().to_string());
    duplicate(&made, &copied);
    if std::fs::rename(&copied, template).is_err() {
        std::fs::remove_dir_all(copied).unwrap();
    }
}

/// Removes the templates of programs that are gone. The newest few are those of the servers that are tested now.
fn forget_old(beside: &Path) {
    let mut templates: Vec<PathBuf> = std::fs::read_dir(beside)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("database-")))
        .collect();
    templates.sort_by_key(|path| std::fs::metadata(path).and_then(|found| found.modified()).ok());
    for old in templates.iter().rev().skip(2) {
        let _ = std::fs::remove_dir_all(old);
    }
}

/// A temporary directory that the user postgres can enter.
fn reachable() -> TempDir {
    let directory = tempfile::Builder::new().prefix("pgcordon-test-").tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// With owners and permissions, which a server insists on.
fn duplicate(from: &Path, to: &Path) {
    let output = Command::new("cp").arg("-a").args([from, to]).output().unwrap();
    assert!(output.status.success(), "cp: {}", String::from_utf8_lossy(&output.stderr));
}
