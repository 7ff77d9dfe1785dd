//! Cases for a model of images, made from its data and a seed.
//!
//! What is unsafe is made in the ways in which inputs go wrong: numbers that are none, pixels outside
//! of their range, and images of nothing: noise, and real images whose pixels are shuffled, inverted
//! or mixed with another image's halves. Each row of the data is also sent as it is, as a safe case.

use aegis_protocol::{InferRequest, NamedTensor, Tensor};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use super::Case;
use crate::Dataset;

/// Numbers that JSON cannot carry, as clients write them all the same.
const NO_NUMBERS: [&str; 4] = ["NaN", "Infinity", "-Infinity", "1e39"];

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

/// A way to go wrong, and the reason that it should be given.
#[derive(Clone, Copy, Debug)]
enum Kind {
    NoNumber,
    OutOfRange,
    Noise,
    Shuffled,
    Inverted,
}

// === impl Generator ===

impl Generator {
    /// Makes so many unsafe cases, and a safe one of each example.
    ///
    /// # Errors
    ///
    /// See [`GeneratorError`].
    pub fn cases(&self, data: &Dataset, unsafe_cases: usize) -> Result<Vec<Case>, GeneratorError> {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let examples = data.examples();
        let mut cases = Vec::with_capacity(unsafe_cases + examples.len());
        for (at, kind) in (0..unsafe_cases).zip(Kind::ALL.iter().cycle()) {
            let example = &examples[rng.random_range(0..examples.len())].input;
            let body = self.spoiled(*kind, example, &mut rng)?;
            cases.push(Case {
                name: format!("{} {at}", kind.name()),
                expect: vec![kind.reason().to_owned()],
                body,
            });
        }
        for (at, example) in examples.iter().enumerate() {
            cases.push(Case {
                name: format!("example {at}"),
                expect: Vec::new(),
                body: self.body(&example.input)?,
            });
        }
        Ok(cases)
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
