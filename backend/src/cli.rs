//! The command line: `serve`, `check`, `schema`, `sign`, `verify`, `fit`, `inspect`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use aegis_config::{ReadError, Rejected, read_file};
use clap::{Parser, Subcommand, ValueEnum};

use crate::config::{Config, RawConfig};
use crate::repository::RawModelFile;

mod check;
mod exit;
mod fit;
#[cfg(feature = "torch")]
mod inspect;
mod serve;
mod signing;

pub use exit::Exit;

/// Serves models over the Open Inference Protocol.
#[derive(Debug, Parser)]
#[command(name = "aegis-backend", version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Load the models and serve them until SIGTERM or SIGINT.
    Serve {
        /// The configuration, backend.toml.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Check a configuration and the models that it names, list every fault, and exit.
    Check {
        /// The configuration, backend.toml.
        #[arg(value_name = "FILE")]
        config: PathBuf,
    },
    /// Sign a folder with a private key, by OpenSSF Model Signing v1.0.
    Sign {
        /// The folder, such as that of a model's version.
        folder: PathBuf,
        /// The private key in PEM: ECDSA on P-256, P-384 or P-521.
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
        /// Where the signature goes; `model.sig` in the folder, when not given.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Verify that a folder is as it was signed.
    Verify {
        /// The folder.
        folder: PathBuf,
        /// A public key in PEM that is trusted; may be given several times.
        #[arg(long, value_name = "FILE", required = true)]
        key: Vec<PathBuf>,
        /// Where the signature is; `model.sig` in the folder, when not given.
        #[arg(long, value_name = "FILE")]
        signature: Option<PathBuf>,
    },
    /// Fit what safety checks compare inputs and outputs with to a data set, and write it beside the
    /// version, as safety.json.
    Fit(fit::FitArgs),
    /// Draft a model.toml from a TorchScript file: its arguments, what it returns, whether it batches.
    #[cfg(feature = "torch")]
    Inspect(inspect::InspectArgs),
    /// Print the JSON Schema of a file.
    Schema {
        /// Of which file.
        #[arg(long, value_enum, default_value_t = SchemaOf::Backend)]
        of: SchemaOf,
    },
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SchemaOf {
    /// The configuration, backend.toml.
    Backend,
    /// The description of a model, model.toml.
    Model,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
enum ConfigError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Rejected(#[from] Rejected),
}

/// Does what the command line says.
#[must_use]
pub fn main() -> ExitCode {
    let exit = match Cli::try_parse() {
        Ok(cli) => run(cli.command),
        Err(error) => {
            // Help and version are asked for; everything else is misuse.
            let exit = if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
            let _ = error.print();
            exit
        }
    };
    exit.into()
}

/// The JSON Schema of backend.toml.
#[must_use]
pub fn backend_schema() -> String {
    aegis_config::schema::<RawConfig>("aegis-backend configuration")
}

/// The JSON Schema of model.toml.
#[must_use]
pub fn model_schema() -> String {
    aegis_config::schema::<RawModelFile>("aegis model description")
}

fn run(command: Command) -> Exit {
    match command {
        Command::Serve { config } => serve::serve(&config),
        Command::Check { config } => check::check(&config),
        Command::Sign { folder, key, out } => signing::sign(&folder, &key, out),
        Command::Verify {
            folder,
            key,
            signature,
        } => signing::verify(&folder, &key, signature.as_deref()),
        Command::Fit(args) => fit::fit(&args),
        #[cfg(feature = "torch")]
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Schema {
            of: SchemaOf::Backend,
        } => exit::print(&backend_schema()),
        Command::Schema {
            of: SchemaOf::Model,
        } => exit::print(&model_schema()),
    }
}

fn read_config(file: &Path) -> Result<Config, ConfigError> {
    let text = read_file(file)?;
    let folder = file.parent().unwrap_or(Path::new(""));
    Ok(Config::parse(&file.display().to_string(), &text, folder)?)
}
