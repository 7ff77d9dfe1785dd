//! What an archive holds: a version's folder as `tar`, or `tar.gz`, read without being unpacked.
//!
//! Nothing of it reaches a disk, so no name in it can lead anywhere. Each file is hashed as it passes;
//! those that are wanted are kept in sealed memory, like those of a [folder](crate::folder). What is
//! neither file nor folder is refused, and so is a name that comes twice.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry, EntryType};

use crate::digest::Digest;
use crate::folder::MAX_ENTRIES;
use crate::manifest::{ManifestError, Name};
use crate::sealed::{self, Budget, ReadError, Sealed};

/// What gzip begins with.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The files of an archive.
#[derive(Debug, Default)]
pub struct Contents {
    /// Each file's digest.
    pub files: BTreeMap<Name, Digest>,
    /// The bytes of those that were wanted and are there.
    pub kept: BTreeMap<String, Sealed>,
}

/// An archive cannot be used. Its maker's fault, but for what cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is no archive, or a damaged one.
    #[error("not a readable tar file")]
    Tar(#[source] io::Error),
    /// A link, a device, a pipe, or a file with holes.
    #[error("{name:?} is neither a plain file nor a folder")]
    NotPlain {
        /// What it is called.
        name: String,
    },
    /// A file's name may lead elsewhere.
    #[error(transparent)]
    Name(#[from] ManifestError),
    /// A name comes twice.
    #[error("{name:?} comes twice")]
    Twice {
        /// The name.
        name: String,
    },
    /// Too many files and folders.
    #[error("more than {MAX_ENTRIES} files and folders")]
    TooMany,
    /// A file of it cannot be read, or is too large.
    #[error(transparent)]
    Read(#[from] ReadError),
}

// === impl Contents ===

impl Contents {
    /// Reads an archive. All its files together have at most `max_bytes`.
    ///
    /// # Errors
    ///
    /// See [`ArchiveError`].
    pub fn read(archive: &Path, keep: &[&str], max_bytes: u64) -> Result<Self, ArchiveError> {
        let mut file = File::open(archive).map_err(ArchiveError::Tar)?;
        let mut magic = [0; GZIP.len()];
        let read = file.read(&mut magic).map_err(ArchiveError::Tar)?;
        let whole = BufReader::new((&magic[..read]).chain(file));
        let mut budget = Budget::new(max_bytes);
        if magic == GZIP {
            Self::of(MultiGzDecoder::new(whole), keep, &mut budget)
        } else {
            Self::of(whole, keep, &mut budget)
        }
    }

    fn of(source: impl Read, keep: &[&str], budget: &mut Budget) -> Result<Self, ArchiveError> {
        // What stands between the files is bounded as they are.
        let limit = budget.left().saturating_mul(2).saturating_add(1 << 26);
        let mut archive = Archive::new(source.take(limit));
        let mut contents = Self::default();
        for (count, entry) in archive.entries().map_err(ArchiveError::Tar)?.enumerate() {
            if count >= MAX_ENTRIES {
                return Err(ArchiveError::TooMany);
            }
            contents.add(entry.map_err(ArchiveError::Tar)?, keep, budget)?;
        }
        Ok(contents)
    }

    fn add(
        &mut self,
        mut entry: Entry<'_, impl Read>,
        keep: &[&str],
        budget: &mut Budget,
    ) -> Result<(), ArchiveError> {
        let shown = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let kind = entry.header().entry_type();
        if kind == EntryType::Directory || kind == EntryType::XGlobalHeader {
            return Ok(());
        }
        if !matches!(kind, EntryType::Regular | EntryType::Continuous) {
            let name = shown.chars().take(200).collect();
            return Err(ArchiveError::NotPlain { name });
        }
        // As `tar -C FOLDER .` writes them.
        let name = Name::new(shown.strip_prefix("./").unwrap_or(&shown))?;
        let origin = Path::new(name.as_str()).to_owned();
        let digest = if keep.contains(&name.as_str()) {
            let (digest, sealed) = sealed::keep_from(&mut entry, &origin, budget)?;
            self.kept.insert(name.as_str().to_owned(), sealed);
            digest
        } else {
            sealed::hash_from(&mut entry, &origin, budget)?
        };
        let twice = name.as_str().to_owned();
        match self.files.insert(name, digest) {
            None => Ok(()),
            Some(_) => Err(ArchiveError::Twice { name: twice }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::path::PathBuf;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::{Builder, EntryType, Header};
    use tempfile::TempDir;

    use super::{ArchiveError, Contents};
    use crate::digest::Digest;
    use crate::fixture::model;
    use crate::manifest::Name;
    use crate::sealed::ReadError;

    fn header(kind: EntryType, name: &str, size: u64) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size);
        header.set_mode(0o644);
        // Past the checks of the writer, as an attacker's writer has none.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        header
    }

    /// An archive with one entry after an honest one.
    fn archive(kind: EntryType, name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.tar");
        let mut builder = Builder::new(fs::File::create(&path).unwrap());
        let first = header(EntryType::Regular, "model.pt", 7);
        builder.append(&first, &b"weights"[..]).unwrap();
        let second = header(kind, name, bytes.len() as u64);
        builder.append(&second, bytes).unwrap();
        builder.finish().unwrap();
        (folder, path)
    }

    #[test]
    fn the_files_of_an_archive_are_those_of_its_folder_packed_or_not() {
        let (folder, elsewhere) = (model(), tempfile::tempdir().unwrap());
        let plain = elsewhere.path().join("model.tar");
        let mut builder = Builder::new(fs::File::create(&plain).unwrap());
        builder.append_dir_all(".", folder.path()).unwrap();
        builder.finish().unwrap();
        let packed = elsewhere.path().join("model.tar.gz");
        let mut gzip = GzEncoder::new(fs::File::create(&packed).unwrap(), Compression::fast());
        gzip.write_all(&fs::read(&plain).unwrap()).unwrap();
        gzip.finish().unwrap();
        for path in [plain, packed] {
            let contents = Contents::read(&path, &["model.pt", "other"], 1 << 20).unwrap();
            let names: Vec<_> = contents.files.keys().map(Name::as_str).collect();
            assert_eq!(names, ["labels/en.txt", "model.pt", "model.toml"]);
            assert_eq!(
                contents.files.values().nth(1),
                Some(&Digest::of(b"weights"))
            );
            assert_eq!(contents.kept["model.pt"].read().unwrap(), b"weights");
            assert_eq!(contents.kept.len(), 1);
        }
    }

    #[test]
    fn what_is_neither_file_nor_folder_is_refused() {
        for kind in [
            EntryType::Symlink,
            EntryType::Link,
            EntryType::Char,
            EntryType::Block,
            EntryType::Fifo,
        ] {
            let (_folder, path) = archive(kind, "link", b"");
            let error = Contents::read(&path, &[], 1 << 20).unwrap_err();
            assert!(
                matches!(error, ArchiveError::NotPlain { .. }),
                "{kind:?}: {error}"
            );
        }
    }

    #[test]
    fn names_that_may_lead_elsewhere_and_names_that_come_twice_are_refused() {
        for name in [
            "../model.pt",
            "/etc/passwd",
            "a/../../b",
            "a//b",
            ".",
            "a\nb",
        ] {
            let (_folder, path) = archive(EntryType::Regular, name, b"x");
            let error = Contents::read(&path, &[], 1 << 20).unwrap_err();
            assert!(matches!(error, ArchiveError::Name(_)), "{name}: {error}");
        }
        for name in ["model.pt", "./model.pt"] {
            let (_folder, path) = archive(EntryType::Regular, name, b"x");
            let error = Contents::read(&path, &["model.pt"], 1 << 20).unwrap_err();
            assert!(
                matches!(error, ArchiveError::Twice { .. }),
                "{name}: {error}"
            );
        }
    }

    #[test]
    fn more_bytes_than_allowed_are_not_read_however_they_are_packed() {
        let (folder, plain) = archive(EntryType::Regular, "zeros", &vec![0; 1 << 20]);
        let packed = folder.path().join("bomb.tar.gz");
        let mut gzip = GzEncoder::new(fs::File::create(&packed).unwrap(), Compression::best());
        gzip.write_all(&fs::read(&plain).unwrap()).unwrap();
        gzip.finish().unwrap();
        for path in [plain, packed] {
            let error = Contents::read(&path, &[], 1_000_000).unwrap_err();
            let too_large = matches!(error, ArchiveError::Read(ReadError::TooLarge { .. }));
            assert!(too_large, "{error}");
        }
    }

    #[test]
    fn what_is_no_archive_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.tar");
        for bytes in [&b"not a tar file"[..], &[0x1f, 0x8b, 1, 2, 3], &[7; 600]] {
            fs::write(&path, bytes).unwrap();
            let error = Contents::read(&path, &[], 1 << 20).unwrap_err();
            assert!(matches!(error, ArchiveError::Tar(_)), "{error}");
        }
    }
}
