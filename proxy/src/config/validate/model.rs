//! One model: its versions, and the rules between them.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use aegis_policy::split::MAX_WEIGHT;
use http::{HeaderName, header};

use super::{is_itself, kubernetes, scope::Scope, shadow, static_answer};
use crate::config::{
    Admission, Balance, Breaker, Endpoint, HealthCheck, Listen, Model, Name, Place, Retry, Sticky,
    Timeouts, Version, endpoint,
    ranges::{
        BUDGET_PER_SECOND, BUDGET_RATIO, CHECK_MS, DECAY_MS, FACTOR, IN_A_ROW, IN_FLIGHT, LEASE_MS,
        MAX_CLAIM_BYTES, MAX_FALLBACK, MAX_PATH_BYTES, OPEN_MS, PROBES, QUEUED, RATIO,
        REPLAY_BYTES, RETRIES, SLOW_MS, SLOW_START_FROM, SLOW_START_MS, UPSTREAM_MS, WINDOW_MS,
    },
    raw::{
        RawAdmission, RawBalance, RawBreaker, RawEndpoint, RawHealthCheck, RawModel, RawRetry,
        RawSticky, RawTimeouts, RawVersion,
    },
};

/// One model.
pub(super) fn model(raw: &RawModel, listen: Option<Listen>, mut scope: Scope<'_, '_>) -> Model {
    Model {
        allow_pin: raw.allow_pin,
        fallback: fallback(raw, &mut scope),
        pinned_fallback: raw.pinned_fallback,
        sticky: sticky(&raw.sticky, scope.child("sticky")),
        versions: versions(&raw.versions, listen, &mut scope),
        breaker: breaker(&raw.breaker, scope.child("breaker")),
        balance: balance(&raw.balance, scope.child("balance")),
        health_check: health_check(&raw.health_check, scope.child("health_check")),
        admission: admission(&raw.admission, scope.child("admission")),
        retry: retry(&raw.retry, scope.child("retry")),
        timeouts: timeouts(&raw.timeouts, scope.child("timeouts")),
        shadow: shadow::shadow(raw, scope.child("shadow")),
        static_answer: static_answer::static_answer(raw, &mut scope).map(Arc::new),
    }
}

/// Every version of the chain exists, and stands there once.
fn fallback(raw: &RawModel, scope: &mut Scope<'_, '_>) -> Vec<Name> {
    if raw.fallback.len() > MAX_FALLBACK {
        let got = raw.fallback.len();
        scope.fault(
            "fallback",
            format!("expected at most {MAX_FALLBACK} versions, got {got}"),
        );
    }
    let mut chain: Vec<Name> = Vec::new();
    for (i, version) in raw.fallback.iter().enumerate() {
        if !raw.versions.contains_key(version) {
            let known: Vec<&str> = raw.versions.keys().map(String::as_str).collect();
            let message = format!("no version {version:?} (known: {})", known.join(", "));
            scope.element_fault("fallback", i, message);
        } else if chain.iter().any(|known| **known == **version) {
            scope.element_fault("fallback", i, format!("version {version:?} is there twice"));
        } else if let Ok(name) = Name::new(version) {
            chain.push(name);
        }
    }
    chain
}

fn versions(
    raw: &BTreeMap<String, RawVersion>,
    listen: Option<Listen>,
    scope: &mut Scope<'_, '_>,
) -> BTreeMap<Name, Version> {
    if raw.is_empty() {
        scope.overall_fault(
            "versions",
            "expected at least one version, as in [models.M.versions.1]",
        );
    }
    let versions: BTreeMap<Name, Version> = raw
        .iter()
        .filter_map(|(name, raw)| {
            let mut versions = scope.child("versions");
            let name = versions.name(name)?;
            let version = version(raw, listen, versions.child(&name));
            Some((name, version))
        })
        .collect();
    if !raw.is_empty() && raw.values().all(|version| version.weight == Some(0.0)) {
        scope.overall_fault("versions", "at least one weight must be above 0");
    }
    versions
}

fn version(raw: &RawVersion, listen: Option<Listen>, mut scope: Scope<'_, '_>) -> Version {
    let weight = match raw.weight {
        Some(weight) if (0.0..=MAX_WEIGHT).contains(&weight) => weight,
        Some(weight) => {
            scope.fault(
                "weight",
                format!("expected a number from 0 to {MAX_WEIGHT}, got {weight}"),
            );
            0.0
        }
        None => {
            scope.fault(
                "weight",
                "missing: expected a number such as 100, or 0 for no split traffic",
            );
            0.0
        }
    };
    let mut endpoints = endpoints(&raw.endpoints, listen, &mut scope);
    if raw.endpoints.is_empty() && !kubernetes::is_given(raw) {
        scope.overall_fault(
            "endpoints",
            "expected at least one endpoint such as \"10.0.0.1:8000\", or `kubernetes`",
        );
    }
    let place = kubernetes::place(&raw.kubernetes, scope.child("kubernetes"));
    endpoints.extend(place.map(|place| Endpoint { place, zone: None }));
    Version { weight, endpoints }
}

