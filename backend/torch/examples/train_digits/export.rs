//! From a trained net to a TorchScript file that returns `(label, probabilities)`.
//!
//! Tracing saves programs with one output only. So the probabilities are traced, and the label is
//! added to the saved program as one line of its source.

use std::path::Path;

use aegis_torch::archive::Archive;
use anyhow::{Context, Result, bail, ensure};
use tch::nn::Module;
use tch::{CModule, IValue, Kind, Tensor};

use crate::data::Set;

/// Batches at which a saved file must agree with itself: tracing saw only [`TRACED_ROWS`].
const BATCHES: [i64; 4] = [1, 3, 8, 64];
const TRACED_ROWS: i64 = 2;
/// Rows whose probabilities differ by more, between two batch sizes, fail the export. Kernels
/// differ by batch size, so the last bits may.
const TOLERANCE: f64 = 1e-5;

/// Saves the net, so that it takes `[-1, 64]` FP32 and returns INT64 `[-1]` and FP32 `[-1, 10]`.
pub(crate) fn save(net: &dyn Module, example: &Tensor, file: &Path) -> Result<()> {
    let example = example.narrow(0, 0, TRACED_ROWS);
    let mut forward = |inputs: &[Tensor]| vec![net.forward(&inputs[0]).softmax(-1, Kind::Float)];
    let module = CModule::create_by_tracing("digits", "forward", &[example], &mut forward)?;
    module.save(file)?;

    let mut archive = Archive::read(&std::fs::read(file)?)?;
    let source = with_label(archive.source()?)?;
    archive.replace_source(&source)?;
    Ok(std::fs::write(file, archive.write()?)?)
}

/// Returns the share of the rows whose digit the saved file names.
pub(crate) fn accuracy(file: &Path, test: &Set) -> Result<f64> {
    let module = CModule::load(file)?;
    let (label, probabilities) = run(&module, &test.images)?;
    for batch in BATCHES {
        let (_, few) = run(&module, &test.images.narrow(0, 0, batch))?;
        let same = few.allclose(
            &probabilities.narrow(0, 0, batch),
            TOLERANCE,
            TOLERANCE,
            false,
        );
        ensure!(same, "answers change with the batch size {batch}");
    }
    Ok(label
        .eq_tensor(&test.labels)
        .to_kind(Kind::Float)
        .mean(Kind::Float)
        .double_value(&[]))
}

fn run(module: &CModule, images: &Tensor) -> Result<(Tensor, Tensor)> {
    let IValue::Tuple(outputs) = module.forward_is(&[IValue::Tensor(images.shallow_clone())])?
    else {
        bail!("the saved program does not return a tuple");
    };
    let [IValue::Tensor(label), IValue::Tensor(probabilities)] = outputs.as_slice() else {
        bail!("the saved program does not return two tensors");
    };
    let (rows, kinds) = (images.size()[0], (label.f_kind()?, probabilities.f_kind()?));
    ensure!(
        kinds == (Kind::Int64, Kind::Float),
        "wrong datatypes: {kinds:?}"
    );
    ensure!(
        label.size() == [rows] && probabilities.size() == [rows, 10],
        "wrong shapes"
    );
    Ok((label.shallow_clone(), probabilities.shallow_clone()))
}

/// Rewrites a program that returns the probabilities to one that returns the label as well.
fn with_label(source: &str) -> Result<String> {
    let (body, probabilities) = source
        .rsplit_once("return ")
        .context("nothing is returned")?;
    let (head, body) = body
        .split_once(") -> Tensor:")
        .context("not a single tensor returned")?;
    Ok(format!(
        "{head}) -> Tuple[Tensor, Tensor]:{body}probabilities = {}\n    \
         return (torch.argmax(probabilities, -1), probabilities)\n",
        probabilities.trim_end()
    ))
}
