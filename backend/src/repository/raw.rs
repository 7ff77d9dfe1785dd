//! `model.toml` as serde reads it. The comments are the descriptions in the JSON Schema.

use schemars::JsonSchema;
use serde::Deserialize;

mod safety;

pub use safety::{
    RawAction, RawBlocklist, RawGuard, RawLowConfidence, RawMethod, RawOnError, RawOodInput,
    RawOodOutput, RawOutputRange, RawPattern, RawRange, RawSafety, RawSize,
};

/// The description of a model in the model repository: one file for all its versions.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawModelFile {
    /// What executes the model.
    pub platform: RawPlatform,
    /// The most rows that run together; a request with more runs alone. Left out, 8 on a CPU and 32 on a
    /// GPU. 0 for a model that does not
    /// batch: each request then runs alone, as it was sent.
    pub max_batch_size: Option<usize>,
    /// The longest that a request may be held back for company, in milliseconds. A cap, never a
    /// delay: an idle instance takes what is there at once, so that only requests that find every
    /// instance busy wait at all. Those that waited longer are counted in
    /// `aegis_inference_over_max_wait_total`.
    pub max_latency_ms: u64,
    /// The longest that a run may take, in milliseconds. Nothing can stop it then: its requests get
    /// 500, its instance works no more, the model is not ready, and the process asks to be restarted. 0
    /// for no bound.
    pub run_timeout_ms: u64,
    /// Copies of the model that run at the same time, each on a thread of its own.
    pub instances: usize,
    /// Where it runs: `cpu` or `cuda:N`.
    pub device: String,
    /// Threads that an instance uses inside one operation, on a CPU. Times `instances`, not more than
    /// the processors that the process may use.
    pub intra_op_threads: u16,
    /// The method that requests call.
    pub method: String,
    /// Whether a run changes what later runs answer, as where the module counts or remembers. Such a
    /// model has one instance and does not batch; what it did at warm-up is forgotten, and zeros are
    /// never run to find out whether it still works.
    pub stateful: bool,
    /// What the model takes, in the order of its arguments.
    pub inputs: Vec<RawInput>,
    /// What the model returns, in the order of its results.
    pub outputs: Vec<RawOutput>,
    /// What is checked in requests and answers.
    pub safety: RawSafety,
    /// What a scripted model does. Only with `platform = "scripted"`.
    pub scripted: Option<RawScripted>,
}

/// What executes a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawPlatform {
    /// `VERSION/model.pt`, with libtorch.
    #[default]
    TorchScript,
    /// A fake that computes nothing, and is slow or fails as `[scripted]` says: for trying
    /// breakers, fallbacks and drains.
    Scripted,
}

/// Something that the model takes.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawInput {
    /// Its name on the wire.
    pub name: String,
    /// What the model gets: a tensor, or a plain number, boolean or text.
    pub kind: RawKind,
    /// The type of its elements, as the Open Inference Protocol names it: BOOL, UINT8 to UINT64,
    /// INT8 to INT64, FP16, BF16, FP32, FP64 or BYTES. To libtorch UINT16 goes as INT32, UINT32 and
    /// UINT64 go as INT64, and BYTES of one axis as a list of `str`. A plain `kind` has its own.
    pub datatype: String,
    /// Its axes, outermost first; -1 for a free one. With `max_batch_size` over 0 the first is the
    /// batch axis and must be -1.
    pub shape: Vec<i64>,
    /// Sizes that the free axes, but for the batch axis, take at warm-up; 1 each when left out.
    pub warm_up: Vec<usize>,
    /// Only with a plain `kind`: what it is at warm-up, and where it is `optional` and left out. Left
    /// out here, 0, 0.0, false or an empty text.
    pub value: Option<RawValue>,
    /// Whether a request may leave it out. The model then gets its `value`, where it is plain, and `None` in
    /// the place of a tensor (an `Optional[Tensor]`); one of the tensors may not be left out where requests
    /// run together.
    pub optional: bool,
    /// The argument of the model that it is an element of, where that is a list of tensors (a
    /// `List[Tensor]`). Such inputs stand one after the other, each with a name of its own.
    pub list: Option<String>,
    /// Lengths that its free axis, which must be the only one beside the batch axis, is filled up to, the shortest
    /// first: requests of different lengths then run together. What is longer than the last is refused. Only where
    /// requests run together.
    pub pad_to: Vec<usize>,
    /// What it is filled up with: a number, or a boolean for BOOL. Left out, 0 or false.
    pub pad_with: Option<RawValue>,
}

/// What a model gets of an input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawKind {
    /// A tensor.
    #[default]
    Tensor,
    /// An `int`: one INT64 for the whole request. Such inputs have the shape `[1]` and are no rows;
    /// requests run together only where they are equal.
    Int,
    /// A `float`: one FP64.
    Float,
    /// A `bool`: one BOOL.
    Bool,
    /// A `str`: one BYTES, of UTF-8 without NUL.
    Str,
}

/// The value of a plain input.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum RawValue {
    /// Of a `bool`.
    Bool(bool),
    /// Of an `int`, or of a `float`.
    Int(i64),
    /// Of a `float`.
    Float(f64),
    /// Of a `str`.
    Str(String),
}

/// A tensor that the model returns.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawOutput {
    /// Its name on the wire.
    pub name: String,
    /// The type of its elements, as for inputs.
    pub datatype: String,
    /// Its axes, as for inputs.
    pub shape: Vec<i64>,
    /// The input with `pad_to` that its free axis, which must be the only one beside the batch axis, is as long as:
    /// it is cut back to the length that the request had.
    pub unpad: Option<String>,
}

/// What a scripted model does. Runs are counted from 1, warm-up aside.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RawScripted {
    /// Time that every run takes, in milliseconds.
    pub batch_ms: f64,
    /// Time that every row adds, in milliseconds.
    pub row_ms: f64,
    /// What it answers.
    pub answer: RawAnswer,
    /// Fail every Nth run: 1 always, 0 never.
    pub fail_every: u64,
    /// Fail a run whose FP32 inputs hold this value.
    pub fail_on: Option<f32>,
    /// Answer NaN in floating-point outputs at every Nth run: 1 always, 0 never.
    pub nan_every: u64,
    /// Answer NaN in the rows whose FP32 inputs hold this value.
    pub nan_on: Option<f32>,
    /// Never return from every Nth run: 1 always, 0 never. The instance is lost with it.
    pub hang_every: u64,
}

/// What a scripted model answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RawAnswer {
    /// Zeros of the declared outputs.
    #[default]
    Zeros,
    /// Output i is input i.
    Identity,
    /// One FP32 output: the sum of each row over all FP32 inputs.
    Sum,
}

// === impl RawModelFile ===

impl Default for RawModelFile {
    fn default() -> Self {
        Self {
            platform: RawPlatform::TorchScript,
            max_batch_size: None,
            max_latency_ms: 20,
            run_timeout_ms: 30_000,
            instances: 1,
            device: "cpu".to_owned(),
            intra_op_threads: 1,
            method: "forward".to_owned(),
            stateful: false,
            inputs: Vec::new(),
            outputs: Vec::new(),
            safety: RawSafety::default(),
            scripted: None,
        }
    }
}
