//! Every fault has its text: the field, what was expected, what was there.

use crate::{DecodeError, InferRequest, InferResponse};

fn fault(body: &str) -> DecodeError {
    InferRequest::from_json(body.as_bytes()).expect_err(body)
}

/// The fault of a request with one input of these members.
fn input_fault(members: &str) -> DecodeError {
    fault(&format!(r#"{{"inputs": [{{"name": "x", {members}}}]}}"#))
}

/// The fault of one tensor's data.
fn data_fault(datatype: &str, shape: &str, data: &str) -> DecodeError {
    input_fault(&format!(
        r#""datatype": "{datatype}", "shape": {shape}, "data": {data}"#
    ))
}

#[test]
fn a_body_that_is_no_object_is_named() {
    for (body, text) in [
        ("", "body: expected a JSON object, got an empty body"),
        (" \n", "body: expected a JSON object, got an empty body"),
        ("[]", "body: expected a JSON object, got a list"),
        ("3", "body: expected a JSON object, got integer `3`"),
        ("{}", "inputs: expected a list of tensors, got nothing"),
        (
            r#"{"inputs": []} x"#,
            "body: trailing characters at line 1 column 16",
        ),
        (
            r#"{"inputs": [}"#,
            "inputs[0]: expected value at line 1 column 13",
        ),
        (
            r#"{"inputs": ["#,
            "inputs: EOF while parsing a list at line 1 column 12",
        ),
        (r#"{"id": 5}"#, "id: expected a string, got integer `5`"),
    ] {
        assert_eq!(fault(body).to_string(), text, "{body}");
    }
}

#[test]
fn a_member_that_is_missing_or_wrong_is_named() {
    for (members, text) in [
        (
            r#""shape": [1], "data": [1]"#,
            "datatype: expected the name of a datatype, got nothing",
        ),
        (
            r#""datatype": "FP32", "data": [1]"#,
            "shape: expected a list of sizes, got nothing",
        ),
        (
            r#""datatype": "FP32", "shape": [1]"#,
            "data: expected a list of elements, got nothing",
        ),
        (
            r#""datatype": "FP32", "shape": [1], "data": null"#,
            "data: expected a list of elements, got nothing",
        ),
        (
            r#""datatype": "FP32", "shape": [1, -2], "data": []"#,
            "shape[1]: expected a whole number >= 0, got integer `-2`",
        ),
        (
            r#""datatype": "FP32", "shape": [1.5], "data": []"#,
            "shape[0]: expected a whole number >= 0, got floating point `1.5`",
        ),
        (
            r#""datatype": "FP32", "shape": 64, "data": []"#,
            "shape: expected a list, got integer `64`",
        ),
        (
            r#""datatype": 32, "shape": [1]"#,
            "datatype: expected a string, got integer `32`",
        ),
    ] {
        assert_eq!(
            input_fault(members).to_string(),
            format!("inputs[0].{text}"),
            "{members}"
        );
    }
    let text = input_fault(r#""shape": [], "shape": []"#).to_string();
    assert_eq!(text, "inputs[0]: duplicate field `shape`");
    let text = input_fault(r#""datatype": "FP31""#).to_string();
    assert!(
        text.starts_with("inputs[0].datatype: expected one of BOOL, UINT8,"),
        "{text}"
    );
    assert!(text.ends_with("got `FP31`"), "{text}");
    let text = fault(r#"{"inputs": [["x", "FP32", [1], [1]]]}"#).to_string();
    assert_eq!(text, "inputs[0]: expected a JSON object, got a list");
    let text = fault(r#"{"inputs": [{}]}"#).to_string();
    assert_eq!(
        text,
        "inputs[0].name: expected the tensor's name, got nothing"
    );
    let text = fault(r#"{"inputs": [], "parameters": {"a": {"b": 1}}}"#).to_string();
    assert_eq!(
        text,
        "parameters.a: expected a boolean, a number or a string, got an object"
    );
}

#[test]
fn an_element_that_does_not_fit_is_named() {
    let whole = |range: &str| format!("expected a whole number from {range}");
    for (datatype, data, at, text) in [
        (
            "UINT8",
            "[1, 256]",
            "[1]",
            whole("0 to 255 (UINT8), got 256"),
        ),
        ("UINT8", "[-1, 0]", "[0]", whole("0 to 255 (UINT8), got -1")),
        (
            "INT8",
            "[0, -129]",
            "[1]",
            whole("-128 to 127 (INT8), got -129"),
        ),
        (
            "INT32",
            "[1.0, 2]",
            "[0]",
            whole("-2147483648 to 2147483647 (INT32), got 1.0"),
        ),
        (
            "INT16",
            "[1e2, 2]",
            "[0]",
            whole("-32768 to 32767 (INT16), got 1e2"),
        ),
        (
            "UINT16",
            "[null, 2]",
            "[0]",
            whole("0 to 65535 (UINT16), got null"),
        ),
        (
            "FP32",
            r#"[1, "2"]"#,
            "[1]",
            r#"expected a number (FP32), got "2""#.to_owned(),
        ),
        (
            "FP64",
            "[1, null]",
            "[1]",
            "expected a number (FP64), got null".to_owned(),
        ),
        (
            "FP64",
            "[1, {}]",
            "[1]",
            "expected a number (FP64), got an object".to_owned(),
        ),
        (
            "FP16",
            "[true, 1]",
            "[0]",
            "expected a number (FP16), got true".to_owned(),
        ),
        (
            "BOOL",
            "[true, 1]",
            "[1]",
            "expected true or false, got 1".to_owned(),
        ),
        (
            "BYTES",
            r#"["a", 1]"#,
            "[1]",
            "expected a string (BYTES), got 1".to_owned(),
        ),
        (
            "BYTES",
            r#"["\ud800", "b"]"#,
            "[0]",
            r#"expected a string (BYTES), got "\ud800""#.to_owned(),
        ),
    ] {
        let error = data_fault(datatype, "[2]", data);
        assert_eq!(error.to_string(), format!("inputs[0].data{at}: {text}"));
        assert!(!error.is_non_finite());
    }
}

#[test]
fn a_number_that_overflows_its_type_is_not_finite() {
    for (datatype, number) in [("FP64", "1e999"), ("FP32", "-1e39"), ("FP16", "65520")] {
        let error = data_fault(datatype, "[1]", &format!("[{number}]"));
        let text = format!("expected a finite {datatype} number, got {number}");
        assert_eq!(error.to_string(), format!("inputs[0].data[0]: {text}"));
        assert!(error.is_non_finite());
    }
}

#[test]
fn the_literals_that_python_writes_are_told_from_broken_json() {
    for literal in ["NaN", "Infinity", "-Infinity"] {
        let error = data_fault("FP32", "[2]", &format!("[1.0,\n {literal}]"));
        let text = format!("inputs[0].data: expected a finite number, got {literal}");
        assert_eq!(error.to_string(), text);
        assert!(error.is_non_finite());
    }
    let error = data_fault("FP32", "[2]", "[1.0, Nan]");
    assert!(!error.is_non_finite());
    assert!(
        error
            .to_string()
            .starts_with("inputs[0].data: expected value at line 1"),
        "{error}"
    );
}

#[test]
fn elements_are_counted_against_the_shape() {
    let error = data_fault("FP32", "[1, 4]", "[1, 2, 3]");
    let text = "inputs[0].data: expected 4 elements for shape [1,4], got 3";
    assert_eq!(error.to_string(), text);
    let error = data_fault("UINT8", "[2]", "[1, 2, 3, 4, 5]");
    assert_eq!(
        error.to_string(),
        "inputs[0].data: expected 2 elements for shape [2], got 5"
    );
    let error = data_fault("FP32", "[4294967296, 4294967296]", "[]");
    assert!(
        error
            .to_string()
            .ends_with("has more elements than can be counted"),
        "{error}"
    );
}

#[test]
fn nesting_is_flat_or_as_the_shape_says() {
    for (shape, data, text) in [
        (
            "[2, 3]",
            "[[1, 2], [3, 4], [5, 6]]",
            "[0]: expected a list of 3 for axis 1 of shape [2,3], got a list of 2",
        ),
        (
            "[2, 1]",
            "[[1], [2], [3]]",
            ": expected a list of 2 for axis 0 of shape [2,1], got a list of 3",
        ),
        (
            "[2, 2]",
            "[[1, 2], 3]",
            "[1]: expected a list, as shape [2,2] nests, got 3",
        ),
        (
            "[2, 2]",
            "[1, [2]]",
            "[1]: expected a number (FP32), got a list",
        ),
        (
            "[2]",
            "[[1, 2]]",
            "[0]: expected a number (FP32), got a list",
        ),
        (
            "[1, 2]",
            "[[[1, 2]]]",
            "[0][0]: expected a number (FP32), got a list",
        ),
        (
            "[1, 1, 2]",
            "[[1, 2]]",
            "[0][0]: expected a list, as shape [1,1,2] nests, got 1",
        ),
        ("[1]", "1", ": expected a list of elements, got 1"),
        (
            "[1]",
            r#"{"0": 1}"#,
            r#": expected a list of elements, got {"0": 1}"#,
        ),
    ] {
        let error = data_fault("FP32", shape, data);
        assert_eq!(
            error.to_string(),
            format!("inputs[0].data{text}"),
            "{shape} {data}"
        );
    }
}

#[test]
fn names_are_used_once() {
    let tensor = r#"{"name": "x", "datatype": "INT8", "shape": [1], "data": [1]}"#;
    let error = fault(&format!(r#"{{"inputs": [{tensor}, {tensor}]}}"#));
    let text = "inputs[1].name: expected a name that is used once, got `x` again";
    assert_eq!(error.to_string(), text);
    let error = fault(r#"{"inputs": [], "outputs": [{"name": "y"}, {"name": "y"}]}"#);
    let text = "outputs[1].name: expected a name that is used once, got `y` again";
    assert_eq!(error.to_string(), text);
}

#[test]
fn a_quoted_text_is_cut() {
    let long = "é".repeat(100_000);
    for error in [
        fault(&format!(r#"{{"inputs": "{long}"}}"#)),
        fault(&format!(
            r#"{{"inputs": [], "parameters": {{"{long}": null}}}}"#
        )),
        input_fault(&format!(r#""datatype": "{long}""#)),
        data_fault("FP32", "[1]", &format!(r#"["{long}"]"#)),
        data_fault("FP32", "[1]", &format!(r#""{long}""#)),
        data_fault("INT8", "[1]", &format!("[{}]", "9".repeat(100_000))),
    ] {
        assert!(error.to_string().chars().count() < 400, "{error}");
    }
}

#[test]
fn lists_and_depth_are_bounded() {
    let error = fault(&format!(r#"{{"inputs": [{}{{}}]}}"#, "{},".repeat(2000)));
    assert_eq!(
        error.to_string(),
        "inputs: expected at most 1024 items, got more"
    );
    let error = data_fault("INT8", &format!("[{}1]", "1,".repeat(64)), "[1]");
    assert_eq!(
        error.to_string(),
        "inputs[0].shape: expected at most 64 items, got more"
    );
    let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
    let error = data_fault("INT8", "[1, 1]", &deep(1_000_000));
    assert!(error.to_string().ends_with("got a list"), "{error}");
    let error = fault(&deep(1_000_000));
    assert_eq!(
        error.to_string(),
        "body: expected a JSON object, got a list"
    );
}

#[test]
fn an_answer_without_a_model_is_refused() {
    let error = InferResponse::from_json(br#"{"outputs": []}"#).unwrap_err();
    assert_eq!(
        error.to_string(),
        "model_name: expected the model's name, got nothing"
    );
    let error = InferResponse::from_json(br#"{"error": "no such model"}"#).unwrap_err();
    assert_eq!(
        error.to_string(),
        "model_name: expected the model's name, got nothing"
    );
}
