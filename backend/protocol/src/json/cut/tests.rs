//! What is cut out and read is what the reader of whole bodies reads, and what is not is left to it.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::number::Number;
use super::*;
use crate::InferRequest;
use crate::binary::Parts;

const EDITS: &[u8] = b"[]{},:\"\\0-1e.5 d\x00\xff";

/// What the reader of whole bodies says.
fn whole(body: &[u8]) -> Result<InferRequest, crate::DecodeError> {
    InferRequest::read_text(body, Parts::none(), None)
}

/// What is read of a body whose lists are cut out; none where it has to be read whole.
fn cut(body: &[u8]) -> Option<InferRequest> {
    let cut = Cut::of(body)?;
    let read = InferRequest::read_text(cut.text(), Parts::none(), Some(&cut)).ok()?;
    cut.is_used_up().then_some(read)
}

fn body(datatype: &str, shape: &str, data: &str) -> String {
    format!(
        r#"{{"inputs": [{{"name": "x", "data": {data}, "datatype": "{datatype}", "shape": {shape}}}]}}"#
    )
}

fn number<T: Number>(text: &str) -> Option<T> {
    let (value, rest) = T::read(text.as_bytes())?;
    rest.is_empty().then_some(value)
}

#[test]
fn usual_bodies_are_read_by_their_lists() {
    for (datatype, shape, data) in [
        ("FP32", "[2, 2]", "[0.5, -1, 2e3 ,4]"),
        ("FP64", "[2, 2]", "[[0.5, -1], [2E+3, 4.25]]"),
        ("FP16", "[2,1,1]", "[[[1]],[[2]]]"),
        ("BF16", "[1]", "\n[\t1 ]"),
        ("INT64", "[2]", "[-9000000000000000000,1]"),
        ("UINT8", "[3]", "[0,255,7]"),
        ("INT8", "[2]", "[-128,127]"),
        ("UINT64", "[1]", "[9999999999999999999]"),
    ] {
        let body = body(datatype, shape, data);
        let read = cut(body.as_bytes());
        assert_eq!(read, Some(whole(body.as_bytes()).expect(&body)), "{body}");
    }
}

