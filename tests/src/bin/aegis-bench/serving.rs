//! What a model server makes of two cores, beside its peers.
//!
//! All run the same perceptron, 784-512-512-10, on one instance with one thread inside, in batches of
//! at most 32. Servers and load share the two cores. Loads are closed, from 1, 16 and 64
//! connections: `wrk` for HTTP, binary and JSON, and `h2load` for gRPC.
//!
//! Rounds are interleaved and medians reported. A server's answers are compared with libtorch's own
//! before it is measured, and afterwards it must have counted as many as the generator ([`proof`]).
//! A run only counts where the peers do what they did elsewhere ([`bounds`]).

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod bounds;
mod contender;
mod form;
mod load;
mod proof;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::args::{Models, Output, Programs, Rounds};
use crate::healthy::measure;
use crate::median;
use crate::wrk::Closed;

use self::contender::{Contender, Places, Server};
use self::form::Form;
use self::load::Generator;

pub(crate) use self::form::Examples;
pub(crate) use self::load::binary as binary_load;

/// The model that is served.
pub(crate) const MODEL: &str = "mlp";
/// Connections of the three loads.
const CONNECTIONS: [usize; 3] = [1, 16, 64];

/// What one contender did with one load, or the medians of its rounds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Figures {
    requests_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    /// Of the server and its children.
    cpu_us_per_request: f64,
    /// Answers other than 200.
    failed: u64,
}

type Key = (Form, usize, Contender);
type Table = BTreeMap<Key, Figures>;

/// A line of the table, as JSON has it.
#[derive(Debug, Serialize)]
struct Row {
    form: &'static str,
    connections: usize,
    server: &'static str,
    #[serde(flatten)]
    figures: Figures,
}

/// What to compare, and with what.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    programs: Programs,
    #[command(flatten)]
    models: Models,
    /// The Python environment of the peers.
    #[arg(long)]
    peers: PathBuf,
    /// How tensors are sent: `binary`, `json` and `grpc`; all, by default.
    #[arg(long, value_delimiter = ',')]
    forms: Vec<String>,
    /// The contenders; all, by default.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    #[command(flatten)]
    rounds: Rounds,
    /// How long each load lasts.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    #[command(flatten)]
    output: Output,
}

/// Runs every round, prints the table, and compares it with the bounds.
pub(crate) async fn run(args: &Args) -> Result<ExitCode> {
    let places = Places {
        programs: &args.programs,
        models: args.models.folder()?,
        peers: args.peers.clone(),
    };
    let contenders = match args.only.as_slice() {
        [] => Contender::ALL.to_vec(),
        names => names
            .iter()
            .map(|name| Contender::named(name))
            .collect::<Result<_>>()?,
    };
    let forms = match args.forms.as_slice() {
        [] => Form::ALL.to_vec(),
        names => names
            .iter()
            .map(|name| Form::named(name))
            .collect::<Result<_>>()?,
    };
    let examples = Examples::read(&places.models)?;
    let lasts = Duration::from_secs(args.seconds.max(1));
    let mut rounds: BTreeMap<Key, Vec<Figures>> = BTreeMap::new();
    for round in args.rounds.all() {
        for &form in &forms {
            for &contender in contenders.iter().filter(|one| one.speaks(form)) {
                let seen = once(contender, form, &places, &examples, lasts).await?;
                for (connections, figures) in CONNECTIONS.into_iter().zip(seen) {
                    let key = (form, connections, contender);
                    println!("round {round}  {}", line(key, &figures));
                    rounds.entry(key).or_default().push(figures);
                }
            }
        }
    }
    let table: Table = rounds
        .iter()
        .map(|(key, all)| (*key, Figures::median(all)))
        .collect();
    println!("medians");
    for (key, figures) in &table {
        println!("{}", line(*key, figures));
    }
    let missed = bounds::missed(&table);
    args.output.conclude(&rows(&table), &missed)
}

/// One contender with one form, under all three loads.
async fn once(
    contender: Contender,
    form: Form,
    places: &Places<'_>,
    examples: &Examples,
    lasts: Duration,
) -> Result<Vec<Figures>> {
    let server = contender.start(places, form).await?;
    proof::answers(contender, &server, form, examples).await?;
    let generator = Generator::new(contender, form, examples)?;
    let mut all = Vec::new();
    for connections in CONNECTIONS {
        // Until every batch size has run.
        generator
            .run(&server, connections, Duration::from_secs(1))
            .await?;
        all.push(measured(contender, &server, &generator, connections, lasts).await?);
    }
    Ok(all)
}

async fn measured(
    contender: Contender,
    server: &Server,
    generator: &Generator,
    connections: usize,
    lasts: Duration,
) -> Result<Figures> {
    let pid = server.process.pid();
    let counted = proof::counted(contender, server.metrics).await?;
    let before = measure::cpu_time(pid)?;
    let Closed {
        requests,
        requests_per_second,
        p50_ms,
        p99_ms,
        failed,
        ..
    } = generator.run(server, connections, lasts).await?;
    let cpu = measure::cpu_time(pid)?.saturating_sub(before);
    let counted = proof::counted(contender, server.metrics).await? - counted;
    // What was under way when the time was over, or when the load before this ended, is counted by
    // the server alone.
    let answered = requests - failed.min(requests);
    ensure!(
        (answered..=answered + 2 * connections as u64).contains(&counted),
        "{}: the generator counts {answered} answers, and the server {counted}",
        contender.name()
    );
    Ok(Figures {
        requests_per_second,
        p50_ms,
        p99_ms,
        cpu_us_per_request: measure::micros_each(cpu, requests),
        failed,
    })
}

fn line((form, connections, contender): Key, figures: &Figures) -> String {
    format!(
        "{:6} {connections:2}  {:10} {:6.0}/s p50 {:6.2} p99 {:6.2} ms  cpu {:6.1} µs  {} failed",
        form.name(),
        contender.name(),
        figures.requests_per_second,
        figures.p50_ms,
        figures.p99_ms,
        figures.cpu_us_per_request,
        figures.failed,
    )
}

fn rows(table: &Table) -> Vec<Row> {
    let row = |(&(form, connections, contender), &figures): (&Key, &Figures)| Row {
        form: form.name(),
        connections,
        server: contender.name(),
        figures,
    };
    table.iter().map(row).collect()
}

// === impl Figures ===

impl Figures {
    /// The median of each figure by itself; of failures, the sum.
    fn median(rounds: &[Self]) -> Self {
        Self {
            requests_per_second: median::of(rounds, |f| f.requests_per_second),
            p50_ms: median::of(rounds, |f| f.p50_ms),
            p99_ms: median::of(rounds, |f| f.p99_ms),
            cpu_us_per_request: median::of(rounds, |f| f.cpu_us_per_request),
            failed: rounds.iter().map(|f| f.failed).sum(),
        }
    }
}
