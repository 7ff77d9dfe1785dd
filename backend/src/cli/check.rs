//! `check`: everything that can be said without loading a model.

use std::path::Path;

use super::{Exit, exit, read_config};
use crate::chain::Chain;
use crate::config::Location;
use crate::integrity::{Gate, Weights};
use crate::metrics::Metrics;

/// Lists every fault of the configuration and of the models that it names.
pub(super) fn check(file: &Path) -> Exit {
    let config = match read_config(file) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{}", Chain(&error));
            return Exit::Config;
        }
    };
    let gate = Gate::new(&config, Metrics::new().verifications);
    let mut faults = Vec::new();
    for entry in &config.models {
        for version in &entry.versions {
            // What is wrong with a description that versions share is said once.
            if let Some(fault) = fault_of(&gate, &entry.name, version)
                && !faults.contains(&fault)
            {
                faults.push(fault);
            }
        }
    }
    if faults.is_empty() {
        return exit::print(&format!("{}: ok\n", file.display()));
    }
    for fault in faults {
        eprintln!("{fault}");
    }
    Exit::Config
}

fn fault_of(gate: &Gate, name: &str, version: &str) -> Option<String> {
    if let Some(source) = gate.source(name, version)
        && let Location::Http(_) = source.from
    {
        // To check is not to fetch.
        return None;
    }
    let spec = match gate.spec_unverified(name, version) {
        Some(Ok(spec)) => Some(spec),
        Some(Err(error)) => return Some(Chain(&error).to_string()),
        None => None,
    };
    let admitted = match gate.admit(name, version, spec.as_ref(), &|_| false) {
        Ok(admitted) => admitted,
        Err(error) => return Some(format!("{name}/{version}: {}", Chain(&error))),
    };
    if let Some(warning) = admitted.provenance.warning {
        eprintln!("{name}/{version}: warning: {warning}");
    }
    match admitted.weights {
        Weights::File(file) if !file.is_file() => Some(format!("{}: no such file", file.display())),
        _ => None,
    }
}
