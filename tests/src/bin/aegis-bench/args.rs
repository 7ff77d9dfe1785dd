//! What most benches are told, in the same words: where programs and models are, how often each is run, and what
//! becomes of the figures.

#![expect(clippy::print_stdout, reason = "what was missed is what it tells")]

use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use serde::Serialize;

/// Where programs are.
#[derive(Debug, clap::Args)]
pub(crate) struct Programs {
    /// Folders in which the programs that are measured are looked for, before PATH.
    #[arg(long)]
    bin: Vec<PathBuf>,
}

/// Where models are.
#[derive(Debug, clap::Args)]
pub(crate) struct Models {
    /// What the example `bench_models` has made.
    #[arg(long)]
    models: PathBuf,
}

/// How often.
#[derive(Debug, clap::Args)]
pub(crate) struct Rounds {
    /// How often each is run; medians are reported.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
}

/// What becomes of the figures.
#[derive(Debug, clap::Args)]
pub(crate) struct Output {
    /// Where the figures are written as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Exit with 1, naming every bound that was missed.
    #[arg(long)]
    check: bool,
}

/// Whether a list of names asks for this one; an empty list asks for all.
pub(crate) fn asks_for(list: &[String], name: &str) -> bool {
    list.is_empty() || list.iter().any(|one| one == name)
}

/// A program that the machine has, such as a load generator.
pub(crate) fn installed(name: &str) -> Result<PathBuf> {
    search(name, &[]).with_context(|| format!("no program `{name}` in PATH"))
}

/// The program of that name, in these folders or where the system has its own.
fn search(name: &str, folders: &[PathBuf]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Servers lie where only root looks.
    let system = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    let mut places = folders.iter().cloned().chain(system);
    places.find_map(|folder| Some(folder.join(name)).filter(|place| place.is_file()))
}

// === impl Programs ===

impl Programs {
    /// The program of that name, absolute.
    pub(crate) fn find(&self, name: &str) -> Result<PathBuf> {
        let found = self.look_for(name)?;
        found.with_context(|| format!("no program `{name}` in PATH or --bin"))
    }

    /// The same, for one that may be nowhere.
    pub(crate) fn look_for(&self, name: &str) -> Result<Option<PathBuf>> {
        let found = search(name, &self.bin);
        Ok(found.map(fs::canonicalize).transpose()?)
    }
}

// === impl Models ===

impl Models {
    /// Their folder, absolute.
    pub(crate) fn folder(&self) -> Result<PathBuf> {
        fs::canonicalize(&self.models).with_context(|| self.models.display().to_string())
    }
}

// === impl Rounds ===

impl Rounds {
    /// All of them, from 1; there is one at least.
    pub(crate) fn all(&self) -> RangeInclusive<usize> {
        1..=self.rounds.max(1)
    }
}

// === impl Output ===

impl Output {
    /// Prints what was missed, writes the figures, and says how the program ends.
    pub(crate) fn conclude(
        &self,
        figures: &(impl Serialize + ?Sized),
        missed: &[String],
    ) -> Result<ExitCode> {
        for miss in missed {
            println!("missed: {miss}");
        }
        if let Some(file) = &self.json {
            fs::write(file, serde_json::to_vec_pretty(figures)?)
                .with_context(|| file.display().to_string())?;
        }
        let failed = self.check && !missed.is_empty();
        Ok(ExitCode::from(u8::from(failed)))
    }
}
