//! From what the file says to what it means, collecting every fault.
//!
//! Every function returns a value even where it found a fault: a value that
//! comes with faults never leaves [`aegis_config::load`], and going on is what
//! finds the next one.

mod kubernetes;
mod model;
mod observe;
mod scope;
mod shadow;
mod static_answer;

use std::{collections::BTreeMap, net::SocketAddr};

use aegis_config::{Faults, KeyPath};

use super::{
    Config, Dns, Drain, Limits, Listen, Model, Name, Upstream, endpoint,
    ranges::{
        BODY_BYTES, CLIENT_TIMEOUT_MS, CONNECTIONS, DNS_TIMEOUT_MS, DRAIN_MS, FORGET_AFTER,
        H2_STREAMS, HEADER_BYTES, IDLE_CONNECTIONS, IDLE_TIMEOUT_MS, MAX_DNS_SERVERS,
        MAX_ENDPOINTS, MAX_MODELS, MAX_VERSIONS, REPLAY_MEMORY_BYTES, TTL_MS,
    },
    raw::{RawConfig, RawDns, RawDrain, RawLimits, RawListen, RawModel, RawUpstream},
};
use scope::Scope;

/// The whole file.
pub(super) fn config(raw: &RawConfig, faults: &mut Faults<'_>) -> Option<Config> {
    let listen = listen(&raw.listen, faults);
    let access_log = observe::access_log(&raw.access_log, Scope::new("access_log", faults));
    let traces = observe::traces(&raw.traces, Scope::new("traces", faults));
    let forwarded = observe::forwarded(&raw.forwarded, Scope::new("forwarded", faults));
    let limits = limits(&raw.limits, faults);
    let drain = drain(&raw.drain, faults);
    let upstream = upstream(&raw.upstream, faults);
    let dns = dns(&raw.dns, faults);
    let kubernetes = kubernetes::api(&raw.kubernetes, Scope::new("kubernetes", faults));
    let models = models(&raw.models, listen, faults);
    let listen = listen?;
    faults.is_empty().then_some(Config {
        listen,
        log_format: raw.log_format,
        access_log,
        traces,
        forwarded,
        drain,
        limits,
        upstream,
        dns,
        kubernetes,
        models,
    })
}

fn listen(raw: &RawListen, faults: &mut Faults<'_>) -> Option<Listen> {
    let mut scope = Scope::new("listen", faults);
    let data = scope.parsed("data", endpoint::listener(&raw.data));
    let admin = scope.parsed("admin", endpoint::listener(&raw.admin));
    let listen = Listen {
        data: data?,
        admin: admin?,
    };
    if collide(listen.data, listen.admin) {
        let message = format!("collides with listen.data, {}", listen.data);
        scope.fault("admin", message);
    }
    Some(listen)
}

/// Whether two listeners cannot both be bound.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let anywhere = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && (anywhere || a.ip() == b.ip())
}

fn drain(raw: &RawDrain, faults: &mut Faults<'_>) -> Drain {
    let mut scope = Scope::new("drain", faults);
    let delay = scope.millis("delay_ms", raw.delay_ms, DRAIN_MS);
    let grace = scope.millis("grace_ms", raw.grace_ms, DRAIN_MS);
    if grace < delay {
        scope.fault(
            "grace_ms",
            format!(
                "expected at least delay_ms, {}, got {}",
                raw.delay_ms, raw.grace_ms
            ),
        );
    }
    Drain { delay, grace }
}

fn limits(raw: &RawLimits, faults: &mut Faults<'_>) -> Limits {
    let mut scope = Scope::new("limits", faults);
    Limits {
        max_connections: scope.count("max_connections", raw.max_connections, CONNECTIONS),
        max_h2_streams: scope.count("max_h2_streams", raw.max_h2_streams, H2_STREAMS),
        max_header_bytes: scope.count("max_header_bytes", raw.max_header_bytes, HEADER_BYTES),
        header_timeout: scope.millis(
            "header_timeout_ms",
            raw.header_timeout_ms,
            CLIENT_TIMEOUT_MS,
        ),
        read_timeout: scope.millis("read_timeout_ms", raw.read_timeout_ms, CLIENT_TIMEOUT_MS),
        upload_timeout: scope.millis(
            "upload_timeout_ms",
            raw.upload_timeout_ms,
            CLIENT_TIMEOUT_MS,
        ),
        keepalive_timeout: scope.millis(
            "keepalive_timeout_ms",
            raw.keepalive_timeout_ms,
            CLIENT_TIMEOUT_MS,
        ),
        max_body_bytes: scope.number("max_body_bytes", raw.max_body_bytes, BODY_BYTES),
        replay_memory_bytes: scope.number(
            "replay_memory_bytes",
            raw.replay_memory_bytes,
            REPLAY_MEMORY_BYTES,
        ),
    }
}

