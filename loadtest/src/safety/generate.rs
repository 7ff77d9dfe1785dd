//! Cases for a model of images, made from its data and a seed.
//!
//! What is unsafe is made in the ways in which inputs go wrong: numbers that are none, pixels outside
//! of their range, and images of nothing: noise, and real images whose pixels are shuffled or
//! inverted. Each row of the data is also sent as it is, as a safe case.
//!
//! No request is made twice, since one that is sent again shows nothing new. Of some kinds there are only so many:
//! an image has one inverse. Where all of them are made, the others make up for it.

use std::collections::{HashSet, VecDeque};

use aegis_protocol::{InferRequest, NamedTensor, Tensor};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

use super::Case;
use crate::{Dataset, Example};

/// Numbers that JSON cannot carry, as clients write them all the same.
const NO_NUMBERS: [&str; 4] = ["NaN", "Infinity", "-Infinity", "1e39"];

/// So many drawn in a row that were all there before, and a kind has no more to give.
const TRIES: usize = 100;

/// Makes cases.
#[derive(Clone, Debug)]
pub struct Generator {
    /// The input that takes an example's features.
    pub input: String,
    /// The largest feature; the least is 0.
    pub largest: f32,
    /// Decides everything that is drawn.
    pub seed: u64,
}

/// Why there are no cases.
#[derive(Debug, thiserror::Error)]
pub enum GeneratorError {
    /// A tensor could not be made of an example.
    #[error(transparent)]
    Tensor(#[from] aegis_protocol::TensorError),
    /// A request could not be written.
    #[error(transparent)]
    Encode(#[from] aegis_protocol::EncodeError),
}

/// What is there to draw from.
struct Deck<'e> {
    examples: &'e [Example],
    /// Those that are not inverted yet.
    upright: Vec<&'e Example>,
    /// Every request so far.
    made: HashSet<Bytes>,
    rng: StdRng,
}

/// A way to go wrong, and the reason that it should be given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    NoNumber,
    OutOfRange,
    Noise,
    Shuffled,
    Inverted,
}

// === impl Generator ===

impl Generator {
    /// Makes so many unsafe cases, and a safe one of each example, all of them different. They are fewer only
    /// where the examples do not have so many in them.
    ///
    /// # Errors
    ///
    /// See [`GeneratorError`].
    pub fn cases(&self, data: &Dataset, unsafe_cases: usize) -> Result<Vec<Case>, GeneratorError> {
        let mut deck = Deck::new(data.examples(), self.seed);
        let mut safe = Vec::with_capacity(data.examples().len());
        // First, so that nothing unsafe is one of them: an image of one grey is itself when it is shuffled.
        for (at, example) in data.examples().iter().enumerate() {
            let body = self.body(&example.input)?;
            if deck.made.insert(body.clone()) {
                safe.push(Case {
                    name: format!("example {at}"),
                    expect: Vec::new(),
                    body,
                });
            }
        }
        let mut cases = Vec::with_capacity(unsafe_cases + safe.len());
        let mut kinds = VecDeque::from(Kind::ALL);
        while cases.len() < unsafe_cases
            && let Some(kind) = kinds.pop_front()
        {
            if let Some(body) = self.another(kind, &mut deck)? {
                cases.push(Case {
                    name: format!("{} {}", kind.name(), cases.len()),
                    expect: vec![kind.reason().to_owned()],
                    body,
                });
                kinds.push_back(kind);
            }
        }
        cases.append(&mut safe);
        Ok(cases)
    }

    /// One of that kind that was not there before; none where there are no more.
    fn another(&self, kind: Kind, deck: &mut Deck<'_>) -> Result<Option<Bytes>, GeneratorError> {
        let mut tries = 0;
        while tries < TRIES
            && let Some(example) = deck.draw(kind)
        {
            let body = self.spoiled(kind, &example.input, &mut deck.rng)?;
            if deck.made.insert(body.clone()) {
                return Ok(Some(body));
            }
            // Of what is drawn without putting it back, each is tried.
            tries += usize::from(kind != Kind::Inverted);
        }
        Ok(None)
    }

    fn spoiled(
        &self,
        kind: Kind,
        example: &[f32],
        rng: &mut StdRng,
    ) -> Result<Bytes, GeneratorError> {
        let mut row = example.to_vec();
        let place = rng.random_range(0..row.len());
        match kind {
            Kind::NoNumber => return self.unwritable(&mut row, place, rng),
            Kind::OutOfRange => {
                let beyond = rng.random_range(1.0..100.0);
                row[place] = if rng.random() {
                    self.largest + beyond
                } else {
                    -beyond
                };
            }
            Kind::Noise => row.fill_with(|| rng.random_range(0.0..self.largest)),
            Kind::Shuffled => row.shuffle(rng),
            Kind::Inverted => row.iter_mut().for_each(|x| *x = self.largest - *x),
        }
        self.body(&row)
    }

