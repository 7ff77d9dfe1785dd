//! The held-out handwritten digits, as requests, pictures and right answers.

use std::fs;
use std::path::PathBuf;

use aegis_protocol::InferResponse;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;

use crate::binaries::workspace_root;

/// The model's name in the repository that ships.
pub const MODEL: &str = "digits";
/// Pixels of an image of 8 rows and 8 columns.
pub const PIXELS: usize = 64;
/// The table of images that no training has seen.
const HELD_OUT: &str = "loadtest/data/digits/test.csv";
/// From white to black, in steps of four.
const SHADES: [&str; 5] = ["  ", "░░", "▒▒", "▓▓", "██"];

/// One image, row by row, each pixel in 0..=16, and the digit that it shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digit {
    /// The image.
    pub pixels: [u8; PIXELS],
    /// The right answer.
    pub label: u8,
}

/// Where the table of images that no training has seen lies.
#[must_use]
pub fn held_out_path() -> PathBuf {
    workspace_root().join(HELD_OUT)
}

/// Reads the images that no training has seen.
///
/// # Errors
///
/// When the table is not there or not whole.
pub fn held_out() -> Result<Vec<Digit>> {
    let path = held_out_path();
    let text = fs::read_to_string(&path).with_context(|| format!("{}", path.display()))?;
    let digits = text.lines().map(Digit::parse).collect::<Result<Vec<_>>>()?;
    ensure!(!digits.is_empty(), "{} is empty", path.display());
    Ok(digits)
}

/// The body that asks about these images in one request.
#[must_use]
pub fn request(digits: &[Digit]) -> Bytes {
    let pixels = digits.iter().flat_map(|digit| digit.pixels);
    let pixels: Vec<String> = pixels.map(|pixel| pixel.to_string()).collect();
    // By hand, so that the members stand in the order in which people read them.
    let body = format!(
        r#"{{"inputs":[{{"name":"image","datatype":"FP32","shape":[{},{PIXELS}],"data":[{}]}}]}}"#,
        digits.len(),
        pixels.join(",")
    );
    body.into()
}

/// What the model took the images for.
///
/// # Errors
///
/// When the answer holds no labels.
pub fn labels(answer: &[u8]) -> Result<Vec<i64>> {
    let answer = InferResponse::from_json(answer)?;
    let label = answer.output("label").context("no output `label`")?;
    Ok(label.as_i64()?)
}

/// How likely the model found each digit, `[rows, 10]`.
///
/// # Errors
///
/// When the answer holds no probabilities.
pub fn probabilities(answer: &[u8]) -> Result<Vec<f32>> {
    let answer = InferResponse::from_json(answer)?;
    let probabilities = answer
        .output("probabilities")
        .context("no output `probabilities`")?;
    Ok(probabilities.as_f32()?)
}

// === impl Digit ===

impl Digit {
    fn parse(line: &str) -> Result<Self> {
        let cells = line
            .split(',')
            .map(str::parse)
            .collect::<Result<Vec<u8>, _>>()?;
        let (&label, pixels) = cells.split_last().context("an empty line")?;
        let pixels = <[u8; PIXELS]>::try_from(pixels)?;
        ensure!(
            label <= 9 && pixels.iter().all(|&pixel| pixel <= 16),
            "no digit: {line}"
        );
        Ok(Self { pixels, label })
    }

    /// The image in eight lines of text.
    #[must_use]
    pub fn picture(&self) -> Vec<String> {
        let shade = |&pixel: &u8| SHADES[usize::from(pixel).div_ceil(4).min(SHADES.len() - 1)];
        self.pixels
            .chunks(8)
            .map(|row| row.iter().map(shade).collect())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_every_digit() {
        let digits = held_out().unwrap();
        assert!(digits.len() > 300, "{}", digits.len());
        assert!((0..10).all(|label| digits.iter().any(|digit| digit.label == label)));
    }

    #[test]
    fn a_request_holds_one_row_an_image() {
        let digits = held_out().unwrap();
        let request = aegis_protocol::InferRequest::from_json(&request(&digits[..3])).unwrap();
        let image = request.input("image").unwrap().as_f32().unwrap();
        let pixels = digits[..3].iter().flat_map(|digit| digit.pixels);
        assert_eq!(image, pixels.map(f32::from).collect::<Vec<_>>());
    }
}
