//! Plain mini-batch training: Adam on cross entropy, with a learning rate that falls to nothing.

use anyhow::{Result, ensure};
use tch::nn::{self, Module, OptimizerConfig};
use tch::{Device, Kind, Tensor};

use crate::data::Set;
use crate::nets::Recipe;

const BATCH: i64 = 32;
const WEIGHT_DECAY: f64 = 1e-4;

/// Fits the net's variables to the set.
pub(crate) fn fit(net: &dyn Module, vars: &nn::VarStore, recipe: &Recipe, set: &Set) -> Result<()> {
    let adam = nn::Adam {
        wd: WEIGHT_DECAY,
        ..nn::Adam::default()
    };
    let mut optimizer = adam.build(vars, recipe.learning_rate)?;
    for epoch in 0..recipe.epochs {
        optimizer.set_lr(recipe.learning_rate * cosine(epoch, recipe.epochs));
        let order = Tensor::randperm(set.labels.size1()?, (Kind::Int64, Device::Cpu));
        for rows in order.split(BATCH, 0) {
            let logits = net.forward(&set.images.index_select(0, &rows));
            let loss = logits.cross_entropy_for_logits(&set.labels.index_select(0, &rows));
            ensure!(
                loss.double_value(&[]).is_finite(),
                "the loss diverged in epoch {epoch}"
            );
            optimizer.backward_step(&loss);
        }
    }
    Ok(())
}

/// Falls from 1 to 0 along half a cosine wave.
#[expect(clippy::cast_precision_loss, reason = "epochs are few")]
fn cosine(epoch: usize, epochs: usize) -> f64 {
    let part = epoch as f64 / epochs as f64;
    f64::midpoint(1.0, (std::f64::consts::PI * part).cos())
}
