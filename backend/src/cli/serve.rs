//! `serve`: from the configuration to the last answer.

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tracing_subscriber::EnvFilter;

use super::{Exit, exit, read_config};
use crate::app::App;
use crate::chain::Chain;
use crate::clock;
use crate::config::{Config, LogFormat};
use crate::loader::Loader;
use crate::server::{Drained, Server};

/// How long the models' threads may take to end after everything was answered. One that hangs in its
/// runtime cannot be ended; the process ends without it.
const THREADS_END: Duration = Duration::from_secs(1);

/// Why serving did not begin.
#[derive(Debug, thiserror::Error)]
enum ServeError {
    #[error("cannot listen on {address}: {source} (see `{key}` in the configuration)")]
    Listen {
        address: SocketAddr,
        key: &'static str,
        source: io::Error,
    },
    #[error("cannot start: {0}")]
    Start(#[from] io::Error),
}

/// How serving ended.
struct Ended {
    drained: Drained,
    /// Whether the models' threads have ended too.
    threads: bool,
}

/// Serves until a signal and a drain.
pub(super) fn serve(file: &Path) -> Exit {
    let config = match read_config(file) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("{}", Chain(&error));
            return Exit::Config;
        }
    };
    log_to_stderr(config.log_format);
    match start(&config) {
        Ok(ended) => {
            let exit = match ended.drained {
                Drained::Idle => Exit::Done,
                Drained::GraceOver | Drained::Interrupted => Exit::Failed,
            };
            if !ended.threads {
                tracing::warn!("a model's thread did not end");
                exit.now();
            }
            exit
        }
        Err(error) => {
            tracing::error!("{error}");
            match error {
                ServeError::Listen { .. } => Exit::Unavailable,
                ServeError::Start(_) => Exit::Failed,
            }
        }
    }
}

fn start(config: &Config) -> Result<Ended, ServeError> {
    let runtime = runtime::Builder::new_multi_thread().enable_all().build()?;
    let app = App::open(config);
    let (server, stops) = runtime.block_on(listen(config, &app))?;
    let loader = Loader::start(Arc::clone(&app.models))?;
    let drained = runtime.block_on(server.run(config.drain, stops));
    runtime.shutdown_background();
    tracing::info!(?drained, "stopped serving");
    // All are told before the first is waited for, so that all end in the same second.
    loader.close();
    app.models.close();
    let deadline = clock::now() + THREADS_END;
    let threads = loader.stop(deadline) & app.models.stop(deadline);
    Ok(Ended { drained, threads })
}

async fn listen(
    config: &Config,
    app: &Arc<App>,
) -> Result<(Server, mpsc::Receiver<()>), ServeError> {
    let failed = |address, key| {
        move |source| ServeError::Listen {
            address,
            key,
            source,
        }
    };
    let server = Server::bind(config.listen, Arc::clone(app)).await;
    let mut server = server.map_err(failed(config.listen, "listen"))?;
    if let Some(address) = config.grpc_listen {
        let both = server.and(address).await;
        server = both.map_err(failed(address, "grpc_listen"))?;
    }
    let stops = stops()?;
    announce(server.address()?, server.second_address()?);
    Ok((server, stops))
}

/// Tells whoever started the program, in one line, which ports it got.
fn announce(address: SocketAddr, grpc: Option<SocketAddr>) {
    tracing::info!(%address, grpc = grpc.map(tracing::field::display), "listening");
    let grpc = grpc
        .map(|grpc| format!(",\"grpc\":\"{grpc}\""))
        .unwrap_or_default();
    exit::print(&format!("{{\"http\":\"{address}\"{grpc}}}\n"));
}

/// A message for each SIGTERM and SIGINT.
fn stops() -> io::Result<mpsc::Receiver<()>> {
    let (stop, stops) = mpsc::channel(1);
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut signals = signal(kind)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            while signals.recv().await.is_some() && stop.send(()).await.is_ok() {}
        });
    }
    Ok(stops)
}

fn log_to_stderr(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr);
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().init(),
    }
}
