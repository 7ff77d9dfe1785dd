//! The two nets. Both take raw pixels (`[batch, 64]`, 0..=16) and return logits (`[batch, 10]`).
//!
//! They scale the pixels themselves, so that a client sends what the data set holds. Views say -1
//! for the batch, because tracing writes every other size into the saved program.

use tch::Tensor;
use tch::nn::{self, Module, Path};

/// How one version is made.
pub(crate) struct Recipe {
    /// The version's folder in the model repository.
    pub(crate) version: u32,
    pub(crate) build: fn(&Path<'_>) -> Box<dyn Module>,
    pub(crate) epochs: usize,
    pub(crate) learning_rate: f64,
}

/// Version 1 and version 2.
pub(crate) const RECIPES: &[Recipe] = &[
    Recipe {
        version: 1,
        build: perceptron,
        epochs: 60,
        learning_rate: 3e-3,
    },
    Recipe {
        version: 2,
        build: convolutional,
        epochs: 30,
        learning_rate: 2e-3,
    },
];

fn perceptron(vars: &Path<'_>) -> Box<dyn Module> {
    let net = nn::seq()
        .add_fn(scale)
        .add(linear(vars / "hidden", 64, 48))
        .add_fn(Tensor::relu)
        .add(linear(vars / "logits", 48, 10));
    Box::new(net)
}

fn convolutional(vars: &Path<'_>) -> Box<dyn Module> {
    let net = nn::seq()
        .add_fn(|pixels| scale(pixels).view([-1, 1, 8, 8]))
        .add(convolution(vars / "strokes", 1, 16))
        .add_fn(Tensor::relu)
        .add(convolution(vars / "shapes", 16, 32))
        .add_fn(|shapes| shapes.relu().max_pool2d_default(2).view([-1, 32 * 4 * 4]))
        .add(linear(vars / "hidden", 32 * 4 * 4, 64))
        .add_fn(Tensor::relu)
        .add(linear(vars / "logits", 64, 10));
    Box::new(net)
}

fn linear(vars: Path<'_>, from: i64, to: i64) -> nn::Linear {
    nn::linear(vars, from, to, nn::LinearConfig::default())
}

/// 3×3, padded so that the image keeps its size.
fn convolution(vars: Path<'_>, from: i64, to: i64) -> nn::Conv2D {
    let padded = nn::ConvConfig {
        padding: 1,
        ..nn::ConvConfig::default()
    };
    nn::conv2d(vars, from, to, 3, padded)
}

/// From 0..=16 to -1..=1.
fn scale(pixels: &Tensor) -> Tensor {
    pixels / 8.0 - 1.0
}
