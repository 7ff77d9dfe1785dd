//! Loads and unloads models at run time.
//!
//! A load makes the new versions beside what is served and takes their place when all of them are
//! warm, in one step: until then, and when one fails, nothing changes for anybody. Both sets are in
//! memory for that while, so a load begins only where the memory is free.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::{load, room};
use crate::clock;
use crate::config::is_name;
use crate::control::{Action, ControlError, Next};
use crate::repository::torchscript_file;
use crate::served::{Models, Served, Standing};

/// How often a version that is served no more is looked at, until nobody holds it.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long its threads may take to end then: they have nothing to do.
const ENDS_WITHIN: Duration = Duration::from_millis(200);

/// Does what is asked for until there is no more asking.
pub(super) fn serve(models: &Models, abandoned: &Arc<AtomicBool>) {
    loop {
        let draining = models.end_retired(clock::now() + ENDS_WITHIN);
        let job = match models.control().next(draining.then_some(LOOK_EVERY)) {
            Next::Job(job) => job,
            Next::Nothing => continue,
            Next::Closed => return,
        };
        let outcome = match &job.action {
            Action::Load { model, versions } => {
                load_model(models, model, versions.as_deref(), abandoned)
            }
            Action::Unload { model } => unload(models, model),
        };
        match &outcome {
            Ok(()) => tracing::info!(action = ?job.action, "models changed"),
            Err(error) => tracing::warn!(action = ?job.action, "models not changed: {error}"),
        }
        models.control().done(job, outcome);
    }
}

fn unload(models: &Models, model: &str) -> Result<(), ControlError> {
    if models.served(model).is_empty() {
        return Err(ControlError::NotLoaded {
            model: model.to_owned(),
        });
    }
    models.put(model, Vec::new());
    Ok(())
}

fn load_model(
    models: &Models,
    model: &str,
    versions: Option<&[String]>,
    abandoned: &Arc<AtomicBool>,
) -> Result<(), ControlError> {
    let versions = match versions {
        Some(versions) => versions.to_vec(),
        None => versions_of(models, model)?,
    };
    let made = models.versions(model, &versions);
    let loaded = made
        .iter()
        .try_for_each(|served| load_one(models, served, abandoned));
    if loaded.is_ok() {
        models.put(model, made);
    } else {
        models.forget_series(model, versions.iter().map(String::as_str));
        models.retire(model, made);
    }
    loaded
}

fn load_one(
    models: &Models,
    served: &Arc<Served>,
    abandoned: &Arc<AtomicBool>,
) -> Result<(), ControlError> {
    let failed = |reason: String| ControlError::Failed {
        model: served.name.clone(),
        version: served.version.clone(),
        reason,
    };
    // Where the description is known, admission keeps nothing.
    if served.spec().is_none() {
        let gate = models.gate();
        let weights = torchscript_file(gate.repository(), &served.name, &served.version);
        let source = gate.source(&served.name, &served.version);
        room::to_read(&weights, source).map_err(|error| failed(error.to_string()))?;
    }
    load(served, models, abandoned, room::to_load);
    match served.standing() {
        Standing::Ready => Ok(()),
        Standing::Loading => Err(ControlError::Stopped),
        other => Err(failed(other.reason())),
    }
}

/// The versions to load where none are named: those that are served, or that the configuration names,
/// or the latest in the repository.
fn versions_of(models: &Models, model: &str) -> Result<Vec<String>, ControlError> {
    let served = models.served(model);
    if !served.is_empty() {
        return Ok(served.iter().map(|one| one.version.clone()).collect());
    }
    if let Some(configured) = models.configured(model) {
        return Ok(configured.to_vec());
    }
    let folder = models.gate().repository().join(model);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let names = folders.filter_map(|entry| entry.file_name().into_string().ok());
    let latest = latest(names.filter(|name| is_name(name)));
    latest
        .map(|version| vec![version])
        .ok_or_else(|| ControlError::NoModel {
            model: model.to_owned(),
        })
}

/// The highest number, or where there are none the last name.
fn latest(versions: impl Iterator<Item = String>) -> Option<String> {
    versions.max_by_key(|version| (version.parse::<u64>().ok(), version.clone()))
}

#[cfg(test)]
mod tests {
    use super::latest;

    #[test]
    fn the_latest_version_is_the_highest_number() {
        let latest = |versions: &[&str]| latest(versions.iter().map(|&one| one.to_owned()));
        assert_eq!(latest(&["9", "10", "draft"]).as_deref(), Some("10"));
        assert_eq!(latest(&["2026-05", "2026-06"]).as_deref(), Some("2026-06"));
        assert_eq!(latest(&[]), None);
    }
}
