//! The bundled model through HTTP against libtorch called directly.

use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aegis_backend::repository::ModelSpec;
use aegis_protocol::{InferRequest, InferResponse, NamedTensor, Tensor};
use aegis_torch::{Device, Module};
use futures::future::join_all;

use crate::support::{Backend, Client, infer};

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/models")
}

async fn backend() -> Backend {
    let keys = format!("model_repository = {:?}", models().to_str().unwrap());
    let tables = "[models.digits]\nversions = [\"1\", \"2\"]";
    Backend::in_place(&keys, tables).await.when_ready().await
}

/// Images whose pixels differ from one to the next; what they show does not matter here.
fn images(first: usize, rows: usize) -> Vec<f32> {
    let pixel = |at: usize| {
        let value = (at * 7919 + at / 64 * 31) % 17;
        f32::from(u8::try_from(value).unwrap())
    };
    (first * 64..(first + rows) * 64).map(pixel).collect()
}

fn body(images: &Tensor) -> Vec<u8> {
    let inputs = vec![NamedTensor::new("image", images.clone())];
    InferRequest {
        inputs,
        ..InferRequest::default()
    }
    .to_json()
    .unwrap()
}

fn assert_close(got: &[f32], expected: &[f32]) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        let bound = 1e-5 * expected.abs() + 1e-7;
        assert!((got - expected).abs() <= bound, "{got} is not {expected}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_from_mixed_batches_equal_libtorch_called_directly() {
    let backend = backend().await;
    for version in ["1", "2"] {
        let file = models().join("digits").join(version).join("model.pt");
        let direct = Arc::new(Module::load(&file, Device::Cpu).unwrap());
        let clients =
            (0..8).map(|client| ask(backend.address, version, Arc::clone(&direct), client));
        join_all(clients).await;
        let labels = format!("{{model=\"digits\",model_version=\"{version}\"}}");
        let batches = backend
            .metric(&format!("aegis_inference_batch_size_count{labels}"))
            .await;
        let rows = backend
            .metric(&format!("aegis_inference_batch_size_sum{labels}"))
            .await;
        assert!(
            rows > batches,
            "clients never met in a batch: {rows} rows, {batches} batches"
        );
    }
}

async fn ask(address: std::net::SocketAddr, version: &str, direct: Arc<Module>, client: usize) {
    let mut connection = Client::connect(address).await;
    for round in 0..20 {
        let rows = 1 + (client + round) % 4;
        let images = Tensor::from_f32([rows, 64], &images(client * 100 + round, rows)).unwrap();
        let expected = direct.run(std::slice::from_ref(&images)).unwrap();
        let request = infer(&format!("digits/versions/{version}"), body(&images));
        let reply = connection.send(request).await;
        let response = InferResponse::from_json(&reply.body).unwrap();
        let label = response.output("label").unwrap();
        assert_eq!(label.as_i64().unwrap(), expected[0].as_i64().unwrap());
        let probabilities = response.output("probabilities").unwrap();
        assert_eq!(probabilities.shape(), expected[1].shape());
        assert_close(
            &probabilities.as_f32().unwrap(),
            &expected[1].as_f32().unwrap(),
        );
    }
}

#[tokio::test]
async fn a_corrupt_file_and_a_wrong_signature_are_not_loaded_and_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let digits = models().join("digits");
    let description = std::fs::read_to_string(digits.join("model.toml")).unwrap();
    // Without its safety checks, whose statistics would not fit first.
    let (description, _) = description.split_once("[safety]").unwrap();
    let description = description.to_owned();
    let wrong_input = description.replace("[-1, 64]", "[-1, 63]");
    let wrong_output = description.replace("[-1, 10]", "[-1, 11]");
    let cases = [
        ("corrupt", &description, "not a loadable TorchScript module"),
        ("input", &wrong_input, "cannot run a batch of 8 zeroed rows"),
        (
            "output",
            &wrong_output,
            "`probabilities`.shape: expected [-1,11], got [8,10]",
        ),
    ];
    let mut tables = String::new();
    for (name, description, _) in &cases {
        let version = folder.path().join(name).join("1");
        std::fs::create_dir_all(&version).unwrap();
        std::fs::write(folder.path().join(name).join("model.toml"), description).unwrap();
        let mut file = std::fs::read(digits.join("1/model.pt")).unwrap();
        if *name == "corrupt" {
            file.truncate(file.len() / 2);
        }
        std::fs::write(version.join("model.pt"), file).unwrap();
        writeln!(tables, "[models.{name}]\nversions = [\"1\"]").unwrap();
    }
    let keys = format!("model_repository = {:?}", folder.path().to_str().unwrap());
    let backend = Backend::in_place(&keys, &tables).await;
    for (name, _, reason) in cases {
        let path = format!("/v2/models/{name}/ready");
        crate::support::until(|| async { !backend.get(&path).await.text().contains("loading") })
            .await;
        let reply = backend.get(&path).await;
        assert_eq!(reply.status, 503);
        assert!(reply.error().contains(reason), "{name}: {}", reply.error());
        assert!(reply.error().len() < 600, "{}", reply.error());
    }
}

#[test]
fn a_draft_of_the_bundled_models_says_what_their_description_says() {
    for version in ["1", "2"] {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_aegis-backend"))
            .arg("inspect")
            .arg(models().join("digits").join(version).join("model.pt"))
            .args(["--input", "argument_1=FP32[-1,64]"])
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let draft = String::from_utf8(output.stdout).unwrap();
        let draft = ModelSpec::parse("the draft", &draft).unwrap();
        let said = ModelSpec::read(&models(), "digits", version).unwrap();
        let tensors = |spec: &ModelSpec| {
            let outputs = spec.signature.outputs.iter();
            let outputs = outputs.map(|one| (one.datatype, one.axes.clone()));
            (spec.signature.batched, outputs.collect::<Vec<_>>())
        };
        assert_eq!(tensors(&draft), tensors(&said));
        assert_eq!(draft.max_batch_rows, said.max_batch_rows);
    }
}
