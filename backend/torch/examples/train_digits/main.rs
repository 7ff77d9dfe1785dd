//! Trains the two bundled versions of `digits`, and writes all that ships with them.
//!
//! ```text
//! cargo run --release -p aegis-torch --example train_digits [FOLDER]
//! ```
//!
//! Reads `loadtest/data/digits/digits.csv.gz`. Writes, under `FOLDER` (the workspace, when it is
//! not given), `config/models/digits/{1,2}/model.pt` and `loadtest/data/digits/test.csv`, the rows
//! that no weight has seen. Everything random comes from [`SEED`] and runs on one thread, so a
//! second run on the same kind of processor writes the same bytes.
//!
//! Version 1 is a small perceptron, version 2 a small convolutional net: different enough in cost
//! and in accuracy that a canary of one against the other has something to show.

mod data;
mod export;
mod nets;
mod split;
mod train;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tch::{Device, nn};

use crate::nets::Recipe;

/// Decides the split, the first weights and the order of the batches.
const SEED: u32 = 20_240_229;

fn main() -> Result<()> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = std::env::args_os()
        .nth(1)
        .map_or_else(|| workspace.clone(), PathBuf::from);
    tch::set_num_threads(1);

    let rows = data::read(&workspace.join("loadtest/data/digits/digits.csv.gz"))?;
    let (train, test) = split::stratified(rows, SEED);
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "seed {SEED}: {} rows to train, {} held out",
        train.len(),
        test.len()
    )?;

    let table = create(folder.join("loadtest/data/digits/test.csv"))?;
    fs::write(table, data::to_csv(&test))?;
    let (train, test) = (data::to_tensors(&train), data::to_tensors(&test));
    for recipe in nets::RECIPES {
        let version = recipe.version;
        let file = create(folder.join(format!("config/models/digits/{version}/model.pt")))?;
        let accuracy = make(recipe, &train, &test, &file)?;
        let size = fs::metadata(&file)?.len();
        writeln!(
            out,
            "version {version}: accuracy {accuracy:.4} held out, {size} bytes"
        )?;
    }
    Ok(())
}

/// Trains one version, saves it, and scores the file that was saved.
fn make(recipe: &Recipe, train: &data::Set, test: &data::Set, file: &Path) -> Result<f64> {
    tch::manual_seed(i64::from(SEED));
    let mut vars = nn::VarStore::new(Device::Cpu);
    let net = (recipe.build)(&vars.root());
    train::fit(&*net, &vars, recipe, train)?;
    // Tracing refuses weights that want a gradient.
    vars.freeze();
    export::save(&*net, &train.images, file)?;
    export::accuracy(file, test)
}

/// Makes the folder of a file that is about to be written.
fn create(file: PathBuf) -> Result<PathBuf> {
    let folder = file.parent().context("a file without a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(file)
}
