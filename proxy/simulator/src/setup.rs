//! What is tried: one model's configuration, and where it runs.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use aegis_policy::{ConfigError, ModelConfig, Rules, VersionConfig};

use crate::scenario::Among;

/// The port of made-up endpoints.
const PORT: u16 = 8000;

/// One model as the proxy would serve it.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its name, for the table.
    pub model: String,
    /// Its versions.
    pub versions: Vec<Version>,
    /// Versions that stand in for others, in order.
    pub fallback: Vec<Arc<str>>,
    /// What endpoints are judged and chosen by.
    pub rules: Rules,
    /// Attempts after the first.
    pub max_retries: u32,
    /// Whether a 500 is tried elsewhere.
    pub on_500: bool,
    /// How long a request may take, over all attempts.
    pub request_timeout: Duration,
    /// How long a connection may take.
    pub connect_timeout: Duration,
    /// From one active check to the next.
    pub check_interval: Duration,
    /// The longest that one may take.
    pub check_timeout: Duration,
}

/// One version.
#[derive(Clone, Debug)]
pub struct Version {
    /// Its name.
    pub name: Arc<str>,
    /// Its part of the split.
    pub weight: f64,
    /// Where it runs.
    pub endpoints: Vec<Place>,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its address.
    pub address: SocketAddr,
    /// The zone that it would go down with.
    pub zone: Option<Arc<str>>,
}

// === impl Setup ===

impl Setup {
    /// Puts `count` made-up endpoints in the place of those that are configured:
    /// spread over the versions by weight, at least one each, and over the zones of
    /// the configuration, or, where it names none, over `zones` zones called a, b, c
    /// and so on.
    #[must_use]
    pub fn with_endpoints(mut self, count: u32, zones: u32) -> Self {
        let mut named: Vec<Arc<str>> = self.zones().into_iter().map(Arc::clone).collect();
        if named.is_empty() {
            named = (0..zones).map(zone_name).collect();
        }
        let sum: f64 = self.versions.iter().map(|version| version.weight).sum();
        let mut next = 0_u32;
        for version in &mut self.versions {
            let share = f64::from(count) * version.weight / sum;
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                reason = "a share of a u32"
            )]
            let here = (share.round() as u32).max(1);
            let place = |n: u32| Place {
                address: SocketAddr::from((Ipv4Addr::from_bits(0x0a00_0001 + n), PORT)),
                zone: named.get(n as usize % named.len().max(1)).map(Arc::clone),
            };
            version.endpoints = (next..next + here).map(place).collect();
            next += here;
        }
        self
    }

    /// The zones of all endpoints, by name.
    #[must_use]
    pub fn zones(&self) -> BTreeSet<&Arc<str>> {
        let endpoints = self.versions.iter().flat_map(|version| &version.endpoints);
        endpoints.filter_map(|place| place.zone.as_ref()).collect()
    }

    /// The zone that a fault befalls; none where it goes by another mark, or where there
    /// is no such zone.
    #[must_use]
    pub fn zone(&self, among: &Among) -> Option<&Arc<str>> {
        match among {
            Among::Zone(name) => self.zones().get(name).copied(),
            Among::NthZone(nth) => self
                .zones()
                .into_iter()
                .nth((*nth as usize).checked_sub(1)?),
            Among::Count(_) | Among::Share(_) => None,
        }
    }

    /// The version with the largest weight, or with the smallest that is not 0.
    #[must_use]
    pub fn version_by_weight(&self, largest: bool) -> Option<usize> {
        let weighted = || {
            let all = self.versions.iter().enumerate();
            all.filter(|(_, version)| version.weight > 0.0)
        };
        let by_weight =
            |a: &(usize, &Version), b: &(usize, &Version)| a.1.weight.total_cmp(&b.1.weight);
        let found = if largest {
            weighted().rev().max_by(by_weight)
        } else {
            weighted().min_by(by_weight)
        };
        found.map(|(at, _)| at)
    }

    /// What the policy decides by.
    ///
    /// # Errors
    /// When the policy refuses it, which a checked configuration never makes it do.
    pub fn policy(&self) -> Result<ModelConfig, ConfigError> {
        let version = |version: &Version| VersionConfig {
            name: Arc::clone(&version.name),
            weight: version.weight,
            endpoints: version
                .endpoints
                .iter()
                .map(|place| place.address)
                .collect(),
        };
        let versions = self.versions.iter().map(version).collect();
        ModelConfig::new(versions, &self.fallback, self.rules)
    }
}

/// a to z, and numbers beyond.
fn zone_name(n: u32) -> Arc<str> {
    let letter = u8::try_from(n).ok().filter(|n| *n < 26);
    letter.map_or_else(
        || n.to_string().into(),
        |n| char::from(b'a' + n).to_string().into(),
    )
}