fn upstream(raw: &RawUpstream, faults: &mut Faults<'_>) -> Upstream {
    let mut scope = Scope::new("upstream", faults);
    Upstream {
        max_idle_connections: scope.count(
            "max_idle_connections",
            raw.max_idle_connections,
            IDLE_CONNECTIONS,
        ),
        idle_timeout: scope.millis("idle_timeout_ms", raw.idle_timeout_ms, IDLE_TIMEOUT_MS),
    }
}

fn dns(raw: &RawDns, faults: &mut Faults<'_>) -> Dns {
    let mut scope = Scope::new("dns", faults);
    if raw.servers.len() > MAX_DNS_SERVERS {
        let got = raw.servers.len();
        let message = format!("expected at most {MAX_DNS_SERVERS} servers, got {got}");
        scope.fault("servers", message);
    }
    let mut servers = Vec::with_capacity(raw.servers.len());
    for (i, text) in raw.servers.iter().enumerate() {
        match endpoint::server(text) {
            Ok(server) => servers.push(server),
            Err(error) => scope.element_fault("servers", i, error.to_string()),
        }
    }
    let dns = Dns {
        servers,
        families: raw.families,
        lookup_timeout: scope.millis("lookup_timeout_ms", raw.lookup_timeout_ms, DNS_TIMEOUT_MS),
        min_ttl: scope.millis("min_ttl_ms", raw.min_ttl_ms, TTL_MS),
        max_ttl: scope.millis("max_ttl_ms", raw.max_ttl_ms, TTL_MS),
        forget_after: scope.count("forget_after", raw.forget_after, FORGET_AFTER),
    };
    if dns.max_ttl < dns.min_ttl {
        let (least, got) = (raw.min_ttl_ms, raw.max_ttl_ms);
        let message = format!("expected at least min_ttl_ms, {least}, got {got}");
        scope.fault("max_ttl_ms", message);
    }
    dns
}

/// Whether the proxy would reach itself there, and ask itself for ever.
pub(crate) fn is_itself(endpoint: SocketAddr, data: SocketAddr) -> bool {
    let anywhere = data.ip().is_unspecified() && endpoint.ip().is_loopback();
    endpoint.port() == data.port() && (anywhere || endpoint.ip() == data.ip())
}

fn models(
    raw: &BTreeMap<String, RawModel>,
    listen: Option<Listen>,
    faults: &mut Faults<'_>,
) -> BTreeMap<Name, Model> {
    let path = KeyPath::from("models");
    if raw.is_empty() && !faults.failed_near(&path) {
        faults.at(&path, "expected at least one model, as in [models.digits]");
    }
    let versions: usize = raw.values().map(|model| model.versions.len()).sum();
    let endpoints: usize = raw
        .values()
        .flat_map(|model| model.versions.values())
        .map(|version| version.endpoints.len() + usize::from(kubernetes::is_given(version)))
        .sum();
    for (what, count, limit) in [
        ("models", raw.len(), MAX_MODELS),
        ("versions over all models", versions, MAX_VERSIONS),
        ("endpoints over all versions", endpoints, MAX_ENDPOINTS),
    ] {
        if count > limit {
            faults.at(
                &path,
                format!("expected at most {limit} {what}, got {count}"),
            );
        }
    }
    raw.iter()
        .filter_map(|(name, raw)| {
            let mut scope = Scope::new("models", faults);
            let name = scope.name(name)?;
            let model = model::model(raw, listen, scope.child(&name));
            Some((name, model))
        })
        .collect()
}
