//! A TorchScript file seen as what it is: a zip of weights and of a small Python source.
//!
//! Tracing through `tch` saves only programs that return one tensor, and compiles no source. Both
//! walls fall when the source inside a saved file is replaced: libtorch compiles it when it loads
//! the file. The bundled models get their second output this way, and tests get any program that
//! they need, without Python.
//!
//! Layout: every record lies under one folder, `ROOT/`; the program of a traced module is
//! `ROOT/code/__torch__.py`, its weights are `ROOT/constants/*`. Records start at multiples of 64
//! bytes, as libtorch writes them, so that weights can be mapped in place. The same archive always
//! gives the same bytes.

use std::io::{self, Cursor, Read, Write};

use zip::result::ZipError;
use zip::write::FileOptions;
use zip::{CompressionMethod, DateTime, ZipArchive, ZipWriter};

/// The longest file that is taken apart, unpacked, in bytes.
pub const MAX_UNPACKED_BYTES: u64 = 1 << 30;

const SOURCE: &str = "/code/__torch__.py";
/// Maps places in the source to places in the traced program; wrong once the source is another.
const SOURCE_MAP: &str = "/code/__torch__.py.debug_pkl";
const ALIGNMENT: u16 = 64;

/// The records of a TorchScript file, in the order of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive {
    records: Vec<Record>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    name: String,
    bytes: Vec<u8>,
}

/// Why a file could not be taken apart or put together.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The bytes are no zip file, or a damaged one.
    #[error("not a readable zip file")]
    Zip(#[from] ZipError),
    /// A record could not be unpacked or packed.
    #[error("cannot unpack or pack a record")]
    Record(#[from] io::Error),
    /// Unpacked, the file is larger than [`MAX_UNPACKED_BYTES`].
    #[error("larger than {MAX_UNPACKED_BYTES} bytes when unpacked")]
    TooLarge,
    /// The zip holds no program of a traced module.
    #[error("holds no record that ends in {SOURCE}")]
    NoSource,
    /// The program is not text.
    #[error("the program is not UTF-8")]
    SourceNotText(#[from] std::str::Utf8Error),
}

// === impl Archive ===

impl Archive {
    /// Unpacks a file that libtorch saved.
    ///
    /// # Errors
    /// When the bytes are no zip, or unpack to more than [`MAX_UNPACKED_BYTES`].
    pub fn read(bytes: &[u8]) -> Result<Self, ArchiveError> {
        let mut zip = ZipArchive::new(Cursor::new(bytes))?;
        let mut left = MAX_UNPACKED_BYTES;
        let mut records = Vec::new();
        for index in 0..zip.len() {
            let file = zip.by_index(index)?;
            let name = file.name().to_owned();
            let mut bytes = Vec::new();
            // What the header says of the size is the writer's claim; what is read counts.
            let read = file.take(left + 1).read_to_end(&mut bytes)? as u64;
            left = left.checked_sub(read).ok_or(ArchiveError::TooLarge)?;
            records.push(Record { name, bytes });
        }
        Ok(Self { records })
    }

    /// The program, as TorchScript.
    ///
    /// # Errors
    /// When the archive holds no program, or one that is not text.
    pub fn source(&self) -> Result<&str, ArchiveError> {
        let source = self
            .records
            .iter()
            .find(|record| record.name.ends_with(SOURCE));
        Ok(std::str::from_utf8(
            &source.ok_or(ArchiveError::NoSource)?.bytes,
        )?)
    }

    /// Puts another program in the place of the old one. Libtorch compiles it at load.
    ///
    /// # Errors
    /// When the archive holds no program to replace.
    pub fn replace_source(&mut self, source: &str) -> Result<(), ArchiveError> {
        let place = self
            .records
            .iter_mut()
            .find(|record| record.name.ends_with(SOURCE));
        place.ok_or(ArchiveError::NoSource)?.bytes = source.as_bytes().to_vec();
        self.records
            .retain(|record| !record.name.ends_with(SOURCE_MAP));
        Ok(())
    }

    /// Packs the records into the bytes of a file.
    ///
    /// # Errors
    /// When a record cannot be written, as when it passes the limits of the zip format.
    pub fn write(&self) -> Result<Vec<u8>, ArchiveError> {
        let options = FileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(DateTime::default());
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for record in &self.records {
            zip.start_file_aligned(record.name.as_str(), options, ALIGNMENT)?;
            zip.write_all(&record.bytes)?;
        }
        Ok(zip.finish()?.into_inner())
    }
}

#[cfg(test)]
mod tests;
