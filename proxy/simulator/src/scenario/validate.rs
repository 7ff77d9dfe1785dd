//! From what is written to what makes sense, with every fault.

use std::{sync::Arc, time::Duration};

use aegis_config::{Faults, KeyPath, Segment};

use super::{
    Among, Expect, Fault, Load, PodKind, Scenario, What, Which,
    raw::{Kind, RawExpect, RawFault, RawLoad, RawPods, RawScenario},
};

/// The largest pool that is simulated; what the proxy's configuration may hold.
const MAX_ENDPOINTS: f64 = 10_000.0;
const MAX_RATE: f64 = 1e6;
const MAX_SECONDS: f64 = 3_600.0;
const MAX_MS: f64 = 600_000.0;

/// Where in the file we are, and where its faults go.
struct Scope<'f, 'd> {
    faults: &'f mut Faults<'d>,
    path: Vec<Segment>,
}

// === impl Scope ===

impl<'d> Scope<'_, 'd> {
    fn fault(&mut self, key: &str, message: impl Into<String>) {
        let path: KeyPath = self
            .path
            .iter()
            .cloned()
            .chain([Segment::Key(key.to_owned())])
            .collect();
        self.faults.at(path, message);
    }

    fn child(&mut self, path: impl IntoIterator<Item = Segment>) -> Scope<'_, 'd> {
        Scope {
            path: self.path.iter().cloned().chain(path).collect(),
            faults: self.faults,
        }
    }

    /// A number in its range; the nearest that is, with a fault, where it is not.
    fn number(&mut self, key: &str, value: f64, min: f64, max: f64) -> f64 {
        if (min..=max).contains(&value) {
            return value;
        }
        self.fault(
            key,
            format!("expected a number from {min} to {max}, got {value}"),
        );
        min
    }

    fn seconds(&mut self, key: &str, value: f64, min: f64) -> Duration {
        Duration::from_secs_f64(self.number(key, value, min, MAX_SECONDS))
    }

    fn millis(&mut self, key: &str, value: f64, min: f64) -> Duration {
        Duration::from_secs_f64(self.number(key, value, min, MAX_MS) / 1e3)
    }

    fn count(&mut self, key: &str, value: u32, min: u32, max: f64) -> u32 {
        if value >= min && f64::from(value) <= max {
            return value;
        }
        self.fault(
            key,
            format!("expected a number from {min} to {max}, got {value}"),
        );
        min
    }

    fn needed<T>(&mut self, key: &str, value: Option<T>, otherwise: T, what: &str) -> T {
        value.unwrap_or_else(|| {
            self.fault(key, format!("missing: expected {what}"));
            otherwise
        })
    }
}

/// The whole file.
pub(super) fn scenario(raw: &RawScenario, faults: &mut Faults<'_>) -> Scenario {
    let mut scope = Scope {
        faults,
        path: Vec::new(),
    };
    let rate = scope.needed("rate", raw.rate, 1.0, "requests a second, such as 800");
    let endpoints = raw
        .endpoints
        .map(|count| scope.count("endpoints", count, 1, MAX_ENDPOINTS));
    Scenario {
        about: raw.about.clone(),
        lasts: scope.seconds("seconds", raw.seconds, 1.0),
        warmup: scope.seconds("warmup_seconds", raw.warmup_seconds, 0.0),
        proxies: scope.count("proxies", raw.proxies, 1, 1_000.0),
        rate: scope.number("rate", rate, 0.1, MAX_RATE),
        even: raw.even,
        endpoints,
        zones: scope.count("zones", raw.zones, 0, 1_000.0),
        pods: pods(&raw.pods, scope.child([Segment::Key("pods".into())])),
        load: each("load", &raw.load, &mut scope, load),
        faults: each("faults", &raw.faults, &mut scope, fault),
        expect: expect(&raw.expect, scope.child([Segment::Key("expect".into())])),
    }
}

fn each<R, T>(
    key: &str,
    raw: &[R],
    scope: &mut Scope<'_, '_>,
    one: impl Fn(&R, Scope<'_, '_>) -> T,
) -> Vec<T> {
    let path = |at| [Segment::Key(key.to_owned()), Segment::Index(at)];
    raw.iter()
        .enumerate()
        .map(|(at, raw)| one(raw, scope.child(path(at))))
        .collect()
}

fn pods(raw: &RawPods, mut scope: Scope<'_, '_>) -> PodKind {
    PodKind {
        service: scope.millis("service_ms", raw.service_ms, 0.01),
        spread: scope.number("spread", raw.spread, 0.0, 3.0),
        parallel: scope.count("parallel", raw.parallel, 1, 10_000.0),
        queue: scope.count("queue", raw.queue, 0, 100_000.0),
        network: scope.millis("network_ms", raw.network_ms, 0.0),
        reports_load: raw.reports_load,
    }
}

fn load(raw: &RawLoad, mut scope: Scope<'_, '_>) -> Load {
    let lasts = scope.needed("for_seconds", raw.for_seconds, 1.0, "how long, such as 10");
    let factor = scope.needed(
        "factor",
        raw.factor,
        1.0,
        "how many times the rate, such as 3",
    );
    Load {
        at: scope.seconds("at_seconds", raw.at_seconds, 0.0),
        lasts: scope.seconds("for_seconds", lasts, 0.001),
        factor: scope.number("factor", factor, 0.01, 1_000.0),
    }
}

