//! How a gRPC call ended, and what that is over HTTP.

use std::fmt::Write as _;

use http::HeaderValue;

use crate::Reason;

/// The status of a call: a closed set, numbered by gRPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// 0: it went well.
    Ok,
    /// 1: the client gave it up.
    Cancelled,
    /// 2: an error that nobody has named.
    Unknown,
    /// 3: the request makes no sense.
    InvalidArgument,
    /// 4: the time was up.
    DeadlineExceeded,
    /// 5: no such model or version.
    NotFound,
    /// 6: what was to be made is there already.
    AlreadyExists,
    /// 7: the client may not.
    PermissionDenied,
    /// 8: too many requests, or too much in one.
    ResourceExhausted,
    /// 9: not in this state.
    FailedPrecondition,
    /// 10: it met another call.
    Aborted,
    /// 11: past the end.
    OutOfRange,
    /// 12: no such method.
    Unimplemented,
    /// 13: the server broke its own rules.
    Internal,
    /// 14: it may go well a little later.
    Unavailable,
    /// 15: something is lost for good.
    DataLoss,
    /// 16: who is it?
    Unauthenticated,
}

// === impl Code ===

impl Code {
    /// Every code, at the index that is its number.
    const ALL: [(Self, &'static str, u16); 17] = [
        (Self::Ok, "0", 200),
        (Self::Cancelled, "1", 499),
        (Self::Unknown, "2", 500),
        (Self::InvalidArgument, "3", 400),
        (Self::DeadlineExceeded, "4", 504),
        (Self::NotFound, "5", 404),
        (Self::AlreadyExists, "6", 409),
        (Self::PermissionDenied, "7", 403),
        (Self::ResourceExhausted, "8", 429),
        (Self::FailedPrecondition, "9", 400),
        (Self::Aborted, "10", 409),
        (Self::OutOfRange, "11", 400),
        // Over HTTP a path that is not there is the client's mistake, and so it is here.
        (Self::Unimplemented, "12", 404),
        (Self::Internal, "13", 500),
        (Self::Unavailable, "14", 503),
        (Self::DataLoss, "15", 500),
        (Self::Unauthenticated, "16", 401),
    ];

    /// Reads the value of `grpc-status`; what is no known code is [`Self::Unknown`].
    #[must_use]
    pub fn of_header(value: &HeaderValue) -> Self {
        let mut all = Self::ALL.into_iter();
        all.find(|(_, number, _)| value.as_bytes() == number.as_bytes())
            .map_or(Self::Unknown, |(code, ..)| code)
    }

    /// Its number.
    #[must_use]
    pub fn number(self) -> i32 {
        self as i32
    }

    /// The value of `grpc-status`.
    #[must_use]
    pub fn header(self) -> HeaderValue {
        HeaderValue::from_static(Self::ALL[self as usize].1)
    }

    /// The HTTP status that says the same: for metrics, and to judge an endpoint.
    #[must_use]
    pub fn http_status(self) -> u16 {
        Self::ALL[self as usize].2
    }
}

impl From<Reason> for Code {
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::BadRequest | Reason::ExpectationFailed | Reason::Safety => {
                Self::InvalidArgument
            }
            Reason::UnknownModel | Reason::UnknownVersion => Self::NotFound,
            Reason::Forbidden => Self::PermissionDenied,
            Reason::MethodNotAllowed
            | Reason::UnsupportedMediaType
            | Reason::NotImplemented
            | Reason::HttpVersion => Self::Unimplemented,
            Reason::BodyTooLarge
            | Reason::UriTooLong
            | Reason::HeaderTooLarge
            | Reason::QueueFull => Self::ResourceExhausted,
            Reason::RequestTimeout => Self::Cancelled,
            Reason::NotReady | Reason::Draining | Reason::NoEndpoint | Reason::UpstreamError => {
                Self::Unavailable
            }
            Reason::Deadline => Self::DeadlineExceeded,
            Reason::ModelError => Self::Internal,
        }
    }
}

/// The value of `grpc-message`: printable ASCII, the rest and `%` percent-encoded.
#[must_use]
pub fn message_header(text: &str) -> HeaderValue {
    let mut value = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => value.push(char::from(byte)),
            // Writing to a string cannot fail.
            _ => drop(write!(value, "%{byte:02X}")),
        }
    }
    HeaderValue::try_from(value).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_stands_at_its_number_and_reads_back() {
        for (index, (code, number, _)) in Code::ALL.into_iter().enumerate() {
            assert_eq!((code as usize, number), (index, &*index.to_string()));
            assert_eq!(Code::of_header(&code.header()), code);
        }
        for nonsense in ["", "17", "00", "OK", "-1"] {
            let value = HeaderValue::from_static(nonsense);
            assert_eq!(Code::of_header(&value), Code::Unknown, "{nonsense}");
        }
    }

    #[test]
    fn a_message_is_printable_ascii() {
        let value = message_header("no `naïve` 100 %\n");
        assert_eq!(value, "no `na%C3%AFve` 100 %25%0A");
    }

    #[test]
    fn a_refusal_means_over_grpc_what_it_means_over_http() {
        // HTTP/2, which gRPC is made of, has neither codings nor versions.
        let never = [Reason::NotImplemented, Reason::HttpVersion];
        for reason in Reason::ALL {
            if never.contains(&reason) {
                continue;
            }
            let code = Code::from(reason);
            assert_ne!(code, Code::Ok, "{reason}");
            let over_grpc = code.http_status() / 100;
            let over_http = reason.status().as_u16() / 100;
            // gRPC has no other word for a body that is too long than for a full queue.
            assert_eq!(over_grpc, over_http, "{reason}: {code:?}");
        }
    }
}
