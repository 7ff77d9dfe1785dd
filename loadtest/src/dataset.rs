//! Labelled examples from a table of numbers.
//!
//! One line an example: its features, then its label, with commas. No header,
//! no quotes. A name that ends in `.gz` is decompressed.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

/// The most examples that are read.
const MAX_EXAMPLES: usize = 1_000_000;

/// The most bytes that are read, after decompression.
const MAX_BYTES: u64 = 1 << 30;

/// What is sent, and what the answer should be.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// The features, `[features]`.
    pub input: Vec<f32>,
    /// The label.
    pub label: i64,
}

/// Examples with the same number of features, at least one of each.
#[derive(Clone, Debug, PartialEq)]
pub struct Dataset(Vec<Example>);

/// Says why a table is no data set.
#[derive(Debug, thiserror::Error)]
pub enum DatasetError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A line is no example.
    #[error("{}:{line}: {problem}", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: LineError,
    },
    /// There is no line, or there are too many.
    #[error("{}: expected 1 to {MAX_EXAMPLES} examples, got {got}", path.display())]
    Count {
        /// The file.
        path: PathBuf,
        /// Examples that were read.
        got: usize,
    },
}

/// Says what is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// A field is no finite number.
    #[error("expected a finite number in column {column}, got `{got}`")]
    Number {
        /// The column, from 1.
        column: usize,
        /// The field.
        got: String,
    },
    /// The last field is no whole number.
    #[error("expected a whole number as label, got `{got}`")]
    Label {
        /// The field.
        got: String,
    },
    /// The line has another number of features than the first.
    #[error("expected {expected} features and a label, got {got} features")]
    Width {
        /// Features of the first line, at least 1.
        expected: usize,
        /// Features of this one.
        got: usize,
    },
}

// === impl Dataset ===

impl Dataset {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is no table of finite numbers.
    pub fn from_csv(path: &Path) -> Result<Self, DatasetError> {
        let file = File::open(path).map_err(|source| DatasetError::Read {
            path: path.to_owned(),
            source,
        })?;
        if path.extension().is_some_and(|extension| extension == "gz") {
            Self::from_reader(path, MultiGzDecoder::new(file))
        } else {
            Self::from_reader(path, file)
        }
    }

    /// Reads text; `origin` is only for errors.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or is no table of finite numbers.
    pub fn from_reader(origin: &Path, text: impl Read) -> Result<Self, DatasetError> {
        let mut examples: Vec<Example> = Vec::new();
        for (index, line) in BufReader::new(text.take(MAX_BYTES)).lines().enumerate() {
            let path = || origin.to_owned();
            let line = line.map_err(|source| DatasetError::Read {
                path: path(),
                source,
            })?;
            let width = examples.first().map(|first| first.input.len());
            let example = example(&line, width).map_err(|problem| DatasetError::Line {
                path: path(),
                line: index + 1,
                problem,
            })?;
            examples.push(example);
            if examples.len() > MAX_EXAMPLES {
                break;
            }
        }
        match examples.len() {
            1..=MAX_EXAMPLES => Ok(Self(examples)),
            got => Err(DatasetError::Count {
                path: origin.to_owned(),
                got,
            }),
        }
    }

    /// The examples, in the order of the table.
    #[must_use]
    pub fn examples(&self) -> &[Example] {
        &self.0
    }
}

/// Reads one line, of `width` features where that is known already.
fn example(line: &str, width: Option<usize>) -> Result<Example, LineError> {
    let (features, label) = line.rsplit_once(',').unwrap_or(("", line));
    let label = label.trim();
    let label = label
        .parse()
        .map_err(|_| LineError::Label { got: shown(label) })?;
    let input = features
        .split(',')
        .enumerate()
        .filter(|_| !features.is_empty());
    let input: Vec<_> = input
        .map(|(index, text)| number(index, text))
        .collect::<Result<_, _>>()?;
    let expected = width.unwrap_or(input.len()).max(1);
    if input.len() == expected {
        Ok(Example { input, label })
    } else {
        Err(LineError::Width {
            expected,
            got: input.len(),
        })
    }
}

fn number(index: usize, text: &str) -> Result<f32, LineError> {
    let number = text
        .trim()
        .parse()
        .ok()
        .filter(|number: &f32| number.is_finite());
    number.ok_or_else(|| LineError::Number {
        column: index + 1,
        got: shown(text),
    })
}

fn shown(text: &str) -> String {
    aegis_protocol::excerpt(text).to_string()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn read(text: &str) -> Result<Dataset, DatasetError> {
        Dataset::from_reader("t.csv".as_ref(), text.as_bytes())
    }

    #[test]
    fn a_line_is_features_and_a_label() {
        let data = read("0, 1.5,3\r\n-2,1e1,7\n").unwrap();
        let first = Example {
            input: vec![0.0, 1.5],
            label: 3,
        };
        let second = Example {
            input: vec![-2.0, 10.0],
            label: 7,
        };
        assert_eq!(data.examples(), [first, second]);
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, error) in [
            ("", "t.csv: expected 1 to 1000000 examples, got 0"),
            (
                "1,2\n1,x,2",
                "t.csv:2: expected a finite number in column 2, got `x`",
            ),
            (
                "1,2\nNaN,2",
                "t.csv:2: expected a finite number in column 1, got `NaN`",
            ),
            (
                "1,2\n1,2.5",
                "t.csv:2: expected a whole number as label, got `2.5`",
            ),
            (
                "1,2\n1,2,3",
                "t.csv:2: expected 1 features and a label, got 2 features",
            ),
            (
                "7",
                "t.csv:1: expected 1 features and a label, got 0 features",
            ),
            (
                "1,2\n\n",
                "t.csv:2: expected a whole number as label, got ``",
            ),
        ] {
            assert_eq!(read(text).unwrap_err().to_string(), error);
        }
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Dataset::from_csv("no/such.csv".as_ref())
            .unwrap_err()
            .to_string();
        assert!(error.starts_with("no/such.csv: "), "{error}");
    }

    #[test]
    fn compressed_text_is_read_as_the_same_examples() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"1,2,3\n").unwrap();
        let gzip = gzip.finish().unwrap();
        let decoder = MultiGzDecoder::new(gzip.as_slice());
        let read_back = Dataset::from_reader("t.csv.gz".as_ref(), decoder).unwrap();
        assert_eq!(read_back, read("1,2,3").unwrap());
    }
}
