//! Which models, versions, endpoints and services have series.
//!
//! What has gone is spoken of for a while: by a scrape that looked at the state a moment
//! before, or by a request that was under way. A series that was made for it then would
//! stay. So whoever makes one whose labels name any of these looks here first, and holds
//! the lock while it does; and what goes leaves here before its series are taken away.
//!
//! Pools change often and by little, so the endpoints that came and went are told apart:
//! only their series are touched.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
};

use crate::{config::Config, pools::Pools};

/// An endpoint: model, version, address.
pub(super) type Endpoint<'a> = (&'a str, &'a str, SocketAddr);

/// What there are series of.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// By model, then by version.
    endpoints: HashMap<Arc<str>, HashMap<Arc<str>, HashSet<SocketAddr>>>,
    pub(super) services: HashSet<String>,
}

// === impl Known ===

impl Known {
    /// What a configuration and its pools name.
    pub(super) fn of(config: &Config, pools: &Pools) -> Self {
        let mut endpoints: HashMap<Arc<str>, HashMap<Arc<str>, HashSet<SocketAddr>>> =
            HashMap::new();
        for (model_name, model) in &config.models {
            let versions = endpoints.entry(model_name.to_arc()).or_default();
            for version in model.versions.keys() {
                let pool = pools.pool(model_name, version);
                let addresses = pool.into_iter().flat_map(|pool| pool.keys().copied());
                versions.insert(version.to_arc(), addresses.collect());
            }
        }
        Self {
            endpoints,
            services: config.services().iter().map(ToString::to_string).collect(),
        }
    }

    pub(super) fn has_model(&self, model: &str) -> bool {
        self.endpoints.contains_key(model)
    }

    pub(super) fn has_version(&self, model: &str, version: &str) -> bool {
        self.pool(model, version).is_some()
    }

    pub(super) fn has_endpoint(&self, (model, version, at): Endpoint<'_>) -> bool {
        self.pool(model, version)
            .is_some_and(|pool| pool.contains(&at))
    }

    pub(super) fn has_service(&self, service: &str) -> bool {
        self.services.contains(service)
    }

    /// The endpoints that `other` has not.
    pub(super) fn without<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = Endpoint<'a>> {
        let pools = self.endpoints.iter().flat_map(|(model, versions)| {
            let versions = versions.iter();
            versions.map(move |(version, pool)| (&**model, &**version, pool))
        });
        pools
            .flat_map(|(model, version, pool)| pool.iter().map(move |at| (model, version, *at)))
            .filter(|endpoint| !other.has_endpoint(*endpoint))
    }

    fn pool(&self, model: &str, version: &str) -> Option<&HashSet<SocketAddr>> {
        self.endpoints.get(model)?.get(version)
    }
}
