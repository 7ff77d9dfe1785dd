//! What a folder holds: every file below it, and no way out of it.
//!
//! Links are refused, of files and of folders, and so is what is neither (a pipe would be waited
//! for). Files, folders and depth are bounded, so that a folder full of entries costs no more than
//! one that is too full. Between this and the reading of a file somebody may put a link in its
//! place: it is [opened](crate::sealed) without following links, and what is read is compared by
//! its digest.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::manifest::Name;

/// The most files and folders below one folder.
pub const MAX_ENTRIES: usize = 65_536;

/// The deepest folder.
pub const MAX_DEPTH: usize = 64;

/// A file below a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its path below the folder.
    pub name: Name,
    /// Where it is.
    pub path: PathBuf,
}

/// A folder cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// The system said no.
    #[error("cannot read {path}", path = path.display())]
    Unreadable {
        /// What could not be read.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A link, a pipe, a device or a socket.
    #[error("{path} is {what}; only files and folders can be signed", path = path.display())]
    NotPlain {
        /// Where it is.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A name that a manifest cannot hold.
    #[error("{path} has a name that cannot be signed", path = path.display())]
    Name {
        /// Where it is.
        path: PathBuf,
    },
    /// More than fits.
    #[error("{path} holds more than {MAX_ENTRIES} files and folders, or is more than {MAX_DEPTH} deep", path = path.display())]
    TooLarge {
        /// The folder.
        path: PathBuf,
    },
}

/// Lists every file below the folder, in the order of names, but for what lies at or below an
/// ignored path.
///
/// # Errors
///
/// See [`FolderError`].
pub fn list(folder: &Path, ignored: &[String]) -> Result<Vec<Entry>, FolderError> {
    let unreadable = |path: &Path, source| FolderError::Unreadable {
        path: path.to_owned(),
        source,
    };
    let kind = fs::symlink_metadata(folder).map_err(|error| unreadable(folder, error))?;
    if !kind.is_dir() {
        return Err(FolderError::NotPlain {
            path: folder.to_owned(),
            what: if kind.is_symlink() {
                "a link"
            } else {
                "no folder"
            },
        });
    }
    let mut files = Vec::new();
    let mut entries = 0;
    let mut open = vec![(folder.to_owned(), String::new(), 1)];
    while let Some((path, prefix, depth)) = open.pop() {
        for entry in fs::read_dir(&path).map_err(|error| unreadable(&path, error))? {
            let entry = entry.map_err(|error| unreadable(&path, error))?;
            entries += 1;
            if entries > MAX_ENTRIES || depth > MAX_DEPTH {
                return Err(FolderError::TooLarge {
                    path: folder.to_owned(),
                });
            }
            let (path, kind) = (entry.path(), entry.file_type());
            let kind = kind.map_err(|error| unreadable(&path, error))?;
            let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
            if !kind.is_dir() && !kind.is_file() {
                let what = if kind.is_symlink() {
                    "a link"
                } else {
                    "no plain file"
                };
                return Err(FolderError::NotPlain { path, what });
            }
            if ignored.contains(&name) {
                continue;
            }
            let named = entry
                .file_name()
                .to_str()
                .and_then(|_| Name::new(&name).ok());
            let Some(named) = named else {
                return Err(FolderError::Name { path });
            };
            if kind.is_dir() {
                open.push((path, name + "/", depth + 1));
            } else {
                files.push(Entry { name: named, path });
            }
        }
    }
    files.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::{FolderError, MAX_DEPTH, list};
    use crate::fixture::{model, write};

    fn names(folder: &std::path::Path, ignored: &[&str]) -> Vec<String> {
        let ignored: Vec<_> = ignored.iter().map(|&path| path.to_owned()).collect();
        let files = list(folder, &ignored).unwrap();
        files
            .iter()
            .map(|file| file.name.as_str().to_owned())
            .collect()
    }

    #[test]
    fn every_file_is_listed_below_every_folder_but_for_what_is_ignored() {
        let folder = model();
        write(folder.path(), ".git/objects/1", b"");
        write(folder.path(), "model.sig", b"");
        let listed = names(folder.path(), &["model.sig", ".git"]);
        assert_eq!(listed, ["labels/en.txt", "model.pt", "model.toml"]);
        // A name is ignored where it stands, and not wherever else it occurs.
        write(folder.path(), "labels/model.sig", b"");
        assert!(names(folder.path(), &["model.sig", ".git"]).contains(&"labels/model.sig".into()));
    }

    #[test]
    fn links_are_refused_whatever_they_lead_to() {
        for target in ["model.pt", "labels", "nowhere", "/"] {
            let folder = model();
            symlink(target, folder.path().join("link")).unwrap();
            let error = list(folder.path(), &["link".to_owned()]).unwrap_err();
            assert!(error.to_string().contains("link is a link"), "{error}");
        }
        let folder = model();
        let link = folder.path().with_extension("link");
        symlink(folder.path(), &link).unwrap();
        let error = list(&link, &[]).unwrap_err();
        fs::remove_file(link).unwrap();
        assert!(error.to_string().contains("is a link"), "{error}");
    }

    #[test]
    fn what_is_neither_file_nor_folder_is_refused() {
        let folder = model();
        let _socket = UnixListener::bind(folder.path().join("socket")).unwrap();
        let error = list(folder.path(), &[]).unwrap_err();
        assert!(error.to_string().contains("no plain file"), "{error}");
        let error = list(&folder.path().join("model.pt"), &[]).unwrap_err();
        assert!(error.to_string().contains("no folder"), "{error}");
        let error = list(&folder.path().join("nothing"), &[]).unwrap_err();
        assert!(matches!(error, FolderError::Unreadable { .. }), "{error}");
    }

    #[test]
    fn a_name_that_is_no_text_is_refused() {
        let folder = model();
        let name = OsStr::from_bytes(b"a\xffb");
        fs::write(folder.path().join(name), b"").unwrap();
        let error = list(folder.path(), &[]).unwrap_err();
        assert!(matches!(error, FolderError::Name { .. }), "{error}");
    }

    #[test]
    fn a_folder_that_is_too_deep_is_refused() {
        let folder = model();
        write(
            folder.path(),
            &format!("{}file", "d/".repeat(MAX_DEPTH - 1)),
            b"",
        );
        assert_eq!(names(folder.path(), &[]).len(), 4);
        write(
            folder.path(),
            &format!("{}file", "e/".repeat(MAX_DEPTH)),
            b"",
        );
        let error = list(folder.path(), &[]).unwrap_err();
        assert!(matches!(error, FolderError::TooLarge { .. }), "{error}");
    }
}
