//! The events of a watch as they come: a JSON object a line, each of bounded length.
//!
//! kube-client reads lines of any length; a server that never ends one would fill the
//! memory.

use std::error::Error;

use async_trait::async_trait;
use bytes::{Buf, Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube_client::core::{Status, WatchEvent};

use super::{Event, Events, News, WatchError, object};

/// The longest line. An object in etcd has at most 1.5 MiB, and is longer as JSON.
const MAX_LINE_BYTES: usize = 8 * 1024 * 1024;

/// The events of one watch.
pub(super) struct Lines<B> {
    body: B,
    buffer: BytesMut,
    /// Bytes at the front of the buffer that hold no end of a line.
    looked_at: usize,
}

// === impl Lines ===

impl<B: Body<Data = Bytes, Error: Error + 'static> + Unpin> Lines<B> {
    pub(super) fn new(body: B) -> Self {
        Self {
            body,
            buffer: BytesMut::new(),
            looked_at: 0,
        }
    }

    /// The next line, without its end. What follows the last end is no line: the
    /// connection broke off in it.
    async fn line(&mut self) -> Option<Result<BytesMut, WatchError>> {
        loop {
            let unseen = self.buffer.get(self.looked_at..).unwrap_or_default();
            if let Some(at) = memchr::memchr(b'\n', unseen) {
                let line = self.buffer.split_to(self.looked_at + at);
                self.buffer.advance(1);
                self.looked_at = 0;
                return Some(Ok(line));
            }
            self.looked_at = self.buffer.len();
            if self.looked_at > MAX_LINE_BYTES {
                let message = format!("an event is longer than {MAX_LINE_BYTES} bytes");
                return Some(Err(WatchError::Unreadable(message)));
            }
            match self.body.frame().await? {
                Ok(frame) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Err(error) => return Some(Err(WatchError::Unreachable(text_of(&error)))),
            }
        }
    }
}

