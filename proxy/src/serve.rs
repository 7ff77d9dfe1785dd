//! `aegis-proxy serve`: puts the parts together and runs them.
//!
//! ```text
//! data port ── accept.rs ── pingora ── shell.rs ──┐
//! admin port ─ admin.rs ──────────────────────────┼── Shared: snapshot, policies, metrics
//! file, SIGHUP, POST /reload ── reload.rs ────────┤
//! active checks ── health.rs ─────────────────────┤
//! names ── dns.rs ────────────────────────────────┤
//! services ── kubernetes.rs ──────────────────────┘
//! ```
//!
//! SIGTERM or SIGINT drains; a second one ends the process at once.

use std::{
    io::{self, Write},
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use aegis_config::{Fault, Rejected};
use pingora_core::server::configuration::ServerConf;
use pingora_proxy::http_proxy;
use serde::Serialize;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{Mutex, watch},
    time::{Interval, MissedTickBehavior},
};

use crate::{
    accept::{self, Acceptor, head::HeadLimits},
    access_log::{AccessLog, OpenError},
    admin::{self, Admin},
    clock,
    config::{self, Config},
    dns::SystemResolver,
    follow::Followers,
    kubernetes::Cluster,
    logging,
    metrics::Metrics,
    reload::{Applied, Apply, Reloader, Timing},
    shell::Shell,
    state::Shared,
    supervise::keep_up,
    trace::{self, Exporter, Tracer},
};

#[cfg(feature = "kubernetes")]
use crate::kubernetes::ApiServer;

/// pingora's bound on attempts; ours, `max_retries`, is always below it.
const PINGORA_ATTEMPTS: usize = 32;

/// From one look for overdue attempts to the next.
const SWEEP: Duration = Duration::from_millis(5);
/// From one look at what is merely slow to the next.
const TICK: Duration = Duration::from_millis(25);

