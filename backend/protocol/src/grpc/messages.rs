//! The messages, with the numbers of their fields.
//!
//! What is empty on the wire (`ServerLiveRequest` and its like) needs no struct. A map is, on the wire,
//! a list of its entries, and is one here.

use prost::Message;

use super::NamedParameter;

/// Where a request goes: `ModelInferRequest`, `ModelMetadataRequest` and
/// `ModelReadyRequest` have both fields in common. Decoding it skips the tensors.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Target {
    /// The model.
    #[prost(string, tag = "1")]
    pub model: String,
    /// Its version; empty leaves the choice to the server.
    #[prost(string, tag = "2")]
    pub version: String,
}

/// Whether the process is alive.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ServerLiveResponse {
    /// It is.
    #[prost(bool, tag = "1")]
    pub live: bool,
}

/// Whether the server is ready.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ServerReadyResponse {
    /// It is.
    #[prost(bool, tag = "1")]
    pub ready: bool,
}

/// Whether a model is ready.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct ModelReadyResponse {
    /// It is.
    #[prost(bool, tag = "1")]
    pub ready: bool,
}

/// What the server is.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct ServerMetadataResponse {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its version.
    #[prost(string, tag = "2")]
    pub version: String,
    /// What it has beyond the protocol.
    #[prost(string, repeated, tag = "3")]
    pub extensions: Vec<String>,
}

/// A model's signature.
#[derive(Clone, PartialEq, Message)]
pub struct ModelMetadataResponse {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The versions that are served.
    #[prost(string, repeated, tag = "2")]
    pub versions: Vec<String>,
    /// What runs it.
    #[prost(string, tag = "3")]
    pub platform: String,
    /// What it takes.
    #[prost(message, repeated, tag = "4")]
    pub inputs: Vec<TensorSignature>,
    /// What it returns.
    #[prost(message, repeated, tag = "5")]
    pub outputs: Vec<TensorSignature>,
}

/// One tensor of a signature.
#[derive(Clone, PartialEq, Message)]
pub struct TensorSignature {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The type of its elements.
    #[prost(string, tag = "2")]
    pub datatype: String,
    /// Its shape; -1 where the size is free.
    #[prost(int64, repeated, tag = "3")]
    pub shape: Vec<i64>,
}

/// Asks for the state of a service.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct HealthCheckRequest {
    /// Its name; empty for the server as a whole.
    #[prost(string, tag = "1")]
    pub service: String,
}

/// The state of a service.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct HealthCheckResponse {
    /// The state.
    #[prost(enumeration = "ServingStatus", tag = "1")]
    pub status: i32,
}

/// The states that a service can be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum ServingStatus {
    /// Nobody knows.
    Unknown = 0,
    /// It serves.
    Serving = 1,
    /// It does not, for now.
    NotServing = 2,
    /// There is no such service; only told to who watches it.
    ServiceUnknown = 3,
}

/// An inference that is asked for.
#[derive(Clone, PartialEq, Message)]
pub struct ModelInferRequest {
    /// The model.
    #[prost(string, tag = "1")]
    pub model_name: String,
    /// Its version; empty leaves the choice to the server.
    #[prost(string, tag = "2")]
    pub model_version: String,
    /// The client's own name for the request.
    #[prost(string, tag = "3")]
    pub id: String,
    /// What the client says about the request.
    #[prost(message, repeated, tag = "4")]
    pub parameters: Vec<NamedParameter>,
    /// The input tensors.
    #[prost(message, repeated, tag = "5")]
    pub inputs: Vec<InferInputTensor>,
    /// The outputs that are asked for; none means all.
    #[prost(message, repeated, tag = "6")]
    pub outputs: Vec<InferRequestedOutput>,
    /// The inputs' contents: little-endian, row-major, in their order.
    #[prost(bytes = "bytes", repeated, tag = "7")]
    pub raw_input_contents: Vec<bytes::Bytes>,
}

/// An input tensor.
#[derive(Clone, PartialEq, Message)]
pub struct InferInputTensor {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The type of its elements, as `FP32`.
    #[prost(string, tag = "2")]
    pub datatype: String,
    /// Its shape.
    #[prost(int64, repeated, tag = "3")]
    pub shape: Vec<i64>,
    /// What the client says about it.
    #[prost(message, repeated, tag = "4")]
    pub parameters: Vec<NamedParameter>,
    /// Its elements, where they are not among `raw_input_contents`.
    #[prost(message, optional, tag = "5")]
    pub contents: Option<TensorContents>,
}

/// The elements of a tensor, in the list of their type.
#[derive(Clone, PartialEq, Message)]
pub struct TensorContents {
    /// Of `BOOL`.
    #[prost(bool, repeated, tag = "1")]
    pub bools: Vec<bool>,
    /// Of `INT8`, `INT16` and `INT32`.
    #[prost(int32, repeated, tag = "2")]
    pub ints: Vec<i32>,
    /// Of `INT64`.
    #[prost(int64, repeated, tag = "3")]
    pub int64s: Vec<i64>,
    /// Of `UINT8`, `UINT16` and `UINT32`.
    #[prost(uint32, repeated, tag = "4")]
    pub uints: Vec<u32>,
    /// Of `UINT64`.
    #[prost(uint64, repeated, tag = "5")]
    pub uint64s: Vec<u64>,
    /// Of `FP32`.
    #[prost(float, repeated, tag = "6")]
    pub fp32s: Vec<f32>,
    /// Of `FP64`.
    #[prost(double, repeated, tag = "7")]
    pub fp64s: Vec<f64>,
    /// Of `BYTES`.
    #[prost(bytes = "bytes", repeated, tag = "8")]
    pub bytes: Vec<bytes::Bytes>,
}

/// An output that is asked for.
#[derive(Clone, PartialEq, Message)]
pub struct InferRequestedOutput {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// What the client says about it.
    #[prost(message, repeated, tag = "2")]
    pub parameters: Vec<NamedParameter>,
}

/// An inference that was made.
#[derive(Clone, PartialEq, Message)]
pub struct ModelInferResponse {
    /// The model.
    #[prost(string, tag = "1")]
    pub model_name: String,
    /// The version that answered.
    #[prost(string, tag = "2")]
    pub model_version: String,
    /// What the client called its request.
    #[prost(string, tag = "3")]
    pub id: String,
    /// What the server says about the answer.
    #[prost(message, repeated, tag = "4")]
    pub parameters: Vec<NamedParameter>,
    /// The output tensors.
    #[prost(message, repeated, tag = "5")]
    pub outputs: Vec<InferOutputTensor>,
    /// The outputs' contents: little-endian, row-major, in their order.
    #[prost(bytes = "bytes", repeated, tag = "6")]
    pub raw_output_contents: Vec<bytes::Bytes>,
}

/// An output tensor, without its contents.
#[derive(Clone, PartialEq, Message)]
pub struct InferOutputTensor {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The type of its elements, as `FP32`.
    #[prost(string, tag = "2")]
    pub datatype: String,
    /// Its shape.
    #[prost(int64, repeated, tag = "3")]
    pub shape: Vec<i64>,
}

/// One answer of a stream.
#[derive(Clone, PartialEq, Message)]
pub struct ModelStreamInferResponse {
    /// What went wrong; empty when nothing did.
    #[prost(string, tag = "1")]
    pub error_message: String,
    /// The inference, when nothing went wrong.
    #[prost(message, optional, tag = "2")]
    pub infer_response: Option<ModelInferResponse>,
}
