//! The thread that sends requests which have ended to a collector, as OTLP over HTTP.
//!
//! What waits is bounded, and what is lost is counted: a collector that is slow or
//! away costs requests nothing, and memory no more than the queue. Spans go in
//! batches, one after the other, each within a deadline in which it is tried again
//! as the protocol says.
//!
//! The thread is one of its own, as the access log's is: to make a thousand spans of
//! a batch and encode them takes milliseconds, which no request is to wait for on
//! its thread. Whoever adds to the queue wakes it once for the first of a batch, and
//! once when a batch is full.

use std::{
    env, io,
    sync::{Arc, mpsc as std_mpsc},
    thread,
    time::Duration,
};

use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{
    ExporterBuildError, Protocol, SpanExporter as OtlpExporter, WithExportConfig,
};
use opentelemetry_sdk::{
    Resource,
    resource::EnvResourceDetector,
    trace::{SpanData, SpanExporter},
};
use parking_lot::Mutex;
use prometheus::IntCounter;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{Notify, mpsc},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::Finished;
use crate::config;

/// The name of this program among others.
const SERVICE: &str = "aegis-proxy";
/// The variable that gives it another. Those of `OTEL_RESOURCE_ATTRIBUTES` are added.
const SERVICE_VARIABLE: &str = "OTEL_SERVICE_NAME";
/// How long the end of the process waits for the last batches.
const LAST_BATCHES: Duration = Duration::from_secs(2);
/// And how long for the thread to say that it is done.
const LAST_WORD: Duration = Duration::from_millis(500);

/// Traces could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The configuration or the variables `OTEL_EXPORTER_OTLP_*` make no sense. The
    /// operator's fault.
    #[error("cannot send traces ([traces], OTEL_EXPORTER_OTLP_*): {0}")]
    Exporter(#[from] ExporterBuildError),
    /// The system starts no thread.
    #[error("cannot send traces: {0}")]
    Thread(#[from] io::Error),
}

/// What becomes of spans.
#[derive(Clone, Debug)]
pub struct SpanCounts {
    /// A collector has taken them.
    pub exported: IntCounter,
    /// Too many waited.
    pub full: IntCounter,
    /// They could not be sent.
    pub failed: IntCounter,
}

/// Where requests go that have ended.
#[derive(Debug)]
pub struct Exporter {
    queue: mpsc::Sender<Finished>,
    batch: usize,
    /// A batch is full.
    full: Arc<Notify>,
    counts: SpanCounts,
    ending: CancellationToken,
    /// Says that the last batch is sent.
    done: Mutex<Option<std_mpsc::Receiver<()>>>,
}

/// What the thread works with.
struct Worker {
    queue: mpsc::Receiver<Finished>,
    batch: usize,
    interval: Duration,
    full: Arc<Notify>,
    otlp: OtlpExporter,
    counts: SpanCounts,
    scope: InstrumentationScope,
    ending: CancellationToken,
    /// The last batch could not be sent.
    failing: bool,
}

// === impl Exporter ===

impl Exporter {
    /// Starts the thread that sends to `endpoint`.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(
        config: &config::Traces,
        endpoint: &str,
        counts: SpanCounts,
    ) -> Result<Self, StartError> {
        let room = config.queue_requests.get() as usize;
        let batch = config.batch_requests.get() as usize;
        let (exporter, queue) = Self::queue(room, batch, counts.clone());
        let worker = Worker {
            queue,
            batch,
            interval: config.batch_interval,
            full: Arc::clone(&exporter.full),
            otlp: otlp(endpoint, config.export_timeout)?,
            counts,
            scope: InstrumentationScope::builder(SERVICE)
                .with_version(env!("CARGO_PKG_VERSION"))
                .build(),
            ending: exporter.ending.clone(),
            failing: false,
        };
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (done, is_done) = std_mpsc::channel();
        thread::Builder::new()
            .name("traces".to_owned())
            .spawn(move || {
                worker.run(&runtime);
                // Nobody waits when the process is not about to end.
                let _ = done.send(());
            })?;
        *exporter.done.lock() = Some(is_done);
        Ok(exporter)
    }

    /// A queue with so much room, and its other end.
    pub(super) fn queue(
        room: usize,
        batch: usize,
        counts: SpanCounts,
    ) -> (Self, mpsc::Receiver<Finished>) {
        let (queue, other_end) = mpsc::channel(room);
        let exporter = Self {
            queue,
            batch,
            full: Arc::default(),
            counts,
            ending: CancellationToken::new(),
            done: Mutex::new(None),
        };
        (exporter, other_end)
    }

    /// Takes a request that has ended, or counts what was lost.
    pub fn send(&self, finished: Finished) {
        let spans = finished.spans() as u64;
        if self.queue.try_send(finished).is_err() {
            self.counts.full.inc_by(spans);
        } else if self.queue.max_capacity() - self.queue.capacity() >= self.batch {
            self.full.notify_one();
        }
    }

    /// Sends what waits and takes no more, within two seconds and a half.
    pub fn close(&self) {
        self.ending.cancel();
        if let Some(done) = self.done.lock().take() {
            // A collector that is away must not hold up the end.
            let _ = done.recv_timeout(LAST_BATCHES + LAST_WORD);
        }
    }
}

