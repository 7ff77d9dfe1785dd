use std::io::Write;
use std::path::PathBuf;

use aegis_protocol::Datatype;

use super::*;

fn metadata(inputs: &[(&str, Datatype, &[i64])]) -> ModelMetadata {
    let inputs = inputs.iter().map(|(name, datatype, shape)| TensorMetadata {
        name: (*name).to_owned(),
        datatype: *datatype,
        shape: shape.to_vec(),
    });
    ModelMetadata {
        name: "m".to_owned(),
        versions: vec![],
        platform: "p".to_owned(),
        inputs: inputs.collect(),
        outputs: vec![],
    }
}

fn digits() -> ModelMetadata {
    metadata(&[("image", Datatype::Fp32, &[-1, 3])])
}

/// Reads a file of that name with this content.
fn read(name: &str, content: &[u8], asked: Asked<'_>) -> Result<Vec<Question>, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, content).unwrap();
    let shown = format!("{}/", folder.path().display());
    match Questions::read(&path, asked) {
        Ok(Questions::Made(made)) => Ok(made.to_vec()),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.to_string().replace(&shown, "")),
    }
}

fn of(metadata: &ModelMetadata) -> Asked<'_> {
    Asked {
        metadata: Some(metadata),
        ..Asked::default()
    }
}

/// An array as `NumPy` writes it.
fn npy(descr: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let head = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend_from_slice(&u16::try_from(head.len()).unwrap().to_le_bytes());
    file.extend_from_slice(head.as_bytes());
    file.extend_from_slice(data);
    file
}

#[test]
fn a_table_takes_the_datatype_and_the_shape_of_the_signature() {
    let model = metadata(&[("pixels", Datatype::Int64, &[-1, 1, 2, 2])]);
    let questions = read("t.csv", b"1,2,3,4,9\n5,6,7,8,0\n", of(&model)).unwrap();
    let pixels = &questions[1].inputs[0];
    assert_eq!(pixels.name, "pixels");
    assert_eq!(pixels.tensor.as_i64().unwrap(), [5, 6, 7, 8]);
    assert_eq!(*pixels.tensor.shape(), [1, 1, 2, 2].into());
    assert_eq!(questions[1].label, Some(0));
    // A free axis takes what there is, but the rows do not.
    let text = metadata(&[("tokens", Datatype::Int64, &[-1, -1])]);
    let questions = read("t.csv", b"1,2,3,9\n", of(&text)).unwrap();
    assert_eq!(*questions[0].inputs[0].tensor.shape(), [1, 3].into());
    // With nothing known of the model, it is what the bundled one takes.
    let nothing = Asked::default();
    let questions = read("t.csv", b"1,2,9\n", nothing).unwrap();
    assert_eq!(questions[0].inputs[0].tensor.datatype(), Datatype::Fp32);
}

#[test]
fn what_does_not_fit_the_signature_is_refused_with_what_was_expected() {
    let model = digits();
    let error = |content: &[u8], asked: Asked<'_>| read("t.csv", content, asked).unwrap_err();
    assert_eq!(
        error(b"1,2,9\n", of(&model)),
        "t.csv: line 1: input `image`: expected FP32 [-1,3], got 2 numbers"
    );
    let named = Asked {
        input: Some("picture"),
        ..of(&model)
    };
    assert_eq!(
        error(b"1,2,3,9\n", named),
        "t.csv: input `picture`: the model has image"
    );
    let whole = metadata(&[("x", Datatype::Uint8, &[-1, 2])]);
    assert_eq!(
        error(b"1,2,9\n1,300,9\n", of(&whole)),
        "t.csv: line 2: input `x`: expected UINT8 [-1,2], got the number 300"
    );
    let two = metadata(&[
        ("a", Datatype::Fp32, &[-1, 2]),
        ("b", Datatype::Fp32, &[-1]),
    ]);
    let named = Asked {
        input: Some("a"),
        ..of(&two)
    };
    assert_eq!(
        error(b"1,2,9\n", named),
        "t.csv: input `b`: expected FP32 [-1], got none"
    );
}

