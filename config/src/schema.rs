//! JSON Schemas from types, and the comparison of a shipped file with them.
//!
//! A shipped TOML file shows every key: live, or commented out with its
//! default. The convention that makes this checkable: `#key = value` and
//! `#[table]`, with no space after the `#`, are keys that are switched off;
//! `# prose` is prose.

use std::collections::BTreeSet;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::Value;
use toml::Table;

/// Why keys could not be listed.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// The schema is not JSON.
    #[error("the schema is not JSON")]
    Json(#[from] serde_json::Error),
    /// The shipped file is not TOML once its keys are switched on.
    #[error("not TOML with every commented key switched on")]
    Toml(#[from] toml::de::Error),
}

/// The JSON Schema (draft 7, which editors know) of a raw config struct.
///
/// Pretty-printed, and ends with a newline, so that it can be kept in a file
/// and compared byte for byte.
#[must_use]
pub fn schema<R: JsonSchema>(title: &str) -> String {
    let mut schema = SchemaSettings::draft07()
        .into_generator()
        .into_root_schema_for::<R>();
    schema.insert("title".to_owned(), Value::from(title));
    format!("{:#}\n", schema.to_value())
}

/// The key paths of every value that a schema knows, `*` for a free name:
/// `models.*.versions.*.weight`.
///
/// # Errors
///
/// When `schema` is not JSON.
pub fn keys_of_schema(schema: &str) -> Result<BTreeSet<String>, SchemaError> {
    let root: Value = serde_json::from_str(schema)?;
    let mut keys = BTreeSet::new();
    Walker { root: &root }.leaves(&root, "", &mut keys);
    Ok(keys)
}

/// The key paths that a shipped file shows, live or commented out, with free
/// names as `*`. A key that the schema does not know is kept as it stands, so
/// that a comparison of the two sets finds it.
///
/// # Errors
///
/// When `schema` is not JSON, or the [`uncommented`] text is not TOML.
pub fn keys_mentioned(text: &str, schema: &str) -> Result<BTreeSet<String>, SchemaError> {
    let root: Value = serde_json::from_str(schema)?;
    let table: Table = toml::from_str(&uncommented(text))?;
    let mut keys = BTreeSet::new();
    Walker { root: &root }.mentions(&table, Some(&root), "", &mut keys);
    Ok(keys)
}

/// The text with every `#key = value` and `#[table]` switched on.
#[must_use]
pub fn uncommented(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        out.push_str(switched_off(line).unwrap_or(line));
        out.push('\n');
    }
    out
}

/// What stands behind the `#`, if it is a key or a table header.
fn switched_off(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix('#')?;
    let first = rest.chars().next()?;
    let is_header = first == '[' && rest.contains(']');
    let is_key = rest
        .split_once('=')
        .is_some_and(|(key, _)| is_dotted_key(key.trim_end()));
    (is_header || is_key).then_some(rest)
}

fn is_dotted_key(key: &str) -> bool {
    !key.is_empty()
        && key
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '"'))
}

/// Walks a schema, following references into its definitions.
struct Walker<'s> {
    root: &'s Value,
}

// === impl Walker ===

impl<'s> Walker<'s> {
    fn leaves(&self, node: &'s Value, path: &str, keys: &mut BTreeSet<String>) {
        let node = self.resolve(node);
        let mut is_leaf = true;
        for (name, child) in properties(node) {
            is_leaf = false;
            self.leaves(child, &join(path, name), keys);
        }
        if let Some(child) = free_names(node) {
            is_leaf = false;
            self.leaves(child, &join(path, "*"), keys);
        }
        if let Some(child) = self.table_elements(node) {
            // Where an element may also be a plain value, the key is one by itself too.
            is_leaf = alternatives(self.element(node)).count() > 1;
            self.leaves(child, path, keys);
        }
        if is_leaf {
            keys.insert(path.to_owned());
        }
    }

    fn mentions(
        &self,
        table: &Table,
        node: Option<&'s Value>,
        path: &str,
        keys: &mut BTreeSet<String>,
    ) {
        let node = node.map(|node| self.resolve(node));
        for (name, value) in table {
            let known = node.and_then(|node| properties(node).find(|(key, _)| *key == name));
            let free = node.and_then(free_names);
            let (path, child) = match (known, free) {
                (Some((_, child)), _) => (join(path, name), Some(child)),
                (None, Some(child)) => (join(path, "*"), Some(child)),
                (None, None) => (join(path, name), None),
            };
            self.mention(value, child, path, keys);
        }
    }

    fn mention(
        &self,
        value: &toml::Value,
        node: Option<&'s Value>,
        path: String,
        keys: &mut BTreeSet<String>,
    ) {
        match value {
            toml::Value::Table(table) => self.mentions(table, node, &path, keys),
            toml::Value::Array(array) if array.iter().any(toml::Value::is_table) => {
                if !array.iter().all(toml::Value::is_table) {
                    keys.insert(path.clone());
                }
                let node = node.and_then(|node| self.table_elements(self.resolve(node)));
                for table in array.iter().filter_map(toml::Value::as_table) {
                    self.mentions(table, node, &path, keys);
                }
            }
            _ => {
                keys.insert(path);
            }
        }
    }

    /// Follows `$ref`, and the one real alternative of an optional table.
    fn resolve(&self, mut node: &'s Value) -> &'s Value {
        // A schema of our own types is far shallower; a loop ends here.
        for _ in 0..16 {
            let next = node
                .get("$ref")
                .and_then(Value::as_str)
                .and_then(|reference| self.root.pointer(reference.strip_prefix('#')?))
                .or_else(|| one_alternative(node));
            match next {
                Some(next) => node = next,
                None => return node,
            }
        }
        node
    }

    /// The element of an array of tables, or that kind of element which is one.
    fn table_elements(&self, node: &'s Value) -> Option<&'s Value> {
        let is_table = |element: &&Value| {
            properties(element).next().is_some() || free_names(element).is_some()
        };
        let element = self.element(node)?;
        let kinds = alternatives(Some(element)).map(|kind| self.resolve(kind));
        std::iter::once(element).chain(kinds).find(is_table)
    }

    fn element(&self, node: &'s Value) -> Option<&'s Value> {
        Some(self.resolve(node.get("items")?))
    }
}

/// What a value may be, where that is one of several.
fn alternatives(node: Option<&Value>) -> impl Iterator<Item = &Value> {
    let any = node.and_then(|node| node.get("anyOf")?.as_array());
    any.into_iter().flatten()
}

fn properties(node: &Value) -> impl Iterator<Item = (&String, &Value)> {
    node.get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
}

/// The schema of a map's values; `additionalProperties: false` is none.
fn free_names(node: &Value) -> Option<&Value> {
    node.get("additionalProperties")
        .filter(|value| value.is_object())
}

fn one_alternative(node: &Value) -> Option<&Value> {
    if let Some([only]) = node
        .get("allOf")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
    {
        return Some(only);
    }
    let alternatives = node.get("anyOf")?.as_array()?;
    let mut real = alternatives
        .iter()
        .filter(|alternative| alternative.get("type").is_none_or(|kind| kind != "null"));
    let first = real.next()?;
    real.next().is_none().then_some(first)
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

#[cfg(test)]
mod tests;