fn endpoints(
    raw: &[RawEndpoint],
    listen: Option<Listen>,
    scope: &mut Scope<'_, '_>,
) -> Vec<Endpoint> {
    let mut seen: HashMap<Place, usize> = HashMap::new();
    let mut endpoints = Vec::with_capacity(raw.len());
    for (i, raw) in raw.iter().enumerate() {
        let (text, zone) = raw.parts();
        let zone = zone_of(zone, scope.element("endpoints", i));
        match endpoint::endpoint(text) {
            Err(error) => scope.element_fault("endpoints", i, error.to_string()),
            Ok(place) if seen.contains_key(&place) => {
                let first = seen[&place];
                scope.element_fault(
                    "endpoints",
                    i,
                    format!("{place} is endpoints[{first}] already"),
                );
            }
            Ok(Place::Address(address))
                if listen.is_some_and(|listen| is_itself(address, listen.data)) =>
            {
                let message = format!("{address} is the proxy's own data port");
                scope.element_fault("endpoints", i, message);
            }
            Ok(place) => {
                seen.insert(place.clone(), i);
                endpoints.push(Endpoint { place, zone });
            }
        }
    }
    endpoints
}

fn zone_of(text: &str, mut scope: Scope<'_, '_>) -> Option<Name> {
    if text.is_empty() {
        return None;
    }
    scope.parsed("zone", Name::new(text))
}

fn sticky(raw: &RawSticky, mut scope: Scope<'_, '_>) -> Option<Sticky> {
    let RawSticky {
        header,
        cookie,
        jwt_claim,
        jwt_header,
    } = raw;
    if !jwt_header.is_empty() && jwt_claim.is_empty() {
        scope.fault(
            "jwt_header",
            "says where a token is, and `jwt_claim` is empty",
        );
    }
    match (header.as_str(), cookie.as_str(), jwt_claim.as_str()) {
        ("", "", "") => None,
        (header, "", "") => scope
            .parsed("header", HeaderName::try_from(header))
            .map(Sticky::Header),
        ("", cookie, "") if is_token(cookie) => Some(Sticky::Cookie(cookie.to_owned())),
        ("", cookie, "") => {
            let message = format!("expected the name of a cookie, got {cookie:?}");
            scope.fault("cookie", message);
            None
        }
        ("", "", claim) if claim.len() > MAX_CLAIM_BYTES => {
            let (most, got) = (MAX_CLAIM_BYTES, claim.len());
            scope.fault(
                "jwt_claim",
                format!("expected at most {most} bytes, got {got}"),
            );
            None
        }
        ("", "", claim) => {
            let header = match jwt_header.as_str() {
                "" => header::AUTHORIZATION,
                name => scope.parsed("jwt_header", HeaderName::try_from(name))?,
            };
            let claim = claim.to_owned();
            Some(Sticky::Jwt { header, claim })
        }
        (..) => {
            let second = if cookie.is_empty() {
                "jwt_claim"
            } else {
                "cookie"
            };
            scope.fault(second, "expected one of `header`, `cookie` and `jwt_claim`");
            None
        }
    }
}

/// Whether a text is a token as RFC 9110 has it, which is what a cookie is named by.
fn is_token(text: &str) -> bool {
    let special = |byte| b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || special(byte))
}

fn balance(raw: &RawBalance, mut scope: Scope<'_, '_>) -> Balance {
    Balance {
        by: raw.by,
        decay: scope.millis("decay_ms", raw.decay_ms, DECAY_MS),
        max_in_flight: scope.count("max_in_flight", raw.max_in_flight, IN_FLIGHT),
        slow_start: scope.millis("slow_start_ms", raw.slow_start_ms, SLOW_START_MS),
        slow_start_from: scope.fraction("slow_start_from", raw.slow_start_from, SLOW_START_FROM),
    }
}

