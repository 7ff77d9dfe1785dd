//! How many different examples answers were compared with: what an accuracy rests on.
//!
//! A model gives the same answer to the same example again, so that a table of ten that is sent a thousand times
//! over shows as much of its accuracy as ten requests do. Examples are counted by what is asked of whom, so that
//! several parts, and several machines, that send the same ones count them once.

use std::collections::{BTreeMap, BTreeSet};

use aegis_protocol::TensorError;

use crate::plan::Part;
use crate::question::Question;

/// The most sets that are told apart.
pub(crate) const MAX_SETS: usize = 4096;

/// Different examples with labels, by the set that they are of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Examples(BTreeMap<u64, u64>);

/// A set of examples that a model is asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set {
    /// Tells it from others, on every machine.
    pub(crate) id: u64,
    /// Different examples with labels.
    pub(crate) size: u64,
}

/// Fowler, Noll and Vo's hash, which is the same wherever it is taken.
struct Fnv(u64);

// === impl Examples ===

impl Examples {
    /// Counts what was compared with sets of examples: no more than there are, however often they were sent.
    pub(crate) fn of(sets: impl Iterator<Item = (Set, u64)>) -> Self {
        let mut compared: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        for (set, scored) in sets.filter(|(set, _)| set.size > 0) {
            let (size, sum) = compared.entry(set.id).or_default();
            *size = set.size;
            *sum += scored;
        }
        let counts = compared.into_iter();
        Self(
            counts
                .map(|(id, (size, sum))| (id, size.min(sum)))
                .collect(),
        )
    }

    /// How many there were; none where nobody knows.
    #[must_use]
    pub fn count(&self) -> Option<u64> {
        (!self.0.is_empty()).then(|| self.0.values().sum())
    }

    /// Each set and its examples.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.0.iter().map(|(&id, &count)| (id, count))
    }

    /// Adds another run's: examples of the same set may be the same ones.
    pub(crate) fn add(&mut self, other: &Self) {
        for (id, count) in other.iter() {
            self.note(id, count);
        }
    }

    /// Notes examples of a set; says whether there was room.
    pub(crate) fn note(&mut self, id: u64, count: u64) -> bool {
        let has_room = self.0.len() < MAX_SETS || self.0.contains_key(&id);
        if has_room {
            let known = self.0.entry(id).or_default();
            *known = count.max(*known);
        }
        has_room
    }
}

// === impl Set ===

impl Set {
    /// The examples of a part.
    pub(crate) fn of(part: &Part) -> Result<Self, TensorError> {
        if !part.questions.are_labelled() {
            return Ok(Self::default());
        }
        let mut examples = BTreeSet::new();
        for number in 0..part.questions.count() {
            if let Some(question) = part.questions.get(number, &part.target.input)? {
                examples.extend(example(&question));
            }
        }
        let mut all = Fnv::new();
        all.text(part.target.model());
        all.text(part.target.version().unwrap_or_default());
        for example in &examples {
            all.number(*example);
        }
        Ok(Self {
            id: all.0,
            size: examples.len() as u64,
        })
    }
}

/// A question with a label, as a number that another one hardly has.
fn example(question: &Question) -> Option<u64> {
    let label = question.label?;
    let mut hash = Fnv::new();
    hash.bytes(&label.to_le_bytes());
    for input in &question.inputs {
        hash.text(&input.name);
        let shape = input.tensor.shape().iter();
        shape.for_each(|&size| hash.number(size as u64));
        hash.number(input.tensor.data().len() as u64);
        hash.bytes(input.tensor.data());
    }
    Some(hash.0)
}

// === impl Fnv ===

impl Fnv {
    fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    fn number(&mut self, number: u64) {
        self.bytes(&number.to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.bytes(text.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Dataset, Manner, Questions, Target};

    fn part(model: &str, table: &str) -> Part {
        let data = Dataset::from_reader("t".as_ref(), table.as_bytes()).unwrap();
        Part {
            name: "a".to_owned(),
            weight: 1.0,
            target: Target::new("http://h", model).unwrap(),
            questions: Questions::Table(Arc::new(data)),
            manner: Manner::default(),
        }
    }

    #[test]
    fn a_set_has_each_example_once_and_is_known_by_what_is_in_it() {
        let set = |model, table| Set::of(&part(model, table)).unwrap();
        let set_of_two = set("m", "1,7\n2,8\n");
        assert_eq!(set_of_two.size, 2);
        assert_eq!(set("m", "2,8\n1,7\n1,7\n"), set_of_two, "in any order");
        assert_eq!(set("m", "1,7\n1,8\n").size, 2, "another label");
        assert_ne!(set("m", "1,7\n3,8\n").id, set_of_two.id);
        assert_ne!(set("other", "1,7\n2,8\n").id, set_of_two.id);
        let mut drawn = part("m", "1,7\n");
        drawn.questions = Questions::Made(Arc::new(vec![Question::new(vec![], None)]));
        assert_eq!(Set::of(&drawn).unwrap(), Set::default());
    }

    #[test]
    fn what_is_sent_again_is_no_other_example() {
        let set = |id, size| Set { id, size };
        let of = |sets: &[(Set, u64)]| Examples::of(sets.iter().copied());
        assert_eq!(of(&[(set(1, 10), 1000)]).count(), Some(10));
        assert_eq!(of(&[(set(1, 10), 4)]).count(), Some(4));
        assert_eq!(of(&[(set(1, 10), 4), (set(1, 10), 3)]).count(), Some(7));
        assert_eq!(of(&[(set(1, 10), 9), (set(2, 5), 9)]).count(), Some(14));
        assert_eq!(of(&[(Set::default(), 9)]).count(), None);
        let mut sum = of(&[(set(1, 10), 4)]);
        sum.add(&of(&[(set(1, 10), 6), (set(2, 5), 2)]));
        assert_eq!(sum.count(), Some(8), "four of the six may be the same");
    }
}
