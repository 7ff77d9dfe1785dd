//! `safety`: labelled cases in, a verdict out.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::page::date;
use super::{Output, TOO_SMALL, USAGE, duration, fail, interrupted, share};
use crate::safety::{
    Beside, Case, Claim, Evaluation, Generator, SafetyReport, Sending, Verdict, page, read,
};
use crate::scrape::ScrapeUrl;
use crate::slo::Limits;
use crate::{Dataset, Rate, Target};

/// What is sent, and what is to be proved.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example, beside `make run`, which prints the address of its proxy:\n  \
    aegis-loadtest safety --url http://127.0.0.1:8080 --model digits --version 1 --generate 3000 \\\n    \
    --data loadtest/data/digits/test.csv --html safety.html\n\
    And under load, with batches as in production, at a backend that says how large they are (`http://127.0.0.1:8000`):\n  \
    aegis-loadtest safety --url http://127.0.0.1:8000 --model digits --version 1 --generate 3000 \\\n    \
    --data loadtest/data/digits/test.csv --load 200 --connections 32"
)]
pub(super) struct SafetyArgs {
    /// The server, such as `http://127.0.0.1:8080`.
    #[arg(long, required_unless_present = "write")]
    url: Option<String>,
    /// The model to ask.
    #[arg(long)]
    model: String,
    /// The version to ask for; without it the server chooses.
    #[arg(long)]
    version: Option<String>,
    /// Labelled cases, one JSON object a line: {"expect": "safe" or [reasons], "request": {...}}. Cases that ask
    /// the same count once.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "generate",
        required_unless_present = "generate"
    )]
    cases: Option<PathBuf>,
    /// Make so many different unsafe cases instead, from the images in `--data`, and a safe one of each image.
    #[arg(long, value_name = "CASES", requires = "data")]
    generate: Option<usize>,
    /// A table of images: features from 0 to 16, then the label, with commas (.gz is read too).
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// The input that takes an image.
    #[arg(long, default_value = "image")]
    input: String,
    /// Decides the cases that are made.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write the cases to this file, and send nothing.
    #[arg(long, value_name = "FILE")]
    write: Option<PathBuf>,
    /// The false-negative rate to prove.
    #[arg(long, default_value_t = 0.001, value_parser = share)]
    bound: f64,
    /// How surely.
    #[arg(long, default_value_t = 0.95, value_parser = share)]
    confidence: f64,
    /// Count only refusals as caught, and no flags.
    #[arg(long)]
    must_block: bool,
    /// Connections, each with one request at a time.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    connections: u16,
    /// How long an answer is waited for.
    #[arg(long, default_value = "10s", value_parser = duration::parse)]
    timeout: Duration,
    /// Requests a second to send beside, of the cases that are safe, as users cause them: so that cases run in
    /// batches with others. What is proved then holds at that rate.
    #[arg(long, value_name = "RATE")]
    load: Option<Rate>,
    /// Whose metrics say how large batches were; for several, give it several times. The server itself, unless given.
    #[arg(long, value_name = "URL", requires = "load")]
    scrape: Vec<ScrapeUrl>,
    /// The least rows of a batch, on average; with fewer, nothing is shown.
    #[arg(long, value_name = "ROWS", requires = "load", value_parser = rows)]
    min_batch: Option<f64>,
    /// How late 99 % of the load must be sent at the latest; with more, nothing is shown.
    #[arg(long, default_value = "10ms", value_parser = duration::parse)]
    max_lag: Duration,
    /// Write the report to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page to this file: one HTML file that needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Everything that can fail before the first case has not.
struct Prepared {
    target: Target,
    evaluation: Evaluation,
    json: Option<Output>,
    html: Option<Output>,
}

