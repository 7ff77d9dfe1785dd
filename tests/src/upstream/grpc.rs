//! The scripted server's answers over gRPC.

use std::future::ready;
use std::sync::Arc;

use aegis_protocol::grpc::{
    self, Code, Head, InferOutputTensor, ModelInferRequest, ModelInferResponse,
    ModelStreamInferResponse, PREFIX,
};
use aegis_protocol::{Reason, headers};
use bytes::{Bytes, BytesMut};
use futures::stream as streams;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};

use super::answer::Answer;
use super::{Script, Seen};

/// How a call ends that goes well.
pub(super) const WELL: Code = Code::Ok;

/// A stream of inferences that is being answered.
struct Conversation {
    script: Arc<Script>,
    head: http::request::Parts,
    body: Incoming,
    unread: BytesMut,
    ended: bool,
}

/// Whether a path is that of a stream of inferences.
pub(super) fn is_stream(path: &str) -> bool {
    grpc::Method::parse(path) == Some(grpc::Method::ModelStreamInfer)
}

/// The code that a server would send where another would send this status.
pub(super) fn code(status: StatusCode) -> Code {
    match status.as_u16() {
        400 => Code::InvalidArgument,
        404 => Code::NotFound,
        429 => Code::ResourceExhausted,
        503 => Code::Unavailable,
        504 => Code::DeadlineExceeded,
        _ => Code::Internal,
    }
}

/// No message: a header that says how it ended.
pub(super) fn failed(code: Code, reason: Option<Reason>) -> Answer {
    let mut answer = call(Full::default().boxed());
    let headers = answer.headers_mut();
    headers.insert(headers::GRPC_STATUS, code.header());
    if let Some(reason) = reason {
        let reason = HeaderValue::from_static(reason.name());
        headers.insert(headers::REASON, reason);
    }
    answer
}

/// One message with what was asked in it, and trailers with this code.
pub(super) fn echo(seen: &Seen, script: &Script, code: Code) -> Answer {
    let Some(response) = response(seen, script) else {
        return failed(Code::InvalidArgument, None);
    };
    let body = Full::new(grpc::frame(&response));
    call(body.with_trailers(ready(Some(Ok(trailers(code))))).boxed())
}

/// One message for every one that comes in, as soon as it is in.
pub(super) fn stream(request: Request<Incoming>, script: &Arc<Script>) -> Answer {
    let (head, body) = request.into_parts();
    let conversation = Conversation {
        script: Arc::clone(script),
        head,
        body,
        unread: BytesMut::new(),
        ended: false,
    };
    let messages = streams::unfold(conversation, |mut conversation| async move {
        let frame = conversation.next().await?;
        Some((Ok(frame), conversation))
    });
    call(StreamBody::new(messages).boxed())
}

fn call(body: http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>) -> Answer {
    let mut answer = Response::new(body);
    let kind = HeaderValue::from_static("application/grpc");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

fn trailers(code: Code) -> HeaderMap {
    let trailers = [(headers::GRPC_STATUS, code.header())];
    trailers.into_iter().collect()
}

fn response(seen: &Seen, script: &Script) -> Option<ModelInferResponse> {
    let request = seen.infer_request()?;
    if let Some(answer) = script.call_answer() {
        return Some(answer);
    }
    let text = format!("{} {} bytes", seen.path, seen.body.len());
    Some(ModelInferResponse {
        model_name: request.model_name,
        model_version: script.version.clone(),
        id: request.id,
        outputs: vec![InferOutputTensor {
            name: "echo".to_owned(),
            datatype: "UINT8".to_owned(),
            shape: vec![i64::try_from(text.len()).unwrap_or(0)],
        }],
        raw_output_contents: vec![text.into()],
        ..ModelInferResponse::default()
    })
}

// === impl Seen ===

impl Seen {
    pub(super) fn is_call(&self) -> bool {
        self.method == Method::POST && grpc::is_grpc(&self.headers)
    }

    /// The inference that a gRPC call asked for; none when it is none.
    #[must_use]
    pub fn infer_request(&self) -> Option<ModelInferRequest> {
        grpc::read_call(&self.body).ok()
    }
}

// === impl Conversation ===

impl Conversation {
    /// The answer to the next message, or the end.
    async fn next(&mut self) -> Option<Frame<Bytes>> {
        if self.ended {
            return None;
        }
        let Some(message) = self.message().await else {
            self.ended = true;
            return Some(Frame::trailers(trailers(Code::Ok)));
        };
        let seen = Seen {
            method: self.head.method.clone(),
            path: self.head.uri.path().to_owned(),
            headers: self.head.headers.clone(),
            body: message,
        };
        let response = ModelStreamInferResponse {
            error_message: String::new(),
            infer_response: response(&seen, &self.script),
        };
        self.script.remember(seen);
        Some(Frame::data(grpc::frame(&response)))
    }

    /// The next message, with its prefix.
    async fn message(&mut self) -> Option<Bytes> {
        loop {
            if let Ok(Some(Head { length, .. })) = Head::read(&self.unread)
                && self.unread.len() >= PREFIX + length
            {
                return Some(self.unread.split_to(PREFIX + length).freeze());
            }
            let frame = self.body.frame().await?.ok()?;
            self.unread.extend_from_slice(frame.data_ref()?);
        }
    }
}
