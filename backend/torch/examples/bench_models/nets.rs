//! The nets: what they are made of, and what they compute.

use tch::{Device, Kind, Tensor};

/// Numbers that a small layer takes and gives.
const NARROW: i64 = 16;
/// Numbers a row that a round works on.
const WIDE: i64 = 16_384;
/// Small enough that no chain of layers grows without bound.
const SCALE: f64 = 0.05;

/// One model.
pub(crate) struct Net {
    pub(crate) name: &'static str,
    pub(crate) features: i64,
    pub(crate) classes: i64,
    /// Made anew after the seed is set.
    pub(crate) weights: fn() -> Vec<Tensor>,
    /// Of a batch, with those.
    pub(crate) forward: fn(&Tensor, &[Tensor]) -> Tensor,
}

/// All of them.
pub(crate) const NETS: [Net; 3] = [
    Net {
        name: "mlp",
        features: 784,
        classes: 10,
        weights: || layers(&[784, 512, 512, 10]),
        forward: perceptron,
    },
    Net {
        name: "fixed",
        features: NARROW,
        classes: 4,
        weights: mixed,
        // Some 6 ms a run and 1 ms a row: a load generator beside it can triple its capacity.
        forward: |x, weights| mix(x, weights, 6_000, 15),
    },
    Net {
        name: "linear",
        features: NARROW,
        classes: 4,
        weights: mixed,
        forward: |x, weights| mix(x, weights, 300, 40),
    },
];

fn perceptron(x: &Tensor, weights: &[Tensor]) -> Tensor {
    let hidden = layer(x, weights).relu();
    let hidden = layer(&hidden, &weights[2..]).relu();
    layer(&hidden, &weights[4..])
}

fn mixed() -> Vec<Tensor> {
    layers(&[NARROW, WIDE, 4])
}

/// So many operations on little, which cost what it costs to start them, and so many on much, which
/// cost in proportion to the rows. None is a matrix product: libtorch looks at those in pairs when it
/// specializes a program, and takes minutes over thousands.
fn mix(x: &Tensor, weights: &[Tensor], small: usize, large: usize) -> Tensor {
    let again = |x: Tensor, times| (0..times).fold(x, |x: Tensor, _| x.tanh());
    let wide = layer(&again(x.shallow_clone(), small), weights);
    layer(&again(wide, large), &weights[2..])
}

/// A matrix and a bias for each step from one size to the next.
fn layers(sizes: &[i64]) -> Vec<Tensor> {
    let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu)) * SCALE;
    sizes
        .windows(2)
        .flat_map(|pair| [random(pair), random(&pair[1..])])
        .collect()
}

fn layer(x: &Tensor, weights: &[Tensor]) -> Tensor {
    weights[1].addmm(x, &weights[0])
}
