use std::path::Path;

use super::*;

fn encoded(
    colour: ColorType,
    depth: BitDepth,
    (width, height): (u32, u32),
    data: &[u8],
) -> Vec<u8> {
    let mut file = Vec::new();
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(colour);
    encoder.set_depth(depth);
    let mut writer = encoder.write_header().unwrap();
    writer.write_image_data(data).unwrap();
    writer.finish().unwrap();
    file
}

/// Two pixels beside each other.
fn grey() -> Vec<u8> {
    encoded(ColorType::Grayscale, BitDepth::Eight, (2, 1), &[0, 255])
}

fn rgb() -> Vec<u8> {
    let data = [255, 0, 0, 0, 255, 255];
    encoded(ColorType::Rgb, BitDepth::Eight, (2, 1), &data)
}

fn input_of(datatype: Datatype, shape: &[i64]) -> TensorMetadata {
    TensorMetadata {
        name: "x".to_owned(),
        datatype,
        shape: shape.to_vec(),
    }
}

fn tensor(file: &[u8], shape: &[i64]) -> Result<(Vec<usize>, Vec<f32>), String> {
    let picture = Picture::decode(file)?;
    let tensor = picture.tensor(&input_of(Datatype::Fp32, shape), None);
    let tensor = tensor.map_err(|misfit| misfit.to_string())?;
    Ok((tensor.shape().to_vec(), tensor.as_f32().unwrap()))
}

#[test]
fn a_picture_takes_the_layout_of_the_signature() {
    let planes = vec![1.0, 0.0, 0.0, 1.0, 0.0, 1.0];
    let pixels = vec![1.0, 0.0, 0.0, 0.0, 1.0, 1.0];
    for (shape, got, values) in [
        (&[-1, 3, 1, 2][..], vec![1, 3, 1, 2], &planes),
        (&[-1, -1, -1, -1], vec![1, 3, 1, 2], &planes),
        (&[1, 1, 2, 3], vec![1, 1, 2, 3], &pixels),
        (&[3, 1, 2], vec![3, 1, 2], &planes),
        (&[1, 2, 3], vec![1, 2, 3], &pixels),
    ] {
        assert_eq!(
            tensor(&rgb(), shape),
            Ok((got, values.clone())),
            "{shape:?}"
        );
    }
    for (shape, got) in [
        (&[-1, 2][..], vec![1, 2]),
        (&[-1, 1, 2], vec![1, 1, 2]),
        (&[-1, 1, 1, 2], vec![1, 1, 1, 2]),
        (&[1, 2], vec![1, 2]),
        (&[2], vec![2]),
    ] {
        assert_eq!(
            tensor(&grey(), shape),
            Ok((got, vec![0.0, 1.0])),
            "{shape:?}"
        );
    }
}

#[test]
fn grey_is_repeated_and_rgb_becomes_its_luma_where_the_model_wants_it() {
    let (_, repeated) = tensor(&grey(), &[-1, 3, 1, 2]).unwrap();
    assert_eq!(repeated, [0.0, 1.0, 0.0, 1.0, 0.0, 1.0]);
    let (_, luma) = tensor(&rgb(), &[-1, 2]).unwrap();
    assert_eq!(luma, [0.299, 0.701]);
}

