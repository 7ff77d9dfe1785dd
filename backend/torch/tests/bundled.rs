//! The bundled models run, in any batch, and know their digits.

use std::path::PathBuf;

use aegis_protocol::{Datatype, Tensor};
use aegis_torch::{Device, Module};

/// Kernels differ by batch size, so the last bits may.
const RTOL: f32 = 1e-5;

fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn load(version: u32) -> Module {
    let file = workspace().join(format!("config/models/digits/{version}/model.pt"));
    Module::load(&file, Device::Cpu).expect("the bundled model loads")
}

/// The held-out images, each as a tensor `[1, 64]`, and their digits.
fn held_out() -> Vec<(Tensor, i64)> {
    let file = workspace().join("loadtest/data/digits/test.csv");
    let csv = std::fs::read_to_string(file).expect("the data set is there");
    csv.lines().map(image_and_digit).collect()
}

fn image_and_digit(line: &str) -> (Tensor, i64) {
    let (pixels, digit) = line.rsplit_once(',').expect("more than one column");
    let pixels: Vec<f32> = pixels
        .split(',')
        .map(|pixel| pixel.parse().expect("a number"))
        .collect();
    let image = Tensor::from_f32([1, 64], &pixels).expect("64 pixels");
    (image, digit.parse().expect("a digit"))
}

/// The images in one tensor `[images, 64]`.
fn batch(images: &[(Tensor, i64)]) -> Tensor {
    let rows: Vec<_> = images.iter().map(|(image, _)| image).collect();
    if rows.is_empty() {
        return Tensor::from_f32([0, 64], &[]).expect("no pixels for no images");
    }
    Tensor::concat(&rows).expect("images are of one shape")
}

#[test]
fn both_versions_know_the_digits_that_they_never_saw() {
    let images = held_out();
    assert!(images.len() > 300);
    for (version, floor) in [(1, 0.95), (2, 0.97)] {
        let outputs = load(version).run(&[batch(&images)]).unwrap();
        let labels = outputs[0].as_i64().unwrap();
        let right = labels
            .iter()
            .zip(&images)
            .filter(|(label, (_, digit))| *label == digit);
        let share = f64::from(u32::try_from(right.count()).unwrap())
            / f64::from(u32::try_from(images.len()).unwrap());
        assert!(share >= floor, "version {version}: {share}");
    }
}

#[test]
fn outputs_have_the_declared_datatypes_and_shapes() {
    let images = held_out();
    for version in [1, 2] {
        let module = load(version);
        for rows in [0, 1, 3, 8, 100] {
            let outputs = module.run(&[batch(&images[..rows])]).unwrap();
            let told: Vec<_> = outputs
                .iter()
                .map(|t| (t.datatype(), t.shape().to_vec()))
                .collect();
            let label = (Datatype::Int64, vec![rows]);
            let probabilities = (Datatype::Fp32, vec![rows, 10]);
            assert_eq!(told, [label, probabilities]);
        }
    }
}

#[test]
fn a_batch_answers_as_its_rows_alone_do() {
    let images = held_out();
    for version in [1, 2] {
        let module = load(version);
        let alone: Vec<_> = (images.iter())
            .map(|(image, _)| module.run(std::slice::from_ref(image)).unwrap())
            .collect();
        for rows in [2, 3, 8, 32] {
            for (chunk, alone) in images.chunks(rows).zip(alone.chunks(rows)) {
                let together = module.run(&[batch(chunk)]).unwrap();
                let labels: Vec<_> = alone.iter().flat_map(|o| o[0].as_i64().unwrap()).collect();
                assert_eq!(together[0].as_i64().unwrap(), labels);
                let expected: Vec<_> = alone.iter().flat_map(|o| o[1].as_f32().unwrap()).collect();
                assert_close(&together[1].as_f32().unwrap(), &expected);
            }
        }
    }
}

fn assert_close(got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        let bound = RTOL * expected.abs() + 1e-8;
        assert!(
            (got - expected).abs() <= bound,
            "{got} differs from {expected}"
        );
    }
}

#[test]
fn images_of_another_size_are_the_models_error() {
    let image = Tensor::from_f32([1, 63], &[0.0; 63]).unwrap();
    for version in [1, 2] {
        let error = load(version)
            .run(std::slice::from_ref(&image))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("the model failed: RuntimeError: "),
            "{error}"
        );
    }
}
