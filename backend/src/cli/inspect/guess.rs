//! A guess at the one tensor that nobody has said anything of.
//!
//! The first parameter of a model is nearly always that of the layer that its input enters, and its
//! shape says what enters it. Only what runs is taken; the draft says that it is a guess.

use aegis_protocol::Datatype;

use super::arguments::{Arguments, Axes, Sent, What};
use super::probe::{Run, runs};

/// Heights and widths of images, by how usual they are.
const IMAGE_SIZES: [i64; 8] = [224, 32, 28, 64, 8, 16, 299, 512];

/// Completes the arguments, or says what is not known.
pub(super) fn complete(
    arguments: &mut Arguments,
    parameters: &[(String, Vec<i64>)],
    run: &Run<'_>,
    notes: &mut Vec<String>,
) -> Option<String> {
    let unknown = arguments
        .sent
        .iter()
        .filter(|sent| sent.what == What::Unknown);
    let unknown: Vec<_> = unknown.cloned().collect();
    let ask = |why: &str| {
        // Of a list the argument is named, once for each tensor in it.
        let named = unknown
            .iter()
            .map(|sent| sent.list.as_ref().unwrap_or(&sent.name));
        let flags = named.map(|name| format!(" --input '{name}=FP32[-1,…]'"));
        format!("{why}; say what they are:{}", flags.collect::<String>())
    };
    let [Sent { name, .. }] = &unknown[..] else {
        return Some(ask("the file does not say the shapes of its tensors"));
    };
    for axes in candidates(parameters) {
        let mut tried = arguments.clone();
        for sent in tried.sent.iter_mut().filter(|sent| sent.name == *name) {
            sent.what = What::Tensor(axes.clone());
        }
        if runs(&tried.sent, run) {
            *arguments = tried;
            notes.push(format!(
                "`{name}` is a guess that the model runs on, by the shapes of its parameters: make sure of it"
            ));
            return None;
        }
    }
    Some(ask("the model ran on no guess"))
}

/// What may enter the first layer.
fn candidates(parameters: &[(String, Vec<i64>)]) -> Vec<Axes> {
    let floats = |shape: Vec<i64>| Axes {
        datatype: Datatype::Fp32,
        shape,
    };
    let first = parameters.iter().map(|(_, shape)| shape.as_slice());
    match first
        .filter(|shape| shape.len() > 1)
        .find(|shape| shape.iter().all(|size| *size > 0))
    {
        // A dense layer, a recurrent one, or a table of embeddings.
        Some([_, width]) => vec![
            floats(vec![-1, *width]),
            floats(vec![-1, -1, *width]),
            Axes {
                datatype: Datatype::Int64,
                shape: vec![-1, -1],
            },
        ],
        Some([_, channels, _]) => vec![floats(vec![-1, *channels, -1])],
        Some([_, channels, _, _]) => (IMAGE_SIZES.iter())
            .map(|size| floats(vec![-1, *channels, *size, *size]))
            .collect(),
        Some([_, channels, ..]) => vec![floats(vec![-1, *channels, 16, 32, 32])],
        // No parameters: anything goes in that has rows.
        _ => vec![floats(vec![-1])],
    }
}
