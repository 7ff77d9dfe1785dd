//! An endpoint as it is written: a text, or a table that says more of it.
//!
//! Deserialised by hand. serde's own way of taking either (`untagged`) would say of
//! any mistake that "no variant matches", and lose where it is.

use std::fmt;

use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// What a zone is made of, nearly: dots alone are refused too, which Helm's regular
/// expressions have no words for.
const ZONE_PATTERN: &str = "^[A-Za-z0-9._-]{0,128}$";

/// Where a version runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "Endpoint")]
pub enum RawEndpoint {
    /// Its address, or a host name, with a port.
    At(String),
    /// That, and what else is known of it.
    Table(RawZonedEndpoint),
}

/// An endpoint with its zone.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(default, deny_unknown_fields)]
#[schemars(rename = "ZonedEndpoint")]
pub struct RawZonedEndpoint {
    /// Its address, or a host name, with a port. Must be given.
    pub address: String,
    /// What it would go down with, such as a zone of the cloud or a rack: 1 to 128
    /// characters of `A-Z a-z 0-9 . _ -`, or empty for unknown. A label: shown in
    /// `/status`, and named by faults in simulations; requests are not kept in it.
    #[schemars(regex(pattern = ZONE_PATTERN))]
    pub zone: String,
}

/// Takes either.
struct Either;

// === impl RawEndpoint ===

impl RawEndpoint {
    /// Where it is, and its zone; empty where there is none.
    pub(in crate::config) fn parts(&self) -> (&str, &str) {
        match self {
            Self::At(address) => (address, ""),
            Self::Table(RawZonedEndpoint { address, zone }) => (address, zone),
        }
    }
}

impl<'de> Deserialize<'de> for RawEndpoint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Either)
    }
}

impl<'de> Visitor<'de> for Either {
    type Value = RawEndpoint;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<RawEndpoint, E> {
        Ok(RawEndpoint::At(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawEndpoint, A::Error> {
        RawZonedEndpoint::deserialize(MapAccessDeserializer::new(map)).map(RawEndpoint::Table)
    }
}
