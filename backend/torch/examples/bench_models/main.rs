//! Makes the models that the benches of the server run, and measures them on libtorch alone.
//!
//! ```text
//! cargo run --profile quick -p aegis-torch --example bench_models FOLDER
//! ```
//!
//! writes a model repository into FOLDER:
//!
//! - `mlp`, the perceptron 784-512-512-10, whose weights also go to `mlp/weights.f32` (little-endian,
//!   each layer's matrix as `[from, to]` and then its bias), for servers that run it without
//!   libtorch; with `mlp/inputs.f32` and what libtorch answers to them, `mlp/outputs.f32`;
//! - `fixed`, most of whose time is the run's own, whatever its rows: what batching is for;
//! - `linear`, whose time is in its rows: what batching hardly helps;
//!
//! and `forward.json`: what a run of each takes, by rows, on one thread and with nobody around, and
//! the line through it.

mod measure;
mod nets;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tch::{CModule, Kind, Tensor};

use measure::Measured;
use nets::{NETS, Net};

/// The most rows of a batch; what `model.toml` says.
const MAX_ROWS: i64 = 32;
/// Rows of the examples that come with the perceptron.
const EXAMPLES: i64 = 64;
/// Decides weights and examples.
const SEED: i64 = 1;
/// More than one row, or the program that tracing writes would hold for one only.
const TRACED_ROWS: i64 = 2;

fn main() -> Result<()> {
    let folder: PathBuf = std::env::args_os()
        .nth(1)
        .context("usage: bench_models FOLDER")?
        .into();
    tch::set_num_threads(1);
    let _no_grad = tch::no_grad_guard();
    let mut measured = Vec::new();
    for net in &NETS {
        tch::manual_seed(SEED);
        let module = save(net, &folder)?;
        measured.push(Measured::take(net, &module)?);
    }
    let text = serde_json::to_string_pretty(&measured)?;
    fs::write(folder.join("forward.json"), text)?;
    for line in &measured {
        eprintln!("{line}");
    }
    Ok(())
}

/// Traces the net, and writes it with all that belongs to it.
fn save(net: &Net, folder: &Path) -> Result<CModule> {
    let home = folder.join(net.name);
    let file = home.join("1/model.pt");
    fs::create_dir_all(home.join("1"))?;
    let weights = (net.weights)();
    let example = Tensor::randn([TRACED_ROWS, net.features], (Kind::Float, tch::Device::Cpu));
    let mut forward = |inputs: &[Tensor]| vec![(net.forward)(&inputs[0], &weights)];
    CModule::create_by_tracing(net.name, "forward", &[example], &mut forward)?.save(&file)?;
    fs::write(home.join("model.toml"), description(net))?;
    // What is served, and not what was traced.
    let module = CModule::load(&file)?;
    let inputs = Tensor::randn([EXAMPLES, net.features], (Kind::Float, tch::Device::Cpu));
    let outputs = module.forward_ts(&[&inputs])?;
    write(&home.join("weights.f32"), &weights)?;
    write(&home.join("inputs.f32"), &[inputs])?;
    write(&home.join("outputs.f32"), &[outputs])?;
    Ok(module)
}

fn description(net: &Net) -> String {
    let Net {
        features, classes, ..
    } = net;
    format!(
        "platform = \"torchscript\"\nmax_batch_size = {MAX_ROWS}\ninstances = 1\n\n\
         [[inputs]]\nname = \"x\"\ndatatype = \"FP32\"\nshape = [-1, {features}]\n\n\
         [[outputs]]\nname = \"y\"\ndatatype = \"FP32\"\nshape = [-1, {classes}]\n"
    )
}

/// Writes FP32 tensors one after the other, little-endian.
fn write(file: &Path, tensors: &[Tensor]) -> Result<()> {
    let mut bytes = Vec::new();
    for tensor in tensors {
        let values = Vec::<f32>::try_from(tensor.contiguous().view(-1))?;
        bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    fs::write(file, bytes).with_context(|| format!("{}", file.display()))
}
