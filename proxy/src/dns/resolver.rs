//! Asks real name servers, by `hickory-resolver`.
//!
//! The two families are two questions, and here they stay two: the resolver's own
//! dual lookup passes the answer to one of them off as the answer to both, so
//! that a name server that drops AAAA for a moment would take all IPv6 endpoints
//! away. Nothing is cached: the TTL is waited for by whoever asks.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    sync::OnceLock,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use hickory_resolver::{
    TokioResolver,
    config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts},
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::{
        op::ResponseCode,
        rr::{RData, RecordType},
    },
};

use super::{Answer, LookupError, Resolve, book::Family};
use crate::{
    clock,
    config::{AddressFamilies, Dns, HostName},
};

/// How often a question is put in all.
const ATTEMPTS: usize = 2;

/// The name servers of the configuration, or else of the system.
///
/// It is built when it is first needed, and as long as it cannot be (there is no
/// `/etc/resolv.conf` yet) every lookup fails and the next one tries again: what
/// serves addresses alone needs no name server.
pub struct SystemResolver {
    dns: Dns,
    built: OnceLock<TokioResolver>,
}

/// What one question was answered.
type Part = Result<(BTreeSet<IpAddr>, Duration), LookupError>;

// === impl SystemResolver ===

impl SystemResolver {
    /// Will ask as the configuration says.
    #[must_use]
    pub fn new(dns: &Dns) -> Self {
        Self {
            dns: dns.clone(),
            built: OnceLock::new(),
        }
    }

    fn built(&self) -> Result<&TokioResolver, NetError> {
        if let Some(built) = self.built.get() {
            return Ok(built);
        }
        let built = build(&self.dns)?;
        // Another lookup may have been first; one is as good as the other.
        Ok(self.built.get_or_init(|| built))
    }

    async fn ask(&self, host: &HostName, kind: RecordType) -> Part {
        let resolver = self.built().map_err(|error| read_error(&error))?;
        let lookup = resolver.lookup(host.as_ref(), kind).await;
        let lookup = lookup.map_err(|error| read_error(&error))?;
        let addresses: BTreeSet<IpAddr> = lookup
            .answers()
            .iter()
            .filter_map(|record| match record.data {
                RData::A(a) => Some(IpAddr::V4(a.0)),
                RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
                _ => None,
            })
            .collect();
        if addresses.is_empty() {
            return Err(LookupError::NoAddress);
        }
        let ttl = ttl_left(lookup.valid_until(), clock::now());
        Ok((addresses, ttl))
    }
}

#[async_trait]
impl Resolve for SystemResolver {
    async fn look_up(&self, host: &HostName) -> Result<Answer, LookupError> {
        match self.dns.families {
            AddressFamilies::Ipv4 => alone(self.ask(host, RecordType::A).await),
            AddressFamilies::Ipv6 => alone(self.ask(host, RecordType::AAAA).await),
            AddressFamilies::Both => {
                let (four, six) = tokio::join!(
                    self.ask(host, RecordType::A),
                    self.ask(host, RecordType::AAAA)
                );
                both(four, six)
            }
        }
    }
}

fn build(dns: &Dns) -> Result<TokioResolver, NetError> {
    let mut builder = if dns.servers.is_empty() {
        TokioResolver::builder_tokio()?
    } else {
        let servers = dns.servers.iter().copied().map(server).collect();
        let config = ResolverConfig::from_name_servers(servers);
        TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
    };
    set_options(builder.options_mut(), dns.lookup_timeout);
    builder.build()
}

fn server(address: SocketAddr) -> NameServerConfig {
    let at_port = |mut connection: ConnectionConfig| {
        connection.port = address.port();
        connection
    };
    // TCP for answers that do not fit into a datagram.
    let connections = [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(at_port);
    NameServerConfig::new(address.ip(), true, connections.into())
}

fn set_options(options: &mut ResolverOpts, timeout: Duration) {
    options.timeout = timeout;
    options.attempts = ATTEMPTS;
    options.cache_size = 0;
    options.preserve_intermediates = false;
}

fn ttl_left(valid_until: Instant, now: Instant) -> Duration {
    valid_until.saturating_duration_since(now)
}

fn alone(part: Part) -> Result<Answer, LookupError> {
    part.map(|(addresses, ttl)| Answer {
        addresses,
        unknown: None,
        ttl,
    })
}

/// The two answers as one. That a name has no address of one family is an answer
/// where it has some of the other; where neither has any, the worse error tells.
fn both(four: Part, six: Part) -> Result<Answer, LookupError> {
    let unknown = |error: &LookupError, family| {
        let answered = matches!(error, LookupError::NoAddress | LookupError::NoSuchName);
        (!answered).then_some(family)
    };
    match (four, six) {
        (Ok((four, a)), Ok((six, b))) => Ok(Answer {
            addresses: &four | &six,
            unknown: None,
            ttl: a.min(b),
        }),
        (Ok((addresses, ttl)), Err(error)) => Ok(Answer {
            addresses,
            unknown: unknown(&error, Family::V6),
            ttl,
        }),
        (Err(error), Ok((addresses, ttl))) => Ok(Answer {
            addresses,
            unknown: unknown(&error, Family::V4),
            ttl,
        }),
        (Err(LookupError::NoAddress | LookupError::NoSuchName), Err(other))
        | (Err(other), Err(_)) => Err(other),
    }
}

fn read_error(error: &NetError) -> LookupError {
    match error {
        NetError::Timeout => LookupError::Timeout,
        NetError::Dns(DnsError::NoRecordsFound(none)) => match none.response_code {
            ResponseCode::NXDomain => LookupError::NoSuchName,
            ResponseCode::NoError => LookupError::NoAddress,
            code => LookupError::Refused(code.to_string()),
        },
        NetError::Dns(DnsError::ResponseCode(code)) => LookupError::Refused(code.to_string()),
        other => LookupError::Failed(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(address: &str, seconds: u64) -> Part {
        let address = address.parse().map_err(|_| LookupError::NoAddress)?;
        Ok((BTreeSet::from([address]), Duration::from_secs(seconds)))
    }

    #[test]
    fn two_answers_make_one_that_holds_as_long_as_the_shorter() {
        let answer = both(part("10.0.0.1", 30), part("fd00::1", 5)).unwrap();
        assert_eq!(answer.addresses.len(), 2);
        assert_eq!((answer.ttl, answer.unknown), (Duration::from_secs(5), None));
    }

    #[test]
    fn a_family_without_addresses_is_known_and_one_that_failed_is_not() {
        for (error, unknown) in [
            (LookupError::NoAddress, None),
            (LookupError::NoSuchName, None),
            (LookupError::Timeout, Some(Family::V6)),
            (LookupError::Refused(String::new()), Some(Family::V6)),
        ] {
            let answer = both(part("10.0.0.1", 30), Err(error.clone())).unwrap();
            assert_eq!(answer.unknown, unknown, "{error}");
        }
        let answer = both(Err(LookupError::Timeout), part("fd00::1", 5)).unwrap();
        assert_eq!(answer.unknown, Some(Family::V4));
    }

    #[test]
    fn of_two_failures_the_one_that_is_no_answer_is_told() {
        for (four, six, told) in [
            (
                LookupError::NoAddress,
                LookupError::Timeout,
                LookupError::Timeout,
            ),
            (
                LookupError::Timeout,
                LookupError::NoAddress,
                LookupError::Timeout,
            ),
            (
                LookupError::NoSuchName,
                LookupError::NoSuchName,
                LookupError::NoSuchName,
            ),
        ] {
            assert_eq!(both(Err(four), Err(six)), Err(told));
        }
    }
}
