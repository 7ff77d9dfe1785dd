//! By what a request is found again in other logs.

/// The names that a request brought. Either may be missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Caller<'h> {
    /// Its own, as the proxy and the client log it.
    pub(crate) request_id: Option<&'h str>,
    /// Its place in a trace, as W3C Trace Context writes it.
    pub(crate) traceparent: Option<&'h str>,
}
