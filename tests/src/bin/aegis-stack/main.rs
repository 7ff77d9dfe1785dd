//! `aegis-stack`: the whole of Aegis on this machine, for `make run` and `make demo`.
//!
//! It starts the programs that lie beside it on free loopback ports, so that nothing has to be
//! configured, stopped or cleaned up by hand.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, Subcommand};

mod demo;
mod keeper;
mod run;
mod screen;

/// Starts two backends of version 1, one of version 2, and the proxy at 90/10.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// Writes the configurations here and leaves them, instead of into a temporary folder.
    #[arg(long, global = true, value_name = "DIR")]
    folder: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Stays until Ctrl-C, then drains.
    Run,
    /// Tells the story of a rollout in about a minute, under a steady load.
    Demo {
        /// Requests a second.
        #[arg(long, default_value_t = 300.0)]
        rate: f64,
        /// Seconds that each of the four steps lasts.
        #[arg(long, default_value_t = 14)]
        step: u64,
    },
}

fn main() -> ExitCode {
    match start(Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("aegis-stack: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn start(arguments: Arguments) -> Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    // On this thread: the children end with the thread that starts them.
    runtime.block_on(async {
        match arguments.command {
            Command::Run => run::run(arguments.folder).await,
            Command::Demo { rate, step } => {
                demo::demo(arguments.folder, rate, Duration::from_secs(step)).await
            }
        }
    })
}
