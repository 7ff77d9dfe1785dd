//! Whether an answer is right.

use aegis_protocol::{DecodeError, InferResponse, TensorError, excerpt};

/// Says why a 200 is no answer.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(crate) enum BadAnswer {
    /// It is no answer of the protocol.
    #[error("unreadable answer: {0}")]
    Unreadable(#[from] DecodeError),
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
    /// Whether the label is the expected one.
    pub(crate) right: bool,
    /// The version that the body names.
    pub(crate) version: Option<String>,
}

/// Compares the one label in `output` with the expected one.
pub(crate) fn score(body: &[u8], output: &str, label: i64) -> Result<Scored, BadAnswer> {
    let answer = InferResponse::from_json(body)?;
    let name = || output.to_owned();
    let tensor = answer
        .output(output)
        .ok_or_else(|| BadAnswer::NoOutput { output: name() })?;
    let labels = tensor.as_i64();
    let labels = labels.map_err(|source| BadAnswer::Datatype {
        output: name(),
        source,
    })?;
    match labels[..] {
        [got] => Ok(Scored {
            right: got == label,
            version: answer.model_version,
        }),
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

    fn answer(name: &str, tensor: Tensor) -> Vec<u8> {
        let answer = InferResponse {
            model_name: "digits".to_owned(),
            model_version: Some("2".to_owned()),
            outputs: vec![NamedTensor::new(name, tensor)],
            ..InferResponse::default()
        };
        answer.to_json().unwrap()
    }

    #[test]
    fn a_label_is_right_or_wrong() {
        let body = answer("label", Tensor::from_i64([1], &[7]).unwrap());
        let right = |right| Scored {
            right,
            version: Some("2".to_owned()),
        };
        assert_eq!(score(&body, "label", 7), Ok(right(true)));
        assert_eq!(score(&body, "label", 8), Ok(right(false)));
    }

    #[test]
    fn an_answer_without_one_label_says_why() {
        let text = |body: &[u8]| score(body, "label", 7).unwrap_err().to_string();
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
}
