//! What is to be sent, where to, when, and with how much patience.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aegis_protocol::path;
use http::{HeaderName, Uri};

use crate::arrivals::Rate;
use crate::dataset::Dataset;
use crate::question::{DEFAULT_INPUT, Questions};
use crate::schedule::Schedule;
use crate::transport::Transport;
use crate::words::seconds;

/// How long a request is waited for, unless told otherwise: the answer is of no
/// use to an interactive user afterwards.
const TIMEOUT: Duration = Duration::from_millis(1500);

/// Requests under way at once, unless told otherwise. At 500 a second and a
/// timeout of 1.5 s, a server that answers nothing holds 750.
const MAX_IN_FLIGHT: usize = 4096;

/// A run of the load generator.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What is asked, and who; at least one, all at one address.
    pub parts: Vec<Part>,
    /// How it is written.
    pub transport: Transport,
    /// When requests are sent.
    pub pattern: Pattern,
    /// How long after its intended send time a request is given up.
    pub timeout: Duration,
    /// The most requests under way; one that is due beyond it is dropped and
    /// counted. Between 1 and about half a million.
    pub max_in_flight: usize,
    /// The most connections; none opens as many as there are requests under way.
    pub connections: Option<usize>,
    /// Decides the instants and the order of the examples.
    pub seed: u64,
}

/// One kind of request in a load.
#[derive(Clone, Debug)]
pub struct Part {
    /// What it is called in reports.
    pub name: String,
    /// How often it is sent, beside the others.
    pub weight: f64,
    /// Who is asked.
    pub target: Target,
    /// What is asked, and the right answers.
    pub questions: Questions,
    /// What its requests say of themselves.
    pub manner: Manner,
}

/// What requests say of themselves beside their inputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// How long they may take, which servers are told.
    pub deadline: Option<Duration>,
    /// `parameters.priority`: 1 is the first, 10 the last.
    pub priority: Option<u8>,
    /// Who asks, for splits that keep to a user.
    pub sticky: Option<Sticky>,
}

/// Keys of users in a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sticky {
    /// The header.
    pub header: HeaderName,
    /// How many users there are.
    pub keys: u64,
}

/// When requests are sent.
#[derive(Clone, Debug, PartialEq)]
pub enum Pattern {
    /// At a rate, whatever becomes of the requests before.
    Open {
        /// When requests are due.
        schedule: Schedule,
        /// Sent before the measurement begins, and not counted.
        warmup: Duration,
    },
    /// So many connections, each of which sends its next request when it has its answer: for comparison.
    /// A server that stalls is asked less, and so looks better than its users see it.
    Closed {
        /// Connections.
        connections: usize,
        /// Sent before the measurement begins, and not counted.
        warmup: Duration,
        /// How long the measurement lasts.
        duration: Duration,
    },
    /// Exactly so many, each worker waiting for its answer before it sends the
    /// next: for tests that count. Its latencies are those of a closed loop.
    Count {
        /// Requests in all.
        requests: u64,
        /// Workers.
        concurrency: usize,
    },
}

/// A model behind an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The server's address: `http://HOST[:PORT]`, without a path.
    url: Uri,
    /// The model asked for.
    model: String,
    /// The version asked for; none leaves the choice to the server.
    version: Option<String>,
    /// The name of the input that carries the features.
    pub input: String,
    /// The name of the output that is compared with the label.
    pub output: String,
}

/// Says that a text is no address to send load to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected an address like http://127.0.0.1:8080, got `{got}`")]
pub struct TargetError {
    /// The text that was given.
    pub got: String,
}

// === impl Plan ===

impl Plan {
    /// Sends at a rate for so long, with the defaults for everything else.
    #[must_use]
    pub fn open(target: Target, data: Arc<Dataset>, rate: Rate, duration: Duration) -> Self {
        Self::new(
            target,
            data,
            Pattern::Open {
                schedule: Schedule::constant(rate, duration),
                warmup: Duration::ZERO,
            },
        )
    }

    /// Sends exactly so many requests, `concurrency` at once.
    #[must_use]
    pub fn count(target: Target, data: Arc<Dataset>, requests: u64, concurrency: usize) -> Self {
        Self::new(
            target,
            data,
            Pattern::Count {
                requests,
                concurrency,
            },
        )
    }

    /// Sends when the pattern says, with the defaults for everything else.
    #[must_use]
    pub fn new(target: Target, data: Arc<Dataset>, pattern: Pattern) -> Self {
        let part = Part {
            name: target.model().to_owned(),
            weight: 1.0,
            target,
            questions: Questions::Table(data),
            manner: Manner::default(),
        };
        Self::of(vec![part], pattern)
    }

