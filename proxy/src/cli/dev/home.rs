//! Where things are: the directory of the database, which is scratch or kept, and the short private one of its socket.

use std::fs::{DirBuilder, File};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use super::account::Account;
use super::memory::Memory;
use crate::cli::Failure;

/// The longest directory of a Unix socket: with the name of the socket in it the path must stay under 104 bytes.
const SOCKET_DIRECTORY_BYTES_MAX: usize = 80;
/// How long the keepers of a killed predecessor may take to stop what they keep.
const PREDECESSOR_WAIT: Duration = Duration::from_secs(8);
/// The lock of a directory, held while pgcordon uses it.
const LOCK: &str = "lock";
/// Names the scratch directory of the last run, in a base that is kept.
const LAST_SCRATCH: &str = "scratch";
/// How scratch directories are named.
const SCRATCH_PREFIX: &str = "pgcordon-";

/// The directories of one `pgcordon dev`.
pub(super) struct Home {
    /// Removed at the end: the socket, and the database too unless it is kept.
    pub(super) scratch: PathBuf,
    /// Holds the database, its log and what is remembered: the scratch directory or that of `--data-dir`.
    pub(super) base: PathBuf,
    /// The database outlives this run.
    pub(super) kept: bool,
    _lock: File,
}

impl Home {
    /// Makes the directories and locks them.
    pub(super) fn open(data_dir: Option<&Path>, account: &Account) -> Result<Self, Failure> {
        let kept = match data_dir {
            Some(directory) => Some(open_kept(directory, account)?),
            None => None,
        };
        if let Some((base, _)) = &kept {
            forget_last_scratch(base);
        }
        let scratch = make_scratch(account)?;
        if let Some((base, _)) = &kept {
            let _ = std::fs::write(base.join(LAST_SCRATCH), scratch.as_os_str().as_encoded_bytes());
        }
        let home = match kept {
            Some((base, lock)) => Self { scratch, base, kept: true, _lock: lock },
            None => {
                let lock = lock(&scratch)?;
                Self { base: scratch.clone(), scratch, kept: false, _lock: lock }
            }
        };
        let socket = home.socket();
        make(&socket, 0o700)?;
        account.own(&socket)?;
        Ok(home)
    }

    /// Postgres' data directory.
    pub(super) fn data(&self) -> PathBuf {
        self.base.join("postgres")
    }

    /// Where initdb works: it becomes the data directory by a rename, so that there is never half a one.
    pub(super) fn unfinished(&self) -> PathBuf {
        self.base.join("postgres.unfinished")
    }

