//! A scenario as it is written: any value that the TOML types allow.

use serde::Deserialize;

/// The file.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawScenario {
    pub(super) about: String,
    pub(super) seconds: f64,
    pub(super) warmup_seconds: f64,
    pub(super) proxies: u32,
    pub(super) rate: Option<f64>,
    pub(super) even: bool,
    pub(super) endpoints: Option<u32>,
    pub(super) zones: u32,
    pub(super) pods: RawPods,
    pub(super) load: Vec<RawLoad>,
    pub(super) faults: Vec<RawFault>,
    pub(super) expect: RawExpect,
}

/// `[pods]`.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawPods {
    pub(super) service_ms: f64,
    pub(super) spread: f64,
    pub(super) parallel: u32,
    pub(super) queue: u32,
    pub(super) network_ms: f64,
    pub(super) reports_load: bool,
}

/// One of `[[load]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawLoad {
    pub(super) at_seconds: f64,
    pub(super) for_seconds: Option<f64>,
    pub(super) factor: Option<f64>,
}

/// One of `[[faults]]`; which keys it may have depends on its kind.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawFault {
    pub(super) kind: Option<Kind>,
    pub(super) at_seconds: f64,
    pub(super) for_seconds: Option<f64>,
    pub(super) version: Option<String>,
    pub(super) count: Option<u32>,
    pub(super) share: Option<f64>,
    pub(super) zone: Option<String>,
    pub(super) nth_zone: Option<u32>,
    pub(super) service_ms: Option<f64>,
    pub(super) status: Option<u16>,
    pub(super) part: Option<f64>,
    pub(super) period_ms: Option<f64>,
    pub(super) factor: Option<f64>,
    pub(super) drain_ms: Option<f64>,
    pub(super) down_ms: Option<f64>,
}

/// What goes wrong.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Slow,
    Hung,
    Failing,
    HalfFailing,
    Busy,
    Flapping,
    Cold,
    Restart,
    Down,
    Gone,
}

/// `[expect]`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RawExpect {
    pub(super) availability: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) retries: Option<f64>,
    pub(super) healthy_ejected: Option<u64>,
}

impl Default for RawScenario {
    fn default() -> Self {
        Self {
            about: String::new(),
            seconds: 30.0,
            warmup_seconds: 15.0,
            proxies: 1,
            rate: None,
            even: false,
            endpoints: None,
            zones: 3,
            pods: RawPods::default(),
            load: Vec::new(),
            faults: Vec::new(),
            expect: RawExpect::default(),
        }
    }
}

impl Default for RawPods {
    fn default() -> Self {
        Self {
            service_ms: 5.0,
            spread: 0.3,
            parallel: 16,
            queue: 64,
            network_ms: 0.2,
            reports_load: true,
        }
    }
}
