//! Requests from a file, one JSON object a line.
//!
//! `{"inputs": [...]}` is a request of the protocol as it stands; `{"request": {...}, "label": 7}` says
//! also what is right.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use aegis_protocol::InferRequest;
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Asked, LineProblem, MAX_BYTES, MAX_QUESTIONS, Question, QuestionError, fit};

/// A line with more than the request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Labelled<'l> {
    #[serde(borrow)]
    request: &'l RawValue,
    label: Option<i64>,
}

/// Whether a line has more than the request.
#[derive(Deserialize)]
struct Members<'l> {
    #[serde(borrow)]
    request: Option<&'l RawValue>,
}

/// Opens a file, decompressed where its name says that it is compressed, to a limit.
pub(super) fn open(path: &Path) -> Result<Box<dyn Read>, QuestionError> {
    let file = File::open(path).map_err(|source| QuestionError::Read {
        path: path.to_owned(),
        source,
    })?;
    Ok(if path.extension().is_some_and(|ending| ending == "gz") {
        Box::new(MultiGzDecoder::new(file).take(MAX_BYTES))
    } else {
        Box::new(file.take(MAX_BYTES))
    })
}

pub(super) fn read(path: &Path, asked: Asked<'_>) -> Result<Vec<Question>, QuestionError> {
    let mut questions = Vec::new();
    for (text, line) in BufReader::new(open(path)?).lines().zip(1..) {
        let text = text.map_err(|source| QuestionError::Read {
            path: path.to_owned(),
            source,
        })?;
        if text.trim().is_empty() {
            continue;
        }
        let question = question(&text, asked).map_err(|problem| QuestionError::Line {
            path: path.to_owned(),
            line,
            problem,
        })?;
        questions.push(question);
        if questions.len() > MAX_QUESTIONS {
            break;
        }
    }
    Ok(questions)
}

fn question(text: &str, asked: Asked<'_>) -> Result<Question, LineProblem> {
    let members: Members<'_> = serde_json::from_str(text)?;
    let (request, label) = if members.request.is_some() {
        let labelled: Labelled<'_> = serde_json::from_str(text)?;
        (labelled.request.get(), labelled.label)
    } else {
        (text, None)
    };
    let request = InferRequest::from_json(request.as_bytes())?;
    if let Some(metadata) = asked.metadata {
        fit::fit_some(&request.inputs, &metadata.inputs)?;
    }
    Ok(Question {
        label,
        ..Question::from(request)
    })
}
