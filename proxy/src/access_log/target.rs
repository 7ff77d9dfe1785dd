//! Where lines go, and what happens when somebody moves the file away.
//!
//! Whatever turns logs over renames the file, and expects that a new one is made.
//! Most programs wait for a signal; SIGHUP means something else here, and one that
//! does not come loses the log without a word. So the file's name is looked up
//! before each write, ten times a second at the most: when it stands for another
//! file than the one that is open, or for none, that one is opened.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::OpenError;
use crate::config::LogTarget;

/// Where lines go.
#[derive(Debug)]
pub(super) struct Target {
    path: PathBuf,
    out: Out,
    /// The last write may have ended in the middle of a line.
    torn: bool,
}

#[derive(Debug)]
enum Out {
    Stdout,
    Stderr,
    File(File),
}

// === impl Target ===

impl Target {
    pub(super) fn open(target: &LogTarget) -> Result<Self, OpenError> {
        let (path, out) = match target {
            LogTarget::Stdout => (PathBuf::from("stdout"), Out::Stdout),
            LogTarget::Stderr => (PathBuf::from("stderr"), Out::Stderr),
            LogTarget::File(path) => {
                let opened = append_to(path);
                let file = opened.map_err(|source| OpenError {
                    path: path.clone(),
                    source,
                })?;
                (path.clone(), Out::File(file))
            }
        };
        Ok(Self {
            path,
            out,
            torn: false,
        })
    }

    /// The file, or the word that stands for a stream.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes whole lines.
    pub(super) fn write(&mut self, text: &[u8]) -> io::Result<()> {
        self.reopen()?;
        let result = self.write_text(text);
        self.torn = result.is_err();
        result
    }

    fn write_text(&mut self, text: &[u8]) -> io::Result<()> {
        let end_of_torn: &[u8] = if self.torn { b"\n" } else { b"" };
        match &mut self.out {
            Out::Stdout => write(&mut io::stdout().lock(), end_of_torn, text),
            Out::Stderr => write(&mut io::stderr().lock(), end_of_torn, text),
            Out::File(file) => write(file, end_of_torn, text),
        }
    }

    /// Opens the file that its name stands for now, if it is another.
    fn reopen(&mut self) -> io::Result<()> {
        let Out::File(file) = &mut self.out else {
            return Ok(());
        };
        let open = file.metadata()?;
        let is_open = |named: fs::Metadata| (named.dev(), named.ino()) == (open.dev(), open.ino());
        if !fs::metadata(&self.path).is_ok_and(is_open) {
            *file = append_to(&self.path)?;
            self.torn = false;
        }
        Ok(())
    }
}

fn append_to(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn write(out: &mut impl Write, end_of_torn: &[u8], text: &[u8]) -> io::Result<()> {
    out.write_all(end_of_torn)?;
    out.write_all(text)?;
    out.flush()
}
