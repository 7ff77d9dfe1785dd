//! Two upstreams that cost next to nothing ([`canned`]). They say in `x-seen-timeout` what they were told of the
//! deadline.

use std::net::SocketAddr;

use anyhow::Result;

use super::OTHER_CORE;
use crate::canned;
use crate::process::Running;

/// Both of them; one can be taken down.
#[derive(Debug)]
pub(super) struct Upstreams {
    pub(super) addresses: [SocketAddr; 2],
    pub(super) running: Vec<Running>,
}

// === impl Upstreams ===

impl Upstreams {
    pub(super) async fn start() -> Result<Self> {
        let locations = format!(
            "    location / {{
      add_header x-seen-timeout $http_x_request_timeout_ms;
      return 200 '{}';
    }}",
            canned::ANSWER
        );
        let mut running = Vec::new();
        for _ in 0..2 {
            running.push(canned::start(OTHER_CORE, &locations).await?);
        }
        Ok(Self {
            addresses: [running[0].address, running[1].address],
            running,
        })
    }
}
