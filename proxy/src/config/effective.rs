//! A valid configuration, written back with every default filled in.
//!
//! Reading the result gives the same configuration again; a change is found by
//! comparing two of these, so that no key can be forgotten: a struct without
//! one of its fields does not compile.

use std::{collections::BTreeMap, time::Duration};

use http::{HeaderName, HeaderValue};

use super::{
    Admission, Balance, Breaker, Config, Dns, Drain, Endpoint, HealthCheck, Kubernetes, Limits,
    Listen, Model, Name, Place, Retry, ServicePort, Shadow, StaticAnswer, Sticky, Timeouts,
    Upstream, Version,
    raw::{
        RawAdmission, RawBalance, RawBreaker, RawConfig, RawDns, RawDrain, RawEndpoint,
        RawHealthCheck, RawKubernetes, RawKubernetesApi, RawLimits, RawListen, RawModel, RawPort,
        RawRetry, RawShadow, RawStaticAnswer, RawSticky, RawTimeouts, RawUpstream, RawVersion,
        RawZonedEndpoint,
    },
};

// === impl RawConfig ===

impl RawConfig {
    /// All that is not in `[models]`.
    pub(super) fn outside_models(config: &Config) -> Self {
        Self {
            models: BTreeMap::new(),
            ..config.into()
        }
    }
}

impl From<&Config> for RawConfig {
    fn from(config: &Config) -> Self {
        Self {
            listen: (&config.listen).into(),
            log_format: config.log_format,
            access_log: (&config.access_log).into(),
            traces: (&config.traces).into(),
            forwarded: (&config.forwarded).into(),
            drain: (&config.drain).into(),
            limits: (&config.limits).into(),
            upstream: (&config.upstream).into(),
            dns: (&config.dns).into(),
            kubernetes: (&config.kubernetes).into(),
            models: by_name(&config.models),
        }
    }
}

impl From<&Listen> for RawListen {
    fn from(listen: &Listen) -> Self {
        Self {
            data: listen.data.to_string(),
            admin: listen.admin.to_string(),
        }
    }
}

impl From<&Drain> for RawDrain {
    fn from(drain: &Drain) -> Self {
        Self {
            delay_ms: millis(drain.delay),
            grace_ms: millis(drain.grace),
        }
    }
}

impl From<&Limits> for RawLimits {
    fn from(limits: &Limits) -> Self {
        Self {
            max_connections: u32::from(limits.max_connections).into(),
            max_h2_streams: u32::from(limits.max_h2_streams).into(),
            max_header_bytes: u32::from(limits.max_header_bytes).into(),
            header_timeout_ms: millis(limits.header_timeout),
            read_timeout_ms: millis(limits.read_timeout),
            upload_timeout_ms: millis(limits.upload_timeout),
            keepalive_timeout_ms: millis(limits.keepalive_timeout),
            max_body_bytes: limits.max_body_bytes,
            replay_memory_bytes: limits.replay_memory_bytes,
        }
    }
}

impl From<&Upstream> for RawUpstream {
    fn from(upstream: &Upstream) -> Self {
        Self {
            max_idle_connections: u32::from(upstream.max_idle_connections).into(),
            idle_timeout_ms: millis(upstream.idle_timeout),
        }
    }
}

impl From<&Dns> for RawDns {
    fn from(dns: &Dns) -> Self {
        Self {
            servers: dns.servers.iter().map(ToString::to_string).collect(),
            families: dns.families,
            lookup_timeout_ms: millis(dns.lookup_timeout),
            min_ttl_ms: millis(dns.min_ttl),
            max_ttl_ms: millis(dns.max_ttl),
            forget_after: u32::from(dns.forget_after).into(),
        }
    }
}

impl From<&Kubernetes> for RawKubernetesApi {
    fn from(kubernetes: &Kubernetes) -> Self {
        let kubeconfig = kubernetes.kubeconfig.as_deref();
        Self {
            // It came from text, so it is text.
            kubeconfig: kubeconfig
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            api_timeout_ms: millis(kubernetes.api_timeout),
            renew_after_ms: millis(kubernetes.renew_after),
            retry_base_ms: millis(kubernetes.retry_base),
            retry_max_ms: millis(kubernetes.retry_max),
        }
    }
}

impl From<&Model> for RawModel {
    fn from(model: &Model) -> Self {
        Self {
            allow_pin: model.allow_pin,
            fallback: model.fallback.iter().map(Name::to_string).collect(),
            pinned_fallback: model.pinned_fallback,
            sticky: model
                .sticky
                .as_ref()
                .map(RawSticky::from)
                .unwrap_or_default(),
            versions: by_name(&model.versions),
            breaker: (&model.breaker).into(),
            balance: (&model.balance).into(),
            health_check: (&model.health_check).into(),
            admission: (&model.admission).into(),
            retry: (&model.retry).into(),
            timeouts: (&model.timeouts).into(),
            shadow: model
                .shadow
                .as_ref()
                .map(RawShadow::from)
                .unwrap_or_default(),
            static_answer: model
                .static_answer
                .as_deref()
                .map(RawStaticAnswer::from)
                .unwrap_or_default(),
        }
    }
}

impl From<&Shadow> for RawShadow {
    fn from(shadow: &Shadow) -> Self {
        Self {
            version: shadow.version.to_string(),
            percent: shadow.percent,
            max_kept_bytes: shadow.max_kept_bytes,
            max_at_once: u32::from(shadow.max_at_once).into(),
            answer_timeout_ms: millis(shadow.answer_timeout),
            rtol: shadow.rtol,
            atol: shadow.atol,
        }
    }
}

