//! What an answer carries: bytes in one piece or several, and trailers; or pieces that are still being
//! made, and trailers that are known when the last of them is.
//!
//! Pieces are sent one after the other and not put together: the tensors of an answer are the bytes
//! that the model wrote.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::vec;

use bytes::Bytes;
use http::HeaderMap;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

/// The body of an answer.
#[derive(Debug, Default)]
pub struct Payload {
    first: Bytes,
    rest: vec::IntoIter<Bytes>,
    more: Option<mpsc::Receiver<Frame<Bytes>>>,
    trailers: Option<Box<HeaderMap>>,
}

// === impl Payload ===

impl Payload {
    /// These pieces, in this order.
    #[must_use]
    pub fn pieces(first: Bytes, rest: Vec<Bytes>) -> Self {
        Self {
            first,
            rest: rest.into_iter(),
            ..Self::default()
        }
    }

    /// Pieces that are made while it is sent, and trailers behind them.
    #[must_use]
    pub fn stream(more: mpsc::Receiver<Frame<Bytes>>) -> Self {
        Self {
            more: Some(more),
            ..Self::default()
        }
    }

    /// Ends with trailers.
    #[must_use]
    pub fn with_trailers(mut self, trailers: HeaderMap) -> Self {
        self.trailers = Some(Box::new(trailers));
        self
    }

    /// Bytes that are there and were not sent.
    fn left(&self) -> usize {
        let rest: usize = self.rest.as_slice().iter().map(Bytes::len).sum();
        self.first.len() + rest
    }
}

impl<B: Into<Bytes>> From<B> for Payload {
    fn from(bytes: B) -> Self {
        Self::pieces(bytes.into(), Vec::new())
    }
}

impl Body for Payload {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if !self.first.is_empty() {
            let first = std::mem::take(&mut self.first);
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        if let Some(next) = self.rest.next() {
            return Poll::Ready(Some(Ok(Frame::data(next))));
        }
        if let Some(more) = &mut self.more {
            if let Some(next) = ready!(more.poll_recv(context)) {
                return Poll::Ready(Some(Ok(next)));
            }
            self.more = None;
        }
        let trailers = self.trailers.take();
        Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(*trailers))))
    }

    fn is_end_stream(&self) -> bool {
        self.left() == 0
            && self.rest.as_slice().is_empty()
            && self.more.is_none()
            && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.left() as u64;
        if self.more.is_none() {
            return SizeHint::with_exact(left);
        }
        let mut hint = SizeHint::new();
        hint.set_lower(left);
        hint
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http::header::TE;
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test]
    async fn pieces_come_in_order_uncopied_and_the_trailers_last() {
        let piece = Bytes::from(vec![1, 2]);
        let at = piece.as_ptr();
        let trailers = HeaderMap::from_iter([(TE, HeaderValue::from_static("x"))]);
        let rest = vec![Bytes::from_static(b"b"), piece];
        let mut payload =
            Payload::pieces(Bytes::from_static(b"a"), rest).with_trailers(trailers.clone());
        assert_eq!(payload.size_hint().exact(), Some(4));
        let mut data = Vec::new();
        for _ in 0..3 {
            let frame = payload.frame().await.unwrap().unwrap();
            data.push(frame.into_data().unwrap());
        }
        assert_eq!(data[2].as_ptr(), at);
        assert!(!payload.is_end_stream());
        let last = payload.frame().await.unwrap().unwrap();
        assert_eq!(last.into_trailers().unwrap(), trailers);
        assert!(payload.is_end_stream() && payload.frame().await.is_none());
    }

    #[tokio::test]
    async fn a_stream_ends_when_nobody_makes_more() {
        let (send, more) = mpsc::channel(1);
        let payload = Payload::stream(more);
        assert_eq!(payload.size_hint().exact(), None);
        tokio::spawn(async move {
            let piece = |bytes| Frame::data(Bytes::from_static(bytes));
            let trailers = HeaderMap::from_iter([(TE, HeaderValue::from_static("x"))]);
            for frame in [piece(b"a"), piece(b"b"), Frame::trailers(trailers)] {
                send.send(frame).await.unwrap();
            }
        });
        let whole = payload.collect().await.unwrap();
        assert_eq!(whole.trailers().unwrap()[TE], "x");
        assert_eq!(whole.to_bytes(), "ab");
    }

    #[test]
    fn nothing_is_nothing() {
        let payload = Payload::from("");
        assert!(payload.is_end_stream());
        assert_eq!(payload.size_hint().exact(), Some(0));
    }
}
