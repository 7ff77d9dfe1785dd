//! How a module is called, beyond "`forward` takes tensors and returns some".
//!
//! TorchScript methods take Python numbers and strings beside tensors, and return them, and dicts.
//! The protocol knows tensors only, so the numbers travel as tensors of one element, and an entry of
//! a dict is found by the name that the caller declares for it.

use aegis_protocol::Datatype;

/// The method that runs when no other is named.
pub const FORWARD: &str = "forward";

/// A method, what it takes and what it returns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its name, as `forward`.
    pub method: String,
    /// Its arguments, in their order.
    pub arguments: Vec<Argument>,
    /// What it returns, in its order; of a dict, the entries of these names.
    pub results: Vec<Expected>,
}

/// How a tensor of the protocol enters the method.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Argument {
    /// As a tensor; of BYTES, as a list of `str`.
    #[default]
    Tensor,
    /// As the one element that it has: INT64 as `int`, FP64 as `float`, BOOL as `bool`, BYTES as `str`.
    Plain,
    /// As a tensor, or as `None` where it has no elements: what an `Optional[Tensor]` takes.
    Optional,
    /// As an element of a `List[Tensor]`: the first of one, or the next of the list before it.
    Element {
        /// Whether a list begins with it.
        is_first: bool,
    },
}

/// One declared result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Its key, where the method returns a dict.
    pub name: String,
    /// What it is sent as. UINT16, UINT32 and UINT64 are made of the signed integers that libtorch
    /// has in their place; any other datatype is what the method returns.
    pub datatype: Datatype,
}