impl From<&Version> for RawVersion {
    fn from(version: &Version) -> Self {
        Self {
            weight: Some(version.weight),
            endpoints: version
                .endpoints
                .iter()
                .filter(|endpoint| endpoint.place.service().is_none())
                .map(RawEndpoint::from)
                .collect(),
            kubernetes: version
                .places()
                .find_map(Place::service)
                .map(|(service, port)| RawKubernetes {
                    service: service.name.to_string(),
                    namespace: service
                        .namespace
                        .as_ref()
                        .map(ToString::to_string)
                        .unwrap_or_default(),
                    port: port.into(),
                })
                .unwrap_or_default(),
        }
    }
}

impl From<&ServicePort> for RawPort {
    fn from(port: &ServicePort) -> Self {
        match port {
            ServicePort::Only => Self::default(),
            ServicePort::Named(name) => Self::Name(name.to_string()),
            ServicePort::Number(number) => Self::Number(number.get().into()),
        }
    }
}

impl From<&Endpoint> for RawEndpoint {
    fn from(endpoint: &Endpoint) -> Self {
        let address = endpoint.place.to_string();
        match &endpoint.zone {
            None => Self::At(address),
            Some(zone) => Self::Table(RawZonedEndpoint {
                address,
                zone: zone.to_string(),
            }),
        }
    }
}

impl From<&Sticky> for RawSticky {
    fn from(sticky: &Sticky) -> Self {
        match sticky {
            Sticky::Header(header) => Self {
                header: header.to_string(),
                ..Self::default()
            },
            Sticky::Cookie(cookie) => Self {
                cookie: cookie.clone(),
                ..Self::default()
            },
            Sticky::Jwt { header, claim } => Self {
                jwt_claim: claim.clone(),
                jwt_header: header.to_string(),
                ..Self::default()
            },
        }
    }
}

impl From<&Balance> for RawBalance {
    fn from(balance: &Balance) -> Self {
        Self {
            by: balance.by,
            decay_ms: millis(balance.decay),
            max_in_flight: u32::from(balance.max_in_flight).into(),
            slow_start_ms: millis(balance.slow_start),
            slow_start_from: balance.slow_start_from,
        }
    }
}

impl From<&Breaker> for RawBreaker {
    fn from(breaker: &Breaker) -> Self {
        Self {
            consecutive_failures: u32::from(breaker.consecutive_failures).into(),
            failure_ratio: breaker.failure_ratio,
            consecutive_slow: u32::from(breaker.consecutive_slow).into(),
            slow_ratio: breaker.slow_ratio,
            min_samples: u32::from(breaker.min_samples).into(),
            window_ms: millis(breaker.window),
            sparse_window_ms: millis(breaker.sparse_window),
            latency_threshold_ms: millis(breaker.latency_threshold),
            relative_factor: breaker.relative_factor,
            relative_floor_ms: millis(breaker.relative_floor),
            open_base_ms: millis(breaker.open_base),
            open_max_ms: millis(breaker.open_max),
            half_open_max_probes: u32::from(breaker.half_open_max_probes).into(),
            half_open_successes: u32::from(breaker.half_open_successes).into(),
            probe_lease_ms: millis(breaker.probe_lease),
            enforce: breaker.enforce,
        }
    }
}

impl From<&HealthCheck> for RawHealthCheck {
    fn from(check: &HealthCheck) -> Self {
        Self {
            path: check.path.clone(),
            interval_ms: millis(check.interval),
            timeout_ms: millis(check.timeout),
            healthy_after: u32::from(check.healthy_after).into(),
            unhealthy_after: u32::from(check.unhealthy_after).into(),
        }
    }
}

impl From<&Admission> for RawAdmission {
    fn from(admission: &Admission) -> Self {
        Self {
            max_queued: admission.max_queued.into(),
        }
    }
}

impl From<&Retry> for RawRetry {
    fn from(retry: &Retry) -> Self {
        Self {
            max_retries: retry.max_retries.into(),
            on_500: retry.on_500,
            budget_ratio: retry.budget_ratio,
            budget_per_second: retry.budget_per_second,
            per_try_floor_ms: millis(retry.per_try_floor),
            per_try_factor: retry.per_try_factor,
            replay_limit_bytes: retry.replay_limit_bytes,
        }
    }
}

impl From<&Timeouts> for RawTimeouts {
    fn from(timeouts: &Timeouts) -> Self {
        Self {
            request_ms: millis(timeouts.request),
            connect_ms: millis(timeouts.connect),
            idle_ms: millis(timeouts.idle),
            write_ms: millis(timeouts.write),
        }
    }
}

impl From<&StaticAnswer> for RawStaticAnswer {
    fn from(answer: &StaticAnswer) -> Self {
        let header = |(name, value): &(HeaderName, HeaderValue)| {
            // Values came from text, so they are text.
            format!("{name}: {}", value.to_str().unwrap_or_default())
        };
        Self {
            status: answer.status.as_u16().into(),
            body: answer.body.clone(),
            headers: answer.headers.iter().map(header).collect(),
        }
    }
}

fn by_name<'a, V: 'a, R: From<&'a V>>(map: &'a BTreeMap<Name, V>) -> BTreeMap<String, R> {
    map.iter()
        .map(|(name, value)| (name.to_string(), value.into()))
        .collect()
}

/// Every duration came from whole milliseconds in 64 bits.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
