//! What is fuzzed: a function for each reader of bytes that strangers send.
//!
//! A function takes any bytes and fails by panicking: where the reader does, or where an oracle is
//! not met. An oracle is a second way to the same thing: what was read is written and read again, a
//! stream is read whole and in pieces, a naive reader must agree with the careful one.
//!
//! Two things use this file. `cargo test -p aegis-proxy --test fuzz` runs each function often, on
//! what is in `corpus/` and on mutants of it; `fuzz_targets/` hands them to libFuzzer.

use std::net::IpAddr;

use aegis_protocol::{
    Datatype, InferRequest, InferResponse, LoadReport, OutputForms, Tensor, binary, grpc, headers,
    path::{self, Route},
    timeout,
};
use aegis_proxy::{
    body::Mention,
    config::{self, RawConfig, Sticky},
    forwarded::Origin,
    trace::{Parent, trace_id},
};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use prost::Message;

/// A function that takes any bytes.
pub(crate) type Entry = fn(&[u8]);

/// Every function, by the name of its corpus.
pub(crate) const ALL: [(&str, Entry); 13] = [
    ("config", config),
    ("load_report", load_report),
    ("timeouts", timeouts),
    ("path", path),
    ("sticky", sticky),
    ("infer_json", infer_json),
    ("infer_binary", infer_binary),
    ("infer_grpc", infer_grpc),
    ("strings", strings),
    ("grpc", grpc),
    ("forwarded", forwarded),
    ("traceparent", traceparent),
    ("timeout_parameter", timeout_parameter),
];

/// The proxy's configuration: faults lie in the text, and what is taken can be written back.
pub(crate) fn config(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match config::parse("fuzz", text) {
        Ok(config) => {
            let written = toml::to_string(&RawConfig::from(&config)).expect("any can be written");
            let again = config::parse("again", &written).expect("what was written is valid");
            assert_eq!(again, config);
        }
        Err(rejected) => {
            assert!(!rejected.faults.is_empty(), "refused without a fault");
            let lines = text.split('\n').count();
            for fault in &rejected.faults {
                let line = fault.line.unwrap_or(1);
                assert!((1..=lines).contains(&line), "line {line} of {lines}");
            }
        }
    }
}

/// What a server says of its load: no nonsense is taken, and what is taken can be written back.
pub(crate) fn load_report(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let Some(report) = LoadReport::parse(&text) else {
        return;
    };
    let numbers = [report.queue_depth, report.in_flight, report.utilization];
    for number in numbers.into_iter().flatten() {
        assert!(number.is_finite() && number >= 0.0, "{number} of {text:?}");
    }
    let written = report.to_string();
    if written.len() <= 4_096 {
        let again = LoadReport::parse(&written).expect("what was written is a report");
        assert_eq!(again.queue_depth, report.queue_depth);
        assert_eq!(again.in_flight, report.in_flight);
        assert_eq!(again.utilization, report.utilization);
    }
}

/// How long a client waits: only numbers from 1, and what goes on is read again.
pub(crate) fn timeouts(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else {
        return;
    };
    let carrying = |name: HeaderName| HeaderMap::from_iter([(name, value.clone())]);
    if let Ok(time) = timeout::from_headers(&carrying(headers::REQUEST_TIMEOUT_MS)) {
        let time = time.expect("the header is there");
        let digits = std::str::from_utf8(data).expect("only digits are taken");
        assert_eq!(Ok(time.as_millis()), digits.parse());
        assert!(!time.is_zero());
    }
    let name = HeaderName::from_static("grpc-timeout");
    if let Ok(Some(time)) = timeout::of_grpc(&carrying(name.clone())) {
        let passed_on = HeaderMap::from_iter([(name, timeout::to_grpc(time))]);
        let again = timeout::of_grpc(&passed_on).expect("what is passed on is a time");
        assert!(again.is_some_and(|again| !again.is_zero()));
    }
}

/// A request's path: what it means, it means after it was written again.
pub(crate) fn path(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let Some(route) = path::parse(text) else {
        return;
    };
    let written = match &route {
        Route::Model { model, version } => path::model(model, version.as_deref()),
        Route::ModelReady { model, version } => path::model_ready(model, version.as_deref()),
        Route::Infer { model, version } => path::infer(model, version.as_deref()),
        _ => return,
    };
    assert!(written.is_ascii() && !written.contains("//"), "{written}");
    assert!(!written.split('/').any(|part| part == ".."), "{written}");
    assert_eq!(path::parse(&written).as_ref(), Some(&route), "{written}");
}

