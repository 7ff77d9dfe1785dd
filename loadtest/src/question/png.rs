//! Requests from pictures: one PNG, or a folder of them.
//!
//! A picture is grey or RGB and is sent as it is: nothing is cropped or made larger, since each model was trained
//! with its own way of that. Its samples are scaled evenly from black to white, of 1 to 16 bits alike: to 0 and 1
//! of floats, to 0 and 255 of whole numbers, or to what `--pixels` says. Where the model takes one channel, RGB
//! becomes grey by its luma (ITU-R BT.601); where it takes three, grey is repeated.
//!
//! Which axis is which follows from the signature: channels before or after height and width, none for grey, or all
//! pixels in one row. A free first axis is that of the rows, of which a picture is one.
//!
//! In a folder, pictures that lie in folders named by whole numbers have these as labels.

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use aegis_protocol::{Datatype, NamedTensor, TensorMetadata};
use png::{BitDepth, ColorType, Decoder, Transformations};

use super::fit::{Misfit, expected, is_of};
use super::{Asked, MAX_BYTES, MAX_QUESTIONS, Question, QuestionError, input, lines, numbers};

/// The most bytes of one picture, unpacked.
const MAX_PICTURE: usize = 256 << 20;

/// The most bytes of all tensors of a folder together.
const MAX_IN_ALL: usize = 1 << 30;

/// A picture, its samples from 0 to 1, pixel by pixel.
#[derive(Debug, PartialEq)]
struct Picture {
    width: usize,
    height: usize,
    /// 1 of grey, 3 of RGB.
    channels: usize,
    samples: Vec<f64>,
}

/// How samples are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    channels: usize,
    /// Whether all of one channel come before the next one.
    is_planar: bool,
}

/// Reads one picture, or all of a folder.
pub(super) fn read(path: &Path, asked: Asked<'_>) -> Result<Vec<Question>, QuestionError> {
    let Some(target) = input(path, asked)? else {
        let problem = "expected the model's signature, which the server does not tell: without it, nobody \
                       knows how a picture is laid out";
        return Err(failed(path, problem));
    };
    let files = if path.is_dir() {
        pictures(path)?
    } else {
        vec![(path.to_owned(), None)]
    };
    let (mut questions, mut size) = (Vec::with_capacity(files.len()), 0_usize);
    for (file, label) in files {
        let picture = Picture::read(&file)?;
        let tensor = picture.tensor(&target, asked.pixels);
        let tensor = tensor.map_err(|misfit| QuestionError::Misfit {
            path: file.clone(),
            misfit,
        })?;
        size = size.saturating_add(tensor.data().len());
        if size > MAX_IN_ALL {
            let problem =
                format!("expected pictures of at most {MAX_IN_ALL} bytes together, as tensors");
            return Err(failed(path, problem));
        }
        let name = asked.input.unwrap_or(&target.name);
        questions.push(Question::new(vec![NamedTensor::new(name, tensor)], label));
    }
    Ok(questions)
}

fn failed(path: &Path, problem: impl Into<String>) -> QuestionError {
    QuestionError::Array {
        path: path.to_owned(),
        problem: problem.into(),
    }
}

/// The pictures of a folder and of those in it that are named by labels, in the order of their names.
fn pictures(folder: &Path) -> Result<Vec<(PathBuf, Option<i64>)>, QuestionError> {
    let mut all = Vec::new();
    for path in entries(folder)? {
        if !path.is_dir() {
            all.push((path, None));
            continue;
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let label = name.parse().map_err(|_| {
            let got = aegis_protocol::excerpt(&name).to_string();
            failed(
                folder,
                format!("expected folders named by labels, as 7, got `{got}`"),
            )
        })?;
        all.extend(entries(&path)?.into_iter().map(|path| (path, Some(label))));
    }
    all.retain(|(path, _)| {
        path.extension()
            .is_some_and(|ending| ending.eq_ignore_ascii_case("png"))
    });
    Ok(all)
}

/// What is in a folder, but for hidden files; one too many at the most.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, QuestionError> {
    let unreadable = |source| QuestionError::Read {
        path: folder.to_owned(),
        source,
    };
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
        if paths.len() > MAX_QUESTIONS {
            break;
        }
    }
    paths.sort();
    Ok(paths)
}

// === impl Picture ===

