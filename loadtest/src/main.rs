//! Parses and delegates.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> ExitCode {
    aegis_loadtest::cli::run(std::env::args_os()).await
}
