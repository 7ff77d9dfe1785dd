//! Rows of tensors from files of data.

use std::collections::HashSet;
use std::fmt::{self, Write};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use aegis_protocol::{DecodeError, InferRequest, InferResponse, Tensor, excerpt};
use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};

use crate::safety::{Source, rows_of};
use crate::signature::{Signature, TensorSpec};

/// The most bytes of a file, and of one when it is no longer compressed.
const MAX_BYTES: u64 = 1 << 30;

/// The most numbers of all rows: half a GiB.
const MAX_NUMBERS: usize = 1 << 27;

/// Which side of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Input,
    Output,
}

/// A tensor whose rows are wanted.
pub(super) struct Wanted<'s> {
    pub(super) side: Side,
    pub(super) spec: &'s TensorSpec,
    /// Numbers of its rows, where they are fixed.
    pub(super) width: Option<usize>,
    /// Only their energy counts.
    pub(super) energy: bool,
}

/// Rows for each tensor that is wanted, in that order.
pub(super) struct Data {
    pub(super) rows: Vec<Vec<Vec<f32>>>,
    pub(super) sources: Vec<Source>,
}

/// Why data cannot be used. Whose they are has to mend them.
#[derive(Debug, thiserror::Error)]
pub(super) enum DataError {
    #[error("cannot read {path}", path = path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}:{line}", path = path.display())]
    Line {
        path: PathBuf,
        line: usize,
        source: LineError,
    },
    #[error("expected at most {MAX_NUMBERS} numbers in all rows")]
    TooMuch,
}

#[derive(Debug, thiserror::Error)]
pub(super) enum LineError {
    #[error("expected a request or an answer of the protocol")]
    Json(#[from] DecodeError),
    #[error(
        "a table is of one input, and {wanted} tensors are wanted or their rows have no fixed width; give JSON"
    )]
    Table { wanted: usize },
    #[error("expected {expected} numbers, and perhaps a label, got {got} fields")]
    Width { expected: usize, got: usize },
    #[error("expected a number in column {column}, got `{got}`")]
    Number { column: usize, got: String },
    #[error("`{tensor}` holds no numbers")]
    NoNumbers { tensor: String },
}

// === impl Data ===

impl Data {
    /// Reads files.
    pub(super) fn read(
        files: &[PathBuf],
        wanted: &[Wanted<'_>],
        signature: &Signature,
    ) -> Result<Self, DataError> {
        let mut data = Self {
            rows: wanted.iter().map(|_| Vec::new()).collect(),
            sources: Vec::new(),
        };
        for path in files {
            data.add(path, wanted, signature)?;
        }
        Ok(data)
    }

    /// Leaves out the rows of other data.
    pub(super) fn remove(&mut self, other: &Self) {
        let bits = |row: &Vec<f32>| row.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
        for (rows, other) in self.rows.iter_mut().zip(&other.rows) {
            let other: HashSet<_> = other.iter().map(bits).collect();
            rows.retain(|row| !other.contains(&bits(row)));
        }
    }

    fn add(
        &mut self,
        path: &Path,
        wanted: &[Wanted<'_>],
        signature: &Signature,
    ) -> Result<(), DataError> {
        let failed = |source| DataError::Read {
            path: path.to_owned(),
            source,
        };
        let bytes = bytes(path).map_err(failed)?;
        self.sources.push(source(path, &bytes));
        let is_packed = path.extension().is_some_and(|extension| extension == "gz");
        let text: Box<dyn Read> = if is_packed {
            Box::new(MultiGzDecoder::new(bytes.as_slice()).take(MAX_BYTES))
        } else {
            Box::new(bytes.as_slice())
        };
        for (number, line) in BufReader::new(text).lines().enumerate() {
            let line = line.map_err(failed)?;
            let line = line.trim();
            let added = match line.chars().next() {
                None => continue,
                Some('{') => self.json(line, wanted, signature),
                Some(_) => self.table(line, wanted),
            };
            added.map_err(|source| DataError::Line {
                path: path.to_owned(),
                line: number + 1,
                source,
            })?;
            let numbers = |rows: &Vec<Vec<f32>>| rows.len() * rows.first().map_or(0, Vec::len);
            if self.rows.iter().map(numbers).sum::<usize>() > MAX_NUMBERS {
                return Err(DataError::TooMuch);
            }
        }
        Ok(())
    }

    fn json(
        &mut self,
        line: &str,
        wanted: &[Wanted<'_>],
        signature: &Signature,
    ) -> Result<(), LineError> {
        // A request that is no answer has no outputs, or only their names.
        let line = line.as_bytes();
        let answer = InferResponse::from_json(line);
        let request = match &answer {
            Ok(_) => None,
            Err(_) => Some(InferRequest::from_json(line)?),
        };
        for (wanted, rows) in wanted.iter().zip(&mut self.rows) {
            let name = &wanted.spec.name;
            let tensor = match (wanted.side, &request, &answer) {
                (Side::Input, Some(request), _) => request.input(name),
                (Side::Output, _, Ok(answer)) => answer.output(name),
                _ => None,
            };
            if let Some(tensor) = tensor {
                let tensor = tensor_rows(tensor, signature.batched);
                rows.extend(tensor.ok_or_else(|| LineError::NoNumbers {
                    tensor: name.clone(),
                })?);
            }
        }
        Ok(())
    }

    fn table(&mut self, line: &str, wanted: &[Wanted<'_>]) -> Result<(), LineError> {
        let [
            Wanted {
                side: Side::Input,
                width: Some(expected),
                ..
            },
        ] = wanted
        else {
            return Err(LineError::Table {
                wanted: wanted.len(),
            });
        };
        let fields: Vec<&str> = line.split(',').collect();
        let (expected, got) = (*expected, fields.len());
        if got != expected && got != expected + 1 {
            return Err(LineError::Width { expected, got });
        }
        let numbers = fields[..expected].iter().enumerate();
        let numbers = numbers.map(|(at, field)| number(at + 1, field));
        self.rows[0].push(numbers.collect::<Result<_, _>>()?);
        Ok(())
    }
}

fn tensor_rows(tensor: &Tensor, batched: bool) -> Option<Vec<Vec<f32>>> {
    let rows = if batched { tensor.rows()? } else { 1 };
    rows_of(tensor, rows)
}

fn number(column: usize, field: &str) -> Result<f32, LineError> {
    field.trim().parse().map_err(|_| LineError::Number {
        column,
        got: excerpt(field).to_string(),
    })
}

fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path)?
        .take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_BYTES {
        let message = format!("expected at most {MAX_BYTES} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

fn source(path: &Path, bytes: &[u8]) -> Source {
    let digest = Sha256::digest(bytes);
    let file = path.file_name().unwrap_or_default();
    Source {
        file: file.to_string_lossy().into_owned(),
        sha256: hexadecimal(&digest),
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // A string takes every write.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "input",
            Self::Output => "output",
        })
    }
}
