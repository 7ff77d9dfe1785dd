//! Whether an answer is right.

use std::borrow::Cow;

use aegis_protocol::{DecodeError, InferResponse, Tensor, TensorError, excerpt};
use bytes::Bytes;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// Says why a 200 is no answer.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum BadAnswer {
    /// It is no answer of the protocol.
    #[error("unreadable answer: {0}")]
    Unreadable(#[from] DecodeError),
    /// It is no answer over gRPC.
    #[error("unreadable answer: {0}")]
    Message(String),
    /// It is no JSON with outputs.
    #[error("unreadable answer: body: {0}")]
    Json(String),
    /// The output is not there.
    #[error("expected an output `{}`, got none", excerpt(.output))]
    NoOutput { output: String },
    /// The output holds no labels.
    #[error("output `{}`: {source}", excerpt(.output))]
    Datatype { output: String, source: TensorError },
    /// The output holds none or several.
    #[error("output `{}`: expected 1 label, got {got}", excerpt(.output))]
    Labels { output: String, got: usize },
}

/// An answer that can be compared.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scored {
    /// Whether the label is the expected one; none where none is expected.
    pub(crate) right: Option<bool>,
    /// The version that the body names.
    pub(crate) version: Option<String>,
}

/// What an answer is looked at for where no label is expected: nothing is kept, and nothing is decoded.
#[derive(Deserialize)]
struct Glance<'a> {
    #[serde(borrow, default)]
    model_version: Option<Cow<'a, str>>,
    #[serde(rename = "outputs")]
    _outputs: Vec<IgnoredAny>,
}

/// Compares the one label in `output` with the expected one, where there is one. `json_length` is where
/// the JSON ends, where something lies behind it.
pub(crate) fn score(
    body: &Bytes,
    json_length: Option<usize>,
    output: &str,
    label: Option<i64>,
) -> Result<Scored, BadAnswer> {
    let Some(label) = label else {
        let json = body.get(..json_length.unwrap_or(body.len()));
        let glance: Glance<'_> = serde_json::from_slice(json.unwrap_or(body))
            .map_err(|error| BadAnswer::Json(error.to_string()))?;
        return Ok(Scored {
            right: None,
            version: glance.model_version.as_deref().map(shown),
        });
    };
    let answer = InferResponse::from_body(body, json_length)?;
    let tensor = answer.output(output).ok_or_else(|| BadAnswer::NoOutput {
        output: output.to_owned(),
    })?;
    Ok(Scored {
        right: Some(score_tensor(tensor, output, label)?),
        version: answer.model_version.as_deref().map(shown),
    })
}

/// What a server calls its version, as a terminal may be told it: cut, and without control characters.
pub(crate) fn shown(version: &str) -> String {
    excerpt(version).to_string()
}

/// Whether the one label in a tensor is the expected one.
pub(crate) fn score_tensor(tensor: &Tensor, output: &str, label: i64) -> Result<bool, BadAnswer> {
    let name = || output.to_owned();
    let labels = tensor.as_i64();
    let labels = labels.map_err(|source| BadAnswer::Datatype {
        output: name(),
        source,
    })?;
    match labels[..] {
        [got] => Ok(got == label),
        _ => Err(BadAnswer::Labels {
            output: name(),
            got: labels.len(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use aegis_protocol::{NamedTensor, Tensor};

    use super::*;

    fn answer(name: &str, tensor: Tensor) -> Bytes {
        let answer = InferResponse {
            model_name: "digits".to_owned(),
            model_version: Some("2".to_owned()),
            outputs: vec![NamedTensor::new(name, tensor)],
            ..InferResponse::default()
        };
        answer.to_json().unwrap().into()
    }

    #[test]
    fn a_label_is_right_or_wrong() {
        let body = answer("label", Tensor::from_i64([1], &[7]).unwrap());
        let right = |right| Scored {
            right: Some(right),
            version: Some("2".to_owned()),
        };
        assert_eq!(score(&body, None, "label", Some(7)), Ok(right(true)));
        assert_eq!(score(&body, None, "label", Some(8)), Ok(right(false)));
    }

    #[test]
    fn what_a_server_calls_its_version_commands_no_terminal() {
        let answer = InferResponse {
            model_version: Some("\u{1b}[2J\n1".to_owned()),
            outputs: vec![NamedTensor::new(
                "label",
                Tensor::from_i64([1], &[7]).unwrap(),
            )],
            ..InferResponse::default()
        };
        let body = Bytes::from(answer.to_json().unwrap());
        for label in [None, Some(7)] {
            let version = score(&body, None, "label", label).unwrap().version.unwrap();
            assert!(!version.contains(char::is_control), "{version:?}");
            assert!(version.contains("[2J"), "{version:?}");
        }
    }

    #[test]
    fn an_answer_without_one_label_says_why() {
        let text = |body: &[u8]| {
            let body = Bytes::copy_from_slice(body);
            score(&body, None, "label", Some(7))
                .unwrap_err()
                .to_string()
        };
        let other = answer("digit", Tensor::from_i64([1], &[7]).unwrap());
        assert_eq!(text(&other), "expected an output `label`, got none");
        let float = answer("label", Tensor::from_f32([1], &[7.0]).unwrap());
        assert_eq!(
            text(&float),
            "output `label`: expected INT64 elements, got FP32"
        );
        let two = answer("label", Tensor::from_i64([2], &[7, 7]).unwrap());
        assert_eq!(text(&two), "output `label`: expected 1 label, got 2");
        let html = text(b"<html>");
        assert!(
            html.starts_with("unreadable answer: body: expected value"),
            "{html}"
        );
    }

    #[test]
    fn where_no_label_is_expected_an_answer_must_still_be_one() {
        let glance = |body: &[u8], length| {
            let scored = score(&Bytes::copy_from_slice(body), length, "label", None);
            scored.map(|scored| (scored.right, scored.version))
        };
        let body = answer("x", Tensor::from_f32([1], &[7.0]).unwrap());
        assert_eq!(glance(&body, None), Ok((None, Some("2".to_owned()))));
        let mut more = body.to_vec();
        more.extend_from_slice(&[0xff; 8]);
        assert_eq!(
            glance(&more, Some(body.len())),
            Ok((None, Some("2".to_owned())))
        );
        assert!(glance(b"<html>", None).is_err());
        assert!(glance(b"{}", None).is_err());
    }
}
