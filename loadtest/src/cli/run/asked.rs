//! The flags that say what is asked, and the question to the server what it takes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use aegis_protocol::ModelMetadata;
use anyhow::{Context, Result, anyhow};
use clap::ValueEnum;
use http::HeaderName;

use super::super::duration;
use super::Failed;
use super::mix::{self, Wanted};
use crate::metadata::{self, MetadataError};
use crate::{Asked, Draw, Manner, Part, Questions, Sticky, Target, Transport};

/// The longest that a server is asked what it takes.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is asked: examples from files, or inputs that are drawn from what the model says of itself.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What is asked")]
pub(in crate::cli) struct AskedArgs {
    /// The model to ask.
    #[arg(long, required_unless_present = "mix")]
    model: Option<String>,
    /// The version to ask for; without it the server chooses.
    #[arg(long)]
    version: Option<String>,
    /// How requests are written.
    #[arg(long, value_enum, default_value = "json")]
    transport: TransportArg,
    /// What to send: .csv (features, then the label), .jsonl (a request, or {"request": ..., "label": ...}, a line)
    /// .npy (a request a row) or .png, each also with .gz, or a folder of PNGs, of which those in folders that are
    /// named by whole numbers have these as labels. Without it, inputs are drawn.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// The input that takes the values of a .csv, .npy or .png; without it, the only one that there is.
    #[arg(long)]
    input: Option<String>,
    /// The output that is compared with the label.
    #[arg(long, default_value = "label")]
    output: String,
    /// Numbers to draw inputs from, both included.
    #[arg(long, default_value = "0..1", value_name = "FROM..TO", value_parser = range, allow_hyphen_values = true)]
    draw: (f64, f64),
    /// What black and white of a .png become; without it, 0 and 1 of floats, 0 and 255 of whole numbers.
    #[arg(long, value_name = "BLACK..WHITE", value_parser = pixels, allow_hyphen_values = true)]
    pixels: Option<(f64, f64)>,
    /// Rows of a request that is drawn.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    rows: u32,
    /// The size of every other free axis of what is drawn.
    #[arg(long, default_value_t = 16, value_name = "SIZE", value_parser = clap::value_parser!(u32).range(1..=1_048_576))]
    free_axis: u32,
    /// How long requests may take, which the server is told.
    #[arg(long, value_name = "TIME", value_parser = duration::positive)]
    deadline: Option<Duration>,
    /// The priority of requests, from 1, the first, to 10.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=10))]
    priority: Option<u8>,
    /// A header that says who asks, and of how many users: for splits that keep to a user.
    #[arg(long, value_name = "HEADER=USERS", value_parser = sticky)]
    sticky: Option<Sticky>,
    /// A mix of several kinds of requests, each with a weight, a model and all of the above: TOML, as config/mix.toml.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["model", "version", "data", "input", "output", "deadline", "priority", "sticky"])]
    mix: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum TransportArg {
    /// REST, all of it JSON.
    Json,
    /// REST, with tensors in binary behind the JSON.
    Binary,
    /// gRPC.
    Grpc,
}

fn range(text: &str) -> Result<(f64, f64), String> {
    let refused =
        || format!("expected two numbers as 0..1, the first not above the second, got `{text}`");
    let (from, to) = pair(text).ok_or_else(refused)?;
    if from <= to {
        Ok((from, to))
    } else {
        Err(refused())
    }
}

/// What black and white become: either may be the larger one.
fn pixels(text: &str) -> Result<(f64, f64), String> {
    pair(text).ok_or_else(|| format!("expected two numbers as 0..255, got `{text}`"))
}

/// Two numbers whose difference is one, too.
fn pair(text: &str) -> Option<(f64, f64)> {
    let (from, to) = text.split_once("..")?;
    let (from, to): (f64, f64) = (from.trim().parse().ok()?, to.trim().parse().ok()?);
    let is_finite = from.is_finite() && to.is_finite() && (to - from).is_finite();
    is_finite.then_some((from, to))
}

/// Reads a header and a number of users.
pub(super) fn sticky(text: &str) -> Result<Sticky, String> {
    let refused =
        || format!("expected a header and a number of users, as x-user-id=1000, got `{text}`");
    let (header, keys) = text.split_once('=').ok_or_else(refused)?;
    let header: HeaderName = header.trim().parse().map_err(|_| refused())?;
    let keys = keys
        .trim()
        .parse()
        .ok()
        .filter(|&keys| keys > 0)
        .ok_or_else(refused)?;
    Ok(Sticky { header, keys })
}

// === impl AskedArgs ===

impl AskedArgs {
    /// The one model that is asked; none of a mix.
    pub(in crate::cli) fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// The version that is asked for, where one is.
    pub(in crate::cli) fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    pub(in crate::cli) fn transport(&self) -> Transport {
        match self.transport {
            TransportArg::Json => Transport::Json,
            TransportArg::Binary => Transport::Binary,
            TransportArg::Grpc => Transport::Grpc,
        }
    }

