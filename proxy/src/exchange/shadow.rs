//! What passes of an answer, and the shadow's part of it: whether the request is drawn.

use bytes::Bytes;
use http::StatusCode;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::Exchange;
use crate::{clock, request::Action};

impl Exchange {
    /// Draws a request whose answer is about to be passed on.
    pub(super) fn draw_for_shadow(&mut self, session: &Session, answer: &ResponseHeader) {
        let (Some(forward), Some(routed)) = (&self.forward, &self.route) else {
            return;
        };
        let Some(shadow) = forward.model.shadow() else {
            return;
        };
        let by_itself = routed.version.name() == shadow.version().name();
        let asks = matches!(forward.action, Action::Infer | Action::CallInfer);
        // A call without an answer says so at once.
        let failed = self.call.as_ref().and_then(|call| call.http_status());
        let answered = answer.status == StatusCode::OK && failed.is_none_or(|status| status == 200);
        let inference = asks && answered;
        if by_itself || !inference || !shadow.draws(rand::random()) {
            return;
        }
        let whole = self.progress.sent.and_then(|_| self.body.whole(session));
        let asked = &session.req_header().headers;
        self.sample = shadow.sample(asked, &answer.headers, whole, || {
            forward.model.look(shadow.version().name())
        });
    }

    /// A piece of the answer passes, or its end does.
    ///
    /// # Errors
    /// When it ends because it was ended, which an answer of no known length does not tell.
    /// One whose length is known may be all there when its connection is shut.
    pub fn answer_passes(&mut self, piece: Option<&Bytes>, end: bool) -> Result<()> {
        if let (Some(sample), Some(piece)) = (&mut self.sample, piece) {
            sample.keep(piece);
        }
        if let (Some(held), Some(idle)) = (&self.progress.held, self.progress.idle) {
            if !end {
                held.piece_by(clock::now() + idle);
            } else if held.rests_at_last() && !self.progress.framed {
                return Err(Error::new_up(ErrorType::ReadTimedout));
            }
        }
        Ok(())
    }
}
