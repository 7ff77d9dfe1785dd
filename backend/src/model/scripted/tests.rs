use super::*;

fn spec(shape: &[Axis], datatype: Datatype) -> TensorSpec {
    TensorSpec::new("t", datatype, shape.to_vec())
}

/// `FP32 [-1, 2]` to one output of these axes.
fn signature(output: &[Axis]) -> Signature {
    Signature {
        batched: true,
        inputs: vec![spec(&[Axis::Free, Axis::Fixed(2)], Datatype::Fp32)],
        outputs: vec![spec(output, Datatype::Fp32)],
    }
}

fn model(script: Script) -> Scripted {
    let output = match script.answer {
        Answer::Sum => vec![Axis::Free],
        Answer::Identity | Answer::Zeros => vec![Axis::Free, Axis::Fixed(2)],
    };
    Scripted::new(script, signature(&output)).unwrap()
}

fn batch() -> Vec<Tensor> {
    vec![Tensor::from_f32([2, 2], &[1.0, 2.0, 3.0, 4.0]).unwrap()]
}

fn values(outputs: &[Tensor]) -> Vec<f32> {
    outputs[0].as_f32().unwrap()
}

fn every(n: u64) -> Option<Every> {
    Every::new(n)
}

#[test]
fn it_answers_what_it_is_told() {
    let run = |answer| {
        model(Script {
            answer,
            ..Script::default()
        })
        .run(&batch())
        .unwrap()
    };
    assert_eq!(values(&run(Answer::Zeros)), [0.0; 4]);
    assert_eq!(values(&run(Answer::Identity)), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(values(&run(Answer::Sum)), [3.0, 7.0]);
    assert_eq!(**run(Answer::Sum)[0].shape(), [2]);
}

#[test]
fn sums_may_have_an_axis_of_one() {
    let script = Script {
        answer: Answer::Sum,
        ..Script::default()
    };
    let mut model = Scripted::new(script, signature(&[Axis::Free, Axis::Fixed(1)])).unwrap();
    assert_eq!(**model.run(&batch()).unwrap()[0].shape(), [2, 1]);
}

#[test]
fn every_nth_run_fails_and_warm_up_does_not_count() {
    let mut model = model(Script {
        fail_every: every(3),
        ..Script::default()
    });
    for _ in 0..5 {
        assert!(model.warm_up(&batch()).is_ok());
    }
    let failed: Vec<_> = (0..6).map(|_| model.run(&batch()).is_err()).collect();
    assert_eq!(failed, [false, false, true, false, false, true]);
}

#[test]
fn a_value_fails_the_batch_that_holds_it() {
    let mut model = model(Script {
        fail_on: Some(4.0),
        ..Script::default()
    });
    let error = model.run(&batch()).unwrap_err();
    assert_eq!(error.to_string(), "scripted to fail on the value 4");
    let other = Tensor::from_f32([1, 2], &[5.0, 6.0]).unwrap();
    assert!(model.run(&[other]).is_ok());
}

#[test]
fn nan_spoils_the_rows_that_hold_a_value_or_every_row_of_every_nth_run() {
    let identity = Script {
        answer: Answer::Identity,
        ..Script::default()
    };
    let outputs = model(Script {
        nan_on: Some(3.0),
        ..identity.clone()
    })
    .run(&batch())
    .unwrap();
    let spoilt: Vec<_> = values(&outputs)
        .iter()
        .map(|value| value.is_nan())
        .collect();
    assert_eq!(spoilt, [false, false, true, true]);
    let mut model = model(Script {
        nan_every: every(2),
        ..identity
    });
    assert!(
        values(&model.run(&batch()).unwrap())
            .iter()
            .all(|value| value.is_finite())
    );
    assert!(
        values(&model.run(&batch()).unwrap())
            .iter()
            .all(|value| value.is_nan())
    );
}

#[test]
fn every_floating_point_datatype_has_a_nan() {
    for datatype in [
        Datatype::Fp16,
        Datatype::Bf16,
        Datatype::Fp32,
        Datatype::Fp64,
    ] {
        let size = datatype.size().unwrap();
        let zeros = Tensor::new(datatype, [2, 1], vec![0; 2 * size]).unwrap();
        let (index, value) = spoilt(zeros, &[1]).first_non_finite().unwrap();
        assert!(index == 1 && value.is_nan(), "{datatype}");
    }
    let whole = Tensor::from_i64([1], &[7]).unwrap();
    assert_eq!(spoilt(whole.clone(), &[0]), whole);
}

#[test]
fn work_is_a_time_for_the_batch_and_one_for_each_row() {
    let (batch, row) = (Duration::from_millis(5), Duration::from_millis(2));
    let model = model(Script {
        batch,
        row,
        ..Script::default()
    });
    assert_eq!(model.work(3), Duration::from_millis(11));
    let start = clock::now();
    let mut model = model;
    model.run(&self::batch()).unwrap();
    assert!(clock::now() - start >= Duration::from_millis(9));
}

#[test]
fn it_comes_up_whatever_it_is_told_to_do_later() {
    let script = Script {
        fail_every: every(1),
        nan_every: every(1),
        hang_every: every(1),
        batch: Duration::from_hours(1),
        ..Script::default()
    };
    assert!(model(script).warm_up(&batch()).is_ok());
}
