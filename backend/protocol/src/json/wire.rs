//! The members of a body as they stand in the text, before they are checked
//! against each other. Unknown members are ignored, as the protocol says.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{self, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::bounded::{Bounded, BoundedParameters};
use crate::datatype::Datatype;
use crate::infer::MAX_TENSORS;
use crate::shape::MAX_RANK;

/// Inputs or outputs, each of them an object.
pub(super) type Tensors<'a> = Bounded<Object<RawTensor<'a>>, MAX_TENSORS>;

/// The outputs that are asked for.
pub(super) type Outputs = Bounded<Object<RawOutput>, MAX_TENSORS>;

/// A request's members.
#[derive(Deserialize)]
pub(super) struct RawRequest<'a> {
    pub(super) id: Option<String>,
    pub(super) parameters: Option<BoundedParameters>,
    #[serde(borrow)]
    pub(super) inputs: Option<Tensors<'a>>,
    pub(super) outputs: Option<Outputs>,
}

/// An answer's members.
#[derive(Deserialize)]
pub(super) struct RawResponse<'a> {
    pub(super) model_name: Option<String>,
    pub(super) model_version: Option<String>,
    pub(super) id: Option<String>,
    pub(super) parameters: Option<BoundedParameters>,
    #[serde(borrow)]
    pub(super) outputs: Option<Tensors<'a>>,
}

/// A tensor's members; `data` is JSON text that is known to be well-formed.
#[derive(Deserialize)]
pub(super) struct RawTensor<'a> {
    pub(super) name: Option<String>,
    pub(super) datatype: Option<Datatype>,
    pub(super) shape: Option<Bounded<Size, MAX_RANK>>,
    pub(super) parameters: Option<BoundedParameters>,
    #[serde(borrow)]
    pub(super) data: Option<&'a RawValue>,
}

/// The members of an output that is asked for.
#[derive(Deserialize)]
pub(super) struct RawOutput {
    pub(super) name: Option<String>,
    pub(super) parameters: Option<BoundedParameters>,
}

/// Takes `T` from an object only. Serde's derived structs also take a list of
/// their members in order, which is no form that the protocol has.
pub(super) struct Object<T>(pub(super) T);

/// The size of one axis.
pub(super) struct Size(pub(super) usize);

struct ObjectVisitor<T>(PhantomData<T>);

struct SizeVisitor;

// === impl Object ===

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer
            .deserialize_map(ObjectVisitor(PhantomData))
            .map(Self)
    }
}

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}

// === impl Size ===

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_u64(SizeVisitor).map(Self)
    }
}

impl Visitor<'_> for SizeVisitor {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number >= 0")
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<usize, E> {
        usize::try_from(value).map_err(|_| E::invalid_value(Unexpected::Unsigned(value), &self))
    }
}
