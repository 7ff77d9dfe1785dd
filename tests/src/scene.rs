//! A real proxy in front of scripted endpoints: 90 % to version 1, 10 % to version 2.

use std::net::SocketAddr;

use anyhow::Result;

use crate::binaries::Binaries;
use crate::proxy::{Proxy, ProxySetup};
use crate::stack::{CANARY, STABLE};
use crate::upstream::Upstream;

/// The model that a scene serves.
const MODEL: &str = "m";

/// The endpoints of a scene, before its proxy starts.
#[derive(Debug)]
pub struct SceneSetup {
    /// The proxy's configuration; change it at will.
    pub proxy: ProxySetup,
    stable: Vec<Upstream>,
    canary: Vec<Upstream>,
}

/// A running scene.
#[derive(Debug)]
pub struct Scene {
    /// The proxy.
    pub proxy: Proxy,
    /// The endpoints of version 1.
    pub stable: Vec<Upstream>,
    /// The endpoints of version 2.
    pub canary: Vec<Upstream>,
}

// === impl SceneSetup ===

impl SceneSetup {
    /// So many endpoints of each version; version 1 answers when version 2 cannot.
    ///
    /// # Errors
    ///
    /// When there are no free ports.
    pub async fn new(stable: usize, canary: usize) -> Result<Self> {
        let (stable, canary) = (
            endpoints(STABLE, stable).await?,
            endpoints(CANARY, canary).await?,
        );
        let mut proxy = ProxySetup::new(MODEL).fallback(&[STABLE]);
        proxy = proxy.pool(STABLE, 90, &addresses(&stable));
        if !canary.is_empty() {
            proxy = proxy.pool(CANARY, 10, &addresses(&canary));
        }
        Ok(Self {
            proxy,
            stable,
            canary,
        })
    }

    /// Changes the proxy's configuration.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(ProxySetup) -> ProxySetup) -> Self {
        self.proxy = change(self.proxy);
        self
    }

    /// Starts the proxy, and waits until every endpoint is found well.
    ///
    /// # Errors
    ///
    /// When one is not.
    pub async fn start(self) -> Result<Scene> {
        let Self {
            proxy,
            stable,
            canary,
        } = self;
        let proxy = proxy.start(Binaries::built()?).await?;
        Ok(Scene {
            proxy,
            stable,
            canary,
        })
    }
}

// === impl Scene ===

impl Scene {
    /// So many endpoints of each version, with no other settings.
    ///
    /// # Errors
    ///
    /// When something does not start.
    pub async fn start(stable: usize, canary: usize) -> Result<Self> {
        SceneSetup::new(stable, canary).await?.start().await
    }
}

async fn endpoints(version: &str, count: usize) -> Result<Vec<Upstream>> {
    let mut endpoints = Vec::new();
    for _ in 0..count {
        endpoints.push(Upstream::start(MODEL, version).await?);
    }
    Ok(endpoints)
}

fn addresses(endpoints: &[Upstream]) -> Vec<SocketAddr> {
    endpoints.iter().map(Upstream::address).collect()
}
