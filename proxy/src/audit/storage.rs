//! The disk, as the spool needs it. Tests put one in its place that fails and forgets as disks do.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// Where segments are made.
pub trait Storage: Send + 'static {
    /// A segment that is open for writing.
    type File: SegmentFile;

    /// Makes an empty segment. When this returns, the segment is found again after a power failure.
    ///
    /// # Errors
    /// As the disk says.
    fn create(&mut self, path: &Path) -> io::Result<Self::File>;
}

/// A segment that is open for writing.
pub trait SegmentFile: Send + 'static {
    /// Appends all of it. After an error any part of it may be there.
    ///
    /// # Errors
    /// As the disk says.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Returns when everything that was appended outlives a power failure.
    ///
    /// # Errors
    /// As the disk says. What was appended since the last success is then in doubt, whatever a later call says: the system
    /// may have forgotten that it wasn't written.
    fn sync(&mut self) -> io::Result<()>;

    /// Cuts the segment back to this length.
    ///
    /// # Errors
    /// As the disk says.
    fn cut(&mut self, bytes: u64) -> io::Result<()>;

    /// Whether it still has a name: what is written to a file that somebody removed is gone.
    fn has_name(&self) -> bool;
}

/// The real disk.
#[derive(Debug, Default)]
pub struct Disk;

impl Storage for Disk {
    type File = File;

    fn create(&mut self, path: &Path) -> io::Result<File> {
        let directory = path.parent().unwrap_or(Path::new("."));
        make_directory(directory)?;
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
        file.sync_all()?;
        sync_directory(directory)?;
        Ok(file)
    }
}

impl SegmentFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn has_name(&self) -> bool {
        self.metadata().is_ok_and(|metadata| metadata.nlink() > 0)
    }
}

/// Makes a directory that only we read, and those above it, so that they are found again after a power failure.
///
/// # Errors
/// As the disk says.
pub fn make_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(above) = directory.parent().filter(|above| !above.as_os_str().is_empty()) {
        make_directory(above)?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_directory(directory.parent().unwrap_or(Path::new("."))),
    }
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    File::open(directory)?.sync_all()
}

#[cfg(test)]
pub(crate) mod fake;
