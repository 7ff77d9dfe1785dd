//! Lists and maps with a most number of entries.
//!
//! The body limit bounds the text, not what it becomes: `{},` is three bytes
//! and an empty tensor's members are eighty. So every collection that grows
//! with the text, other than `data`, has a limit of its own.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::parameters::{MAX_PARAMETERS, Parameters};

/// A list of at most `MAX` items.
pub(super) struct Bounded<T, const MAX: usize>(pub(super) Vec<T>);

/// Parameters, of which there are not too many.
#[derive(Default)]
pub(super) struct BoundedParameters(pub(super) Parameters);

struct ListVisitor<T, const MAX: usize>(PhantomData<T>);

struct ParametersVisitor;

// === impl Bounded ===

impl<'de, T: Deserialize<'de>, const MAX: usize> Deserialize<'de> for Bounded<T, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_seq(ListVisitor::<T, MAX>(PhantomData))
            .map(Self)
    }
}

impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for ListVisitor<T, MAX> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = list.next_element()? {
            within(items.len(), MAX, "items")?;
            items.push(item);
        }
        Ok(items)
    }
}

// === impl BoundedParameters ===

impl<'de> Deserialize<'de> for BoundedParameters {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ParametersVisitor).map(Self)
    }
}

impl<'de> Visitor<'de> for ParametersVisitor {
    type Value = Parameters;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Parameters, A::Error> {
        let mut parameters = Parameters::new();
        while let Some((name, value)) = map.next_entry()? {
            within(parameters.len(), MAX_PARAMETERS, "parameters")?;
            parameters.insert(name, value);
        }
        Ok(parameters)
    }
}

/// Fails when `have` items are as many as there may be.
fn within<E: Error>(have: usize, max: usize, items: &str) -> Result<(), E> {
    if have < max {
        Ok(())
    } else {
        Err(E::custom(format_args!(
            "expected at most {max} {items}, got more"
        )))
    }
}