/// Why the proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration has faults. The operator's fault.
    #[error("{0}")]
    Config(#[from] Rejected),
    /// An address cannot be listened on: taken, or not ours.
    #[error("cannot listen on {address} ({key}): {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The key that names it.
        key: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The access log cannot be written where the configuration says.
    #[error("{0}")]
    AccessLog(#[from] OpenError),
    /// Traces cannot be sent.
    #[error("{0}")]
    Traces(#[from] trace::StartError),
    /// The system refused something else.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// The metrics contradict each other: our fault.
    #[error("cannot start: {0}")]
    Metrics(#[from] prometheus::Error),
}

/// The addresses that were bound; one line of JSON on stdout, so that port 0 is
/// of use to whoever started the proxy.
#[derive(Clone, Copy, Debug, Serialize)]
struct Bound {
    data: SocketAddr,
    admin: SocketAddr,
}

/// Counts the signals that ask the proxy to go.
struct Signals {
    counted: watch::Receiver<u32>,
}

/// Takes a new configuration and tells everyone whom it concerns.
struct Applier {
    shared: Arc<Shared>,
    followers: Arc<Followers>,
}

/// Who is told of what passes.
struct Observers {
    metrics: Arc<Metrics>,
    access_log: Option<Arc<AccessLog>>,
    tracer: Option<Arc<Tracer>>,
}

/// Runs the proxy until it has drained.
///
/// # Errors
/// When it cannot start.
pub fn run(path: &Path) -> Result<(), StartError> {
    let origin = path.display().to_string();
    let text = aegis_config::read_file(path).map_err(|error| error.rejected(&origin))?;
    let config = config::parse(&origin, &text)?;
    logging::init(config.log_format);
    let metrics = Arc::new(Metrics::new()?);
    let access_log = AccessLog::open(&config.access_log, metrics.lost_lines())?.map(Arc::new);
    let tracer = tracer(&config, &metrics)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let observers = Observers {
        metrics,
        access_log: access_log.clone(),
        tracer: tracer.clone(),
    };
    let served = runtime.block_on(serve(path.to_owned(), text, config, observers));
    // What still runs is cut off now, and has its lines and spans.
    drop(runtime);
    if let Some(log) = access_log {
        log.close();
    }
    if let Some(tracer) = tracer {
        tracer.close();
    }
    served
}

async fn serve(
    path: PathBuf,
    text: String,
    config: Config,
    observers: Observers,
) -> Result<(), StartError> {
    let Observers {
        metrics,
        access_log,
        tracer,
    } = observers;
    let data = bind(config.listen.data, "listen.data").await?;
    let admin = bind(config.listen.admin, "listen.admin").await?;
    let bound = Bound {
        data: data.local_addr()?,
        admin: admin.local_addr()?,
    };
    let shared = Shared::new(config.clone(), Arc::clone(&metrics))
        .map_err(|error| rejected(&path.display().to_string(), &error))?;
    let shared = Arc::new(shared.with_access_log(access_log).with_tracer(tracer));

    let resolver = Arc::new(SystemResolver::new(&config.dns));
    let followers = Followers::start(&shared, resolver, cluster(&config));
    let findings = followers.findings();
    let applier = Applier {
        shared: Arc::clone(&shared),
        followers,
    };
    let reloader = Reloader::new(
        &path,
        text,
        Timing::default(),
        applier,
        Arc::clone(&metrics),
    )?;
    let reloads = reloader.handle();
    let reloader = Arc::new(Mutex::new(reloader));
    tokio::spawn(keep_up("follows the configuration", move || {
        let reloader = Arc::clone(&reloader);
        async move { reloader.lock().await.run().await }
    }));
    let operators = Admin {
        source: Arc::clone(&shared) as _,
        controls: Arc::clone(&shared) as _,
        metrics,
        reloads,
        findings,
    };
    tokio::spawn(admin::serve(admin, operators));

    watch_over(&shared);
    let signals = Signals::catch()?;
    announce(bound)?;
    tracing::info!(data = %bound.data, admin = %bound.admin, "listening");
    until_drained(acceptor(data, &shared, &config), &shared, signals).await;
    Ok(())
}

/// Whoever is asked for the endpoints of services; nobody is before a version names one.
#[cfg(feature = "kubernetes")]
#[expect(
    clippy::unnecessary_wraps,
    reason = "without the feature there is none"
)]
fn cluster(config: &Config) -> Option<Arc<dyn Cluster>> {
    Some(Arc::new(ApiServer::new(&config.kubernetes)))
}

/// There is nobody, and validation has refused every version that names a service.
#[cfg(not(feature = "kubernetes"))]
fn cluster(_: &Config) -> Option<Arc<dyn Cluster>> {
    None
}

/// Starts what sends traces, where a collector is configured.
fn tracer(config: &Config, metrics: &Metrics) -> Result<Option<Arc<Tracer>>, trace::StartError> {
    let Some(endpoint) = &config.traces.otlp_endpoint else {
        return Ok(None);
    };
    let exporter = Exporter::start(&config.traces, endpoint, metrics.trace_spans())?;
    Ok(Some(Arc::new(Tracer::new(exporter, config.traces.sample))))
}

/// Ends attempts that are overdue, and lets the policies look at the age of what
/// is out, for as long as the process lives. Neither waits for the other: an attempt that
/// hangs must end whatever becomes of a policy.
fn watch_over(shared: &Arc<Shared>) {
    let swept = Arc::clone(shared);
    tokio::spawn(keep_up("ends what is overdue", move || {
        sweep(Arc::clone(&swept))
    }));
    let ticked = Arc::clone(shared);
    tokio::spawn(keep_up("finds what is slow", move || {
        tick(Arc::clone(&ticked))
    }));
}

async fn sweep(shared: Arc<Shared>) {
    let mut turns = every(SWEEP);
    loop {
        turns.tick().await;
        shared.rescues().sweep(clock::now());
    }
}

async fn tick(shared: Arc<Shared>) {
    let mut turns = every(TICK);
    loop {
        turns.tick().await;
        for model in shared.snapshot_owned().models() {
            model.tick();
        }
    }
}

fn every(period: Duration) -> Interval {
    let mut turns = tokio::time::interval(period);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    turns
}

fn acceptor(listener: TcpListener, shared: &Arc<Shared>, config: &Config) -> Acceptor<Shell> {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let conf = ServerConf {
        threads,
        max_retries: PINGORA_ATTEMPTS,
        upstream_keepalive_pool_size: config.upstream.max_idle_connections.get() as usize,
        ..ServerConf::default()
    };
    let proxy = http_proxy(&Arc::new(conf), Shell::new(Arc::clone(shared)));
    let limits = accept::Limits {
        connections: config.limits.max_connections.get() as usize,
        head: HeadLimits {
            bytes: config.limits.max_header_bytes.get() as usize,
            time: config.limits.header_timeout,
        },
        read_timeout: config.limits.read_timeout,
        keepalive: config.limits.keepalive_timeout,
        streams: config.limits.max_h2_streams.get(),
    };
    Acceptor::new(
        listener,
        Arc::new(proxy),
        limits,
        Arc::clone(shared.metrics()),
    )
}

/// Serves until a signal, drains, and says how that went.
async fn until_drained(acceptor: Acceptor<Shell>, shared: &Shared, signals: Signals) {
    let drain = async {
        signals.seen(1).await;
        shared.start_draining();
        let drain = shared.snapshot().config().drain;
        tracing::info!(?drain, "draining: not ready, still accepting");
        drain
    };
    tokio::select! {
        all_ended = acceptor.run(drain) => if all_ended {
            tracing::info!("drained: every connection has ended");
        } else {
            tracing::warn!("the grace period is over; what still ran is cut off");
        },
        () = signals.seen(2) => tracing::warn!("a second signal: what still ran is cut off"),
    }
}

async fn bind(address: SocketAddr, key: &'static str) -> Result<TcpListener, StartError> {
    let bind = |source| StartError::Bind {
        address,
        key,
        source,
    };
    TcpListener::bind(address).await.map_err(bind)
}

fn announce(bound: Bound) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, &bound)?;
    writeln!(out)?;
    out.flush()
}

