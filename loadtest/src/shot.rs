//! One request, from when it is due to when its fate is known.
//!
//! What it carries is decided when it is due and not when it is sent: two runs with the same seed ask the same at
//! the same times, whatever was dropped in one of them and in whatever order its tasks ran.

use std::sync::Arc;
use std::time::{Duration, Instant};

use aegis_protocol::{ErrorBody, Parameter, excerpt};
use http::{HeaderName, HeaderValue};
use parking_lot::Mutex;

use crate::client::{Answer, GrpcClient, HttpClient, Letter, SendError};
use crate::clock;
use crate::load::LoadError;
use crate::order::Order;
use crate::outcome::{ErrorKind, Outcome, Sample};
use crate::plan::{Part, Plan, Sticky};
use crate::transport::Transport;

/// The parameter of a request that says how important it is.
const PRIORITY: &str = "priority";

/// Everything that is needed to send the request of a given number.
#[derive(Debug)]
pub(crate) struct Gun {
    client: Client,
    transport: Transport,
    magazines: Vec<Magazine>,
    turns: Mutex<Turns>,
    timeout: Duration,
    seed: u64,
}

/// What a request carries: the same for the same number and seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Round {
    /// The request's number, from 0.
    pub(crate) request: u64,
    /// Of which magazine.
    magazine: usize,
    /// How many of that magazine came before.
    place: u64,
}

/// Deals rounds, one request after the other.
#[derive(Debug)]
struct Turns {
    /// Each magazine's share of requests and of those before it.
    shares: Vec<f64>,
    /// Rounds of each so far.
    dealt: Vec<u64>,
    /// The next request.
    request: u64,
    seed: u64,
}

/// Who carries letters.
#[derive(Debug)]
enum Client {
    Rest(HttpClient),
    Grpc(GrpcClient),
}

/// The requests of one part.
#[derive(Debug)]
struct Magazine {
    /// Its name; none where there is no other.
    name: Option<Arc<str>>,
    order: Order,
    /// A letter and the right label, for each question.
    letters: Vec<(Letter, Option<i64>)>,
    output: String,
    sticky: Option<Sticky>,
}

// === impl Gun ===

impl Gun {
    /// Encodes every question once, so that sending costs next to nothing.
    pub(crate) fn new(plan: &Plan) -> Result<Self, LoadError> {
        let first = plan.parts.first().ok_or(LoadError::NoParts)?;
        let uri = first.target.uri();
        let client = match plan.transport {
            Transport::Json | Transport::Binary => {
                Client::Rest(HttpClient::new(uri, plan.connections, plan.timeout)?)
            }
            Transport::Grpc => Client::Grpc(GrpcClient::new(uri, plan.connections, plan.timeout)),
        };
        let is_mixed = plan.parts.len() > 1;
        let magazines = plan.parts.iter();
        let magazines = magazines.map(|part| Magazine::new(part, plan, is_mixed));
        Ok(Self {
            client,
            transport: plan.transport,
            turns: Mutex::new(Turns::new(
                plan.parts.iter().map(|part| part.weight),
                plan.seed,
            )),
            magazines: magazines.collect::<Result<_, _>>()?,
            timeout: plan.timeout,
            seed: plan.seed,
        })
    }

    /// What the next request carries, whether it is sent or not.
    pub(crate) fn deal(&self) -> Round {
        self.turns.lock().deal()
    }

    /// Sends a request, which was due at `intended`, and waits
    /// for its answer until the timeout has passed since then.
    pub(crate) async fn fire(&self, round: Round, intended: Instant) -> Sample {
        let began = clock::now();
        let mut started = None;
        let magazine = &self.magazines[round.magazine];
        let (letter, label) = magazine.letter(round.place);
        let more = magazine.user(mixed(self.seed ^ 1, round.request));
        let deadline = tokio::time::Instant::from_std(intended + self.timeout);
        // Waiting for a connection is part of the latency: `intended` stands.
        let sent = self.client.send(deadline, letter, more, &mut started);
        let outcome = match sent.await {
            Some(Ok(answer)) => self.judge(answer, magazine, label),
            Some(Err(SendError { kind, text })) => match kind {
                Some(kind) => Outcome::Failed { kind, text },
                None => Outcome::Unsent { text },
            },
            None => Outcome::Failed {
                kind: ErrorKind::Timeout,
                text: format!("no answer within {:?}", self.timeout),
            },
        };
        Sample {
            part: magazine.name.clone(),
            intended,
            began,
            started,
            ended: clock::now(),
            outcome,
        }
    }

    fn judge(&self, answer: Answer, magazine: &Magazine, label: Option<i64>) -> Outcome {
        if answer.status != 200 {
            let text = match &answer.message {
                Some(message) => excerpt(message).to_string(),
                None => refusal(&answer.body),
            };
            return Outcome::Refused {
                from: answer.from,
                status: answer.status,
                reason: answer.reason,
                text,
            };
        }
        match self.transport.score(&answer, &magazine.output, label) {
            Ok(scored) => {
                let mut from = answer.from;
                from.version = from.version.or(scored.version.map(Arc::from));
                Outcome::Scored {
                    from,
                    right: scored.right,
                }
            }
            Err(error) => Outcome::Failed {
                kind: ErrorKind::BadAnswer,
                text: error.to_string(),
            },
        }
    }
}