#[async_trait]
impl<B> Events for Lines<B>
where
    B: Body<Data = Bytes, Error: Error + Send + 'static> + Unpin + Send,
{
    async fn next(&mut self) -> Option<Result<Event, WatchError>> {
        loop {
            match self.line().await? {
                Ok(line) if line.iter().all(u8::is_ascii_whitespace) => {}
                Ok(line) => return Some(read(&line)),
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Reads one line.
fn read(line: &[u8]) -> Result<Event, WatchError> {
    let unreadable = |error: &dyn Error| WatchError::Unreadable(text_of(error));
    let event: WatchEvent<EndpointSlice> =
        serde_json::from_slice(line).map_err(|error| unreadable(&error))?;
    let (object, is_gone) = match event {
        WatchEvent::Added(object) | WatchEvent::Modified(object) => (object, false),
        WatchEvent::Deleted(object) => (object, true),
        WatchEvent::Bookmark(bookmark) => {
            return Ok(Event {
                version: bookmark.metadata.resource_version,
                news: News::Watched,
            });
        }
        WatchEvent::Error(status) => return Err(error_of(status.code, &status)),
    };
    let version = object.metadata.resource_version.clone();
    let version = version.filter(|version| !version.is_empty());
    let version = version
        .ok_or_else(|| WatchError::Unreadable("an object has no resourceVersion".to_owned()))?;
    let slice = object::slice(object);
    let news = if is_gone {
        News::Gone(slice.name)
    } else {
        News::Put(slice)
    };
    Ok(Event { version, news })
}

/// What a status other than success means.
pub(super) fn error_of(code: u16, status: &Status) -> WatchError {
    let message = match (&*status.message, &*status.reason) {
        ("", "") => "no reason was given".to_owned(),
        ("", reason) => shortened(reason),
        (message, _) => shortened(message),
    };
    match code {
        410 => WatchError::Expired,
        401 | 403 => WatchError::Refused {
            status: code,
            message,
        },
        _ => WatchError::Failed {
            status: code,
            message,
        },
    }
}

/// The longest text of somebody else's that is kept, in bytes.
const MAX_TEXT_BYTES: usize = 512;

pub(super) fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(MAX_TEXT_BYTES)].to_owned()
}

/// An error with all its causes, in one line.
pub(super) fn text_of(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        // Some errors repeat their cause.
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    shortened(&text)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::VecDeque,
        convert::Infallible,
        pin::Pin,
        task::{Context, Poll},
    };

    use hyper::body::Frame;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    const SLICE: &str = r#"{"type":"ADDED","object":{"metadata":{"name":"s","resourceVersion":"5"},"addressType":"IPv4","endpoints":[]}}"#;

    async fn all(text: &str) -> Vec<Result<Event, WatchError>> {
        events_of(Pieces([text.as_bytes().to_vec()].into())).await
    }

    async fn events_of(body: Pieces) -> Vec<Result<Event, WatchError>> {
        let mut lines = Lines::new(body);
        let mut events = Vec::new();
        while let Some(event) = lines.next().await {
            let ended = event.is_err();
            events.push(event);
            if ended {
                break;
            }
        }
        events
    }

    #[tokio::test]
    async fn events_are_read_line_by_line() {
        let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","metadata":{"resourceVersion":"9","creationTimestamp":null}}}"#;
        let gone = SLICE.replace("ADDED", "DELETED").replace("\"5\"", "\"10\"");
        let events = all(&format!("{SLICE}\n\r\n{bookmark}\n{gone}\n{{\"type\":\"AD")).await;
        let [added, bookmark, gone] = <[_; 3]>::try_from(events).unwrap().map(Result::unwrap);
        assert_eq!(added.version, "5");
        assert!(matches!(added.news, News::Put(slice) if &*slice.name == "s"));
        assert_eq!((&*bookmark.version, bookmark.news), ("9", News::Watched));
        assert_eq!((&*gone.version, gone.news), ("10", News::Gone("s".into())));
    }

    #[tokio::test]
    async fn errors_are_told_apart() {
        let expired = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"too old resource version","reason":"Expired","code":410}}"#;
        assert_eq!(
            all(&format!("{expired}\n")).await,
            [Err(WatchError::Expired)]
        );
        let failed = expired.replace("410", "500");
        let message = "too old resource version".to_owned();
        let error = WatchError::Failed {
            status: 500,
            message,
        };
        assert_eq!(all(&format!("{failed}\n")).await, [Err(error)]);
        for text in [
            "not json\n",
            "{\"type\":\"ADDED\",\"object\":{}}\n",
            "{\"type\":\"WHAT\",\"object\":{}}\n",
            "[]\n",
        ] {
            let events = all(text).await;
            let [Err(WatchError::Unreadable(_))] = events.as_slice() else {
                panic!("{text}: {events:?}");
            };
        }
    }

    proptest! {
        #[test]
        fn any_line_is_an_event_or_an_error(line in "\\PC{0,200}") {
            let _ = read(line.as_bytes());
        }

        #[test]
        fn where_the_bytes_are_cut_changes_nothing(cuts in vec(1_usize..40, 1..40)) {
            let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"EndpointSlice","apiVersion":"discovery.k8s.io/v1","metadata":{"resourceVersion":"9"}}}"#;
            let text = format!("{SLICE}\n{bookmark}\n{SLICE}\n");
            let mut rest = text.as_bytes();
            let mut frames = Vec::new();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (frame, more) = rest.split_at(rest.len().min(*cut));
                frames.push(frame.to_vec());
                rest = more;
            }
            let body = Pieces(frames.into());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let events = runtime.block_on(events_of(body));
            let versions: Vec<_> = events.iter().map(|event| event.as_ref().unwrap().version.as_str()).collect();
            prop_assert_eq!(versions, ["5", "9", "5"]);
        }
    }

    /// A body in pieces.
    struct Pieces(VecDeque<Vec<u8>>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            let piece = self.0.pop_front();
            Poll::Ready(piece.map(|piece| Ok(Frame::data(piece.into()))))
        }
    }

    #[tokio::test]
    async fn a_line_that_never_ends_is_given_up() {
        let events = all(&" ".repeat(MAX_LINE_BYTES + 1)).await;
        let [Err(WatchError::Unreadable(message))] = events.as_slice() else {
            panic!("{events:?}");
        };
        assert!(message.contains("longer than"), "{message}");
    }
}
