//! The digits as rows of a table and as tensors.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use flate2::read::GzDecoder;
use tch::Tensor;

/// Pixels of an image of 8 rows and 8 columns.
pub(crate) const PIXELS: usize = 64;

/// One image, row by row, each pixel in 0..=16, and the digit that it shows.
#[derive(Clone, Copy)]
pub(crate) struct Row {
    pub(crate) pixels: [u8; PIXELS],
    pub(crate) label: u8,
}

/// Images (`[rows, 64]`, FP32) and their digits (`[rows]`, INT64).
pub(crate) struct Set {
    pub(crate) images: Tensor,
    pub(crate) labels: Tensor,
}

/// Reads a gzipped table of 65 columns: 64 pixels and the label.
pub(crate) fn read(path: &Path) -> Result<Vec<Row>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let mut text = String::new();
    GzDecoder::new(file).read_to_string(&mut text)?;
    let numbered = text.lines().enumerate();
    numbered
        .map(|(i, line)| parse(line).with_context(|| format!("line {}", i + 1)))
        .collect()
}

fn parse(line: &str) -> Result<Row> {
    let cells = line
        .split(',')
        .map(str::parse)
        .collect::<Result<Vec<u8>, _>>()?;
    let (label, pixels) = cells.split_last().context("an empty line")?;
    let pixels = <[u8; PIXELS]>::try_from(pixels)?;
    ensure!(pixels.iter().all(|&pixel| pixel <= 16), "a pixel above 16");
    ensure!(*label <= 9, "the label {label} is no digit");
    Ok(Row {
        pixels,
        label: *label,
    })
}

/// Writes the table in the layout that [`read`] takes.
pub(crate) fn to_csv(rows: &[Row]) -> String {
    let mut csv = String::new();
    for row in rows {
        for pixel in row.pixels {
            let _ = write!(csv, "{pixel},");
        }
        let _ = writeln!(csv, "{}", row.label);
    }
    csv
}

/// Copies the rows into tensors.
pub(crate) fn to_tensors(rows: &[Row]) -> Set {
    let pixels: Vec<f32> = rows
        .iter()
        .flat_map(|row| row.pixels.map(f32::from))
        .collect();
    let labels: Vec<i64> = rows.iter().map(|row| i64::from(row.label)).collect();
    Set {
        images: Tensor::from_slice(&pixels).view([-1, 64]),
        labels: Tensor::from_slice(&labels),
    }
}
