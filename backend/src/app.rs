//! What every connection shares.

use std::sync::Arc;

use tokio::sync::watch;

use crate::api::Uploads;
use crate::config::{Config, HttpLimits};
use crate::metrics::Metrics;
use crate::served::Models;

/// How far the process is on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Not at all.
    #[default]
    Serving,
    /// Says that it is not ready, and serves whoever still comes.
    Leaving,
    /// The listener is closed; what is in flight is finished, and more is refused.
    Closing,
}

/// The state of the program.
#[derive(Debug)]
pub struct App {
    /// What is served.
    pub models: Arc<Models>,
    /// What is counted.
    pub metrics: Metrics,
    /// What bounds a connection and a request.
    pub http: HttpLimits,
    /// What bounds all bodies that are being read.
    pub uploads: Arc<Uploads>,
    phase: watch::Sender<Phase>,
}

// === impl App ===

impl App {
    /// Reads the models' descriptions; nothing is loaded yet.
    #[must_use]
    pub fn open(config: &Config) -> Arc<Self> {
        let metrics = if config.metrics {
            Metrics::new()
        } else {
            Metrics::off()
        };
        let models = Arc::new(Models::open(config, &metrics));
        Arc::new(Self {
            models,
            metrics,
            http: config.http,
            uploads: Uploads::new(config.http.upload_bytes),
            phase: watch::Sender::default(),
        })
    }

    /// How far the process is on its way out.
    #[must_use]
    pub fn phase(&self) -> Phase {
        *self.phase.borrow()
    }

    /// Goes on to a later phase.
    pub(crate) fn enter(&self, phase: Phase) {
        tracing::info!(?phase, "drain");
        self.phase.send_replace(phase);
    }

    /// Waits for that phase.
    pub(crate) async fn reached(&self, phase: Phase) {
        let mut phases = self.phase.subscribe();
        // It fails only when the sender is gone, and `self` holds it.
        let _ = phases.wait_for(|now| *now >= phase).await;
    }
}
