use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{keys_mentioned, keys_of_schema, schema, uncommented};

/// A file.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Raw {
    /// Where to listen.
    listen: String,
    models: BTreeMap<String, RawModel>,
    drain: RawDrain,
    rules: Vec<RawRule>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RawModel {
    weight: Option<f64>,
    drain: Option<RawDrain>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RawDrain {
    delay_ms: u64,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct RawRule {
    names: Vec<String>,
    places: Vec<RawPlace>,
}

/// A text, or a table.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "only its schema matters")]
enum RawPlace {
    Name(String),
    Table(RawDrain),
}

fn set(keys: &[&str]) -> BTreeSet<String> {
    keys.iter().map(|key| (*key).to_owned()).collect()
}

#[test]
fn a_schema_names_every_value_by_its_path() {
    let text = schema::<Raw>("a file");
    assert!(text.ends_with("}\n"));
    assert!(text.contains("Where to listen."));
    assert_eq!(
        keys_of_schema(&text).unwrap(),
        set(&[
            "listen",
            "models.*.weight",
            "models.*.drain.delay_ms",
            "drain.delay_ms",
            "rules.names",
            "rules.places",
            "rules.places.delay_ms",
        ])
    );
}

#[test]
fn a_file_mentions_keys_that_are_live_or_switched_off() {
    let text = r#"
# Where to listen = prose with an equals sign.
listen = "x"
#drain.delay_ms = 3
[models.digits]
#weight = 1
#[models.digits.drain]
#delay_ms = 4
[[rules]]
names = ["a",
  "b"]
places = ["c", { delay_ms = 5 }]
"#;
    let schema = schema::<Raw>("a file");
    assert_eq!(
        keys_mentioned(text, &schema).unwrap(),
        keys_of_schema(&schema).unwrap()
    );
}

#[test]
fn a_key_that_the_schema_lacks_is_kept_as_it_stands() {
    let text = "listne = 1\n[models.digits]\nwieght = 2\n";
    assert_eq!(
        keys_mentioned(text, &schema::<Raw>("a file")).unwrap(),
        set(&["listne", "models.*.wieght"])
    );
}

#[test]
fn prose_stays_prose() {
    let text = "# a = 1\n#b = 2\n#[c]\n#not a key = 3\n##d = 4\n#\n";
    assert_eq!(
        uncommented(text),
        "# a = 1\nb = 2\n[c]\n#not a key = 3\n##d = 4\n#\n"
    );
}
