//! A model of many operations one after the other: libtorch walks its program by recursion.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use aegis_torch::archive::Archive;
use http::StatusCode;

use crate::support::Backend;

/// Overflowed a stack of 2 MiB, which took the process down.
const OPERATIONS: usize = 8_000;

/// `y = x` by way of so many operations.
fn write(folder: &Path) {
    let digits = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../config/models/digits/1/model.pt"
    );
    let mut archive = Archive::read(&fs::read(digits).unwrap()).unwrap();
    let mut source =
        String::from("class digits(Module):\n  def forward(self, x: Tensor) -> Tensor:\n");
    let mut last = "x".to_owned();
    for at in 0..OPERATIONS {
        writeln!(source, "    y{at} = torch.relu({last})").unwrap();
        last = format!("y{at}");
    }
    writeln!(source, "    return {last}").unwrap();
    archive.replace_source(&source).unwrap();
    let version = folder.join("deep/1");
    fs::create_dir_all(&version).unwrap();
    fs::write(version.join("model.pt"), archive.write().unwrap()).unwrap();
    let model = "max_batch_size = 1\n[[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, 2]\n\
                 [[outputs]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [-1, 2]\n";
    fs::write(folder.join("deep/model.toml"), model).unwrap();
}

#[tokio::test]
async fn a_program_of_thousands_of_operations_runs() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path());
    let keys = format!("model_repository = {:?}", folder.path().to_str().unwrap());
    let backend = Backend::in_place(&keys, "[models.deep]\nversions = [\"1\"]").await;
    let backend = backend.when_ready().await;
    let body = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1.5,2.5]}]}"#;
    let reply = backend.infer("deep", body).await;
    assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
    assert_eq!(
        reply.json()["outputs"][0]["data"],
        serde_json::json!([1.5, 2.5])
    );
}
