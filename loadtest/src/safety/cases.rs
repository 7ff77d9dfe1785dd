//! Labelled cases, one JSON object a line: `{"expect": "safe" | ["reason", …], "request": {…}}`.
//!
//! `request` is the body, sent byte for byte as it stands there, so that it may hold what no
//! well-behaved client would write, and `"body"` in its place is a string, for what is not even JSON.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// The most bytes of a file that are read.
const MAX_BYTES: u64 = 1 << 30;

/// A request, and what should be said of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// What it is called in reports.
    pub name: String,
    /// The reasons for which it is unsafe; none for one that is safe.
    pub expect: Vec<String>,
    /// What is sent.
    pub body: Bytes,
}

/// Why there are no cases. Whose file it is has to mend it.
#[derive(Debug, thiserror::Error)]
pub enum CasesError {
    /// The file cannot be read.
    #[error("{path}", path = path.display())]
    Read {
        /// Its path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is no case.
    #[error("{path}:{line}: {problem}", path = path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Line<'l> {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    expect: Expect,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    request: Option<&'l RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Expect {
    Safe(Safe),
    Reasons(Vec<String>),
}

#[derive(Serialize, Deserialize)]
enum Safe {
    #[serde(rename = "safe")]
    Safe,
}

/// Reads a file.
///
/// # Errors
///
/// When it cannot be read, or a line is no case.
pub fn read(path: &Path) -> Result<Vec<Case>, CasesError> {
    let failed = |source| CasesError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    let mut cases = Vec::new();
    for (at, line) in BufReader::new(file.take(MAX_BYTES)).lines().enumerate() {
        let line = line.map_err(failed)?;
        if !line.trim().is_empty() {
            let case = Case::from_line(&line, at + 1).map_err(|problem| CasesError::Line {
                path: path.to_owned(),
                line: at + 1,
                problem,
            })?;
            cases.push(case);
        }
    }
    Ok(cases)
}

// === impl Case ===

impl Case {
    fn from_line(line: &str, number: usize) -> Result<Self, String> {
        let line: Line<'_> = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let expect = match line.expect {
            Expect::Safe(Safe::Safe) => Vec::new(),
            Expect::Reasons(reasons) if reasons.is_empty() => {
                return Err("expect: expected \"safe\" or at least one reason".to_owned());
            }
            Expect::Reasons(reasons) => reasons,
        };
        let body = match (line.request, line.body) {
            (Some(request), None) => Bytes::copy_from_slice(request.get().as_bytes()),
            (None, Some(body)) => Bytes::from(body),
            _ => return Err("expected either request or body".to_owned()),
        };
        Ok(Self {
            name: line.name.unwrap_or_else(|| format!("line {number}")),
            expect,
            body,
        })
    }

    /// The line of a file that [`read`] reads back.
    ///
    /// # Errors
    ///
    /// When the body is not UTF-8.
    pub fn to_line(&self) -> Result<String, serde_json::Error> {
        let body = String::from_utf8_lossy(&self.body);
        let request: Option<&RawValue> = serde_json::from_str(&body).ok();
        let line = Line {
            name: Some(self.name.clone()),
            expect: if self.expect.is_empty() {
                Expect::Safe(Safe::Safe)
            } else {
                Expect::Reasons(self.expect.clone())
            },
            body: request.is_none().then(|| body.to_string()),
            request,
        };
        serde_json::to_string(&line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_back_as_it_was_written() {
        for (expect, body) in [
            (vec![], "{\"inputs\":[1e400]}"),
            (vec!["nan_inf_input".to_owned()], "{\"inputs\":[NaN]}"),
        ] {
            let case = Case {
                name: "x".to_owned(),
                expect,
                body: body.into(),
            };
            assert_eq!(Case::from_line(&case.to_line().unwrap(), 1), Ok(case));
        }
    }

    #[test]
    fn what_is_no_case_is_refused() {
        for (line, problem) in [
            ("{}", "missing field `expect`"),
            (r#"{"expect":"safe"}"#, "expected either request or body"),
            (r#"{"expect":[],"request":{}}"#, "at least one reason"),
            (r#"{"expect":"sure","request":{}}"#, "did not match"),
            (r#"{"expect":"safe","request":{},"x":1}"#, "unknown field"),
        ] {
            let error = Case::from_line(line, 1).unwrap_err();
            assert!(error.contains(problem), "{error}");
        }
    }
}
