//! The protocol over gRPC: methods, messages and how calls end.
//!
//! The message structs are written by hand beside the numbers that the protocol
//! gives their fields, so that nothing is generated and no compiler of another
//! language is needed; `prost` derives the codec.
//!
//! A proxy does not decode tensors. [`Target`] is the two fields that say where a
//! request goes; every other field is skipped, wherever it stands. The version is
//! set by appending its field: of a field that is there twice, a decoder takes the
//! last, so nothing in front of it has to move.
//!
//! A server does decode them, once it has seen that a message does not become more
//! than it may ([`Weighed`]).
//!
//! Sources: <https://github.com/kserve/open-inference-protocol> (the service),
//! <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md> (the framing),
//! <https://protobuf.dev/programming-guides/encoding/> (the last one wins).

mod bounds;
mod code;
mod contents;
mod fields;
mod frame;
mod messages;
mod method;
mod parameter;
mod reflection;
mod repository;

pub use bounds::{BoundsError, Weighed};
pub use code::{Code, message_header};
pub use contents::ContentsError;
pub use frame::{
    CallError, FrameError, Head, PREFIX, Versioner, frame, message_of, read_call, retarget,
};
pub use messages::{
    HealthCheckRequest, HealthCheckResponse, InferInputTensor, InferOutputTensor,
    InferRequestedOutput, ModelInferRequest, ModelInferResponse, ModelMetadataResponse,
    ModelReadyResponse, ModelStreamInferResponse, ServerLiveResponse, ServerMetadataResponse,
    ServerReadyResponse, ServingStatus, Target, TensorContents, TensorSignature,
};
pub use method::{Method, is_grpc};
pub use parameter::{InferParameter, NamedParameter, ParameterChoice, timeout};
pub use reflection::{
    Extension, Files, Question, ReflectionError, ReflectionRequest, ReflectionResponse, Reply,
    Service, Services,
};
pub use repository::{
    IndexLine, RepositoryChangeRequest, RepositoryChangeResponse, RepositoryIndexRequest,
    RepositoryIndexResponse,
};
