//! Shadow traffic: a part of the inferences is asked of another version too, and
//! the two answers are compared, number by number.
//!
//! ```text
//! request ──▶ primary ──▶ answer ──▶ client
//!    │                       ╰─ kept while it passes, for one in so many ─╮
//!    ╰──────── copy ──────────▶ shadow version ──▶ answer ──▶ compare ◀───╯
//! ```
//!
//! Nothing of it is on a client's path: the copy goes out when the client has its
//! answer, by an ordinary HTTP client, and nobody waits for it. It is billed to
//! no breaker, budget, estimate or split; the endpoint is chosen by a look at the
//! pool that changes nothing in it. A request that is not drawn pays one draw, a
//! model without a shadow one comparison with none.
//!
//! All of it is bounded: at most `max_at_once` requests are kept or out at once,
//! a slot being taken before the first byte is kept; bodies of over
//! `max_kept_bytes` are not kept; the shadow has `answer_timeout_ms`. What is not compared
//! is counted with its reason ([`Ended`]).

mod compare;
mod copy;
mod form;
mod sample;
mod tally;

pub use compare::{Difference, Mismatch, Tolerance, compare};
pub use sample::Sample;
pub use tally::{Ended, ShadowStatus, Worst};

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use tokio::sync::Semaphore;

use crate::{
    config::{self, Name},
    metrics::Metrics,
    model::Version,
};
use tally::Tally;

/// Sends copies; a clone shares its connections.
pub type CopyClient = Client<HttpConnector, Full<Bytes>>;

/// The shadow of one model. It outlives configurations that do not change it.
#[derive(Debug)]
pub struct Shadow {
    settings: config::Shadow,
    version: Arc<Version>,
    connect: Duration,
    slots: Arc<Semaphore>,
    client: CopyClient,
    /// For calls of gRPC.
    calls: CopyClient,
    tally: Tally,
}

// === impl Shadow ===

impl Shadow {
    /// A shadow that nothing has been compared with yet.
    #[must_use]
    pub fn new(
        model: &Name,
        settings: &config::Shadow,
        version: Arc<Version>,
        connect: Duration,
        metrics: &Metrics,
    ) -> Self {
        let slots = settings.max_at_once.get() as usize;
        Self {
            settings: settings.clone(),
            version,
            connect,
            slots: Arc::new(Semaphore::new(slots)),
            client: copy::client(slots, connect, false),
            calls: copy::client(slots, connect, true),
            tally: Tally::new(metrics.shadow(model, &settings.version)),
        }
    }

    /// Whether it is set like this; `connect` is the longest that connecting takes.
    #[must_use]
    pub fn is_set_as(&self, settings: &config::Shadow, connect: Duration) -> bool {
        self.settings == *settings && self.connect == connect
    }

    /// The version that is asked.
    #[must_use]
    pub fn version(&self) -> &Arc<Version> {
        &self.version
    }

    /// What came of it so far, for people.
    #[must_use]
    pub fn status(&self) -> ShadowStatus {
        self.tally.status(&self.settings)
    }

    /// Whether a request is drawn; `draw` is uniform from 0 to 1.
    #[must_use]
    pub fn draws(&self, draw: f64) -> bool {
        100.0 * draw < self.settings.percent
    }

    fn tolerance(&self) -> Tolerance {
        Tolerance {
            relative: self.settings.rtol,
            absolute: self.settings.atol,
        }
    }
}
