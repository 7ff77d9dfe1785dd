//! Which datatypes of the protocol libtorch can hold.
//!
//! `tch` knows no unsigned integers wider than a byte (asking such a tensor for its kind is an
//! error): those enter a model as the next wider signed ones. Strings are no tensors at all.

use aegis_protocol::Datatype;
use tch::Kind;

/// The kind that holds this datatype; none where libtorch has none.
pub(crate) fn to_kind(datatype: Datatype) -> Option<Kind> {
    match datatype {
        Datatype::Bool => Some(Kind::Bool),
        Datatype::Uint8 => Some(Kind::Uint8),
        Datatype::Int8 => Some(Kind::Int8),
        Datatype::Int16 => Some(Kind::Int16),
        Datatype::Int32 | Datatype::Uint16 => Some(Kind::Int),
        Datatype::Int64 | Datatype::Uint32 | Datatype::Uint64 => Some(Kind::Int64),
        Datatype::Fp16 => Some(Kind::Half),
        Datatype::Bf16 => Some(Kind::BFloat16),
        Datatype::Fp32 => Some(Kind::Float),
        Datatype::Fp64 => Some(Kind::Double),
        Datatype::Bytes => None,
    }
}

/// The datatype that this kind becomes; none for complex, quantized and 8-bit float kinds.
pub(crate) fn from_kind(kind: Kind) -> Option<Datatype> {
    let own = |datatype: &Datatype| {
        !matches!(
            datatype,
            Datatype::Uint16 | Datatype::Uint32 | Datatype::Uint64
        )
    };
    Datatype::ALL
        .into_iter()
        .filter(own)
        .find(|&datatype| to_kind(datatype) == Some(kind))
}
