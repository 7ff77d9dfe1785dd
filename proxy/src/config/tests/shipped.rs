//! The files that ship in `config/`, held to the code.

use std::path::PathBuf;

use aegis_config::{keys_mentioned, keys_of_schema, uncommented};
use serde_json::Value;

use super::good;
use crate::config::schema;

fn shipped(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../config")
        .join(name)
}

fn read(name: &str) -> String {
    let path = shipped(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_shipped_file_is_valid() {
    let config = good(&read("proxy.toml"));
    let canary = config.models["digits"].share("2");
    assert!((canary - 0.1).abs() < 1e-9, "{canary}");
}

#[test]
fn the_shipped_file_shows_every_key_and_no_other() {
    let schema = schema();
    assert_eq!(
        keys_mentioned(&read("proxy.toml"), &schema).unwrap(),
        keys_of_schema(&schema).unwrap()
    );
}

#[test]
fn keys_that_are_switched_off_show_their_defaults() {
    let text = read("proxy.toml");
    assert_eq!(good(&uncommented(&text)), good(&text));
}

#[test]
fn the_shipped_file_states_the_ranges_of_the_schema() {
    let schema: Value = serde_json::from_str(&schema()).unwrap();
    let text = read("proxy.toml");
    let mut checked = 0;
    for definition in schema["definitions"].as_object().unwrap().values() {
        for (key, property) in definition["properties"].as_object().into_iter().flatten() {
            let (Some(min), Some(max)) =
                (property["minimum"].as_u64(), property["maximum"].as_u64())
            else {
                continue;
            };
            let comment = comment_above(&text, key);
            let range = format!("{min} to {max}");
            assert!(
                comment.contains(&range),
                "{key}: no {range:?} in {comment:?}"
            );
            let default = format!("default {}", property["default"]);
            assert!(
                comment.contains(&default),
                "{key}: no {default:?} in {comment:?}"
            );
            checked += 1;
        }
    }
    assert!(
        checked >= 20,
        "only {checked} ranges were found in the schema"
    );
}

/// The prose right above `#key =`, in one line.
fn comment_above(text: &str, key: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let at = lines
        .iter()
        .position(|line| {
            line.trim_start_matches('#')
                .starts_with(&format!("{key} ="))
        })
        .unwrap_or_else(|| panic!("{key} is not in the shipped file"));
    let mut prose: Vec<&str> = lines[..at]
        .iter()
        .rev()
        .map_while(|line| line.strip_prefix("# "))
        .collect();
    prose.reverse();
    prose.join(" ")
}

/// `UPDATE=1 cargo test -p aegis-proxy` writes the file anew.
#[test]
fn the_shipped_schema_is_the_one_of_the_types() {
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(shipped("proxy.schema.json"), schema()).unwrap();
    }
    assert_eq!(
        read("proxy.schema.json"),
        schema(),
        "config/proxy.schema.json is stale: UPDATE=1 cargo test -p aegis-proxy"
    );
}