/// What validation should have found, as a fault of the whole file.
fn rejected(origin: &str, error: &aegis_policy::ConfigError) -> Rejected {
    Rejected {
        origin: origin.to_owned(),
        faults: vec![Fault {
            path: String::new(),
            line: None,
            message: error.to_string(),
        }],
    }
}

// === impl StartError ===

impl StartError {
    /// The exit code: 78 for the configuration, 69 for an address that is not
    /// to be had, 1 for the rest (the numbers of `sysexits.h`).
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_) | Self::AccessLog(_) | Self::Traces(trace::StartError::Exporter(_)) => {
                78
            }
            Self::Bind { .. } => 69,
            Self::System(_) | Self::Metrics(_) | Self::Traces(trace::StartError::Thread(_)) => 1,
        }
    }
}

// === impl Applier ===

impl Apply for Applier {
    fn apply(&mut self, origin: &str, text: &str) -> Result<Applied, Rejected> {
        let running = self.shared.snapshot_owned();
        let config = config::reload(origin, text, running.config())?;
        let changes = config.diff(running.config());
        let generation = if changes.is_empty() {
            running.generation()
        } else {
            let taken = self.shared.take(config);
            let generation = taken.map_err(|error| rejected(origin, &error))?;
            self.followers.follow();
            generation
        };
        Ok(Applied {
            generation,
            changes,
        })
    }
}

// === impl Signals ===

impl Signals {
    /// From here on SIGTERM and SIGINT no longer end the process.
    fn catch() -> io::Result<Self> {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let count = watch::Sender::new(0);
        let counted = count.subscribe();
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                count.send_modify(|count| *count += 1);
            }
        });
        Ok(Self { counted })
    }

    /// Waits for the `n`-th signal.
    async fn seen(&self, n: u32) {
        // The task that counts lives as long as the runtime.
        let _ = self.counted.clone().wait_for(|count| *count >= n).await;
    }
}
