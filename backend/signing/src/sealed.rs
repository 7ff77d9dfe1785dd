//! A file that was read once, hashed on the way, and is kept where nobody can change it.
//!
//! The bytes go into an anonymous file in memory (`memfd`), which is sealed when it is whole: the
//! kernel then refuses every write, also through other descriptors. A library that loads from a path
//! is given [`Sealed::path`], and needs no copy of the bytes in this process.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::digest::{Digest, Hasher};

/// Bytes that go from the file to memory at a time.
const STEP: usize = 1 << 20;

/// A file's bytes, in memory, that nobody can change.
#[derive(Debug)]
pub struct Sealed {
    file: File,
    bytes: u64,
}

/// A file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The system said no.
    #[error("cannot read {path}", path = path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is no memory to put it in.
    #[error("cannot keep {path} in memory", path = path.display())]
    Memory {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It, and what was read before it, is over the limit.
    #[error("more than {limit} bytes in all, at {path}", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
}

/// How many bytes may be read in all.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    left: u64,
    limit: u64,
}

/// Hashes a file.
///
/// # Errors
///
/// See [`ReadError`].
pub fn hash(path: &Path, budget: &mut Budget) -> Result<Digest, ReadError> {
    hash_from(&mut open(path)?, path, budget)
}

/// Hashes what is read; `path` is what it is called.
///
/// # Errors
///
/// See [`ReadError`].
pub fn hash_from(
    source: &mut impl Read,
    path: &Path,
    budget: &mut Budget,
) -> Result<Digest, ReadError> {
    let mut hasher = Hasher::default();
    each_step(source, path, budget, |bytes| {
        hasher.update(bytes);
        Ok(())
    })?;
    Ok(hasher.finish())
}

/// Hashes a file, and keeps the very bytes that were hashed.
///
/// # Errors
///
/// See [`ReadError`].
pub fn keep(path: &Path, budget: &mut Budget) -> Result<(Digest, Sealed), ReadError> {
    keep_from(&mut open(path)?, path, budget)
}

/// Hashes what is read, and keeps it; `path` is what it is called.
///
/// # Errors
///
/// See [`ReadError`].
pub fn keep_from(
    source: &mut impl Read,
    path: &Path,
    budget: &mut Budget,
) -> Result<(Digest, Sealed), ReadError> {
    let memory = |source: io::Error| ReadError::Memory {
        path: path.to_owned(),
        source,
    };
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory_file = memfd_create("verified", flags).map_err(|error| memory(error.into()))?;
    let mut file = File::from(memory_file);
    let (mut hasher, mut length) = (Hasher::default(), 0);
    each_step(source, path, budget, |bytes| {
        hasher.update(bytes);
        length += bytes.len() as u64;
        file.write_all(bytes).map_err(memory)
    })?;
    let seals = SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL;
    fcntl_add_seals(&file, seals).map_err(|error| memory(error.into()))?;
    let sealed = Sealed {
        file,
        bytes: length,
    };
    Ok((hasher.finish(), sealed))
}

/// Reads a file that is short, such as a signature, whole.
///
/// # Errors
///
/// See [`ReadError`].
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>, ReadError> {
    let mut whole = Vec::new();
    each_step(&mut open(path)?, path, &mut Budget::new(limit), |bytes| {
        whole.extend_from_slice(bytes);
        Ok(())
    })?;
    Ok(whole)
}

fn each_step(
    source: &mut impl Read,
    path: &Path,
    budget: &mut Budget,
    mut take: impl FnMut(&[u8]) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let unreadable = |source| ReadError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mut step = vec![0; STEP];
    loop {
        let read = match source.read(&mut step) {
            Ok(0) => return Ok(()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(unreadable(error)),
        };
        let left = budget.left.checked_sub(read as u64);
        budget.left = left.ok_or_else(|| ReadError::TooLarge {
            path: path.to_owned(),
            limit: budget.limit,
        })?;
        take(&step[..read])?;
    }
}

/// Opens a plain file, and no link. Without waiting: to open a pipe is to wait for its writer.
fn open(path: &Path) -> Result<File, ReadError> {
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
        .and_then(|file| {
            if file.metadata()?.is_file() {
                Ok(file)
            } else {
                Err(io::Error::other("it is no plain file"))
            }
        });
    opened.map_err(|source| ReadError::Unreadable {
        path: path.to_owned(),
        source,
    })
}

// === impl Sealed ===

impl Sealed {
    /// A path that leads to these bytes while this lives, in this process.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The bytes, copied.
    ///
    /// # Errors
    ///
    /// When the system cannot read its own memory.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        // Through the path, so that the position is the reader's own.
        std::fs::read(self.path())
    }
}

// === impl Budget ===

impl Budget {
    /// So many bytes.
    #[must_use]
    pub fn new(limit: u64) -> Self {
        Self { left: limit, limit }
    }

    /// Bytes that may still be read.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, OpenOptions};
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use super::{Budget, ReadError, hash, keep};
    use crate::digest::Digest;

    #[test]
    fn what_was_hashed_is_what_is_kept_whatever_becomes_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.pt");
        let bytes = vec![7; (3 << 20) + 5];
        fs::write(&path, &bytes).unwrap();
        let (digest, sealed) = keep(&path, &mut Budget::new(u64::MAX)).unwrap();
        fs::write(&path, b"other bytes").unwrap();
        assert_eq!(digest, Digest::of(&bytes));
        assert_eq!(sealed.len(), bytes.len() as u64);
        assert!(!sealed.is_empty());
        assert!(fs::read(sealed.path()).unwrap() == bytes);
    }

    #[test]
    fn kept_bytes_cannot_be_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.pt");
        fs::write(&path, b"weights").unwrap();
        let (_, sealed) = keep(&path, &mut Budget::new(7)).unwrap();
        let wrote = OpenOptions::new()
            .write(true)
            .open(sealed.path())
            .and_then(|mut file| file.write_all(b"x"));
        assert!(wrote.is_err());
        assert!((&sealed.file).write_all(b"x").is_err());
        assert_eq!(sealed.read().unwrap(), b"weights");
    }

    #[test]
    fn all_files_together_stay_within_the_budget() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        fs::write(&path, b"four").unwrap();
        let mut budget = Budget::new(7);
        hash(&path, &mut budget).unwrap();
        let error = hash(&path, &mut budget).unwrap_err();
        assert!(
            matches!(error, ReadError::TooLarge { limit: 7, .. }),
            "{error}"
        );
    }

    #[test]
    fn a_link_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("file"), folder.path().join("link"));
        fs::write(&path, b"four").unwrap();
        symlink(&path, &link).unwrap();
        assert!(hash(&link, &mut Budget::new(7)).is_err());
        assert!(hash(folder.path(), &mut Budget::new(7)).is_err());
    }
}
