//! `safety`: labelled cases in, a verdict out.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::page::date;
use super::{USAGE, duration, fail, share};
use crate::safety::{Case, Claim, Generator, SafetyReport, Sending, Verdict, evaluate, page, read};
use crate::{Dataset, Target};

/// What is sent, and what is to be proved.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Example, beside `make run`, which prints the address of its proxy:\n  \
    aegis-loadtest safety --url http://127.0.0.1:8080 --model digits --version 1 --generate 3000 \\\n    \
    --data loadtest/data/digits/test.csv --html safety.html"
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
    /// Labelled cases, one JSON object a line: {"expect": "safe" or [reasons], "request": {...}}.
    #[arg(
        long,
        value_name = "FILE",
        conflicts_with = "generate",
        required_unless_present = "generate"
    )]
    cases: Option<PathBuf>,
    /// Make so many unsafe cases instead, from the images in `--data`, and a safe one of each image.
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
    /// Write the report to this file, as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
    /// Write a page to this file: one HTML file that needs nothing else.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// 0: the bound is proved; 1: it is not, or the report could not be written; 2: the cases are too few
/// to prove it; 64: the arguments make no run.
pub(super) async fn run(args: SafetyArgs) -> ExitCode {
    match judged(&args).await {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some((target, report))) => match deliver(&args, &target, &report) {
            Ok(()) => report.verdict.exit(),
            Err(error) => fail(&error, ExitCode::FAILURE),
        },
        Err(error) => fail(&error, USAGE.into()),
    }
}

/// The report; none where cases were only written.
async fn judged(args: &SafetyArgs) -> Result<Option<(Target, SafetyReport)>> {
    let cases = args.cases()?;
    if let Some(path) = &args.write {
        write(&cases, path).context("--write")?;
        return Ok(None);
    }
    let Some(url) = &args.url else {
        bail!("--url: expected an address");
    };
    let mut target = Target::new(url, &args.model).context("--url")?;
    if let Some(version) = &args.version {
        target = target.pinned(version);
    }
    let claim = Claim {
        bound: args.bound,
        confidence: args.confidence,
        must_block: args.must_block,
    };
    let sending = Sending {
        connections: args.connections.into(),
        timeout: args.timeout,
    };
    let uri = target.infer().context("--model")?;
    // A page that cannot be written is known before the cases are sent.
    if let Some(path) = &args.html {
        page_file(path)?;
    }
    let report = evaluate(&uri, cases, claim, sending).await?;
    Ok(Some((target, report)))
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

fn page_file(path: &Path) -> Result<File> {
    let file = File::create(path).with_context(|| path.display().to_string());
    file.context("--html")
}

fn deliver(args: &SafetyArgs, target: &Target, report: &SafetyReport) -> Result<()> {
    write!(io::stdout().lock(), "{report}").context("stdout")?;
    if let Some(path) = &args.json {
        let file = File::create(path).with_context(|| path.display().to_string());
        let mut file = file.context("--json")?;
        serde_json::to_writer_pretty(&mut file, report).context("--json")?;
        writeln!(file).context("--json")?;
    }
    if let Some(path) = &args.html {
        let page = page::render(report, target, &date());
        let written = page_file(path)?.write_all(page.as_bytes());
        written.context("--html")?;
    }
    Ok(())
}

// === impl SafetyArgs ===

impl SafetyArgs {
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
            Self::TooSmall => ExitCode::from(2),
        }
    }
}
