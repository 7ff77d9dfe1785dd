//! `fit`: what later requests are compared with, from a data set.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use aegis_config::{ReadError, Rejected, read_file};

use super::{Exit, exit};
use crate::chain::Chain;
use crate::repository::ModelSpec;
use crate::safety::fit::{self, FitError, Outcome};
use crate::safety::{FILE, Provenance, Rule, Statistics, StatisticsError, Test};
use data::{Data, DataError, Side, Wanted};

mod data;

/// What is fitted, and to what.
#[derive(Debug, clap::Args)]
pub(super) struct FitArgs {
    /// The folder of a model's version, such as models/digits/1. Its description is there, or in the
    /// folder above it.
    folder: PathBuf,
    /// A file of data; may be given several times. Requests (for inputs) or answers (for outputs) of
    /// the protocol, one JSON object a line; or a table with commas, one row of the input a line and
    /// perhaps a label behind it. `.gz` is read, too.
    #[arg(long, value_name = "FILE", required = true)]
    data: Vec<PathBuf>,
    /// A file of such data whose rows are left out of the others: to measure on them what was fitted.
    #[arg(long, value_name = "FILE")]
    exclude: Vec<PathBuf>,
    /// The share of rows like the data that may be taken for strange ones.
    #[arg(long, default_value_t = 0.01)]
    false_positive_rate: f64,
    /// Where it goes; safety.json in the folder, when not given.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

/// Why nothing was fitted.
#[derive(Debug, thiserror::Error)]
enum FitFailed {
    #[error(transparent)]
    Description(#[from] ReadError),
    #[error(transparent)]
    Rejected(#[from] Rejected),
    #[error("{path}: no check needs statistics; ood_input and ood_output do", path = path.display())]
    NothingWanted { path: PathBuf },
    #[error(transparent)]
    Data(#[from] DataError),
    #[error("{side} `{tensor}`")]
    Fit {
        side: Side,
        tensor: String,
        source: FitError,
    },
    #[error(transparent)]
    Statistics(#[from] StatisticsError),
    #[error("cannot write {path}", path = path.display())]
    Write { path: PathBuf, source: io::Error },
}

/// Fits, and writes the file.
pub(super) fn fit(args: &FitArgs) -> Exit {
    match fitted(args) {
        Ok(text) => exit::print(&text),
        Err(error) => {
            eprintln!("{}", Chain(&error));
            match error {
                FitFailed::Description(_) | FitFailed::Rejected(_) => Exit::Config,
                _ => Exit::Failed,
            }
        }
    }
}

fn fitted(args: &FitArgs) -> Result<String, FitFailed> {
    let path = description(&args.folder);
    let spec = ModelSpec::parse(&path.display().to_string(), &read_file(&path)?)?;
    let wanted = wanted(&spec);
    if wanted.is_empty() {
        return Err(FitFailed::NothingWanted { path });
    }
    let mut data = Data::read(&args.data, &wanted, &spec.signature)?;
    data.remove(&Data::read(&args.exclude, &wanted, &spec.signature)?);
    let rate = args.false_positive_rate;
    let mut statistics = Statistics::new(Provenance {
        program: concat!("aegis-backend ", env!("CARGO_PKG_VERSION")).to_owned(),
        data: data.sources,
        fitted_rows: 0,
        calibrated_rows: 0,
        false_positive_rate: rate,
    });
    let out = args.out.clone().unwrap_or_else(|| args.folder.join(FILE));
    let mut said = String::new();
    for (wanted, rows) in wanted.iter().zip(&data.rows) {
        let (side, tensor) = (wanted.side, wanted.spec.name.clone());
        let outcome = if wanted.energy {
            fit::energies(rows, rate)
        } else {
            fit::mahalanobis(rows, rate)
        };
        let outcome = outcome.map_err(|source| FitFailed::Fit {
            side,
            tensor: tensor.clone(),
            source,
        })?;
        said.push_str(&sentence(&out, side, &tensor, &outcome, rate));
        keep(&mut statistics, side, tensor, outcome);
    }
    fs::write(&out, statistics.to_json()?)
        .map_err(|source| FitFailed::Write { path: out, source })?;
    Ok(said)
}

fn sentence(out: &Path, side: Side, tensor: &str, outcome: &Outcome, rate: f64) -> String {
    let limit = outcome.fitted.limit_unchecked();
    format!(
        "{}: {side} `{tensor}`: fitted to {} rows; limit {limit:.4}, by {} others, for at most \
         {rate} of rows like these\n",
        out.display(),
        outcome.fitted_rows,
        outcome.calibrated_rows,
    )
}

fn keep(statistics: &mut Statistics, side: Side, tensor: String, outcome: Outcome) {
    let rows = &mut statistics.provenance;
    rows.fitted_rows = rows.fitted_rows.max(outcome.fitted_rows);
    rows.calibrated_rows = rows.calibrated_rows.max(outcome.calibrated_rows);
    match side {
        Side::Input => statistics.inputs.insert(tensor, outcome.fitted),
        Side::Output => statistics.outputs.insert(tensor, outcome.fitted),
    };
}

/// The tensors that checks need statistics of, each once.
fn wanted(spec: &ModelSpec) -> Vec<Wanted<'_>> {
    let mut wanted: Vec<Wanted<'_>> = Vec::new();
    let signature = &spec.signature;
    let sides = [
        (Side::Input, &spec.safety.inputs, &signature.inputs),
        (Side::Output, &spec.safety.outputs, &signature.outputs),
    ];
    for (side, rules, specs) in sides {
        let needs = |rule: &&Rule| matches!(rule.test, Test::Distance(_) | Test::Energy(None));
        for rule in rules.iter().filter(needs) {
            let spec = &specs[rule.tensor];
            let is_known = |known: &Wanted<'_>| known.side == side && known.spec.name == spec.name;
            if !wanted.iter().any(is_known) {
                wanted.push(Wanted {
                    side,
                    spec,
                    width: signature.row_width(spec),
                    energy: matches!(rule.test, Test::Energy(_)),
                });
            }
        }
    }
    wanted
}

fn description(folder: &Path) -> PathBuf {
    let own = folder.join("model.toml");
    match folder.parent() {
        Some(above) if !own.exists() => above.join("model.toml"),
        _ => own,
    }
}
