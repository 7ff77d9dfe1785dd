//! The shadow's part of an exchange: whether the request is drawn, and what passes
//! of its answer.

use bytes::Bytes;
use http::StatusCode;
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use super::Exchange;
use crate::request::Action;

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
        let inference = forward.action == Action::Infer && answer.status == StatusCode::OK;
        if by_itself || !inference || !shadow.draws(rand::random()) {
            return;
        }
        let whole = self.progress.sent.and_then(|_| self.body.whole(session));
        let asked = &session.req_header().headers;
        self.sample = shadow.sample(asked, &answer.headers, whole, || {
            forward.model.look(shadow.version().name())
        });
    }

    /// A piece of the answer passes.
    pub fn answer_passes(&mut self, piece: Option<&Bytes>) {
        if let (Some(sample), Some(piece)) = (&mut self.sample, piece) {
            sample.keep(piece);
        }
    }
}
