//! A raw struct as a flat list of key paths and values.

use std::collections::BTreeMap;

use aegis_config::KeyPath;
use serde::Serialize;
use serde_json::Value;

/// Every value of `raw` that is not a table, by its key path below `path`.
pub(super) fn of(path: &KeyPath, raw: &impl Serialize) -> BTreeMap<KeyPath, Value> {
    let mut leaves = BTreeMap::new();
    // A raw struct has only strings as keys, so it has a JSON form; one that
    // had none would show as a single null.
    collect(
        path,
        serde_json::to_value(raw).unwrap_or_default(),
        &mut leaves,
    );
    leaves
}

fn collect(path: &KeyPath, value: Value, leaves: &mut BTreeMap<KeyPath, Value>) {
    match value {
        Value::Object(table) => {
            for (key, value) in table {
                collect(&path.key(key), value, leaves);
            }
        }
        value => {
            leaves.insert(path.clone(), value);
        }
    }
}
