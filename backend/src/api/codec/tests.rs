//! Where the bytes of tensors are, and where the work is done.

use aegis_protocol::{Datatype, InferResponse, NamedTensor, Parameter, Tensor};
use http_body_util::BodyExt;

use super::*;
use crate::api::uploads::{Reserved, Uploads};

const LARGE: usize = 1 << 20;

fn spec() -> Arc<ModelSpec> {
    let text = "platform = \"scripted\"\n[[inputs]]\nname = \"x\"\ndatatype = \"UINT8\"\n\
                shape = [-1]\n[[outputs]]\nname = \"y\"\ndatatype = \"UINT8\"\nshape = [-1]\n";
    Arc::new(ModelSpec::parse("model.toml", text).unwrap())
}

fn encoded(size: usize) -> Encoded {
    let tensor = Tensor::new(Datatype::Uint8, [size], vec![7; size]).unwrap();
    let answer = InferResponse {
        model_name: "m".to_owned(),
        outputs: vec![NamedTensor::new("y", tensor)],
        ..InferResponse::default()
    };
    let parameters = [("binary_data_output".to_owned(), Parameter::Bool(true))];
    let request = InferRequest {
        parameters: parameters.into(),
        ..InferRequest::default()
    };
    answer.encode(&OutputForms::of(&request).unwrap()).unwrap()
}

#[tokio::test]
async fn a_binary_tensor_is_the_bodys_own_memory_when_it_is_queued() {
    let tensor = Tensor::new(Datatype::Uint8, [LARGE], vec![7; LARGE]).unwrap();
    let request = InferRequest {
        inputs: vec![NamedTensor::new("x", tensor)],
        ..InferRequest::default()
    };
    let encoded = request.to_binary().unwrap();
    let length = encoded.json_length();
    let bytes = Bytes::from(encoded.joined());
    let memory = bytes.as_ptr_range();
    let body = Upload::new(bytes, Reserved::none(&Uploads::new(1)));
    let (asked, _) = decode(&spec(), body, length, None, LARGE).await.unwrap();
    let data = asked.tensors()[0].data().as_ptr_range();
    assert!(memory.start < data.start && data.end == memory.end);
}

#[tokio::test]
async fn an_answer_sends_the_tensors_own_memory_unless_it_is_small() {
    for (size, copied) in [(LARGE, false), (JOIN_UP_TO + 1, false), (JOIN_UP_TO, true)] {
        let encoded = encoded(size);
        let (head, whole) = (encoded.head.len(), encoded.len());
        let memory = encoded.parts.as_ref().unwrap()[0].as_ptr();
        let mut sent = answer(encoded, None);
        assert_eq!(sent.headers()[headers::JSON_LENGTH], *head.to_string());
        assert_eq!(sent.headers()[CONTENT_TYPE], "application/octet-stream");
        let mut pieces = Vec::new();
        while let Some(frame) = sent.body_mut().frame().await {
            pieces.push(frame.unwrap().into_data().unwrap());
        }
        assert_eq!(pieces.iter().map(Bytes::len).sum::<usize>(), whole);
        let same = pieces.iter().any(|piece| piece.as_ptr() == memory);
        assert_eq!(
            (pieces.len(), same),
            if copied { (1, false) } else { (2, true) }
        );
    }
}

#[tokio::test]
async fn only_large_answers_are_compressed_and_say_what_they_depend_on() {
    let header = |answer: &Answer, name| {
        let value: Option<&HeaderValue> = answer.headers().get(name);
        value.map(|value| value.to_str().unwrap().to_owned())
    };
    let gzip = Some(Coding::Gzip);
    let small = answer(encoded(COMPRESS_FROM / 2), gzip);
    assert_eq!(header(&small, CONTENT_ENCODING), None);
    assert_eq!(header(&small, VARY), None);
    let plain = answer(encoded(COMPRESS_FROM), None);
    assert_eq!(header(&plain, CONTENT_ENCODING), None);
    assert_eq!(header(&plain, VARY).as_deref(), Some("accept-encoding"));
    let large = answer(encoded(COMPRESS_FROM), gzip);
    assert_eq!(header(&large, CONTENT_ENCODING).as_deref(), Some("gzip"));
    assert_eq!(header(&large, VARY).as_deref(), Some("accept-encoding"));
    let body = large.into_body().collect().await.unwrap().to_bytes();
    let whole = Coding::Gzip.expand(&body, LARGE, |_| Ok(())).unwrap();
    assert_eq!(whole, encoded(COMPRESS_FROM).joined());
}
