//! What a change of configuration means, in lines for the audit log.
//!
//! Weights are shown with the shares that they make, for every version whose
//! share changes, also when its own weight does not: raising the canary from 10
//! to 50 takes traffic from the others.

use std::collections::BTreeSet;

use aegis_config::KeyPath;

use super::{Config, Model, Place, RawConfig, Version, leaves, raw::RawModel};

/// Endpoints that one line names; the rest is counted.
const NAMED: usize = 16;
/// The longest value that is shown whole, in bytes.
const SHOWN: usize = 256;

/// Every difference, in the order of the keys.
pub(super) fn lines(old: &Config, new: &Config) -> Vec<String> {
    let mut lines = Vec::new();
    changed_leaves(
        &KeyPath::root(),
        &RawConfig::outside_models(old),
        &RawConfig::outside_models(new),
        &mut lines,
    );
    let names: BTreeSet<_> = old.models.keys().chain(new.models.keys()).collect();
    for name in names {
        let path = KeyPath::from(["models", name]);
        match (old.models.get(name), new.models.get(name)) {
            (Some(old), Some(new)) => model(&path, old, new, &mut lines),
            (None, Some(new)) => {
                lines.push(format!("{path}: added"));
                for (name, version) in &new.versions {
                    let path = path.key("versions").key(&**name);
                    lines.push(added(&path, version, new.share(name)));
                }
            }
            (Some(_), None) => lines.push(format!("{path}: removed")),
            (None, None) => {}
        }
    }
    lines
}

fn model(path: &KeyPath, old: &Model, new: &Model, lines: &mut Vec<String>) {
    let without_versions = |model: &Model| {
        let mut raw = RawModel::from(model);
        raw.versions.clear();
        raw
    };
    changed_leaves(path, &without_versions(old), &without_versions(new), lines);
    let names: BTreeSet<_> = old.versions.keys().chain(new.versions.keys()).collect();
    for name in names {
        let path = path.key("versions").key(&**name);
        let shares = (old.share(name), new.share(name));
        match (old.versions.get(name), new.versions.get(name)) {
            (Some(old), Some(new)) => version(&path, old, new, shares, lines),
            (None, Some(new)) => lines.push(added(&path, new, shares.1)),
            (Some(_), None) => lines.push(format!("{path}: removed (was {})", percent(shares.0))),
            (None, None) => {}
        }
    }
}

fn version(
    path: &KeyPath,
    old: &Version,
    new: &Version,
    shares: (f64, f64),
    lines: &mut Vec<String>,
) {
    let path_of_weight = path.key("weight");
    let (before, after) = (percent(shares.0), percent(shares.1));
    if old.weight.to_bits() != new.weight.to_bits() {
        let (old, new) = (old.weight, new.weight);
        lines.push(format!(
            "{path_of_weight}: {old} -> {new} ({before} -> {after})"
        ));
    } else if before != after {
        let weight = old.weight;
        lines.push(format!(
            "{path_of_weight}: still {weight} ({before} -> {after})"
        ));
    }
    let path = path.key("endpoints");
    let (was, is): (BTreeSet<&Place>, BTreeSet<&Place>) =
        (old.places().collect(), new.places().collect());
    for (what, endpoints) in [("added", &is - &was), ("removed", &was - &is)] {
        if !endpoints.is_empty() {
            let named = list(endpoints.len(), endpoints.iter());
            lines.push(format!("{path}: {what} {named}"));
        }
    }
    let (old, new) = (old.zones(), new.zones());
    let moves: Vec<String> = (&was & &is)
        .into_iter()
        .filter(|place| old.get(place) != new.get(place))
        .map(|place| {
            let [old, new] = [&old, &new].map(|zones| zones.get(place).map_or("none", |zone| zone));
            format!("{place} ({old} -> {new})")
        })
        .collect();
    if !moves.is_empty() {
        let named = list(moves.len(), moves.iter());
        lines.push(format!("{path}: zone of {named}"));
    }
}

fn added(path: &KeyPath, version: &Version, share: f64) -> String {
    format!(
        "{path}: added, weight {} ({}), endpoints {}",
        version.weight,
        percent(share),
        list(version.endpoints.len(), version.places())
    )
}

fn changed_leaves<R: serde::Serialize>(path: &KeyPath, old: &R, new: &R, lines: &mut Vec<String>) {
    let old = leaves::of(path, old);
    for (path, new) in leaves::of(path, new) {
        if let Some(old) = old.get(&path)
            && *old != new
        {
            lines.push(format!("{path}: {} -> {}", shown(old), shown(&new)));
        }
    }
}

/// A value as JSON, or the beginning of it.
fn shown(value: &serde_json::Value) -> String {
    let text = value.to_string();
    if text.len() <= SHOWN {
        return text;
    }
    let beginning = &text[..text.floor_char_boundary(SHOWN)];
    format!("{beginning}... ({} bytes)", text.len())
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

fn list(all: usize, endpoints: impl Iterator<Item: ToString>) -> String {
    let more = all.saturating_sub(NAMED);
    let mut names: Vec<String> = endpoints.take(NAMED).map(|at| at.to_string()).collect();
    if more > 0 {
        names.push(format!("{more} more"));
    }
    names.join(", ")
}