    /// A body with a number that no encoder writes.
    fn unwritable(
        &self,
        row: &mut [f32],
        place: usize,
        rng: &mut StdRng,
    ) -> Result<Bytes, GeneratorError> {
        // Nothing else in the body is this number.
        let (mark, sign) = (-12_345_680.0, "-12345680");
        row[place] = mark;
        let body = self.body(row)?;
        let body = String::from_utf8_lossy(&body);
        let no_number = NO_NUMBERS[rng.random_range(0..NO_NUMBERS.len())];
        // An encoder may write a fraction of nought or not.
        let whole = body.replacen(&format!("{sign}.0"), no_number, 1);
        Ok(whole.replacen(sign, no_number, 1).into())
    }

    fn body(&self, row: &[f32]) -> Result<Bytes, GeneratorError> {
        let tensor = Tensor::from_f32([1, row.len()], row)?;
        let request = InferRequest {
            inputs: vec![NamedTensor::new(self.input.as_str(), tensor)],
            ..InferRequest::default()
        };
        Ok(request.to_json()?.into())
    }
}

// === impl Deck ===

impl<'e> Deck<'e> {
    fn new(examples: &'e [Example], seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut upright: Vec<_> = examples.iter().collect();
        upright.shuffle(&mut rng);
        Self {
            examples,
            upright,
            made: HashSet::new(),
            rng,
        }
    }

    /// An example to be spoiled; none where there is none left.
    fn draw(&mut self, kind: Kind) -> Option<&'e Example> {
        match kind {
            Kind::Inverted => self.upright.pop(),
            _ => self.examples.choose(&mut self.rng),
        }
    }
}

// === impl Kind ===

impl Kind {
    const ALL: [Self; 5] = [
        Self::NoNumber,
        Self::OutOfRange,
        Self::Noise,
        Self::Shuffled,
        Self::Inverted,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::NoNumber => "no number",
            Self::OutOfRange => "out of range",
            Self::Noise => "noise",
            Self::Shuffled => "shuffled",
            Self::Inverted => "inverted",
        }
    }

    fn reason(self) -> &'static str {
        match self {
            Self::NoNumber => "nan_inf_input",
            Self::OutOfRange => "range",
            Self::Noise | Self::Shuffled | Self::Inverted => "ood_input",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(seed: u64) -> Vec<Case> {
        let table = "0,1,2,3,7\n4,5,6,7,8\n";
        let data = Dataset::from_reader("t".as_ref(), table.as_bytes()).unwrap();
        let generator = Generator {
            input: "image".to_owned(),
            largest: 16.0,
            seed,
        };
        generator.cases(&data, 40).unwrap()
    }

    #[test]
    fn the_same_seed_makes_the_same_cases() {
        assert_eq!(cases(1), cases(1));
        assert_ne!(cases(1), cases(2));
    }

    #[test]
    fn no_request_is_made_twice_and_kinds_that_vary_make_up_for_those_that_do_not() {
        let cases = cases(1);
        let mut bodies: Vec<_> = cases.iter().map(|case| &case.body).collect();
        bodies.sort_unstable();
        bodies.dedup();
        assert_eq!(bodies.len(), 42);
        let of = |kind: Kind| {
            let name = kind.name();
            let named = cases.iter().filter(|case| case.name.starts_with(name));
            named.count()
        };
        assert_eq!(of(Kind::Inverted), 2, "there are two images");
        let varied = [
            Kind::NoNumber,
            Kind::OutOfRange,
            Kind::Noise,
            Kind::Shuffled,
        ]
        .map(of);
        assert_eq!(varied.iter().sum::<usize>(), 38);
        assert!(varied.iter().all(|count| *count >= 9), "{varied:?}");
    }

    #[test]
    fn an_image_that_is_there_twice_is_one_and_what_is_unsafe_is_none_of_the_safe_ones() {
        // Of one grey, and each the other's inverse.
        let table = "4,4,7\n12,12,8\n4,4,7\n";
        let data = Dataset::from_reader("t".as_ref(), table.as_bytes()).unwrap();
        let generator = Generator {
            input: "image".to_owned(),
            largest: 16.0,
            seed: 1,
        };
        let cases = generator.cases(&data, 100).unwrap();
        let safe = cases.iter().filter(|case| case.expect.is_empty());
        assert_eq!((safe.count(), cases.len()), (2, 102));
        let made = |name: &str| cases.iter().any(|case| case.name.starts_with(name));
        assert!(!made("inverted") && !made("shuffled"));
        assert!(made("noise") && made("out of range") && made("no number"));
    }

    #[test]
    fn every_case_is_what_its_label_says() {
        let cases = cases(3);
        assert_eq!(cases.len(), 42);
        for case in &cases {
            let request = InferRequest::from_json(&case.body);
            let reason = case.expect.first().map(String::as_str);
            let Ok(request) = request else {
                assert!(request.unwrap_err().is_non_finite(), "{}", case.name);
                assert_eq!(reason, Some("nan_inf_input"));
                continue;
            };
            let row = request.input("image").unwrap().as_f32().unwrap();
            let is_in_range = row.iter().all(|x| (0.0..=16.0).contains(x));
            assert_eq!(reason != Some("range"), is_in_range, "{}", case.name);
            assert_ne!(reason, Some("nan_inf_input"), "{}", case.name);
        }
    }
}
