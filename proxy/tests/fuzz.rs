//! Every reader of strangers' bytes, run on stable 100,000 times: on a corpus and on mutants of it.
//!
//! libFuzzer follows coverage and finds more, but wants a tool of its own and time; this runs
//! wherever the tests run, and a failure comes back with its seed: `AEGIS_FUZZ_SEED=… cargo test …`.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

#[path = "../../tests/fuzz/entries.rs"]
mod entries;

/// Runs of each function.
const RUNS: usize = 100_000;
/// The longest mutant: what is read is small, and time goes into many.
const MAX_BYTES: usize = 1_024;
/// What turns one thing into another, in the languages that are read.
const WORDS: [&[u8]; 24] = [
    b"=",
    b",",
    b";",
    b"\n",
    b"\"",
    b"[",
    b"]",
    b"{",
    b"}",
    b"/",
    b"..",
    b"%2f",
    b"%00",
    b"\xff",
    b"-1",
    b"0",
    b"1e309",
    b"NaN",
    b"18446744073709551616",
    b"versions",
    b"uid=",
    b"\0\0\0\0\x05",
    b"true",
    b"u",
];

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus");
    let entries = fs::read_dir(folder.join(name)).expect("a corpus lies in the repository");
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.expect("readable").path())
        .collect();
    files.sort_unstable();
    let read = |file: &PathBuf| fs::read(file).expect("readable");
    files.iter().map(read).collect()
}

/// Changes bytes in one of the ways that find faults.
fn mutate(bytes: &mut Vec<u8>, other: &[u8], rng: &mut StdRng) {
    let at = rng.random_range(0..=bytes.len());
    let length = rng.random_range(0..=8.min(bytes.len() - at));
    match rng.random_range(0..6) {
        0 => bytes.truncate(at),
        1 => drop(bytes.drain(at..at + length)),
        2 => {
            let word = WORDS[rng.random_range(0..WORDS.len())];
            drop(bytes.splice(at..at + length, word.iter().copied()));
        }
        3 => {
            let from = rng.random_range(0..=other.len());
            let to = rng.random_range(from..=other.len());
            drop(bytes.splice(at..at + length, other[from..to].iter().copied()));
        }
        4 => {
            let part = bytes[at..at + length].to_vec();
            drop(bytes.splice(at..at, part));
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << rng.random_range(0..8);
            }
        }
    }
    bytes.truncate(MAX_BYTES);
}

fn run(name: &str, entry: entries::Entry, seed: u64) {
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "{name} has no corpus");
    let mut rng = StdRng::seed_from_u64(seed);
    for index in 0..RUNS {
        let mut bytes = match corpus.get(index) {
            Some(bytes) => bytes.clone(),
            None => corpus[rng.random_range(0..corpus.len())].clone(),
        };
        if index >= corpus.len() {
            for _ in 0..rng.random_range(1..=4) {
                let other = rng.random_range(0..corpus.len());
                mutate(&mut bytes, &corpus[other], &mut rng);
            }
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| entry(&bytes)));
        assert!(
            outcome.is_ok(),
            "{name}, seed {seed}, run {index}: {:?}",
            String::from_utf8_lossy(&bytes)
        );
    }
}

#[test]
fn no_bytes_of_a_stranger_break_a_reader() {
    let given = std::env::var("AEGIS_FUZZ_SEED").ok();
    let given = given.map(|seed| seed.parse().expect("AEGIS_FUZZ_SEED is a number"));
    let seed = given.unwrap_or_else(|| rand::rng().next_u64());
    std::thread::scope(|threads| {
        for (name, entry) in entries::ALL {
            threads.spawn(move || run(name, entry, seed));
        }
    });
}
