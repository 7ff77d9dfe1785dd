use super::*;

fn spec(name: &str, datatype: Datatype, axes: &[Axis]) -> TensorSpec {
    TensorSpec::new(name, datatype, axes.to_vec())
}

fn signature() -> Signature {
    let axes = [Axis::Free, Axis::Fixed(2)];
    Signature {
        batched: true,
        inputs: vec![spec("x", Datatype::Fp32, &axes)],
        outputs: vec![spec("y", Datatype::Fp32, &axes)],
    }
}

fn rule(check: Check, action: Action, test: Test) -> Rule {
    Rule {
        check,
        action,
        tensor: 0,
        test,
    }
}

fn safety(inputs: Vec<Rule>) -> Safety {
    Safety {
        on_error: Action::Block,
        schema: None,
        nan_inf_input: None,
        size: None,
        inputs,
        guards: Vec::new(),
        outputs: Vec::new(),
    }
}

fn inputs(rows: usize, values: &[f32]) -> Inputs {
    Inputs {
        tensors: vec![Tensor::from_f32([rows, 2], values).unwrap()],
        plain: Vec::new(),
        rows,
    }
}

fn bounds(min: f64, max: f64) -> Test {
    Test::Range(Range { min, max })
}

#[test]
fn the_first_check_that_blocks_ends_the_search_and_earlier_flags_go_with_it() {
    let safety = safety(vec![
        rule(Check::Range, Action::Flag, bounds(0.0, 1.0)),
        rule(Check::NanInfInput, Action::Block, Test::Finite),
        rule(Check::Range, Action::Block, bounds(5.0, 6.0)),
    ]);
    let bad = inputs(2, &[0.5, 2.0, f32::NAN, 0.0]);
    let blocked = safety.check_inputs(&signature(), &bad).unwrap_err();
    assert_eq!(blocked.check(), Some(Check::NanInfInput));
    assert_eq!(
        blocked.to_string(),
        "input `x`: expected finite numbers, got NaN at element 2"
    );
    assert_eq!(
        blocked.findings().reasons_by_row().unwrap(),
        "range=0,1 nan_inf_input=1"
    );
}

#[test]
fn what_is_only_logged_is_found_and_not_told_to_the_client() {
    let safety = safety(vec![
        rule(Check::Range, Action::Log, bounds(0.0, 1.0)),
        rule(Check::OodInput, Action::Flag, bounds(0.0, 2.0)),
    ]);
    let findings = safety
        .check_inputs(&signature(), &inputs(1, &[3.0, 0.0]))
        .unwrap();
    assert_eq!(findings.iter().count(), 2);
    assert_eq!(findings.reasons().unwrap(), "ood_input");
    let clean = safety
        .check_inputs(&signature(), &inputs(1, &[1.0, 0.0]))
        .unwrap();
    assert_eq!((clean.reasons(), clean.reasons_by_row()), (None, None));
}

#[test]
fn a_check_that_cannot_do_its_work_is_what_on_error_says() {
    for action in Action::ALL {
        let safety = Safety {
            on_error: action,
            ..safety(vec![rule(
                Check::OodInput,
                Action::Log,
                Test::Distance(Distance::default()),
            )])
        };
        let looked = safety.check_inputs(&signature(), &inputs(1, &[0.0, 0.0]));
        let findings = match looked {
            Ok(findings) => findings,
            Err(blocked) => blocked.findings().clone(),
        };
        let finding = findings.iter().next().unwrap();
        assert_eq!((finding.action, finding.check), (action, Check::OodInput));
        assert_eq!(
            finding.to_string(),
            "input `x`: the check failed: there are no statistics"
        );
    }
}

#[test]
fn a_request_over_its_size_is_refused_by_rows_or_by_elements() {
    for (rows, elements, message) in [
        (
            Some(1),
            None,
            Some("request: expected at most 1 rows, got 2"),
        ),
        (
            None,
            Some(3),
            Some("request: expected at most 3 elements, got 4"),
        ),
        (Some(2), Some(4), None),
    ] {
        let safety = Safety {
            size: Some(Size {
                action: Action::Block,
                rows,
                elements,
            }),
            ..safety(Vec::new())
        };
        let looked = safety.check_inputs(&signature(), &inputs(2, &[0.0; 4]));
        assert_eq!(
            looked.err().map(|error| error.to_string()).as_deref(),
            message
        );
    }
}

#[test]
fn many_rows_are_counted_and_only_the_first_named() {
    let safety = safety(vec![rule(Check::Range, Action::Flag, bounds(0.0, 1.0))]);
    let found = safety
        .check_inputs(&signature(), &inputs(40, &[9.0; 80]))
        .unwrap();
    assert_eq!(
        found.reasons_by_row().unwrap(),
        "range=0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,+24"
    );
}