#[test]
fn samples_of_every_depth_go_from_black_to_white() {
    let deep = encoded(
        ColorType::Grayscale,
        BitDepth::Sixteen,
        (2, 1),
        &[0, 0, 255, 255],
    );
    assert_eq!(tensor(&deep, &[-1, 2]).unwrap().1, [0.0, 1.0]);
    let flat = encoded(ColorType::Grayscale, BitDepth::One, (2, 1), &[0b0100_0000]);
    assert_eq!(tensor(&flat, &[-1, 2]).unwrap().1, [0.0, 1.0]);
    let clear = encoded(
        ColorType::GrayscaleAlpha,
        BitDepth::Eight,
        (2, 1),
        &[0, 255, 255, 255],
    );
    assert_eq!(tensor(&clear, &[-1, 2]).unwrap().1, [0.0, 1.0]);

    let picture = Picture::decode(&grey()).unwrap();
    let whole = input_of(Datatype::Uint8, &[-1, 2]);
    let of = |pixels| picture.tensor(&whole, pixels).unwrap().data().to_vec();
    assert_eq!(of(None), [0, 255]);
    assert_eq!(of(Some((16.0, 0.0))), [16, 0], "as ink on paper");
    let real = input_of(Datatype::Fp32, &[-1, 2]);
    let scaled = picture.tensor(&real, Some((-1.0, 16.0))).unwrap();
    assert_eq!(scaled.as_f32().unwrap(), [-1.0, 16.0]);
}

#[test]
fn what_is_no_picture_for_the_model_is_refused_with_what_was_expected() {
    assert_eq!(
        tensor(&rgb(), &[-1, 3, 224, 224]).unwrap_err(),
        "input `x`: expected FP32 [-1,3,224,224], got a picture of 2 x 1 RGB pixels"
    );
    assert!(
        tensor(b"GIF89a", &[-1, 2])
            .unwrap_err()
            .starts_with("expected a PNG: ")
    );
    let mut cut = rgb();
    cut.truncate(cut.len() - 30);
    assert!(
        tensor(&cut, &[-1, 3, 1, 2])
            .unwrap_err()
            .starts_with("expected a PNG: ")
    );
    let clear = encoded(
        ColorType::GrayscaleAlpha,
        BitDepth::Eight,
        (1, 1),
        &[9, 254],
    );
    let error = tensor(&clear, &[-1, 1]).unwrap_err();
    assert_eq!(
        error,
        "expected opaque pixels: save it without transparency"
    );
    // A head that promises more than anybody has.
    let mut huge = grey();
    huge[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
    assert!(Picture::decode(&huge).is_err());
}

#[test]
fn folders_named_by_numbers_are_labels() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    for (name, bytes) in [
        ("7/b.png", rgb()),
        ("7/a.PNG", grey()),
        ("12/x.png", grey()),
    ] {
        std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
        std::fs::write(at(name), bytes).unwrap();
    }
    std::fs::write(at("README.md"), "of ours").unwrap();
    std::fs::write(at("z.png"), grey()).unwrap();
    let metadata = aegis_protocol::ModelMetadata {
        name: "m".to_owned(),
        versions: vec![],
        platform: "p".to_owned(),
        inputs: vec![input_of(Datatype::Fp32, &[-1, 2])],
        outputs: vec![],
    };
    let asked = Asked {
        metadata: Some(&metadata),
        ..Asked::default()
    };
    let labels = |path: &Path| {
        let questions = super::super::Questions::read(path, asked);
        questions.map(|questions| {
            let all = (0..questions.count()).map(|at| questions.get(at, "").unwrap().unwrap());
            all.map(|question| question.label).collect::<Vec<_>>()
        })
    };
    let all = labels(folder.path()).unwrap();
    assert_eq!(all, [Some(12), Some(7), Some(7), None]);
    assert_eq!(labels(&at("7/b.png")).unwrap(), [None]);
    std::fs::write(at("7/c.png"), "no picture").unwrap();
    let error = labels(folder.path()).unwrap_err().to_string();
    assert!(error.contains("7/c.png: expected a PNG: "), "{error}");
    std::fs::create_dir(at("cat")).unwrap();
    let error = labels(folder.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("expected folders named by labels, as 7, got `cat`"),
        "{error}"
    );
    let empty = tempfile::tempdir().unwrap();
    let error = labels(empty.path()).unwrap_err().to_string();
    assert!(
        error.ends_with("expected 1 to 1000000 requests, got 0"),
        "{error}"
    );
    let unknown = super::super::Questions::read(&at("z.png"), Asked::default());
    let error = unknown.unwrap_err().to_string();
    assert!(error.contains("expected the model's signature"), "{error}");
}