/// 0: the bound is proved; 1: it is not, or the report could not be written; 2: the cases are too few
/// to prove it, or it was not done as it was asked; 64: the arguments make no run.
pub(super) async fn run(args: SafetyArgs) -> ExitCode {
    let Prepared {
        target,
        evaluation,
        json,
        html,
    } = match args.prepare() {
        Ok(Some(prepared)) => prepared,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => return fail(&error, USAGE.into()),
    };
    let report = match evaluation.run(interrupted()).await {
        Ok(report) => report,
        Err(error) => return fail(&error.into(), USAGE.into()),
    };
    match deliver(&target, &report, json, html) {
        Ok(()) => report.verdict.exit(),
        Err(error) => fail(&error, ExitCode::FAILURE),
    }
}

/// A number of rows.
fn rows(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rows) if (1.0..=1e6).contains(&rows) => Ok(rows),
        _ => Err("expected a number from 1 on".to_owned()),
    }
}

fn write(cases: &[Case], path: &PathBuf) -> Result<()> {
    let file = File::create(path).with_context(|| path.display().to_string())?;
    let mut file = BufWriter::new(file);
    for case in cases {
        writeln!(file, "{}", case.to_line()?)?;
    }
    file.flush()?;
    Ok(())
}

fn deliver(
    target: &Target,
    report: &SafetyReport,
    json: Option<Output>,
    html: Option<Output>,
) -> Result<()> {
    write!(io::stdout().lock(), "{report}").context("stdout")?;
    if let Some(file) = json {
        file.write_json(report)?;
    }
    html.map_or(Ok(()), |file| {
        file.write(page::render(report, target, &date()).as_bytes())
    })
}

// === impl SafetyArgs ===

impl SafetyArgs {
    /// What is to be done; none where cases were only to be written.
    fn prepare(&self) -> Result<Option<Prepared>> {
        let cases = self.cases()?;
        if let Some(path) = &self.write {
            write(&cases, path).context("--write")?;
            return Ok(None);
        }
        let Some(url) = &self.url else {
            bail!("--url: expected an address");
        };
        let mut target = Target::new(url, &self.model).context("--url")?;
        if let Some(version) = &self.version {
            target = target.pinned(version);
        }
        let beside = self.beside(&target, &cases)?;
        let evaluation = Evaluation {
            uri: target.infer().context("--model")?,
            cases,
            claim: Claim {
                bound: self.bound,
                confidence: self.confidence,
                must_block: self.must_block,
            },
            sending: Sending {
                connections: self.connections.into(),
                timeout: self.timeout,
            },
            beside,
            seed: self.seed,
        };
        // A file that cannot be written is known before the cases are sent.
        Ok(Some(Prepared {
            target,
            evaluation,
            json: Output::open("--json", self.json.as_deref())?,
            html: Output::open("--html", self.html.as_deref())?,
        }))
    }

    /// What is sent beside the cases, where anything is.
    fn beside(&self, target: &Target, cases: &[Case]) -> Result<Option<Beside>> {
        let Some(rate) = self.load else {
            return Ok(None);
        };
        if cases.iter().all(|case| !case.expect.is_empty()) {
            bail!("--load: expected cases that are safe, of which the load is made, got none");
        }
        let scrape = if self.scrape.is_empty() {
            let own = target.url().parse().map_err(anyhow::Error::msg);
            vec![own.context("--url")?]
        } else {
            self.scrape.clone()
        };
        Ok(Some(Beside {
            target: target.clone(),
            rate,
            limits: Limits { lag: self.max_lag },
            timeout: self.timeout,
            scrape,
            least_batch: self.min_batch,
        }))
    }

    fn cases(&self) -> Result<Vec<Case>> {
        if let Some(path) = &self.cases {
            return read(path).context("--cases");
        }
        let (Some(count), Some(data)) = (self.generate, &self.data) else {
            bail!("expected --cases, or --generate and --data");
        };
        let data = Dataset::from_csv(data).context("--data")?;
        let generator = Generator {
            input: self.input.clone(),
            largest: 16.0,
            seed: self.seed,
        };
        Ok(generator.cases(&data, count)?)
    }
}

// === impl Verdict ===

impl Verdict {
    fn exit(self) -> ExitCode {
        match self {
            Self::Pass => ExitCode::SUCCESS,
            Self::Fail => ExitCode::FAILURE,
            Self::TooSmall | Self::Invalid => TOO_SMALL.into(),
        }
    }
}