#[test]
fn requests_are_read_as_they_stand_and_may_have_labels() {
    let model = digits();
    let request = r#"{"inputs":[{"name":"image","datatype":"FP32","shape":[1,3],"data":[1,2,3]}],
        "parameters":{"priority":2}}"#
        .replace('\n', "");
    let text = format!("{request}\n\n{{\"label\": 7, \"request\": {request}}}\n");
    let questions = read("t.jsonl", text.as_bytes(), of(&model)).unwrap();
    assert_eq!((questions[0].label, questions[1].label), (None, Some(7)));
    assert_eq!(questions[0].inputs, questions[1].inputs);
    assert_eq!(questions[1].parameters["priority"].as_i64(), Some(2));
    // What it is called and which outputs it asks for go with it.
    let whole = request.replacen('{', "{\"id\":\"a\",\"outputs\":[{\"name\":\"y\"}],", 1);
    let named = read("t.jsonl", whole.as_bytes(), of(&model)).unwrap();
    let sent = named[0].request();
    assert_eq!(sent, InferRequest::from_json(whole.as_bytes()).unwrap());
    assert_eq!((sent.id.as_deref(), sent.outputs.len()), (Some("a"), 1));
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(text.as_bytes()).unwrap();
    let again = read("t.jsonl.gz", &gzip.finish().unwrap(), of(&model)).unwrap();
    assert_eq!(again, questions);
    let error = |text: &str| read("t.jsonl", text.as_bytes(), of(&model)).unwrap_err();
    assert!(error("\n{\"inputs\": 3}").starts_with("t.jsonl:2: inputs: expected"));
    assert!(error("x").starts_with("t.jsonl:1: expected a request, or {\"request\""));
    assert!(error("").ends_with("expected 1 to 1000000 requests, got 0"));
    let other = request.replace("FP32", "FP64");
    assert_eq!(
        error(&other),
        "t.jsonl:1: input `image`: expected FP32 [-1,3], got FP64 [1,3]"
    );
    let other = request.replace("\"image\"", "\"picture\"");
    assert_eq!(
        error(&other),
        "t.jsonl:1: input `picture`: the model has image"
    );
    // Tensors may be optional, which no signature says.
    let two = metadata(&[
        ("image", Datatype::Fp32, &[-1, 3]),
        ("mask", Datatype::Bool, &[-1, 3]),
    ]);
    let some = read("t.jsonl", request.as_bytes(), of(&two)).unwrap();
    assert_eq!(some[0].inputs.len(), 1);
    let other = "{\"inputs\": []}";
    assert_eq!(
        error(other),
        "t.jsonl:1: input `image`: expected FP32 [-1,3], got none"
    );
}

#[test]
fn each_row_of_an_array_is_a_request() {
    let model = digits();
    let numbers: Vec<u8> = (0..6_u8).flat_map(|n| f32::from(n).to_le_bytes()).collect();
    let questions = read("t.npy", &npy("<f4", "2, 3", &numbers), of(&model)).unwrap();
    let rows = questions
        .iter()
        .map(|question| question.inputs[0].tensor.as_f32().unwrap());
    assert_eq!(rows.collect::<Vec<_>>(), [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]);
    // A model without an axis for rows is asked for one of them all the same.
    for (shape, got) in [(&[3][..], vec![3]), (&[-1], vec![3]), (&[1, 3], vec![1, 3])] {
        let model = metadata(&[("image", Datatype::Fp32, shape)]);
        let questions = read("t.npy", &npy("<f4", "2, 3", &numbers), of(&model)).unwrap();
        assert_eq!(questions.len(), 2, "{shape:?}");
        assert_eq!(*questions[1].inputs[0].tensor.shape(), got.into());
    }
    let error = |file: &[u8]| read("t.npy", file, of(&model)).unwrap_err();
    assert_eq!(
        error(b"x"),
        "t.npy: expected a NumPy array (.npy, format 1 to 3)"
    );
    assert_eq!(
        error(&npy("<f4", "3, 2", &numbers)),
        "t.npy: row 1: input `image`: expected FP32 [-1,3], got FP32 [1,2]"
    );
    assert_eq!(
        error(&npy("<f4", "2, 4", &numbers)),
        "t.npy: 24 bytes of data do not fit the shape"
    );
    assert!(error(&npy(">f4", "2, 3", &numbers)).ends_with("got dtype `>f4`"));
    assert_eq!(
        error(&npy("<f4", "", &numbers)),
        "t.npy: expected an array of rows, got a scalar"
    );
    let mut columns = npy("<f4", "2, 3", &numbers);
    let at = columns
        .windows(5)
        .position(|part| part == b"False")
        .unwrap();
    columns.splice(at..at + 5, *b"True ");
    assert!(error(&columns).contains("numpy.ascontiguousarray"));
    let two = metadata(&[("a", Datatype::Fp32, &[-1]), ("b", Datatype::Fp32, &[-1])]);
    let error = read("t.npy", &npy("<f4", "2, 3", &numbers), of(&two)).unwrap_err();
    assert!(
        error.contains("one array, and the model has a, b: expected --input"),
        "{error}"
    );
}