    /// What is to be asked, as far as nobody has to be asked about it. Files are there.
    /// `named` is what the address is called.
    pub(in crate::cli) fn wanted(&self, url: &str, named: &'static str) -> Result<Vec<Wanted>> {
        let wanted = match (&self.mix, &self.model) {
            (Some(path), _) => {
                let address = Target::new(url, "").context(named)?;
                mix::read(path, &address).context("--mix")?
            }
            (None, model) => {
                let model = model.as_deref().unwrap_or_default();
                let mut target = Target::new(url, model).context(named)?;
                if let Some(version) = &self.version {
                    target = target.pinned(version);
                }
                target.output.clone_from(&self.output);
                vec![Wanted {
                    name: model.to_owned(),
                    weight: 1.0,
                    target,
                    input: self.input.clone(),
                    data: self.data.clone(),
                    manner: Manner {
                        deadline: self.deadline,
                        priority: self.priority,
                        sticky: self.sticky.clone(),
                    },
                }]
            }
        };
        for data in wanted.iter().filter_map(|wanted| wanted.data.as_deref()) {
            is_there(data).context("--data")?;
        }
        Ok(wanted)
    }

    /// Asks the server what each model takes, and reads or draws what it is asked.
    pub(in crate::cli) async fn parts(
        &self,
        wanted: Vec<Wanted>,
        transport: Transport,
        timeout: Duration,
        seed: u64,
    ) -> Result<Vec<Part>, Failed> {
        let mut parts = Vec::with_capacity(wanted.len());
        for wanted in wanted {
            let told = metadata::fetch(&wanted.target, transport, timeout.min(PATIENCE)).await;
            let metadata = known(told, &wanted)?;
            let questions = self.questions(&wanted, metadata.as_ref(), seed)?;
            let mut target = wanted.target;
            if let Some(input) = wanted.input {
                target.input = input;
            }
            parts.push(Part {
                name: wanted.name,
                weight: wanted.weight,
                target,
                questions,
                manner: wanted.manner,
            });
        }
        Ok(parts)
    }

    fn questions(
        &self,
        wanted: &Wanted,
        metadata: Option<&ModelMetadata>,
        seed: u64,
    ) -> Result<Questions> {
        if let Some(path) = &wanted.data {
            let asked = Asked {
                metadata,
                input: wanted.input.as_deref(),
                pixels: self.pixels,
            };
            return Questions::read(path, asked).context("--data");
        }
        let metadata = metadata.ok_or_else(|| anyhow!("expected --data"))?;
        let draw = Draw {
            rows: self.rows as usize,
            free_axis: self.free_axis as usize,
            from: self.draw.0,
            to: self.draw.1,
            seed,
        };
        Ok(draw.questions(metadata)?)
    }
}

/// The signature; none where the server does not tell and a file says what to send.
fn known(
    told: Result<ModelMetadata, MetadataError>,
    wanted: &Wanted,
) -> Result<Option<ModelMetadata>, Failed> {
    match told {
        Ok(metadata) => Ok(Some(metadata)),
        Err(MetadataError::Refused { .. }) if wanted.data.is_some() => Ok(None),
        Err(error @ MetadataError::Unknown { .. }) => Err(error.into()),
        Err(error) => Err(Failed {
            error: error.into(),
            code: 1,
        }),
    }
}

fn is_there(path: &Path) -> Result<()> {
    let named = || path.display().to_string();
    let found = std::fs::metadata(path).with_context(named)?;
    let is_readable = found.is_file() || found.is_dir();
    is_readable
        .then_some(())
        .ok_or_else(|| anyhow!("{}: expected a file, or a folder of PNGs", named()))
}
