//! The shadow of a model: one of its versions, and how it is asked.

use super::scope::Scope;
use crate::config::{
    Name, Shadow,
    ranges::{PERCENT, SHADOW_BYTES, SHADOW_IN_FLIGHT, TOLERANCE, UPSTREAM_MS},
    raw::{RawModel, RawShadow},
};

/// The shadow of a model, if it has one.
pub(super) fn shadow(model: &RawModel, mut scope: Scope<'_, '_>) -> Option<Shadow> {
    let raw = &model.shadow;
    if *raw == RawShadow::default() {
        return None;
    }
    let version = version(model, &mut scope);
    let shadow = |version| Shadow {
        version,
        percent: scope.fraction("percent", raw.percent, PERCENT),
        max_kept_bytes: scope.number("max_kept_bytes", raw.max_kept_bytes, SHADOW_BYTES),
        max_at_once: scope.count("max_at_once", raw.max_at_once, SHADOW_IN_FLIGHT),
        answer_timeout: scope.millis("answer_timeout_ms", raw.answer_timeout_ms, UPSTREAM_MS),
        rtol: scope.fraction("rtol", raw.rtol, TOLERANCE),
        atol: scope.fraction("atol", raw.atol, TOLERANCE),
    };
    version.map(shadow)
}

fn version(model: &RawModel, scope: &mut Scope<'_, '_>) -> Option<Name> {
    let version = &model.shadow.version;
    if version.is_empty() {
        scope.fault("version", "missing: expected the version that is asked too");
        return None;
    }
    if !model.versions.contains_key(version) {
        let known: Vec<&str> = model.versions.keys().map(String::as_str).collect();
        let message = format!("no version {version:?} (known: {})", known.join(", "));
        scope.fault("version", message);
        return None;
    }
    // A key that is no name is a fault where it stands.
    Name::new(version).ok()
}

#[cfg(test)]
mod tests {
    use crate::config::parse;

    fn faults(shadow: &str) -> Vec<(String, String)> {
        let text = format!(
            "[models.m.versions]\n1 = {{ weight = 1, endpoints = [\"10.0.0.1:1\"] }}\n\
             [models.m]\nshadow = {{ {shadow} }}\n"
        );
        let rejected = parse("test.toml", &text).err();
        let faults = rejected.into_iter().flat_map(|rejected| rejected.faults);
        faults.map(|fault| (fault.path, fault.message)).collect()
    }

    #[test]
    fn a_shadow_is_one_of_the_versions() {
        assert_eq!(faults("version = \"1\""), []);
        for (shadow, key, message) in [
            ("version = \"2\"", "version", "no version \"2\" (known: 1)"),
            ("percent = 1.0", "version", "missing"),
            ("version = \"1\", percent = 0.0", "percent", "0.001 to 100"),
            ("version = \"1\", rtol = -1.0", "rtol", "from 0 to"),
            (
                "version = \"1\", max_at_once = 0",
                "max_at_once",
                "1 to 10000",
            ),
        ] {
            let faults = faults(shadow);
            assert_eq!(faults.len(), 1, "{shadow}: {faults:?}");
            assert_eq!(faults[0].0, format!("models.m.shadow.{key}"));
            assert!(faults[0].1.contains(message), "{faults:?}");
        }
    }
}