fn breaker(raw: &RawBreaker, mut scope: Scope<'_, '_>) -> Breaker {
    let breaker = Breaker {
        consecutive_failures: scope.count(
            "consecutive_failures",
            raw.consecutive_failures,
            IN_A_ROW,
        ),
        failure_ratio: scope.fraction("failure_ratio", raw.failure_ratio, RATIO),
        consecutive_slow: scope.count("consecutive_slow", raw.consecutive_slow, IN_A_ROW),
        slow_ratio: scope.fraction("slow_ratio", raw.slow_ratio, RATIO),
        min_samples: scope.count("min_samples", raw.min_samples, IN_A_ROW),
        window: scope.millis("window_ms", raw.window_ms, WINDOW_MS),
        sparse_window: scope.millis("sparse_window_ms", raw.sparse_window_ms, WINDOW_MS),
        latency_threshold: scope.millis("latency_threshold_ms", raw.latency_threshold_ms, SLOW_MS),
        relative_factor: scope.fraction("relative_factor", raw.relative_factor, FACTOR),
        relative_floor: scope.millis("relative_floor_ms", raw.relative_floor_ms, SLOW_MS),
        open_base: scope.millis("open_base_ms", raw.open_base_ms, OPEN_MS),
        open_max: scope.millis("open_max_ms", raw.open_max_ms, OPEN_MS),
        half_open_max_probes: scope.count("half_open_max_probes", raw.half_open_max_probes, PROBES),
        half_open_successes: scope.count("half_open_successes", raw.half_open_successes, PROBES),
        probe_lease: scope.millis("probe_lease_ms", raw.probe_lease_ms, LEASE_MS),
        enforce: raw.enforce,
    };
    if breaker.sparse_window < breaker.window {
        let (least, got) = (raw.window_ms, raw.sparse_window_ms);
        scope.fault(
            "sparse_window_ms",
            format!("expected at least window_ms, {least}, got {got}"),
        );
    }
    if breaker.open_max < breaker.open_base {
        let (base, max) = (raw.open_base_ms, raw.open_max_ms);
        scope.fault(
            "open_max_ms",
            format!("expected at least open_base_ms, {base}, got {max}"),
        );
    }
    breaker
}

fn health_check(raw: &RawHealthCheck, mut scope: Scope<'_, '_>) -> HealthCheck {
    if let Err(message) = check_path(&raw.path) {
        scope.fault("path", message);
    }
    HealthCheck {
        path: raw.path.clone(),
        interval: scope.millis("interval_ms", raw.interval_ms, CHECK_MS),
        timeout: scope.millis("timeout_ms", raw.timeout_ms, CHECK_MS),
        healthy_after: scope.count("healthy_after", raw.healthy_after, IN_A_ROW),
        unhealthy_after: scope.count("unhealthy_after", raw.unhealthy_after, IN_A_ROW),
    }
}

/// Whether a text can stand in a request line once its names are filled in.
fn check_path(path: &str) -> Result<(), String> {
    if path.len() > MAX_PATH_BYTES {
        return Err(format!(
            "expected at most {MAX_PATH_BYTES} bytes, got {}",
            path.len()
        ));
    }
    if !path.starts_with('/') {
        return Err(format!("expected a path that starts with /, got {path:?}"));
    }
    let filled = path.replace("{model}", "m").replace("{version}", "v");
    if let Some(bad) = filled
        .chars()
        .find(|c| !c.is_ascii_graphic() || matches!(c, '{' | '}' | '#'))
    {
        return Err(format!(
            "expected printable ASCII with {{model}} and {{version}} as the only braces, got {bad:?}"
        ));
    }
    Ok(())
}

fn admission(raw: &RawAdmission, mut scope: Scope<'_, '_>) -> Admission {
    let max_queued = scope.number("max_queued", raw.max_queued, QUEUED);
    Admission {
        max_queued: u32::try_from(max_queued).unwrap_or(u32::MAX),
    }
}

fn retry(raw: &RawRetry, mut scope: Scope<'_, '_>) -> Retry {
    let max_retries = scope.number("max_retries", raw.max_retries, RETRIES);
    Retry {
        max_retries: u32::try_from(max_retries).unwrap_or(u32::MAX),
        on_500: raw.on_500,
        budget_ratio: scope.fraction("budget_ratio", raw.budget_ratio, BUDGET_RATIO),
        budget_per_second: scope.fraction(
            "budget_per_second",
            raw.budget_per_second,
            BUDGET_PER_SECOND,
        ),
        per_try_floor: scope.millis("per_try_floor_ms", raw.per_try_floor_ms, SLOW_MS),
        per_try_factor: scope.fraction("per_try_factor", raw.per_try_factor, FACTOR),
        replay_limit_bytes: scope.number(
            "replay_limit_bytes",
            raw.replay_limit_bytes,
            REPLAY_BYTES,
        ),
    }
}

fn timeouts(raw: &RawTimeouts, mut scope: Scope<'_, '_>) -> Timeouts {
    Timeouts {
        request: scope.millis("request_ms", raw.request_ms, UPSTREAM_MS),
        connect: scope.millis("connect_ms", raw.connect_ms, UPSTREAM_MS),
        idle: scope.millis("idle_ms", raw.idle_ms, UPSTREAM_MS),
        write: scope.millis("write_ms", raw.write_ms, UPSTREAM_MS),
    }
}