// === impl Turns ===

impl Turns {
    /// Of magazines with these weights, of which there is at least one.
    fn new(weights: impl Iterator<Item = f64> + Clone, seed: u64) -> Self {
        let all: f64 = weights.clone().sum();
        let mut before = 0.0;
        let shares = weights.map(|weight| {
            before += weight / all;
            before
        });
        let shares: Vec<_> = shares.collect();
        Self {
            dealt: vec![0; shares.len()],
            shares,
            request: 0,
            seed,
        }
    }

    /// The next request's: of a magazine by weight, and of each all of its letters in turn.
    fn deal(&mut self) -> Round {
        let request = self.request;
        self.request += 1;
        let magazine = if self.shares.len() == 1 {
            0
        } else {
            let chance = unit(mixed(self.seed, request));
            let chosen = self.shares.partition_point(|&share| share <= chance);
            // Weights that do not quite add up to 1 leave the last one.
            chosen.min(self.shares.len() - 1)
        };
        let place = self.dealt[magazine];
        self.dealt[magazine] += 1;
        Round {
            request,
            magazine,
            place,
        }
    }
}

/// What a refusal says.
fn refusal(body: &[u8]) -> String {
    let error = serde_json::from_slice::<ErrorBody>(body).map(|body| body.error);
    let text = error.unwrap_or_else(|_| String::from_utf8_lossy(body).into_owned());
    excerpt(&text).to_string()
}

// === impl Client ===

impl Client {
    /// Sends a letter; `started` is when it had a connection. None where there is no answer by `deadline`.
    async fn send(
        &self,
        deadline: tokio::time::Instant,
        letter: &Letter,
        more: Option<(HeaderName, HeaderValue)>,
        started: &mut Option<Instant>,
    ) -> Option<Result<Answer, SendError>> {
        match self {
            Self::Rest(client) => {
                let lease = match client.try_lease() {
                    Some(lease) => lease,
                    None => tokio::time::timeout_at(deadline, client.lease())
                        .await
                        .ok()?,
                };
                *started = Some(clock::now());
                lease.send_until(deadline, letter, more).await
            }
            Self::Grpc(client) => {
                *started = Some(clock::now());
                let answer = tokio::time::timeout_at(deadline, client.send(letter, more));
                answer.await.ok()
            }
        }
    }
}

// === impl Magazine ===

impl Magazine {
    fn new(part: &Part, plan: &Plan, is_mixed: bool) -> Result<Self, LoadError> {
        let count = part.questions.count();
        let mut letters = Vec::with_capacity(count);
        for number in 0..count {
            let question = part.questions.get(number, &part.target.input)?;
            let Some(question) = question else { break };
            let mut request = question.request();
            if let Some(priority) = part.manner.priority {
                let priority = Parameter::Int(priority.into());
                request.parameters.insert(PRIORITY.to_owned(), priority);
            }
            let letter = plan
                .transport
                .letter(&part.target, request, part.manner.deadline)?;
            letters.push((letter, question.label));
        }
        if letters.is_empty() {
            return Err(LoadError::NoQuestions {
                part: part.name.clone(),
            });
        }
        Ok(Self {
            name: is_mixed.then(|| part.name.as_str().into()),
            order: Order::new(letters.len(), plan.seed),
            letters,
            output: part.target.output.clone(),
            sticky: part.manner.sticky.clone(),
        })
    }

    /// The one of that place, and the right label.
    fn letter(&self, place: u64) -> (&Letter, Option<i64>) {
        let (letter, label) = &self.letters[self.order.example(place)];
        (letter, *label)
    }

    /// The header that says who asks.
    fn user(&self, chance: u64) -> Option<(HeaderName, HeaderValue)> {
        let sticky = self.sticky.as_ref()?;
        let user = HeaderValue::from(chance % sticky.keys.max(1));
        Some((sticky.header.clone(), user))
    }
}

/// A number that looks like chance, and is the same for the same seed (Steele, Lea and Flood's splitmix64).
fn mixed(seed: u64, number: u64) -> u64 {
    let mut z = seed ^ number.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// As a number from 0 to 1.
fn unit(number: u64) -> f64 {
    (number >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dealt(weights: &[f64], seed: u64) -> Vec<Round> {
        let mut turns = Turns::new(weights.iter().copied(), seed);
        (0..1000).map(|_| turns.deal()).collect()
    }

    #[test]
    fn each_magazine_deals_its_rounds_in_turn_and_by_its_weight() {
        let rounds = dealt(&[3.0, 1.0], 7);
        for magazine in [0, 1] {
            let of = rounds.iter().filter(|round| round.magazine == magazine);
            let places: Vec<_> = of.map(|round| round.place).collect();
            let count = places.len() as u64;
            assert_eq!(places, (0..count).collect::<Vec<_>>());
            let expected = [750_u64, 250][magazine];
            assert!(count.abs_diff(expected) < 60, "{count} of {magazine}");
        }
        assert_eq!(dealt(&[3.0, 1.0], 7), rounds);
        assert_ne!(dealt(&[3.0, 1.0], 8), rounds);
        let alone = dealt(&[0.5], 7);
        assert!(alone.iter().all(|round| round.place == round.request));
    }
}
