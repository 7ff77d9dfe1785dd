//! The command line: `serve`, `check`, `diff`, `simulate`, `schema`.
//!
//! Exit codes are those of `sysexits.h`: 64 usage, 69 address taken, 78
//! configuration.

use std::{
    fmt::Display,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, Subcommand, error::ErrorKind};

use crate::{
    config::{self, Config, Rejected},
    serve,
    simulate::Simulate,
};

const USAGE: u8 = 64;
const CONFIGURATION: u8 = 78;

/// The edge in front of model servers: weighted versions, breakers, fallback.
#[derive(Debug, Parser)]
#[command(name = "aegis-proxy", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM; the configuration file is followed while running.
    Serve {
        /// The configuration, a TOML file.
        #[arg(long)]
        config: PathBuf,
    },
    /// Report every fault of a configuration file.
    Check {
        /// The configuration, a TOML file.
        file: PathBuf,
    },
    /// Say what a change of configuration means for the traffic: shares, pools,
    /// breakers. Both files must be valid.
    Diff {
        /// The configuration that runs, a TOML file.
        old: PathBuf,
        /// The one that is to replace it.
        new: PathBuf,
    },
    /// Try a configuration on a scenario, in virtual time: what clients would see of it.
    Simulate(Simulate),
    /// Print the JSON Schema of the configuration file.
    Schema,
}

/// Parses the arguments and does what they say.
#[must_use]
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => cli.command.run(),
        Err(error) => {
            let told = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            // Nothing is left to tell whoever closed our output.
            let _ = error.print();
            ExitCode::from(if told { 0 } else { USAGE })
        }
    }
}

// === impl Command ===

impl Command {
    fn run(self) -> ExitCode {
        match self {
            Self::Serve { config } => match serve::run(&config) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => complain(&error, error.exit_code()),
            },
            Self::Check { file } => match check(&file) {
                Ok(config) => say(&summary(&file, &config)),
                Err(rejected) => complain(&rejected, CONFIGURATION),
            },
            Self::Diff { old, new } => match (check(&old), check(&new)) {
                (Ok(old), Ok(new)) => say(&differences(&old, &new)),
                (Err(rejected), _) | (_, Err(rejected)) => complain(&rejected, CONFIGURATION),
            },
            Self::Simulate(simulate) => match simulate.run() {
                Ok((text, true)) => say(&text),
                Ok((text, false)) => {
                    // Said, and not come true: that is the result either way.
                    let _ = say(&text);
                    ExitCode::FAILURE
                }
                Err(error) => complain(&error, error.exit_code()),
            },
            Self::Schema => say(config::schema().trim_end()),
        }
    }
}

fn check(file: &Path) -> Result<Config, Rejected> {
    let origin = file.display().to_string();
    let text = aegis_config::read_file(file).map_err(|error| error.rejected(&origin))?;
    config::parse(&origin, &text)
}

fn summary(file: &Path, config: &Config) -> String {
    let versions: usize = config.models.values().map(|m| m.versions.len()).sum();
    format!(
        "{}: ok, {}, {}, {}",
        file.display(),
        count(config.models.len(), "model"),
        count(versions, "version"),
        count(config.endpoint_count(), "endpoint")
    )
}

/// Every difference, and whether a running proxy would take them.
fn differences(old: &Config, new: &Config) -> String {
    let mut lines = new.diff(old);
    if lines.is_empty() {
        return "no difference".to_owned();
    }
    let models = "models.";
    if lines.iter().any(|line| !line.starts_with(models)) {
        lines.push("what is not under [models] needs a restart".to_owned());
    }
    lines.join("\n")
}

fn count(n: usize, what: &str) -> String {
    let plural = if n == 1 { "" } else { "s" };
    format!("{n} {what}{plural}")
}

fn say(text: &str) -> ExitCode {
    match writeln!(io::stdout(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn complain(error: &impl Display, code: u8) -> ExitCode {
    // With stderr gone the exit code is all that is left to say.
    let _ = writeln!(io::stderr(), "{error}");
    ExitCode::from(code)
}