#[test]
fn what_is_anything_else_is_left_to_the_reader_of_whole_bodies() {
    for (datatype, shape, data) in [
        // Lists of what is no number, and numbers that are none.
        ("BOOL", "[2]", "[true,false]"),
        ("BYTES", "[1]", r#"["[1]"]"#),
        ("FP32", "[1]", "[01]"),
        ("FP32", "[1]", "[1.]"),
        ("FP32", "[1]", "[.5]"),
        ("FP32", "[1]", "[+1]"),
        ("FP32", "[1]", "[1e]"),
        ("FP32", "[1]", "[1e39]"),
        ("FP16", "[1]", "[65520]"),
        ("INT32", "[1]", "[1.0]"),
        ("UINT8", "[1]", "[256]"),
        ("UINT8", "[1]", "[-0]"),
        ("INT64", "[1]", "[18446744073709551617]"),
        // Lists that are not as the shape says.
        ("FP32", "[2]", "[1]"),
        ("FP32", "[0]", "[1]"),
        ("FP32", "[1]", "[1,2]"),
        ("FP32", "[2]", "[1 2]"),
        ("FP32", "[2]", "[1,,2]"),
        ("FP32", "[2]", "[1,2,]"),
        ("FP32", "[2, 2]", "[[1,2],[3]]"),
        ("FP32", "[2, 2]", "[[1,2,3],[4]]"),
        ("FP32", "[2]", "[[1,2]]"),
        ("FP32", "[1000000000000, 1000000000000]", "[1]"),
        ("FP32", "[1000000000000]", "[1]"),
    ] {
        let body = body(datatype, shape, data);
        assert_eq!(cut(body.as_bytes()), None, "{body}");
        assert_eq!(
            InferRequest::from_json(body.as_bytes()),
            whole(body.as_bytes())
        );
    }
}

#[test]
fn a_list_where_nobody_looks_is_not_taken_for_one_that_is_read() {
    for body in [
        // Not JSON, in a member that is ignored.
        r#"{"x": {"data": [1 2]}, "inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [3]}]}"#,
        // An empty list beside one that was cut out.
        r#"{"x": {"data": [7]}, "inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": []}]}"#,
        r#"{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [3], "data": [4]}]}"#,
        r#"{"inputs": [{"name": "\"data\": [1]", "datatype": "FP32", "shape": [1], "data": [3]}]}"#,
        r#"{"inputs": [{"name\"data": [1], "name": "x", "datatype": "FP32", "shape": [1], "data": [3]}]}"#,
    ] {
        assert_eq!(
            InferRequest::from_json(body.as_bytes()),
            whole(body.as_bytes()),
            "{body}"
        );
    }
}

#[test]
fn floats_between_two_are_rounded_as_the_standard_library_does() {
    for text in [
        "16777217",
        "16777219",
        "33554434.5",
        "1.00000005960464477539",
        "1.0000000596046448",
        "1.00000017881393432617187499",
        "0.000061035156250000001",
        "1e-45",
        "1.4e-45",
        "7e-46",
        "1.1754943e-38",
        "1.17549435e-38",
        "3.4028235e38",
        "3.4028236e38",
        "-0",
        "-0.0",
        "0e9999",
        "9007199254740993",
        "9007199254740993e1",
        "123456789012345678901234567890",
        "1e22",
        "1e23",
        "4.9e-324",
        "2.4703282292062327e-324",
        "1e-9999",
    ] {
        let single = text.parse::<f32>().ok().filter(|value| value.is_finite());
        assert_eq!(
            number::<f32>(text).map(f32::to_bits),
            single.map(f32::to_bits),
            "{text}"
        );
        let double = text.parse::<f64>().unwrap();
        let bits = number::<f64>(text).map(f64::to_bits);
        assert_eq!(bits, Some(double.to_bits()), "{text}");
    }
}

proptest! {
    #[test]
    fn any_number_is_rounded_as_the_standard_library_does(
        bits in any::<u32>(), digits in any::<u64>(), places in 0_u32..20, power in -60_i32..60,
    ) {
        let single = f32::from_bits(bits);
        // Exactly between two, and a little beside.
        let middle = f64::from(single) + (f64::from(f32::from_bits(bits ^ 1)) - f64::from(single)) / 2.0;
        let beside = f64::from_bits(middle.to_bits() ^ u64::from(power > 0));
        let short = digits / 10_u64.pow(places);
        let texts = [
            format!("{single}"), format!("{single:e}"), format!("{middle}"), format!("{beside:e}"),
            format!("{short}e{power}"), format!("{short}.{digits}"), format!("-{digits}e{power}"),
        ];
        for text in texts {
            if text.contains(['i', 'N']) {
                continue;
            }
            let expected = text.parse::<f32>().ok().filter(|value| value.is_finite());
            prop_assert_eq!(number::<f32>(&text).map(f32::to_bits), expected.map(f32::to_bits), "{}", text);
            let expected = text.parse::<f64>().ok().filter(|value| value.is_finite());
            prop_assert_eq!(number::<f64>(&text).map(f64::to_bits), expected.map(f64::to_bits), "{}", text);
        }
    }

    #[test]
    fn whatever_is_done_to_a_body_it_says_the_same(
        values in vec(any::<f32>().prop_filter("finite", |value| value.is_finite()), 1..9),
        is_nested in any::<bool>(),
        edits in vec((any::<Index>(), select(EDITS)), 0..3),
        twice in any::<bool>(),
    ) {
        let list = |values: &[f32]| {
            let values: Vec<_> = values.iter().map(ToString::to_string).collect();
            format!("[{}]", values.join(", "))
        };
        let data = if is_nested { format!("[{}]", list(&values)) } else { list(&values) };
        let shape = format!("[1,{}]", values.len());
        let mut body = body("FP32", &shape, &data);
        if twice {
            body = body.replace("{\"name\"", "{\"name\": \"y\", \"datatype\": \"INT8\", \"shape\": [1], \"data\": [3]}, {\"name\"");
        }
        let mut body = body.into_bytes();
        for (at, byte) in edits {
            let at = at.index(body.len());
            body[at] = byte;
        }
        prop_assert_eq!(InferRequest::from_json(&body), whole(&body));
    }
}