/// A client's cookie: a naive reader finds the same.
pub(crate) fn sticky(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else {
        return;
    };
    let text = data.to_vec();
    let naive = text
        .split(|byte| *byte == b';')
        .map(<[u8]>::trim_ascii)
        .find(|pair| pair.starts_with(b"uid="))
        .map(|pair| &pair[4..]);
    let headers = HeaderMap::from_iter([(header::COOKIE, value)]);
    let key = aegis_proxy::sticky::key(&Sticky::Cookie("uid".into()), "m", &headers);
    assert_eq!(key.is_some(), naive.is_some_and(|value| !value.is_empty()));
    // The same value in a header is the same client.
    let Some(value) = naive.and_then(|value| HeaderValue::from_bytes(value).ok()) else {
        return;
    };
    let name = HeaderName::from_static("x-user-id");
    let headers = HeaderMap::from_iter([(name.clone(), value)]);
    assert_eq!(
        aegis_proxy::sticky::key(&Sticky::Header(name), "m", &headers),
        key
    );
}

/// An inference in JSON: what was read can be written, and read again as the same.
pub(crate) fn infer_json(data: &[u8]) {
    let Ok(request) = InferRequest::from_json(data) else {
        return;
    };
    let written = request.to_json().expect("what was read can be written");
    let again = InferRequest::from_json(&written).expect("what was written can be read");
    assert_eq!(again, request);
}

/// An inference with tensors behind its JSON: a line of what the header says, then the body. What was
/// read can be written, and read again as the same, and its tensors are no more than the body.
pub(crate) fn infer_binary(data: &[u8]) {
    let at = data.iter().position(|byte| *byte == b'\n');
    let (header, body) = data.split_at(at.unwrap_or(0));
    let Ok(value) = HeaderValue::from_bytes(header) else {
        return;
    };
    let headers = HeaderMap::from_iter([(headers::JSON_LENGTH, value)]);
    let Ok(length) = binary::json_length(&headers) else {
        return;
    };
    let body = Bytes::copy_from_slice(body.get(1..).unwrap_or_default());
    // An answer is read in the same way.
    let _ = InferResponse::from_body(&body, length);
    let Ok(request) = InferRequest::from_body(&body, length) else {
        return;
    };
    let forms = OutputForms::of(&request);
    let written = request.to_binary().expect("what was read can be written");
    let length = written.json_length();
    let body = Bytes::from(written.joined());
    let again = InferRequest::from_body(&body, length).expect("what was written can be read");
    assert_eq!(again, request);
    assert_eq!(OutputForms::of(&again), forms);
}

/// The message of an inference: it is read where a decoder that knows no bounds reads the same, and it is
/// within them; and what was read can be sent on as raw contents, and read again as the same.
pub(crate) fn infer_grpc(data: &[u8]) {
    /// So little that what is read here can be more.
    const LIMIT: usize = 1_000;
    let bytes = Bytes::copy_from_slice(data);
    let weighed = grpc::Weighed::of(&bytes, LIMIT).ok();
    let read = weighed.and_then(|message| message.decode().ok());
    let naive = grpc::ModelInferRequest::decode(bytes).ok();
    let naive = naive.filter(|message| is_within(message, LIMIT));
    // Compared as they are written, since NaN is no other NaN.
    let written = |message: &grpc::ModelInferRequest| message.encode_to_vec();
    assert_eq!(read.as_ref().map(written), naive.as_ref().map(written));
    let Some(message) = read else {
        return;
    };
    let Ok(request) = message.into_request() else {
        return;
    };
    let sent = grpc::ModelInferResponse::from(InferResponse {
        outputs: request.inputs.clone(),
        ..InferResponse::default()
    });
    let input = |output: grpc::InferOutputTensor| grpc::InferInputTensor {
        name: output.name,
        datatype: output.datatype,
        shape: output.shape,
        ..Default::default()
    };
    let message = grpc::ModelInferRequest {
        inputs: sent.outputs.into_iter().map(input).collect(),
        raw_input_contents: sent.raw_output_contents,
        ..Default::default()
    };
    let framed = grpc::frame(&message);
    let message: grpc::ModelInferRequest = grpc::read_call(&framed).expect("it was just framed");
    let again = message.into_request().expect("what was sent can be read");
    assert_eq!(again.inputs, request.inputs);
}

/// Whether a message that was decoded is not more than it may be.
fn is_within(message: &grpc::ModelInferRequest, limit: usize) -> bool {
    let (inputs, outputs) = (&message.inputs, &message.outputs);
    let tensors = [
        inputs.len(),
        outputs.len(),
        message.raw_input_contents.len(),
    ];
    let of_inputs = inputs.iter().map(|input| input.parameters.len());
    let of_outputs = outputs.iter().map(|output| output.parameters.len());
    let parameters = of_inputs
        .chain(of_outputs)
        .chain([message.parameters.len()]);
    let becomes = |input: &grpc::InferInputTensor| {
        let lists = input.contents.clone().unwrap_or_default();
        let eights = lists.int64s.len() + lists.uint64s.len() + lists.fp64s.len();
        let fours = lists.ints.len() + lists.uints.len() + lists.fp32s.len();
        let texts = lists.bytes.len() * size_of::<Bytes>();
        8 * (input.shape.len() + eights) + 4 * fours + lists.bools.len() + texts
    };
    let becomes: usize = inputs.iter().map(becomes).sum();
    tensors.into_iter().max() <= Some(1_024) && parameters.max() <= Some(256) && becomes <= limit
}

