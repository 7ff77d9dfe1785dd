//! Reading a configuration file: bounded, and only what is a file.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::{Fault, Rejected};

/// The largest file that is read.
pub const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Why a file could not be read. It is the user's to mend; a retry helps only
/// if the file is being written at the moment.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The operating system refused.
    #[error("{}: cannot be read", path.display())]
    Io {
        /// What was to be read.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder, a pipe or a device: reading it could wait for ever.
    #[error("{}: not a regular file", path.display())]
    NotAFile {
        /// What was to be read.
        path: PathBuf,
    },
    /// Larger than [`MAX_FILE_BYTES`].
    #[error("{}: larger than the limit of {limit} bytes", path.display())]
    TooLarge {
        /// What was to be read.
        path: PathBuf,
        /// The limit, in bytes.
        limit: u64,
    },
    /// TOML is UTF-8.
    #[error("{}:{line}: not UTF-8 (byte {offset} of the file)", path.display())]
    NotUtf8 {
        /// What was read.
        path: PathBuf,
        /// Line of the first wrong byte, from 1.
        line: usize,
        /// Offset of the first wrong byte.
        offset: usize,
    },
}

// === impl ReadError ===

impl ReadError {
    /// The error as the one fault of a text called `origin`.
    #[must_use]
    pub fn rejected(&self, origin: &str) -> Rejected {
        let (line, message) = match self {
            Self::Io { source, .. } => (None, format!("cannot be read: {source}")),
            Self::NotAFile { .. } => (None, "not a regular file".to_owned()),
            Self::TooLarge { limit, .. } => {
                (None, format!("larger than the limit of {limit} bytes"))
            }
            Self::NotUtf8 { line, .. } => (Some(*line), "not UTF-8".to_owned()),
        };
        let fault = Fault {
            path: String::new(),
            line,
            message,
        };
        Rejected::new(origin, vec![fault])
    }
}

/// Reads a whole text file.
///
/// # Errors
///
/// See [`ReadError`].
pub fn read_file(path: &Path) -> Result<String, ReadError> {
    let io = |source| ReadError::Io {
        path: path.to_owned(),
        source,
    };
    // Asked before opening, because opening a pipe waits for its writer.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(ReadError::NotAFile {
            path: path.to_owned(),
        });
    }
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(io)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(ReadError::TooLarge {
            path: path.to_owned(),
            limit: MAX_FILE_BYTES,
        });
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        let before = &error.as_bytes()[..offset];
        ReadError::NotUtf8 {
            path: path.to_owned(),
            line: before.split(|byte| *byte == b'\n').count(),
            offset,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{MAX_FILE_BYTES, ReadError, read_file};

    #[test]
    fn a_file_is_read_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.toml");
        std::fs::write(&path, "a = 1\n").unwrap();
        assert_eq!(read_file(&path).unwrap(), "a = 1\n");
    }

    #[test]
    fn what_is_missing_or_a_folder_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("none.toml");
        let error = read_file(&missing).unwrap_err();
        assert!(matches!(error, ReadError::Io { .. }), "{error}");
        assert!(error.to_string().contains("none.toml"), "{error}");
        let told = error.rejected("none.toml").to_string();
        assert!(
            told.starts_with("none.toml: cannot be read: No such"),
            "{told}"
        );
        let error = read_file(folder.path()).unwrap_err();
        assert!(matches!(error, ReadError::NotAFile { .. }), "{error}");
    }

    #[test]
    fn the_limit_itself_is_taken_and_one_byte_more_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("big.toml");
        let limit = usize::try_from(MAX_FILE_BYTES).unwrap();
        std::fs::write(&path, vec![b'#'; limit]).unwrap();
        assert_eq!(read_file(&path).unwrap().len(), limit);
        std::fs::write(&path, vec![b'#'; limit + 1]).unwrap();
        assert!(matches!(read_file(&path), Err(ReadError::TooLarge { .. })));
    }

    #[test]
    fn bytes_that_are_not_utf8_are_located() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("latin1.toml");
        std::fs::write(&path, b"a = 1\n# caf\xe9\n").unwrap();
        let error = read_file(&path).unwrap_err();
        assert!(
            matches!(
                error,
                ReadError::NotUtf8 {
                    line: 2,
                    offset: 11,
                    ..
                }
            ),
            "{error}"
        );
        let told = error.rejected("latin1.toml").to_string();
        assert_eq!(told, "latin1.toml:2: not UTF-8");
    }
}
