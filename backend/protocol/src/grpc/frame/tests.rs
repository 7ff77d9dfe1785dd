use proptest::prelude::*;

use super::*;
use crate::grpc::{InferInputTensor, ModelInferRequest};

fn request(model: &str, version: &str, tensor: &[u8]) -> ModelInferRequest {
    ModelInferRequest {
        model_name: model.to_owned(),
        model_version: version.to_owned(),
        id: "7".to_owned(),
        inputs: vec![InferInputTensor {
            name: "image".to_owned(),
            datatype: "UINT8".to_owned(),
            shape: vec![1, tensor.len().try_into().unwrap()],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![Bytes::copy_from_slice(tensor)],
        ..ModelInferRequest::default()
    }
}

/// The messages in `bytes`.
fn messages(mut bytes: &[u8]) -> Vec<ModelInferRequest> {
    let mut messages = Vec::new();
    while let Some(head) = Head::read(bytes).unwrap() {
        let (message, rest) = bytes[PREFIX..].split_at(head.length);
        messages.push(ModelInferRequest::decode(message).unwrap());
        bytes = rest;
    }
    assert!(bytes.is_empty(), "{} bytes are left", bytes.len());
    messages
}

/// The fields of a message in another order: the tensors first, the names last.
fn turned_round(request: &ModelInferRequest) -> Vec<u8> {
    let names = Target {
        model: request.model_name.clone(),
        version: request.model_version.clone(),
    };
    let rest = ModelInferRequest {
        model_name: String::new(),
        model_version: String::new(),
        ..request.clone()
    };
    [rest.encode_to_vec(), names.encode_to_vec()].concat()
}

#[test]
fn where_a_message_goes_is_read_wherever_it_stands() {
    let request = request("digits", "2", &[5; 1_000]);
    let expected = Target {
        model: "digits".to_owned(),
        version: "2".to_owned(),
    };
    for message in [request.encode_to_vec(), turned_round(&request)] {
        assert_eq!(Target::decode(&*message), Ok(expected.clone()));
    }
    // The part of a long message that has come in says it too, if it is there.
    let message = request.encode_to_vec();
    assert_eq!(Target::so_far(&message[..100]), expected);
    assert_eq!(
        Target::so_far(&turned_round(&request)[..100]),
        Target::default()
    );
}

#[test]
fn a_message_takes_one_version_after_another() {
    let sent = request("digits", "latest", &[5; 1_000]);
    let mut bytes = BytesMut::from(frame(&sent));
    let original = bytes.len();
    for version in ["2", "a-longer-one", "1"] {
        retarget(&mut bytes, original, version).unwrap();
        let expected = request("digits", version, &[5; 1_000]);
        assert_eq!(messages(&bytes), [expected]);
    }
}

#[test]
fn a_call_is_one_whole_message() {
    let target = Target {
        model: "m".into(),
        version: String::new(),
    };
    let one = frame(&target);
    assert_eq!(read_call(&one), Ok(target));
    for wrong in [&one[..3], &one[..7], &[&*one, &*one].concat()] {
        let got = wrong.len();
        assert_eq!(read_call::<Target>(wrong), Err(CallError::Count { got }));
    }
    let error = read_call::<Target>(b"\0\0\0\0\x02\x0a\x05").unwrap_err();
    assert!(matches!(error, CallError::Message(_)), "{error}");
}

#[test]
fn what_is_no_message_is_told() {
    let error = Head::read(b"\x07\0\0\0\0").unwrap_err();
    assert_eq!(
        error.to_string(),
        "a message begins with 7, where 0 or 1 says whether it is compressed"
    );
    assert_eq!(Head::read(b"\0\0\0\0"), Ok(None));
    let longest = Head {
        compressed: false,
        length: u32::MAX as usize,
    };
    assert_eq!(longest.prefix(1), Err(FrameError::TooLong));
}

#[test]
fn a_compressed_message_passes_as_it_is() {
    let bytes = Bytes::from_static(b"\x01\0\0\0\x03abc\0\0\0\0\0");
    let passed = Versioner::new("2").pass(bytes).unwrap();
    assert_eq!(passed[..8], *b"\x01\0\0\0\x03abc");
    assert_eq!(messages(&passed[8..])[0].model_version, "2");
}

proptest! {
    #[test]
    fn a_stream_cut_anywhere_gets_its_version_and_loses_nothing(
        tensors in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..5),
        cuts in prop::collection::vec(1_usize..200, 1..20),
        version in "[a-z0-9]{1,12}",
    ) {
        let whole: Vec<u8> = tensors
            .iter()
            .flat_map(|tensor| frame(&request("digits", "9", tensor)))
            .collect();
        let mut whole = Bytes::from(whole);
        let mut versioner = Versioner::new(&version);
        let mut passed = Vec::new();
        for cut in cuts.iter().cycle() {
            if whole.is_empty() {
                break;
            }
            let part = whole.split_to((*cut).min(whole.len()));
            passed.extend_from_slice(&versioner.pass(part).unwrap());
        }
        let expected: Vec<_> = tensors
            .iter()
            .map(|tensor| request("digits", &version, tensor))
            .collect();
        prop_assert_eq!(messages(&passed), expected);
    }

    #[test]
    fn no_bytes_make_it_panic(parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..8)) {
        let mut versioner = Versioner::new("1");
        for part in parts {
            let _ = Target::so_far(&part);
            if versioner.pass(part.into()).is_err() {
                break;
            }
        }
    }
}