#[test]
fn a_file_of_another_kind_says_which_there_are() {
    let error = read("t.parquet", b"", of(&digits())).unwrap_err();
    assert!(
        error.contains(
            "expected a folder of PNGs, or a name that ends in .csv, .jsonl, .npy or .png"
        ),
        "{error}"
    );
}

#[test]
fn any_model_can_be_drawn_for() {
    let model = metadata(&[
        ("image", Datatype::Fp32, &[-1, 3, -1]),
        ("tokens", Datatype::Int64, &[-1]),
        ("half", Datatype::Fp16, &[2]),
        ("flags", Datatype::Bool, &[]),
        ("text", Datatype::Bytes, &[-1, 1]),
    ]);
    let draw = Draw {
        rows: 2,
        free_axis: 5,
        from: -1.5,
        to: 3.0,
        seed: 7,
    };
    let made = |draw: Draw| match draw.questions(&model).unwrap() {
        Questions::Made(made) => made,
        Questions::Table(_) => unreachable!("nothing is read"),
    };
    let questions = made(draw);
    assert_eq!(questions, made(draw), "the same seed draws the same");
    let other = Draw { seed: 8, ..draw };
    assert_ne!(questions, made(other));
    let mut drawn = std::collections::BTreeSet::new();
    for question in questions.iter() {
        fit::fit(&question.inputs, &model.inputs).unwrap();
        let tensor = |at: usize| &question.inputs[at].tensor;
        assert_eq!(*tensor(0).shape(), [2, 3, 5].into());
        assert!(
            tensor(0)
                .as_f32()
                .unwrap()
                .iter()
                .all(|n| (-1.5..=3.0).contains(n))
        );
        drawn.extend(tensor(1).as_i64().unwrap());
        assert_eq!(tensor(4).strings().unwrap().count(), 2);
    }
    assert_eq!(drawn, [-1, 0, 1, 2, 3].into());
    let unsigned = metadata(&[("x", Datatype::Uint8, &[-1])]);
    let error = draw.questions(&unsigned).unwrap_err().to_string();
    assert!(
        error.contains(
            "input `x`: expected UINT8 [-1], so whole numbers from 0 to 255 to draw from, got -1.5 to 3"
        ),
        "{error}"
    );
    // What lies between has to be a number that the datatype holds.
    for (datatype, from, to, is_drawn) in [
        (Datatype::Int8, -128.0, 127.0, true),
        (Datatype::Int8, -129.0, 0.0, false),
        (Datatype::Int64, 0.2, 0.8, false),
        (Datatype::Int64, 0.0, 1e16, false),
        (Datatype::Fp32, 0.0, 1e38, true),
        (Datatype::Fp32, 0.0, 1e39, false),
        (Datatype::Fp16, 0.0, 65_504.0, true),
        (Datatype::Fp16, 0.0, 65_505.0, false),
        (Datatype::Fp64, 0.0, 1e300, true),
    ] {
        let model = metadata(&[("x", datatype, &[-1, 50])]);
        let drawn = Draw { from, to, ..draw }.questions(&model);
        assert_eq!(drawn.is_ok(), is_drawn, "{datatype} from {from} to {to}");
        if let Ok(Questions::Made(made)) = drawn {
            let tensors = made.iter().map(|question| &question.inputs[0].tensor);
            let mut tensors = tensors.filter(|tensor| tensor.datatype() == Datatype::Fp32);
            assert!(tensors.all(|tensor| tensor.as_f32().unwrap().iter().all(|n| n.is_finite())));
        }
    }
    let huge = metadata(&[("x", Datatype::Fp32, &[1 << 40])]);
    let error = draw.questions(&huge).unwrap_err().to_string();
    assert!(error.contains("over the 16777216 elements"), "{error}");
}

#[test]
fn a_path_is_named_in_every_error() {
    let path = PathBuf::from("no/such.jsonl");
    let error = Questions::read(&path, of(&digits()))
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("no/such.jsonl: "), "{error}");
}
