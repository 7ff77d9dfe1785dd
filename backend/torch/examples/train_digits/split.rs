//! Which rows are held out: a fifth of each digit, chosen by a seed.
//!
//! Each row gets a key, a hash of the seed and its place in the file; of each digit, the rows with
//! the smallest keys are held out. Unlike a shuffle this needs no generator whose stream may change
//! with a library's version, and anyone can repeat it from ten lines.

use crate::data::Row;

/// One row of so many is held out.
const HELD_OUT_ONE_IN: usize = 5;
/// Digits 0 to 9.
const CLASSES: u8 = 10;

/// Returns the rows to train on and the rows held out, both in the order of the file.
pub(crate) fn stratified(rows: Vec<Row>, seed: u32) -> (Vec<Row>, Vec<Row>) {
    let mut held_out = vec![false; rows.len()];
    for class in 0..CLASSES {
        let mut members: Vec<usize> = (0..rows.len())
            .filter(|&i| rows[i].label == class)
            .collect();
        members.sort_by_key(|&i| key(seed, i));
        let wanted = members.len() / HELD_OUT_ONE_IN;
        members
            .iter()
            .take(wanted)
            .for_each(|&i| held_out[i] = true);
    }
    let (test, train): (Vec<_>, Vec<_>) = rows
        .into_iter()
        .zip(held_out)
        .partition(|&(_, held_out)| held_out);
    let rows_of = |part: Vec<(Row, bool)>| part.into_iter().map(|(row, _)| row).collect();
    (rows_of(train), rows_of(test))
}

/// The finalizer of `SplitMix64` (Steele, Lea and Flood, 2014) over seed and row number.
fn key(seed: u32, row: usize) -> u64 {
    let mut z = (u64::from(seed) << 32) ^ row as u64;
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