fn fault(raw: &RawFault, mut scope: Scope<'_, '_>) -> Fault {
    let kinds = "slow, hung, failing, half_failing, busy, flapping, cold, restart, down or gone";
    let kind = scope.needed("kind", raw.kind, Kind::Hung, kinds);
    let lasts = raw.for_seconds.unwrap_or(MAX_SECONDS);
    Fault {
        at: scope.seconds("at_seconds", raw.at_seconds, 0.0),
        lasts: scope.seconds("for_seconds", lasts, 0.001),
        version: match raw.version.as_deref() {
            None | Some("any") => Which::Any,
            Some("main") => Which::Main,
            Some("canary") => Which::Canary,
            Some(name) => Which::Named(name.into()),
        },
        among: among(raw, &mut scope),
        what: what(raw, kind, &mut scope),
    }
}

fn among(raw: &RawFault, scope: &mut Scope<'_, '_>) -> Among {
    match (raw.count, raw.share, &raw.zone, raw.nth_zone) {
        (None, None, None, None) => Among::Count(1),
        (Some(count), None, None, None) => {
            Among::Count(scope.count("count", count, 1, MAX_ENDPOINTS))
        }
        (None, Some(share), None, None) => Among::Share(scope.number("share", share, 0.0001, 1.0)),
        (None, None, Some(zone), None) => Among::Zone(Arc::from(zone.as_str())),
        (None, None, None, Some(nth)) => {
            Among::NthZone(scope.count("nth_zone", nth, 1, MAX_ENDPOINTS))
        }
        (..) => {
            let given = [
                ("nth_zone", raw.nth_zone.is_some()),
                ("zone", raw.zone.is_some()),
            ];
            let found = given.into_iter().find(|(_, given)| *given);
            let key = found.map_or("share", |(key, _)| key);
            let message = "expected one of `count`, `share`, `zone` and `nth_zone`";
            scope.fault(key, message);
            Among::Count(1)
        }
    }
}

/// What is wrong; a key that says nothing for its kind is a fault.
fn what(raw: &RawFault, kind: Kind, scope: &mut Scope<'_, '_>) -> What {
    let given = [
        ("service_ms", raw.service_ms.is_some()),
        ("status", raw.status.is_some()),
        ("part", raw.part.is_some()),
        ("period_ms", raw.period_ms.is_some()),
        ("factor", raw.factor.is_some()),
        ("drain_ms", raw.drain_ms.is_some()),
        ("down_ms", raw.down_ms.is_some()),
    ];
    let meant: &[&str] = match kind {
        Kind::Slow => &["service_ms"],
        Kind::Failing => &["status", "part"],
        Kind::HalfFailing => &["status"],
        Kind::Flapping => &["status", "period_ms"],
        Kind::Cold => &["factor"],
        Kind::Restart => &["drain_ms", "down_ms", "factor"],
        Kind::Hung | Kind::Busy | Kind::Down | Kind::Gone => &[],
    };
    for (key, _) in given
        .iter()
        .filter(|(key, given)| *given && !meant.contains(key))
    {
        scope.fault(key, "says nothing for this kind of fault");
    }
    match kind {
        Kind::Slow => {
            let time = scope.needed("service_ms", raw.service_ms, 1.0, "a time, such as 200");
            What::Slow(scope.millis("service_ms", time, 0.01))
        }
        Kind::Hung => What::Hung,
        Kind::Failing => What::Failing {
            status: status(raw, scope),
            share: scope.number("part", raw.part.unwrap_or(1.0), 0.001, 1.0),
        },
        Kind::HalfFailing => What::Failing {
            status: status(raw, scope),
            share: 0.5,
        },
        Kind::Busy => What::Failing {
            status: 429,
            share: 1.0,
        },
        Kind::Flapping => What::Flapping {
            status: status(raw, scope),
            period: scope.millis("period_ms", raw.period_ms.unwrap_or(2_000.0), 1.0),
        },
        Kind::Cold => What::Cold {
            factor: factor(raw.factor.unwrap_or(10.0), scope),
        },
        Kind::Restart => What::Restart {
            drain: scope.millis("drain_ms", raw.drain_ms.unwrap_or(3_000.0), 0.0),
            down: scope.millis("down_ms", raw.down_ms.unwrap_or(2_000.0), 1.0),
            factor: factor(raw.factor.unwrap_or(1.0), scope),
        },
        Kind::Down => What::Down,
        Kind::Gone => What::Gone,
    }
}

fn status(raw: &RawFault, scope: &mut Scope<'_, '_>) -> u16 {
    let status = raw.status.unwrap_or(500);
    if !(400..=599).contains(&status) {
        scope.fault(
            "status",
            format!("expected a status from 400 to 599, got {status}"),
        );
    }
    status
}

fn factor(value: f64, scope: &mut Scope<'_, '_>) -> f64 {
    scope.number("factor", value, 1.0, 1_000.0)
}

fn expect(raw: &RawExpect, mut scope: Scope<'_, '_>) -> Expect {
    Expect {
        availability: raw
            .availability
            .map(|least| scope.number("availability", least, 0.0, 1.0)),
        p99: raw.p99_ms.map(|most| scope.millis("p99_ms", most, 0.01)),
        retries: raw
            .retries
            .map(|most| scope.number("retries", most, 0.0, 10.0)),
        healthy_ejected: raw.healthy_ejected,
    }
}
