//! The operating system's user that Postgres runs as: ourselves, or an unprivileged one when we are root, because
//! Postgres refuses to run as root.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::cli::Failure;

/// The users that root lends Postgres to, in this order.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// A user of the operating system.
#[derive(Clone, Debug)]
pub(super) struct Account {
    /// Its name, as `peer` authentication sees it.
    pub(super) name: String,
    /// The ids a process has to change to; none when it is ourselves.
    pub(super) switch: Option<(u32, u32)>,
}

impl Account {
    /// The user pgcordon itself runs as.
    pub(super) fn ourselves() -> Result<Self, Failure> {
        let name = ask_id(&["-un"]).ok_or_else(|| {
            Failure::outside("the user this runs as has no name")
                .hint("initdb and peer authentication need one: add the uid to /etc/passwd")
        })?;
        Ok(Self { name, switch: None })
    }

    /// The user Postgres is to run as.
    pub(super) fn for_postgres() -> Result<Self, Failure> {
        if !rustix::process::geteuid().is_root() {
            return Self::ourselves();
        }
        for name in UNPRIVILEGED {
            let id = |flag| ask_id(&[flag, name]).and_then(|id| id.parse().ok());
            if let (Some(uid), Some(gid)) = (id("-u"), id("-g")) {
                return Ok(Self { name: name.to_owned(), switch: Some((uid, gid)) });
            }
        }
        Err(Failure::outside("Postgres doesn't run as root, and there is neither a user postgres nor a user nobody")
            .hint("run pgcordon dev as an ordinary user"))
    }

    /// Gives a file or directory to this user.
    pub(super) fn own(&self, path: &Path) -> Result<(), Failure> {
        let Some((uid, gid)) = self.switch else { return Ok(()) };
        std::os::unix::fs::chown(path, Some(uid), Some(gid)).map_err(|error| {
            Failure::outside(format!("can't give {} to the user {}: {error}", path.display(), self.name))
        })
    }

    /// Whether this user can enter a directory: every directory above it must be searchable too.
    pub(super) fn can_enter(&self, directory: &Path) -> bool {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "cd -- \"$1\"", "sh"]).arg(directory);
        if let Some((uid, gid)) = self.switch {
            command.uid(uid).gid(gid);
        }
        command.current_dir("/").stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    }
}

/// `id` asks the name service, which /etc/passwd alone doesn't.
fn ask_id(arguments: &[&str]) -> Option<String> {
    let output = Command::new("id").args(arguments).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}