    /// Sends a mix of requests when the pattern says, with the defaults for everything else.
    #[must_use]
    pub fn of(parts: Vec<Part>, pattern: Pattern) -> Self {
        Self {
            parts,
            transport: Transport::default(),
            pattern,
            timeout: TIMEOUT,
            max_in_flight: MAX_IN_FLIGHT,
            connections: None,
            seed: 1,
        }
    }
}

// === impl Pattern ===

impl Pattern {
    /// How long the measurement lasts; none where requests are counted instead.
    #[must_use]
    pub fn duration(&self) -> Option<Duration> {
        match self {
            Self::Open { schedule, .. } => Some(schedule.length()),
            Self::Closed { duration, .. } => Some(*duration),
            Self::Count { .. } => None,
        }
    }

    /// What is sent before it begins.
    #[must_use]
    pub fn warmup(&self) -> Duration {
        match self {
            Self::Open { warmup, .. } | Self::Closed { warmup, .. } => *warmup,
            Self::Count { .. } => Duration::ZERO,
        }
    }

    /// Requests a second, on average; none of a closed loop, whose rate is the server's.
    #[must_use]
    pub fn mean_rate(&self) -> Option<f64> {
        match self {
            Self::Open { schedule, .. } => Some(schedule.mean_rate()),
            Self::Closed { .. } | Self::Count { .. } => None,
        }
    }
}

/// For people.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { schedule, .. } => schedule.fmt(f),
            Self::Closed {
                connections,
                duration,
                ..
            } => {
                let seconds = seconds(*duration);
                write!(
                    f,
                    "closed loop of {connections} connections for {seconds} s"
                )
            }
            Self::Count {
                requests,
                concurrency,
            } => write!(f, "{requests} requests, {concurrency} at a time"),
        }
    }
}

// === impl Target ===

impl Target {
    /// Names a model behind an address, with the input `image` and the output
    /// `label` of the bundled digits.
    ///
    /// # Errors
    ///
    /// When the address is not `http://HOST[:PORT]`.
    pub fn new(url: &str, model: &str) -> Result<Self, TargetError> {
        let refused = || TargetError {
            got: aegis_protocol::excerpt(url).to_string(),
        };
        let url: Uri = url.parse().map_err(|_| refused())?;
        let is_bare = matches!(url.path(), "" | "/") && url.query().is_none();
        if url.scheme_str() != Some("http") || url.authority().is_none() || !is_bare {
            return Err(refused());
        }
        let (model, version) = (model.to_owned(), None);
        let (input, output) = (DEFAULT_INPUT.to_owned(), "label".to_owned());
        Ok(Self {
            url,
            model,
            version,
            input,
            output,
        })
    }

    /// The same target with a version that is asked for by name.
    #[must_use]
    pub fn pinned(mut self, version: impl Into<String>) -> Self {
        self.version = Some(version.into());
        self
    }

    /// The server's address, without a slash at its end.
    #[must_use]
    pub fn url(&self) -> String {
        let authority = self
            .url
            .authority()
            .map_or("", http::uri::Authority::as_str);
        format!("http://{authority}")
    }

    /// The model asked for.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The version asked for.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// The same address with another model, of any version.
    #[must_use]
    pub fn with_model(&self, model: &str) -> Self {
        Self {
            model: model.to_owned(),
            version: None,
            ..self.clone()
        }
    }

    /// The server's address.
    pub(crate) fn uri(&self) -> &Uri {
        &self.url
    }

    /// The address of the inference.
    pub(crate) fn infer(&self) -> Result<Uri, http::uri::InvalidUri> {
        (self.url() + &path::infer(&self.model, self.version())).parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_the_path_of_its_inference() {
        let target = Target::new("http://127.0.0.1:8080/", "digits").unwrap();
        let uri = target.infer().unwrap();
        assert_eq!(uri, "http://127.0.0.1:8080/v2/models/digits/infer");
        let uri = target.pinned("2").infer().unwrap();
        assert_eq!(
            uri,
            "http://127.0.0.1:8080/v2/models/digits/versions/2/infer"
        );
    }

    #[test]
    fn what_is_no_plain_http_address_is_refused() {
        for url in [
            "",
            "localhost:8080",
            "https://host",
            "http://host/v2",
            "http://host?x",
            "/",
        ] {
            assert!(Target::new(url, "digits").is_err(), "{url}");
        }
        let error = Target::new("ftp://host", "digits").unwrap_err().to_string();
        assert_eq!(
            error,
            "expected an address like http://127.0.0.1:8080, got `ftp://host`"
        );
    }
}
