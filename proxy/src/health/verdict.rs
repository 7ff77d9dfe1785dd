//! What an answer to a check means.
//!
//! 200 is ready, with one exception: a JSON body may say that the model is not
//! loaded. That is read from the entry of this model and version in `models`,
//! where there is one, or else from the top level, so that both
//! `/v2/models/M/versions/V/ready` and `/health` can be asked.

use std::time::Duration;

use aegis_protocol::Reason;
use serde::Deserialize;

/// The longest answer that is read.
pub const MAX_BODY_BYTES: usize = 64 * 1024;

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// The endpoint is ready to serve this version.
    Up,
    /// It is not, or nobody can tell.
    Down(Down),
    /// It is shutting down and asks for no more work.
    Draining,
}

/// Why a check did not pass.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Down {
    /// No connection.
    #[error("no connection: {0}")]
    Connect(String),
    /// The connection broke, or what came was not HTTP.
    #[error("no answer: {0}")]
    Broken(String),
    /// No whole answer in time.
    #[error("no answer within {} ms", after.as_millis())]
    Timeout {
        /// The configured timeout.
        after: Duration,
    },
    /// Another status than 200.
    #[error("answered {status}{}", reason.map(|r| format!(" ({r})")).unwrap_or_default())]
    Status {
        /// The status.
        status: u16,
        /// What its `x-aegis-reason` says.
        reason: Option<Reason>,
    },
    /// 200, and a body that says otherwise.
    #[error("answered 200 with \"loaded\": false")]
    NotLoaded,
    /// Longer than [`MAX_BODY_BYTES`].
    #[error("answered more than {MAX_BODY_BYTES} bytes")]
    TooLong,
}

/// An answer, as far as it matters.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) reason: Option<Reason>,
    pub(super) body: Vec<u8>,
}

/// What a body may say; every other member is ignored.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    loaded: Option<bool>,
    draining: Option<bool>,
    models: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
struct Entry {
    name: String,
    version: String,
    loaded: Option<bool>,
}

// === impl Answer ===

impl Answer {
    pub(super) fn verdict(&self, model: &str, version: &str) -> Check {
        // A body that is not such JSON says nothing; the status speaks.
        let body: Body = serde_json::from_slice(&self.body).unwrap_or_default();
        if self.reason == Some(Reason::Draining) || body.draining == Some(true) {
            return Check::Draining;
        }
        if self.status != 200 {
            return Check::Down(Down::Status {
                status: self.status,
                reason: self.reason,
            });
        }
        let entry = body
            .models
            .iter()
            .find(|entry| entry.name == model && entry.version == version);
        let loaded = entry.and_then(|entry| entry.loaded).or(body.loaded);
        if loaded == Some(false) {
            return Check::Down(Down::NotLoaded);
        }
        Check::Up
    }
}

#[cfg(test)]
mod tests {
    use aegis_protocol::Reason;

    use super::{Answer, Check, Down};

    fn verdict(status: u16, reason: Option<Reason>, body: &str) -> Check {
        let answer = Answer {
            status,
            reason,
            body: body.as_bytes().to_vec(),
        };
        answer.verdict("digits", "2")
    }

    #[test]
    fn a_plain_200_is_up_whatever_its_body() {
        for body in [
            "",
            "ok",
            "{}",
            "[]",
            "{\"loaded\": true}",
            "{\"loaded\": \"no\"}",
            "{",
        ] {
            assert_eq!(verdict(200, None, body), Check::Up, "{body}");
        }
    }

    #[test]
    fn any_other_status_is_down() {
        for status in [204, 301, 404, 500, 503] {
            let down = Down::Status {
                status,
                reason: None,
            };
            assert_eq!(
                verdict(status, None, "{\"loaded\": true}"),
                Check::Down(down)
            );
        }
        let check = verdict(503, Some(Reason::NotReady), "");
        let Check::Down(down) = check else {
            panic!("{check:?}");
        };
        assert_eq!(down.to_string(), "answered 503 (not_ready)");
    }

    #[test]
    fn not_loaded_is_down_though_the_status_is_200() {
        let not_loaded = Check::Down(Down::NotLoaded);
        assert_eq!(verdict(200, None, "{\"loaded\": false}"), not_loaded);
        let entry = |name: &str, version: &str, loaded: bool| {
            format!(
                "{{\"loaded\": true, \"models\": [{{\"name\": \"{name}\", \"version\": \"{version}\", \"loaded\": {loaded}}}]}}"
            )
        };
        assert_eq!(verdict(200, None, &entry("digits", "2", false)), not_loaded);
        assert_eq!(verdict(200, None, &entry("digits", "1", false)), Check::Up);
        assert_eq!(verdict(200, None, &entry("letters", "2", false)), Check::Up);
    }

    #[test]
    fn the_entry_of_this_model_speaks_before_the_top_level() {
        let body = "{\"loaded\": false, \"models\": [
            {\"name\": \"digits\", \"version\": \"2\", \"loaded\": true},
            {\"name\": \"digits\", \"version\": \"1\", \"loaded\": false}]}";
        assert_eq!(verdict(200, None, body), Check::Up);
    }

    #[test]
    fn draining_is_heard_from_the_header_and_from_the_body() {
        assert_eq!(verdict(503, Some(Reason::Draining), ""), Check::Draining);
        assert_eq!(verdict(503, None, "{\"draining\": true}"), Check::Draining);
        assert_eq!(verdict(200, None, "{\"draining\": true}"), Check::Draining);
    }
}
