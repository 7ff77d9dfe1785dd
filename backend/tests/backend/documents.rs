//! The files that ship say what the code does. `UPDATE=1` writes the generated ones.

use std::path::{Path, PathBuf};

use aegis_backend::cli::{backend_schema, model_schema};
use aegis_backend::config::{Config, RawConfig};
use aegis_backend::repository::{ModelSpec, RawModelFile};
use aegis_config::{keys_mentioned, keys_of_schema, load, uncommented};

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../config")
        .join(name)
}

fn read(name: &str) -> String {
    std::fs::read_to_string(shipped(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn the_schemas_are_those_of_the_types() {
    let schemas = [
        ("backend.schema.json", backend_schema()),
        ("model.schema.json", model_schema()),
    ];
    for (name, schema) in schemas {
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(shipped(name), &schema).unwrap();
        }
        assert_eq!(
            read(name),
            schema,
            "run the tests with UPDATE=1 to write {name}"
        );
    }
}

#[test]
fn the_shipped_configuration_shows_every_key() {
    let keys = keys_mentioned(&read("backend.toml"), &backend_schema()).unwrap();
    assert_eq!(keys, keys_of_schema(&backend_schema()).unwrap());
}

#[test]
fn the_bundled_models_description_shows_every_key() {
    let keys = keys_mentioned(&read("models/digits/model.toml"), &model_schema()).unwrap();
    assert_eq!(keys, keys_of_schema(&model_schema()).unwrap());
}

#[test]
fn the_shipped_configuration_is_right_and_shows_the_defaults() {
    let text = read("backend.toml");
    let folder = Path::new("config");
    let config = Config::parse("backend.toml", &text, folder).unwrap();
    assert_eq!(config.models[0].name, "digits");
    let mut everything_on = Config::parse("backend.toml", &uncommented(&text), folder).unwrap();
    let models = "[models.digits]\nversions = [\"1\"]";
    let defaults = Config::parse("backend.toml", models, folder).unwrap();
    assert_eq!(config, defaults);
    // An example, which no default could be.
    assert_eq!(everything_on.models[0].sources.len(), 1);
    everything_on.models[0].sources.clear();
    assert_eq!(everything_on, defaults);
}

#[test]
fn the_bundled_model_is_described_rightly() {
    let spec = ModelSpec::parse("model.toml", &read("models/digits/model.toml")).unwrap();
    assert_eq!(spec.max_batch_rows, 8);
    let metadata = spec.metadata("digits", &["1".to_owned()]);
    assert_eq!(metadata.inputs[0].shape, [-1, 64]);
    assert_eq!(metadata.outputs[1].name, "probabilities");
}

#[test]
fn the_versions_of_the_bundled_model_are_described_as_the_model_is() {
    let shared = ModelSpec::parse("model.toml", &read("models/digits/model.toml")).unwrap();
    for version in ["1", "2"] {
        let name = format!("models/digits/{version}/model.toml");
        let own = ModelSpec::parse(&name, &read(&name)).unwrap();
        assert_eq!(own, shared, "{name}: run scripts/sign_digits.sh");
    }
}

#[test]
fn every_default_of_the_raw_files_can_be_read_back() {
    // `load` hands the raw structs to a validator: an empty text is all defaults.
    let raw = load("empty", "", |raw: RawConfig, _| Some(raw)).unwrap();
    assert_eq!(raw.listen, "127.0.0.1:8000");
    let raw = load("empty", "", |raw: RawModelFile, _| Some(raw)).unwrap();
    assert_eq!((raw.max_batch_size, raw.intra_op_threads), (None, 1));
}
