//! `check`: everything that can be said without loading a model.

use std::path::Path;

use super::{Exit, exit, read_config};
use crate::chain::Chain;
use crate::config::{Config, ModelEntry};
use crate::repository::{ModelSpec, Platform, torchscript_file};

/// Lists every fault of the configuration and of the models that it names.
pub(super) fn check(file: &Path) -> Exit {
    let config = match read_config(file) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{}", Chain(&error));
            return Exit::Config;
        }
    };
    let faults: Vec<String> = config
        .models
        .iter()
        .flat_map(|entry| faults_of(&config, entry))
        .collect();
    if faults.is_empty() {
        return exit::print(&format!("{}: ok\n", file.display()));
    }
    for fault in faults {
        eprintln!("{fault}");
    }
    Exit::Config
}

fn faults_of(config: &Config, entry: &ModelEntry) -> Vec<String> {
    let repository = &config.model_repository;
    match ModelSpec::read(repository, &entry.name) {
        Err(error) => vec![Chain(&error).to_string()],
        Ok(ModelSpec {
            platform: Platform::Scripted(_),
            ..
        }) => Vec::new(),
        Ok(_) => {
            let files = entry.versions.iter();
            let files = files.map(|version| torchscript_file(repository, &entry.name, version));
            let missing = files.filter(|file| !file.is_file());
            missing
                .map(|file| format!("{}: no such file", file.display()))
                .collect()
        }
    }
}