    /// The directory of Postgres' Unix socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.scratch.join("s")
    }

    /// What Postgres says.
    pub(super) fn log(&self) -> PathBuf {
        self.base.join("postgres.log")
    }

    /// The lock that keepers hold.
    pub(super) fn keeper_lock(&self) -> PathBuf {
        self.base.join("keeper.lock")
    }

    /// The spool of the audit trail.
    pub(super) fn audit(&self) -> PathBuf {
        self.base.join("audit")
    }

    /// The proxy's configuration.
    pub(super) fn config(&self) -> PathBuf {
        self.base.join("pgcordon.toml")
    }

    /// Ports, passwords and keys, so that they are the same the next time.
    pub(super) fn memory(&self) -> PathBuf {
        self.base.join(Memory::FILE)
    }

    /// Waits until the keepers of a killed predecessor have ended.
    pub(super) async fn wait_for_keepers(&self) -> Result<(), Failure> {
        let path = self.keeper_lock();
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(|error| Failure::outside(format!("{}: {error}", path.display())))?;
        let deadline = crate::domain::clock::now() + PREDECESSOR_WAIT;
        while flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            if crate::domain::clock::now() > deadline {
                return Err(Failure::outside(format!("a predecessor still holds {}", path.display()))
                    .hint("look for a process named pgcordon or postgres that uses this directory"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Removes what is scratch. The keeper has done so if Postgres ever ran.
    pub(super) fn clean(&self) -> std::io::Result<()> {
        match std::fs::remove_dir_all(&self.scratch) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether a directory is one that `make_scratch` made.
pub(super) fn is_scratch(directory: &Path) -> bool {
    directory.file_name().is_some_and(|name| name.to_string_lossy().starts_with(SCRATCH_PREFIX))
        && roots().iter().any(|root| directory.parent() == Some(root))
}

fn roots() -> Vec<PathBuf> {
    vec![std::env::temp_dir(), PathBuf::from("/tmp")]
}

fn make_scratch(account: &Account) -> Result<PathBuf, Failure> {
    let mut tried = Vec::new();
    for root in roots() {
        let directory = root.join(format!("{SCRATCH_PREFIX}{:08x}", rand::random::<u32>()));
        if directory.as_os_str().len() > SOCKET_DIRECTORY_BYTES_MAX || make(&directory, 0o711).is_err() {
            tried.push(root.display().to_string());
        } else if account.can_enter(&directory) {
            return Ok(directory);
        } else {
            tried.push(root.display().to_string());
            let _ = std::fs::remove_dir(&directory);
        }
    }
    Err(Failure::outside(format!("no place for a socket: tried {}", tried.join(", ")))
        .hint(format!("set TMPDIR to a short path that the user {} can enter", account.name)))
}

/// Removes what a run left that was killed before there was a keeper to do it.
fn forget_last_scratch(base: &Path) {
    let Ok(last) = std::fs::read_to_string(base.join(LAST_SCRATCH)) else { return };
    let last = Path::new(&last);
    let is_ours = |name: &std::ffi::OsStr| name.to_string_lossy().starts_with(SCRATCH_PREFIX);
    if last.is_absolute() && last.file_name().is_some_and(is_ours) {
        let _ = std::fs::remove_dir_all(last);
    }
}

/// Opens the directory of `--data-dir`: a new one, an empty one, or one of ours.
fn open_kept(directory: &Path, account: &Account) -> Result<(PathBuf, File), Failure> {
    let named = |error: std::io::Error| Failure::outside(format!("--data-dir {}: {error}", directory.display()));
    let new = !directory.exists();
    if new {
        make(directory, 0o711)?;
    }
    let base = directory.canonicalize().map_err(named)?;
    // A predecessor that was killed at once may have left its lock.
    let strange = base
        .read_dir()
        .map_err(named)?
        .flatten()
        .any(|entry| entry.file_name() != LOCK && entry.file_name() != Memory::FILE_NEW);
    if strange && !base.join(Memory::FILE).exists() {
        return Err(Failure::usage(format!(
            "--data-dir {}: it isn't empty, and pgcordon dev didn't make it",
            base.display()
        ))
        .hint("give a new or an empty directory"));
    }
    if !account.can_enter(&base) {
        if new {
            let _ = std::fs::remove_dir(&base);
        }
        return Err(Failure::usage(format!("--data-dir {}: the user {} can't enter it", base.display(), account.name))
            .hint("Postgres runs as that user: choose a directory that everybody can enter, or chmod a+x it and those above it"));
    }
    let lock = lock(&base)?;
    Memory::claim(&base.join(Memory::FILE))?;
    Ok((base, lock))
}

/// Two on one directory would destroy the database.
fn lock(base: &Path) -> Result<File, Failure> {
    let path = base.join(LOCK);
    let named = |error: std::io::Error| Failure::outside(format!("{}: {error}", path.display()));
    let mut file = File::options().create(true).truncate(false).read(true).write(true).open(&path).map_err(named)?;
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        let mut other = String::new();
        let _ = file.read_to_string(&mut other);
        return Err(Failure::outside(format!(
            "{} is in use by another pgcordon dev (process {})",
            base.display(),
            other.trim()
        ))
        .hint("stop that one first, or give another --data-dir"));
    }
    file.set_len(0).and_then(|()| file.rewind()).map_err(named)?;
    write!(file, "{}", std::process::id()).map_err(named)?;
    Ok(file)
}

/// Makes a directory with exactly this mode, whatever the umask.
pub(super) fn make(directory: &Path, mode: u32) -> Result<(), Failure> {
    DirBuilder::new()
        .mode(mode)
        .create(directory)
        .and_then(|()| std::fs::set_permissions(directory, std::fs::Permissions::from_mode(mode)))
        .map_err(|error| Failure::outside(format!("can't make {}: {error}", directory.display())))
}
