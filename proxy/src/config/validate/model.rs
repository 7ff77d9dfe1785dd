//! One model: its versions, and the rules between them.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
};

use aegis_policy::split::MAX_WEIGHT;

use super::scope::Scope;
use crate::config::{
    Breaker, HealthCheck, Listen, Model, Name, Retry, Timeouts, Version, endpoint,
    ranges::{
        CHECK_MS, IN_A_ROW, LEASE_MS, MAX_FALLBACK, MAX_PATH_BYTES, OPEN_MS, PROBES, REPLAY_BYTES,
        RETRIES, UPSTREAM_MS,
    },
    raw::{RawBreaker, RawHealthCheck, RawModel, RawRetry, RawTimeouts, RawVersion},
};

/// One model.
pub(super) fn model(raw: &RawModel, listen: Option<Listen>, mut scope: Scope<'_, '_>) -> Model {
    Model {
        allow_pin: raw.allow_pin,
        fallback: fallback(raw, &mut scope),
        versions: versions(&raw.versions, listen, &mut scope),
        breaker: breaker(&raw.breaker, scope.child("breaker")),
        health_check: health_check(&raw.health_check, scope.child("health_check")),
        retry: retry(&raw.retry, scope.child("retry")),
        timeouts: timeouts(&raw.timeouts, scope.child("timeouts")),
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
    Version {
        weight,
        endpoints: endpoints(&raw.endpoints, listen, &mut scope),
    }
}

fn endpoints(raw: &[String], listen: Option<Listen>, scope: &mut Scope<'_, '_>) -> Vec<SocketAddr> {
    if raw.is_empty() {
        scope.overall_fault(
            "endpoints",
            "expected at least one endpoint such as \"10.0.0.1:8000\"",
        );
    }
    let mut seen: HashMap<SocketAddr, usize> = HashMap::new();
    let mut endpoints = Vec::with_capacity(raw.len());
    for (i, text) in raw.iter().enumerate() {
        match endpoint::endpoint(text) {
            Err(error) => scope.element_fault("endpoints", i, error.to_string()),
            Ok(address) if seen.contains_key(&address) => {
                let first = seen[&address];
                scope.element_fault(
                    "endpoints",
                    i,
                    format!("{address} is endpoints[{first}] already"),
                );
            }
            Ok(address) if listen.is_some_and(|listen| is_itself(address, listen.data)) => {
                let message = format!("{address} is the proxy's own data port");
                scope.element_fault("endpoints", i, message);
            }
            Ok(address) => {
                seen.insert(address, i);
                endpoints.push(address);
            }
        }
    }
    endpoints
}

/// Whether the proxy would reach itself there, and ask itself for ever.
fn is_itself(endpoint: SocketAddr, data: SocketAddr) -> bool {
    let anywhere = data.ip().is_unspecified() && endpoint.ip().is_loopback();
    endpoint.port() == data.port() && (anywhere || endpoint.ip() == data.ip())
}

fn breaker(raw: &RawBreaker, mut scope: Scope<'_, '_>) -> Breaker {
    let breaker = Breaker {
        consecutive_failures: scope.count(
            "consecutive_failures",
            raw.consecutive_failures,
            IN_A_ROW,
        ),
        open_base: scope.millis("open_base_ms", raw.open_base_ms, OPEN_MS),
        open_max: scope.millis("open_max_ms", raw.open_max_ms, OPEN_MS),
        half_open_max_probes: scope.count("half_open_max_probes", raw.half_open_max_probes, PROBES),
        half_open_successes: scope.count("half_open_successes", raw.half_open_successes, PROBES),
        probe_lease: scope.millis("probe_lease_ms", raw.probe_lease_ms, LEASE_MS),
        enforce: raw.enforce,
    };
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

fn retry(raw: &RawRetry, mut scope: Scope<'_, '_>) -> Retry {
    let max_retries = scope.number("max_retries", raw.max_retries, RETRIES);
    Retry {
        max_retries: u32::try_from(max_retries).unwrap_or(u32::MAX),
        replay_limit_bytes: scope.number(
            "replay_limit_bytes",
            raw.replay_limit_bytes,
            REPLAY_BYTES,
        ),
    }
}

fn timeouts(raw: &RawTimeouts, mut scope: Scope<'_, '_>) -> Timeouts {
    Timeouts {
        connect: scope.millis("connect_ms", raw.connect_ms, UPSTREAM_MS),
        read: scope.millis("read_ms", raw.read_ms, UPSTREAM_MS),
        write: scope.millis("write_ms", raw.write_ms, UPSTREAM_MS),
    }
}
