//! The time that a client gives its inference in the body: the parameter `timeout`.
//!
//! It is heeded where the body is read before an endpoint is chosen, which is where it
//! can still bound anything; a longer body streams, and the server heeds it alone.

use std::time::Duration;

use aegis_protocol::{Reason, headers::JSON_LENGTH, timeout};
use http::HeaderMap;
use pingora_proxy::Session;

use super::Exchange;
use crate::{
    answer::Refusal,
    body::{Body, Mention},
    request::Action,
};

impl Exchange {
    /// The search for the parameter in a body that is about to be read.
    pub(super) fn seek_timeout(&self) -> Mention {
        let forward = self.forward.as_ref();
        Mention::sought(forward.is_some_and(|forward| forward.action == Action::Infer))
    }

    /// Heeds the parameter in the body that was read.
    ///
    /// # Errors
    /// When it makes no sense, as with the header.
    pub(super) fn heed_timeout(
        &mut self,
        mut mention: Mention,
        session: &Session,
    ) -> Result<(), Refusal> {
        let headers = &session.req_header().headers;
        if let Body::Kept(kept) = &self.body {
            mention.see(json(kept.bytes(), headers));
        }
        if !mention.is_found() {
            return Ok(());
        }
        let Some(body) = self.body.whole(&session.downstream_session) else {
            return Ok(());
        };
        let asked = timeout::in_json(json(&body, headers));
        let asked = asked.map_err(|bad| Refusal::new(Reason::BadRequest, bad.to_string()))?;
        self.heed(asked);
        Ok(())
    }

    /// The least of what the client says counts.
    pub(super) fn heed(&mut self, asked: Option<Duration>) {
        self.patience = self.patience.into_iter().chain(asked).min();
    }
}

/// The part of a body that is JSON.
fn json<'a>(body: &'a [u8], headers: &HeaderMap) -> &'a [u8] {
    let length = headers.get(JSON_LENGTH).and_then(|length| {
        let length: usize = length.to_str().ok()?.trim().parse().ok()?;
        body.get(..length)
    });
    length.unwrap_or(body)
}
