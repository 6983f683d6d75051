//! Finding an installed Postgres server.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cli::Failure;

/// The oldest server that has what the `cordon` schema needs.
const OLDEST_MAJOR: u32 = 13;

/// Directories that hold one directory per version, and what of it holds the binaries.
const VERSIONED: [(&str, &str, &str); 4] = [
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr", "pgsql-", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
];
const PLAIN: [&str; 3] = ["/usr/local/pgsql/bin", "/opt/homebrew/bin", "/usr/local/bin"];

/// The programs of one Postgres installation.
#[derive(Clone, Debug)]
pub(super) struct Binaries {
    /// Where they are.
    pub(super) directory: PathBuf,
    /// The major version.
    pub(super) major: u32,
    /// The version as a person reads it.
    pub(super) version: String,
}

impl Binaries {
    /// The binaries of `--pg-bin`, else of PATH, else the newest of the usual places.
    pub(super) fn find(asked: Option<&Path>) -> Result<Self, Failure> {
        let found = match asked {
            Some(directory) => Self::at(directory).ok_or_else(|| {
                Failure::usage(format!("--pg-bin {}: initdb and postgres aren't there, or don't run", directory.display()))
            })?,
            None => Self::on_path().or_else(Self::in_usual_places).ok_or_else(|| {
                Failure::outside("no Postgres server is installed here (looked for initdb and postgres on PATH and in the usual places)")
                    .hint("on Debian: apt-get install postgresql; or give --pg-bin DIR")
            })?,
        };
        if found.major < OLDEST_MAJOR {
            return Err(Failure::outside(format!(
                "the Postgres in {} is {}, and pgcordon needs {OLDEST_MAJOR} or newer",
                found.directory.display(),
                found.version
            ))
            .hint("give --pg-bin DIR"));
        }
        Ok(found)
    }

    /// The path of one program.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// psql: beside the server, else on PATH.
    pub(super) fn psql(&self) -> PathBuf {
        let beside = self.program("psql");
        if beside.is_file() { beside } else { PathBuf::from("psql") }
    }

    fn on_path() -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find_map(|directory| {
            // A link leads to the directory where postgres and its libraries are.
            let initdb = directory.join("initdb").canonicalize().ok()?;
            Self::at(initdb.parent()?)
        })
    }

    fn in_usual_places() -> Option<Self> {
        let mut candidates: Vec<PathBuf> = PLAIN.iter().map(PathBuf::from).collect();
        for (parent, prefix, inside) in VERSIONED {
            let Ok(entries) = std::fs::read_dir(parent) else { continue };
            candidates.extend(
                entries
                    .flatten()
                    .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
                    .map(|entry| entry.path().join(inside)),
            );
        }
        candidates.iter().filter_map(|directory| Self::at(directory)).max_by_key(|found| found.major)
    }

    fn at(directory: &Path) -> Option<Self> {
        if !directory.join("initdb").is_file() {
            return None;
        }
        let output = Command::new(directory.join("postgres")).arg("--version").output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        let version = version_of(&text)?.to_owned();
        let digits: String = version.chars().take_while(char::is_ascii_digit).collect();
        Some(Self { directory: directory.canonicalize().ok()?, major: digits.parse().ok()?, version })
    }
}

/// `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)` → `15.18`
fn version_of(text: &str) -> Option<&str> {
    text.split_once("(PostgreSQL)")?.1.split_whitespace().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_the_word_after_the_name() {
        assert_eq!(version_of("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"), Some("15.18"));
        assert_eq!(version_of("postgres (PostgreSQL) 18beta1\n"), Some("18beta1"));
        assert_eq!(version_of("something else"), None);
    }
}
