//! The Open Inference Protocol V2: types, codecs and names on the wire.
//!
//! Everything that two of our programs must agree on lives here, and nothing
//! that opens a socket: the proxy, the server, the load generator and the
//! tests read and write the same tensors, paths, headers and reasons.
//!
//! The life of a tensor: a body is decoded straight into the protocol's raw
//! encoding (little-endian, row-major), which is what a model runtime copies
//! from, what a batch is concatenated from, and what rows are sliced out of.
//! There is no second representation between the wire and the model.
//!
//! ```
//! use aegis_protocol::{InferRequest, path};
//!
//! let body = br#"{"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 3],
//!                             "data": [0, 0.5, "1"]}]}"#;
//! let error = InferRequest::from_json(body).unwrap_err();
//! assert_eq!(error.to_string(), r#"inputs[0].data[2]: expected a number (FP32), got "1""#);
//! assert_eq!(path::infer("digits", Some("2")), "/v2/models/digits/versions/2/infer");
//! ```
//!
//! Source: <https://github.com/kserve/open-inference-protocol>.

mod datatype;
mod element;
mod health;
mod infer;
mod json;
mod load_report;
mod metadata;
mod parameters;
mod reason;
mod repository;
mod shape;
mod tensor;
mod text;

pub mod binary;
pub mod grpc;
pub mod headers;
pub mod path;
pub mod timeout;

pub use crate::binary::{Encoded, OutputForms};
pub use crate::datatype::{Datatype, UnknownDatatype};
pub use crate::element::Element;
pub use crate::health::{HealthReport, ModelHealth};
pub use crate::infer::{InferRequest, InferResponse, NamedTensor, RequestedOutput};
pub use crate::json::{DecodeError, EncodeError};
pub use crate::load_report::LoadReport;
pub use crate::metadata::{
    ErrorBody, ModelMetadata, ModelReady, ServerLive, ServerMetadata, ServerReady, TensorMetadata,
};
pub use crate::parameters::{Parameter, Parameters, SAFETY_FLAGS};
pub use crate::reason::{Reason, UnknownReason};
pub use crate::repository::{ChangeError, ChangeRequest, IndexRequest, ModelIndex, ModelState};
pub use crate::shape::{MAX_RANK, Shape};
pub use crate::tensor::{Tensor, TensorError};
pub use crate::text::{Excerpt, excerpt, listed};