impl Picture {
    fn read(path: &Path) -> Result<Self, QuestionError> {
        let mut bytes = Vec::new();
        let read = lines::open(path)?.read_to_end(&mut bytes);
        read.map_err(|source| QuestionError::Read {
            path: path.to_owned(),
            source,
        })?;
        if bytes.len() as u64 >= MAX_BYTES {
            return Err(failed(
                path,
                format!("expected fewer than {MAX_BYTES} bytes"),
            ));
        }
        Self::decode(&bytes).map_err(|problem| failed(path, problem))
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let no_png = |error: png::DecodingError| format!("expected a PNG: {error}");
        let mut decoder = Decoder::new(Cursor::new(bytes));
        decoder.set_transformations(Transformations::EXPAND);
        let mut reader = decoder.read_info().map_err(no_png)?;
        let size = reader.output_buffer_size();
        let size = size.filter(|&size| size <= MAX_PICTURE);
        let size = size.ok_or_else(|| format!("expected at most {MAX_PICTURE} bytes of pixels"))?;
        let mut buffer = vec![0; size];
        let frame = reader.next_frame(&mut buffer).map_err(no_png)?;
        buffer.truncate(frame.buffer_size());
        let samples: Vec<f64> = match frame.bit_depth {
            BitDepth::Sixteen => {
                let pairs = buffer.chunks_exact(2);
                let pairs = pairs.map(|pair| match pair {
                    &[high, low] => u16::from_be_bytes([high, low]),
                    _ => 0,
                });
                pairs.map(|sample| f64::from(sample) / 65_535.0).collect()
            }
            // Fewer than eight were expanded.
            _ => buffer
                .iter()
                .map(|&sample| f64::from(sample) / 255.0)
                .collect(),
        };
        let (channels, has_alpha) = match frame.color_type {
            ColorType::Grayscale => (1, false),
            ColorType::GrayscaleAlpha => (1, true),
            ColorType::Rgb => (3, false),
            ColorType::Rgba => (3, true),
            ColorType::Indexed => return Err("expected a PNG: its palette is missing".to_owned()),
        };
        let samples = if has_alpha {
            opaque(&samples, channels)?
        } else {
            samples
        };
        Ok(Self {
            width: frame.width as usize,
            height: frame.height as usize,
            channels,
            samples,
        })
    }

    /// As the tensor that an input takes.
    fn tensor(
        &self,
        input: &TensorMetadata,
        pixels: Option<(f64, f64)>,
    ) -> Result<aegis_protocol::Tensor, Misfit> {
        let misfit = || {
            let kind = if self.channels == 1 { "grey" } else { "RGB" };
            Misfit::Other {
                name: input.name.clone(),
                expected: expected(input),
                got: format!(
                    "a picture of {} x {} {kind} pixels",
                    self.width, self.height
                ),
            }
        };
        if input.datatype == Datatype::Bytes {
            return Err(misfit());
        }
        let (layout, shape) = self.layout(&input.shape).ok_or_else(misfit)?;
        let (black, white) = pixels.unwrap_or(match input.datatype {
            datatype if datatype.is_float() => (0.0, 1.0),
            Datatype::Bool => (0.0, 1.0),
            _ => (0.0, 255.0),
        });
        let samples = self.samples_in(layout);
        let samples = samples.map(|sample| black + sample * (white - black));
        let samples: Vec<_> = if input.datatype.is_float() {
            samples.collect()
        } else {
            samples.map(f64::round).collect()
        };
        numbers::tensor(input, shape.into(), &samples)
    }

    /// How the signature wants it: with as many channels as it has, if it may.
    fn layout(&self, signature: &[i64]) -> Option<(Layout, Vec<usize>)> {
        let (height, width) = (self.height, self.width);
        let takes_rows = signature.first().is_some_and(|&size| size < 0);
        let of = |channels: usize| {
            let planar = |shape: Vec<usize>| (true, shape);
            let mut all = vec![
                planar(vec![1, channels, height, width]),
                (false, vec![1, height, width, channels]),
                planar(vec![channels, height, width]),
                (false, vec![height, width, channels]),
            ];
            if channels == 1 {
                all.push(planar(vec![height, width]));
                all.push(planar(vec![1, height * width]));
                all.push(planar(vec![height * width]));
            }
            let mut all = all.into_iter();
            let found = all.find(|(_, shape)| {
                let is_one = !takes_rows || shape.first() == Some(&1);
                is_one && is_of(&shape.clone().into(), signature)
            })?;
            let (is_planar, shape) = found;
            Some((
                Layout {
                    channels,
                    is_planar,
                },
                shape,
            ))
        };
        of(self.channels).or_else(|| of(4 - self.channels))
    }

    fn samples_in(&self, layout: Layout) -> Box<dyn Iterator<Item = f64> + '_> {
        let pixels = move || self.samples.chunks_exact(self.channels);
        let channel = move |pixel: &[f64], channel: usize| match (pixel, layout.channels) {
            (&[red, green, blue], 1) => 0.299 * red + 0.587 * green + 0.114 * blue,
            (&[grey], _) => grey,
            (pixel, _) => pixel.get(channel).copied().unwrap_or(0.0),
        };
        let channels = 0..layout.channels;
        if layout.is_planar {
            let plane = move |at| pixels().map(move |pixel| channel(pixel, at));
            Box::new(channels.flat_map(plane))
        } else {
            let all = move |pixel| channels.clone().map(move |at| channel(pixel, at));
            Box::new(pixels().flat_map(all))
        }
    }
}

/// Samples without their alpha, where all of it is opaque: what would shine through, nobody knows.
fn opaque(samples: &[f64], channels: usize) -> Result<Vec<f64>, String> {
    let mut left = Vec::with_capacity(samples.len());
    for pixel in samples.chunks_exact(channels + 1) {
        if let Some((alpha, colours)) = pixel.split_last() {
            if *alpha < 1.0 {
                return Err("expected opaque pixels: save it without transparency".to_owned());
            }
            left.extend_from_slice(colours);
        }
    }
    Ok(left)
}

#[cfg(test)]
mod tests;