/// OpenTelemetry's own exporter. Retries, and headers for a collector that wants
/// them (`OTEL_EXPORTER_OTLP_HEADERS`), are its business.
fn otlp(endpoint: &str, timeout: Duration) -> Result<OtlpExporter, ExporterBuildError> {
    let mut otlp = OtlpExporter::builder()
        .with_http()
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(endpoint)
        .with_timeout(timeout)
        .build()?;
    let mut resource = Resource::builder_empty()
        .with_service_name(SERVICE)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_detector(Box::new(EnvResourceDetector::new()));
    if let Ok(name) = env::var(SERVICE_VARIABLE) {
        resource = resource.with_service_name(name);
    }
    otlp.set_resource(&resource.build());
    Ok(otlp)
}

// === impl Worker ===

impl Worker {
    /// Works until it is told to end, and then for a moment longer.
    fn run(self, runtime: &Runtime) {
        let ending = self.ending.clone();
        runtime.block_on(async {
            let too_late = async {
                ending.cancelled().await;
                sleep(LAST_BATCHES).await;
            };
            tokio::select! {
                () = self.work() => {}
                () = too_late => tracing::warn!("the last traces could not be sent in time"),
            }
        });
    }

    async fn work(mut self) {
        let mut batch = Vec::with_capacity(self.batch);
        let ending = self.ending.clone();
        loop {
            tokio::select! {
                taken = self.queue.recv_many(&mut batch, 1) => if taken == 0 {
                    return;
                },
                () = ending.cancelled() => {}
            }
            if self.queue.len() + 1 < self.batch {
                tokio::select! {
                    () = self.full.notified() => {}
                    () = sleep(self.interval) => {}
                    () = ending.cancelled() => {}
                }
            }
            while batch.len() < self.batch
                && let Ok(finished) = self.queue.try_recv()
            {
                batch.push(finished);
            }
            self.export(&mut batch).await;
            if ending.is_cancelled() && self.queue.is_empty() {
                return;
            }
        }
    }

    async fn export(&mut self, batch: &mut Vec<Finished>) {
        if batch.is_empty() {
            return;
        }
        let count = batch.iter().map(Finished::spans).sum();
        let mut spans: Vec<SpanData> = Vec::with_capacity(count);
        for finished in batch.drain(..) {
            finished.add_to(&mut spans, &self.scope);
        }
        match self.otlp.export(spans).await {
            Ok(()) => {
                self.counts.exported.inc_by(count as u64);
                self.failing = false;
            }
            Err(error) => {
                self.counts.failed.inc_by(count as u64);
                if !self.failing {
                    tracing::warn!(%error, "cannot send traces to the collector");
                }
                self.failing = true;
            }
        }
    }
}