/// The raw encoding of texts: a naive reader finds the same, and what was read is written as it was.
pub(crate) fn strings(data: &[u8]) {
    let (mut rest, mut naive) = (data, Vec::new());
    let is_whole = loop {
        if rest.is_empty() {
            break true;
        }
        let Some((length, behind)) = rest.split_first_chunk::<4>() else {
            break false;
        };
        let length = u32::from_le_bytes(*length) as usize;
        let Some(text) = behind.get(..length) else {
            break false;
        };
        naive.push(text.to_vec());
        rest = &behind[length..];
    };
    let of = |count: usize| Tensor::new(Datatype::Bytes, [count], data.to_vec());
    let read = of(naive.len());
    assert_eq!(read.is_ok(), is_whole);
    assert!(of(naive.len() + 1).is_err(), "there is none more");
    let Ok(read) = read else {
        return;
    };
    let texts: Vec<Bytes> = read.strings().expect("they are texts").collect();
    assert_eq!(texts, naive);
    assert_eq!(Tensor::from_strings([naive.len()], &naive), Ok(read));
}

/// A stream of gRPC messages: its pieces do not matter for what is passed on.
pub(crate) fn grpc(data: &[u8]) {
    // A target that is cut off anywhere is read as far as it goes.
    let _ = grpc::Target::so_far(data);
    if let Ok(Some(time)) = grpc::timeout(data) {
        assert!(!time.is_zero());
    }
    let whole = grpc::Versioner::new("7").pass(Bytes::copy_from_slice(data));
    let mut pieces = grpc::Versioner::new("7");
    let mut passed = Vec::new();
    for piece in data.chunks(3) {
        let Ok(bytes) = pieces.pass(Bytes::copy_from_slice(piece)) else {
            assert!(whole.is_err(), "only the pieces are refused");
            return;
        };
        passed.extend_from_slice(&bytes);
    }
    let whole = whole.expect("what passes in pieces passes whole");
    assert_eq!(whole, passed);
}

/// What a proxy in front says of who asked: a stranger is not believed, and of a list without
/// quotes a naive reader makes the same.
pub(crate) fn forwarded(data: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(data) else {
        return;
    };
    let trusted = ["10.0.0.0/8".parse().expect("a network")];
    let client = |peer: IpAddr, name: HeaderName| {
        let headers = HeaderMap::from_iter([(name, value.clone())]);
        Origin::of(Some(peer), false, &headers, &trusted).client()
    };
    let (stranger, friend): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [10, 0, 0, 1].into());
    let list = HeaderName::from_static("x-forwarded-for");
    for name in [list.clone(), header::FORWARDED] {
        assert_eq!(client(stranger, name.clone()), Some(stranger));
        assert!(client(friend, name).is_some(), "somebody has asked");
    }
    // An address without its port or brackets is all that the naive reader knows.
    let hops = data.split(|byte| *byte == b',').rev().map(|hop| {
        let text = std::str::from_utf8(hop).ok()?.trim();
        text.parse::<IpAddr>().ok().map(|ip| ip.to_canonical())
    });
    let mut naive = Some(friend);
    for hop in hops {
        match hop {
            Some(hop) => naive = Some(hop),
            None => return,
        }
        if naive.is_some_and(|hop| !trusted[0].contains(&hop)) {
            break;
        }
    }
    assert_eq!(client(friend, list), naive, "{value:?}");
}

/// Where a request stands in a trace: what was read is written, and read again as the same.
pub(crate) fn traceparent(data: &[u8]) {
    let parent = Parent::parse(data);
    assert_eq!(parent.is_some(), trace_id(data).is_some());
    let Some(parent) = parent else {
        return;
    };
    assert!(parent.trace != 0 && parent.span != 0);
    let written = parent.value();
    assert_eq!(Parent::parse(written.as_bytes()), Some(parent));
    assert_eq!(trace_id(written.as_bytes()), trace_id(data));
}

/// The time that an inference asks for: who reads all of it finds the same, and it is mentioned
/// however the body is cut.
pub(crate) fn timeout_parameter(data: &[u8]) {
    let found = timeout::in_json(data);
    if let Ok(request) = InferRequest::from_json(data) {
        let value = request.parameters.get(timeout::PARAMETER);
        assert_eq!(found, value.map(timeout::of_parameter).transpose());
    }
    let (mut whole, mut pieces) = (Mention::sought(true), Mention::sought(true));
    whole.see(data);
    data.chunks(3).for_each(|piece| pieces.see(piece));
    assert_eq!(whole.is_found(), pieces.is_found());
    let plain = !data.contains(&b'\\');
    assert!(whole.is_found() || !plain || found == Ok(None), "{found:?}");
}
