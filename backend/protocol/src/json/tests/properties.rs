//! What holds for every tensor and for any bytes at all.

use std::fmt::Write;

use half::{bf16, f16};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{Datatype, Element, InferRequest, InferResponse, NamedTensor, Parameter, Tensor};

fn elements<T>(
    shape: Vec<usize>,
    value: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<Tensor>
where
    T: Element + std::fmt::Debug + 'static,
{
    let count = shape.iter().product::<usize>();
    vec(value, count)
        .prop_map(move |values| Tensor::from_elements(shape.clone(), &values).unwrap())
        .boxed()
}

fn tensor_of(datatype: Datatype, shape: Vec<usize>) -> BoxedStrategy<Tensor> {
    let finite32 = any::<f32>().prop_filter("finite", |value| value.is_finite());
    let finite64 = any::<f64>().prop_filter("finite", |value| value.is_finite());
    match datatype {
        Datatype::Bool => elements(shape, any::<bool>()),
        Datatype::Uint8 => elements(shape, any::<u8>()),
        Datatype::Uint16 => elements(shape, any::<u16>()),
        Datatype::Uint32 => elements(shape, any::<u32>()),
        Datatype::Uint64 => elements(shape, any::<u64>()),
        Datatype::Int8 => elements(shape, any::<i8>()),
        Datatype::Int16 => elements(shape, any::<i16>()),
        Datatype::Int32 => elements(shape, any::<i32>()),
        Datatype::Int64 => elements(shape, any::<i64>()),
        Datatype::Fp16 => {
            let value = any::<u16>().prop_map(f16::from_bits);
            elements(
                shape,
                value.prop_filter("finite", |value| value.is_finite()),
            )
        }
        Datatype::Bf16 => {
            let value = any::<u16>().prop_map(bf16::from_bits);
            elements(
                shape,
                value.prop_filter("finite", |value| value.is_finite()),
            )
        }
        Datatype::Fp32 => elements(shape, finite32),
        Datatype::Fp64 => elements(shape, finite64),
        Datatype::Bytes => vec(any::<String>(), shape.iter().product::<usize>())
            .prop_map(move |values| Tensor::from_strings(shape.clone(), &values).unwrap())
            .boxed(),
    }
}

fn tensor() -> impl Strategy<Value = Tensor> {
    (0..Datatype::ALL.len(), vec(0_usize..4, 0..4))
        .prop_flat_map(|(datatype, shape)| tensor_of(Datatype::ALL[datatype], shape))
}

fn parameter() -> impl Strategy<Value = Parameter> {
    prop_oneof![
        any::<bool>().prop_map(Parameter::Bool),
        any::<i64>().prop_map(Parameter::Int),
        any::<f64>()
            .prop_filter("finite", |value| value.is_finite())
            .prop_map(Parameter::Float),
        any::<String>().prop_map(Parameter::String),
    ]
}

fn request() -> impl Strategy<Value = InferRequest> {
    let parameters = prop::collection::btree_map(any::<String>(), parameter(), 0..3);
    (
        proptest::option::of(any::<String>()),
        parameters,
        vec(tensor(), 0..4),
    )
        .prop_map(|(id, parameters, tensors)| {
            let named = |(index, tensor)| NamedTensor::new(format!("x{index}"), tensor);
            let inputs = tensors.into_iter().enumerate().map(named).collect();
            InferRequest {
                id,
                parameters,
                inputs,
                outputs: Vec::new(),
            }
        })
}

/// `data` of the tensor as JSON text, nested as its shape.
fn nested(shape: &[usize], flat: &mut impl Iterator<Item = String>, text: &mut String) {
    let Some((&size, inner)) = shape.split_first() else {
        text.push_str(&flat.next().unwrap());
        return;
    };
    text.push('[');
    for index in 0..size {
        text.push_str(if index == 0 { " " } else { " ,\n" });
        nested(inner, flat, text);
    }
    text.push_str("\t]");
}

proptest! {
    #[test]
    fn a_request_of_every_datatype_is_read_back_bit_for_bit(request in request()) {
        let body = request.to_json().unwrap();
        let read = InferRequest::from_json(&body);
        prop_assert_eq!(read.as_ref(), Ok(&request));
        // `==` on floats would take -0.0 for 0.0; the raw bytes do not.
        for (read, sent) in read.unwrap().inputs.iter().zip(&request.inputs) {
            prop_assert_eq!(read.tensor.data(), sent.tensor.data());
        }
    }

    #[test]
    fn an_answer_of_every_datatype_is_read_back(request in request(), name in any::<String>()) {
        let answer = InferResponse {
            model_name: name,
            model_version: request.id.clone(),
            id: request.id,
            parameters: request.parameters,
            outputs: request.inputs,
        };
        prop_assert_eq!(InferResponse::from_json(&answer.to_json().unwrap()), Ok(answer));
    }

    #[test]
    fn nested_and_flat_data_are_the_same_tensor(
        shape in vec(1_usize..4, 1..4),
        seed in any::<[i32; 27]>(),
    ) {
        let count: usize = shape.iter().product();
        let tensor = Tensor::from_elements(shape.clone(), &seed[..count]).unwrap();
        let mut data = String::new();
        nested(&shape, &mut seed.iter().map(ToString::to_string), &mut data);
        let mut body = String::from(r#"{"inputs":[{"name":"x","datatype":"INT32","shape":"#);
        write!(body, r#"{},"data":{data}}}]}}"#, tensor.shape()).unwrap();
        let read = InferRequest::from_json(body.as_bytes()).unwrap();
        prop_assert_eq!(read.input("x"), Some(&tensor));
    }

    #[test]
    fn no_bytes_make_the_decoder_panic(body in vec(any::<u8>(), 0..200)) {
        let _ = InferRequest::from_json(&body);
        let _ = InferResponse::from_json(&body);
    }

    #[test]
    fn no_mutation_of_a_request_makes_the_decoder_panic_or_lie(
        request in request(),
        edits in vec((any::<prop::sample::Index>(), prop::sample::select(&b"[]{},:\"\\0-1e.N\x00\xff"[..])), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut body = request.to_json().unwrap();
        for (at, byte) in edits {
            let at = at.index(body.len());
            body[at] = byte;
        }
        let cut = cut.index(body.len() * 4);
        body.truncate(cut.max(1));
        match InferRequest::from_json(&body) {
            // Whatever is taken is a request: it can be written and read again.
            Ok(read) => {
                prop_assert_eq!(InferRequest::from_json(&read.to_json().unwrap()), Ok(read));
            }
            Err(error) => prop_assert!(error.to_string().chars().count() < 600),
        }
    }
}
