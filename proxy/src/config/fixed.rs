//! What is bound at start, and so cannot change while the proxy runs:
//! everything outside `[models]`.

use aegis_config::{Faults, KeyPath};

use super::{Config, RawConfig, leaves};

/// A fault for every key outside `[models]` that is not as it runs.
pub(super) fn check(running: &Config, new: &Config, faults: &mut Faults<'_>) {
    let old = leaves::of(&KeyPath::root(), &RawConfig::outside_models(running));
    for (path, new) in leaves::of(&KeyPath::root(), &RawConfig::outside_models(new)) {
        if let Some(old) = old.get(&path)
            && *old != new
        {
            let message =
                format!("cannot change while running: restart to make it {new}, or put back {old}");
            faults.at(path, message);
        }
    }
}