fn statistics(json: &str) -> Statistics {
    let provenance = r#""format":"aegis-safety-1","provenance":{"program":"p","data":[],
        "fitted_rows":3,"calibrated_rows":1,"false_positive_rate":0.01}"#;
    Statistics::from_json(format!("{{{provenance},{json}}}").as_bytes()).unwrap()
}

#[test]
fn statistics_of_a_version_arm_the_checks_that_need_them() {
    let distance = || Test::Distance(Distance::default());
    let safety = Safety {
        outputs: vec![rule(Check::OodOutput, Action::Flag, Test::Energy(None))],
        ..safety(vec![rule(Check::OodInput, Action::Block, distance())])
    };
    assert!(safety.needs_statistics());
    let known = r#""inputs":{"x":{"method":"mahalanobis","limit":2.0,"shrinkage":0.1,
        "mean":[0,0],"cholesky":[1,0,1]}},"outputs":{"y":{"method":"energy","limit":-1.5}}"#;
    let armed = safety.armed(&signature(), &statistics(known)).unwrap();
    assert!(!armed.needs_statistics());
    let far = armed
        .check_inputs(&signature(), &inputs(2, &[0.0, 0.0, 3.0, 0.0]))
        .unwrap_err();
    assert_eq!(
        far.to_string(),
        "input `x`: expected a distance of at most 2.0000 from what the model knows, got 3.0000 in row 1"
    );
    let logits = [Tensor::from_f32([1, 2], &[0.1, 0.1]).unwrap()];
    let found = armed.check_outputs(&signature(), &logits, 1).unwrap();
    assert_eq!(found.reasons().unwrap(), "ood_output");
}

#[test]
fn statistics_that_do_not_fit_the_model_are_refused() {
    let safety = safety(vec![rule(
        Check::OodInput,
        Action::Block,
        Test::Distance(Distance::default()),
    )]);
    let fitted = |limit: &str, mean: &str, cholesky: &str| {
        format!(
            r#""inputs":{{"x":{{"method":"mahalanobis","limit":{limit},"shrinkage":0,"mean":{mean},
            "cholesky":{cholesky}}}}}"#
        )
    };
    for (json, message) in [
        (
            r#""outputs":{}"#.to_owned(),
            "holds no mahalanobis of input `x`",
        ),
        (
            fitted("1", "[0]", "[1]"),
            "expected rows of 2 numbers, got 1",
        ),
        (
            fitted("1", "[0,0]", "[1,0,-1]"),
            "positive definite covariance, got -1",
        ),
        (fitted("1", "[0,0]", "[1,0]"), "a triangle of 3 numbers"),
        (
            r#""inputs":{"x":{"method":"energy","limit":1}}"#.to_owned(),
            "holds no mahalanobis",
        ),
    ] {
        let error = safety.armed(&signature(), &statistics(&json)).unwrap_err();
        let error = crate::chain::Chain(&error).to_string();
        assert!(error.contains(message), "{error}");
    }
    let other = r#"{"format":"x","provenance":{"program":"p","data":[],"fitted_rows":3,
        "calibrated_rows":1,"false_positive_rate":0.01}}"#;
    let error = Statistics::from_json(other.as_bytes()).unwrap_err();
    assert!(error.to_string().contains("expected format"), "{error}");
    assert!(Statistics::from_json(br#"{"format":"aegis-safety-1","x":1}"#).is_err());
}

#[test]
fn a_plain_argument_is_of_every_row() {
    let safety = safety(vec![rule(Check::Range, Action::Flag, bounds(0.0, 1.0))]);
    let asked = Inputs {
        tensors: vec![Tensor::from_f32([1], &[9.0]).unwrap()],
        rows: 3,
        ..inputs(3, &[0.0; 6])
    };
    let findings = safety.check_inputs(&signature(), &asked).unwrap();
    assert_eq!(findings.reasons_by_row().unwrap(), "range=0,1,2");
}

#[test]
fn nothing_is_found_in_what_a_request_leaves_out() {
    let safety = safety(vec![
        rule(Check::NanInfInput, Action::Block, Test::Finite),
        rule(Check::Range, Action::Block, bounds(1.0, 2.0)),
    ]);
    let left_out = Inputs {
        tensors: vec![Tensor::from_f32([0], &[]).unwrap()],
        plain: vec![0],
        rows: 3,
    };
    let findings = safety.check_inputs(&signature(), &left_out).unwrap();
    assert_eq!(findings.iter().count(), 0);
}
