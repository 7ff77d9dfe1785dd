//! Runs of numbers, read at once.
//!
//! Nearly all of a large body is floats with commas between them. One after the other, each of them is
//! looked at three times: for its end, for its place in the list, and for its value. A run is read in one
//! pass, and only as far as all is well: whatever is not a finite number that is wanted ends it, and is
//! left to the walker, which has a word for it.

use fast_float2::{FastFloat, parse_partial};

use crate::element::Element;

/// What a run took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Run {
    /// Of the text, after the last element.
    pub(super) bytes: usize,
    pub(super) elements: usize,
}

/// Of what goes one by one.
pub(super) fn no_run(_: &[u8], _: &mut Vec<u8>, _: usize) -> Run {
    Run::default()
}

/// Takes up to `room` numbers, each behind a comma.
pub(super) fn floats<T: Element + FastFloat + Copy + Into<f64>>(
    text: &[u8],
    raw: &mut Vec<u8>,
    room: usize,
) -> Run {
    let mut run = Run::default();
    while run.elements < room {
        let Some((at, number)) = next(text, run.bytes) else {
            break;
        };
        // It takes words such as `inf` too, which well-formed JSON has not.
        let Ok((value, length)) = parse_partial::<T, _>(number) else {
            break;
        };
        if !value.into().is_finite() {
            break;
        }
        value.put(raw);
        run.bytes = at + length;
        run.elements += 1;
    }
    run
}

/// The number behind the comma here, and where it begins.
fn next(text: &[u8], from: usize) -> Option<(usize, &[u8])> {
    let is_space = |byte: &&u8| matches!(byte, b' ' | b'\t' | b'\n' | b'\r');
    let spaces = |from: usize| {
        text.get(from..)
            .map_or(0, |rest| rest.iter().take_while(is_space).count())
    };
    let comma = from + spaces(from);
    if text.get(comma) != Some(&b',') {
        return None;
    }
    let at = comma + 1 + spaces(comma + 1);
    let number = text.get(at..)?;
    matches!(number.first(), Some(b'-' | b'0'..=b'9')).then_some((at, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(text: &str, room: usize) -> (Run, Vec<f32>) {
        let mut raw = Vec::new();
        let run = floats::<f32>(text.as_bytes(), &mut raw, room);
        let values = raw.chunks_exact(4).map(f32::get);
        (run, values.collect())
    }

    #[test]
    fn it_takes_what_stands_behind_commas_and_no_more_than_there_is_room_for() {
        let text = ",1, -2.5e0 ,\n3]";
        assert_eq!(
            run(text, 9),
            (
                Run {
                    bytes: 14,
                    elements: 3
                },
                vec![1.0, -2.5, 3.0]
            )
        );
        assert_eq!(
            run(text, 2),
            (
                Run {
                    bytes: 10,
                    elements: 2
                },
                vec![1.0, -2.5]
            )
        );
        assert_eq!(run(text, 0), (Run::default(), vec![]));
    }

    #[test]
    fn it_leaves_to_the_walker_what_needs_a_word() {
        for text in [
            "", "]", ",[1]", ",\"1\"", ",null", ",1e39,2", ",true", " ", ",",
        ] {
            assert_eq!(run(text, 9), (Run::default(), vec![]), "{text}");
        }
        let (taken, values) = run(",1,1e39", 9);
        assert_eq!((taken.bytes, values), (2, vec![1.0]));
    }
}
