//! The closed load, on the core that the contender does not have.

use std::time::Duration;

use anyhow::Result;

use super::{BODY, CONNECTIONS, OTHER_CORE};
use crate::contender::PATH;
use crate::process::Running;
use crate::wrk::{Closed, Wrk};

/// Every eighth request has the client's key, so that one is drawn and one is looked up; the rest
/// are drawn.
const SCRIPT: &str = r#"
local body = string.rep("x", BODY)
local common = {["content-type"] = "application/json", ["x-request-timeout-ms"] = "1000"}
local requests, turn = {}, 0
function init(args)
  for i = 1, 8 do
    local headers = {}
    for name, value in pairs(common) do headers[name] = value end
    if i == 1 then headers["x-user-id"] = "somebody" end
    requests[i] = wrk.format("POST", nil, headers, body)
  end
end
function request()
  turn = turn % 8 + 1
  return requests[turn]
end
"#;

/// What makes it.
pub(super) fn generator() -> Result<Wrk> {
    Wrk::with(&SCRIPT.replace("BODY", &BODY.to_string()))
}

/// Loads the proxy for so long.
pub(super) async fn run(wrk: &Wrk, proxy: &Running, lasts: Duration) -> Result<Closed> {
    let url = format!("http://{}{PATH}", proxy.address);
    wrk.run(&url, CONNECTIONS, OTHER_CORE, lasts).await
}
