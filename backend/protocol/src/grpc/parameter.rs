//! The parameter `timeout` of a `ModelInferRequest`, found without decoding it.
//!
//! The message is walked field by field, and what is no parameter is skipped. One
//! parameter is decoded at a time, so that a message of a million of them takes no
//! memory.

use std::time::Duration;

use prost::{DecodeError, Message, Oneof};

use super::fields::{Field, Fields};
use crate::{
    Parameter,
    timeout::{BadParameter, PARAMETER, of_parameter},
};

/// The number of `ModelInferRequest.parameters`, a map.
const PARAMETERS: u32 = 4;

/// One parameter and its name.
#[derive(Clone, PartialEq, Message)]
pub struct NamedParameter {
    /// The name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The value.
    #[prost(message, optional, tag = "2")]
    pub value: Option<InferParameter>,
}

/// The value of a parameter.
#[derive(Clone, PartialEq, Message)]
pub struct InferParameter {
    /// It has one of several types.
    #[prost(oneof = "ParameterChoice", tags = "1, 2, 3, 4, 5")]
    pub choice: Option<ParameterChoice>,
}

/// The types of a parameter.
#[derive(Clone, PartialEq, Oneof)]
pub enum ParameterChoice {
    /// A boolean.
    #[prost(bool, tag = "1")]
    Bool(bool),
    /// A whole number.
    #[prost(int64, tag = "2")]
    Int(i64),
    /// A text.
    #[prost(string, tag = "3")]
    Text(String),
    /// A number with a fraction.
    #[prost(double, tag = "4")]
    Double(f64),
    /// A whole number that is not negative.
    #[prost(uint64, tag = "5")]
    Uint(u64),
}

/// The time that an inference asks for among its parameters. What is no such message
/// asks for none.
///
/// # Errors
/// When the parameter is anything but a whole number from 1.
pub fn timeout(message: &[u8]) -> Result<Option<Duration>, BadParameter> {
    let parameter = find(message).unwrap_or_default();
    parameter.as_ref().map(of_parameter).transpose()
}

/// The last parameter of that name, as decoders of maps take it.
fn find(message: &[u8]) -> Result<Option<Parameter>, DecodeError> {
    let mut found = None;
    for field in Fields::of(message) {
        let Field {
            tag: PARAMETERS,
            bytes: Some(entry),
        } = field?
        else {
            continue;
        };
        let entry = NamedParameter::decode(entry)?;
        if entry.name == PARAMETER {
            found = entry.value.and_then(|value| value.choice).map(Into::into);
        }
    }
    Ok(found)
}

impl From<(String, Parameter)> for NamedParameter {
    fn from((name, value): (String, Parameter)) -> Self {
        let choice = match value {
            Parameter::Bool(value) => ParameterChoice::Bool(value),
            Parameter::Int(value) => ParameterChoice::Int(value),
            Parameter::Float(value) => ParameterChoice::Double(value),
            Parameter::String(value) => ParameterChoice::Text(value),
        };
        let value = Some(InferParameter {
            choice: Some(choice),
        });
        Self { name, value }
    }
}

impl From<ParameterChoice> for Parameter {
    #[expect(
        clippy::cast_precision_loss,
        reason = "beyond i64 a parameter is a float, as in JSON"
    )]
    fn from(choice: ParameterChoice) -> Self {
        match choice {
            ParameterChoice::Bool(value) => Self::Bool(value),
            ParameterChoice::Int(value) => Self::Int(value),
            ParameterChoice::Text(value) => Self::String(value),
            ParameterChoice::Double(value) => Self::Float(value),
            ParameterChoice::Uint(value) => {
                i64::try_from(value).map_or(Self::Float(value as f64), Self::Int)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message with parameters, and tensors around them.
    #[derive(Clone, PartialEq, Message)]
    struct Inference {
        #[prost(string, tag = "1")]
        model: String,
        #[prost(message, repeated, tag = "4")]
        parameters: Vec<NamedParameter>,
        #[prost(bytes = "vec", repeated, tag = "7")]
        raw: Vec<Vec<u8>>,
    }

    fn named(name: &str, choice: ParameterChoice) -> NamedParameter {
        NamedParameter {
            name: name.to_owned(),
            value: Some(InferParameter {
                choice: Some(choice),
            }),
        }
    }

    fn of(parameters: Vec<NamedParameter>) -> Vec<u8> {
        let inference = Inference {
            model: "timeout".to_owned(),
            parameters,
            raw: vec![b"\x22\x09timeout".to_vec(), vec![0xff; 1_000]],
        };
        inference.encode_to_vec()
    }

    #[test]
    fn it_is_found_by_its_name_and_the_last_one_counts() {
        let us = |us| Ok(Some(Duration::from_micros(us)));
        let (int, uint) = (ParameterChoice::Int, ParameterChoice::Uint);
        assert_eq!(timeout(&of(vec![])), Ok(None));
        assert_eq!(timeout(&of(vec![named("time", int(5))])), Ok(None));
        assert_eq!(timeout(&of(vec![named("timeout", int(5))])), us(5));
        let several = vec![
            named("timeout", int(0)),
            named("a", ParameterChoice::Text("timeout".to_owned())),
            named("timeout", uint(7)),
            named("b", ParameterChoice::Double(0.5)),
        ];
        assert_eq!(timeout(&of(several)), us(7));
    }

    #[test]
    fn what_makes_no_sense_is_refused_and_what_is_cut_off_asks_for_nothing() {
        for choice in [
            ParameterChoice::Int(0),
            ParameterChoice::Int(-1),
            ParameterChoice::Uint(u64::MAX),
            ParameterChoice::Bool(true),
            ParameterChoice::Double(5.0),
            ParameterChoice::Text("5".to_owned()),
        ] {
            let message = of(vec![named("timeout", choice.clone())]);
            assert!(timeout(&message).is_err(), "{choice:?}");
        }
        let message = of(vec![named("timeout", ParameterChoice::Int(5))]);
        assert_eq!(timeout(&message[..message.len() - 1]), Ok(None));
        assert_eq!(
            timeout(b"\x22\xff\xff\xff\xff\xff\xff\xff\xff\x7f"),
            Ok(None)
        );
    }
}
