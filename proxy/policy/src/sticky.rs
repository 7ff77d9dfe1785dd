//! Which version a sticky client gets: weighted rendezvous hashing.
//!
//! Every version draws a score from the client's key and its own name, and the
//! highest one wins: `−wᵢ / ln(uᵢ)` with `uᵢ` uniform in (0, 1) (Schindelhauer
//! and Schomaker, "Weighted distributed hash tables", 2005). Version `i` wins
//! with probability `wᵢ / Σw`, and a change of one weight changes one score
//! only: keys move to or from that version, and never between two others. A
//! table of ranges would move keys across every boundary.
//!
//! The hash is fixed, so that every proxy and every restart agrees.

/// A name or a key as 64 bits: FNV-1a, finished by that of splitmix64.
#[must_use]
pub fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(fnv)
}

/// A client's key from its own value, such that another salt gives another one.
#[must_use]
pub fn key(salt: &str, value: &[u8]) -> u64 {
    mix(hash(salt.as_bytes()) ^ hash(value).rotate_left(32))
}

/// A number from 0 to 1 that is a client's own, and says nothing about the version that it
/// has: by it the same clients leave a version that cannot carry all of them.
pub(crate) fn stance(key: u64) -> f64 {
    /// Of no version's name.
    const SALT: u64 = 0x6c65_6176_6573_0a01;
    uniform(mix(key ^ SALT))
}

/// 53 bits as a number above 0 and below 1.
fn uniform(bits: u64) -> f64 {
    ((bits >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

/// The finisher of splitmix64: every bit of the input moves every bit of the output.
fn mix(x: u64) -> u64 {
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The index of the version that `key` gets, given every version's name hash and
/// weight. None when all weights are 0.
pub(crate) fn choose(key: u64, versions: impl Iterator<Item = (u64, f64)>) -> Option<usize> {
    let mut best = None;
    for (index, (name, weight)) in versions.enumerate() {
        if weight <= 0.0 {
            continue;
        }
        // ln is finite, and never 0.
        let score = -weight / uniform(mix(key ^ name.rotate_left(17))).ln();
        if best.is_none_or(|(_, highest)| score > highest) {
            best = Some((index, score));
        }
    }
    best.map(|(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Worked out by another program, from the definitions of FNV-1a and splitmix64.
    #[test]
    fn every_proxy_and_every_release_hashes_a_key_alike() {
        assert_eq!(hash(b"v1"), 0x3c01_dc68_9161_1860);
        assert_eq!(key("digits", b"alice"), 0xa0d9_4b64_f2c7_9ad4);
        assert_ne!(key("letters", b"alice"), key("digits", b"alice"));
    }

    fn chosen(key: u64, weights: &[f64]) -> usize {
        let names = (0..).map(|i: u32| hash(format!("v{i}").as_bytes()));
        choose(key, names.zip(weights.iter().copied())).expect("a weight is above 0")
    }

    #[test]
    fn who_leaves_first_has_nothing_to_do_with_the_version_that_is_left() {
        let keys: Vec<u64> = (0..100_000u64).map(|i| hash(&i.to_le_bytes())).collect();
        for version in 0..2 {
            let mut its = keys
                .iter()
                .filter(|key| chosen(**key, &[70.0, 30.0]) == version);
            let (mut all, mut below) = (0, [0; 10]);
            for &key in &mut its {
                all += 1;
                for (tenth, count) in (1..=10).zip(&mut below) {
                    *count += u32::from(stance(key) < f64::from(tenth) / 10.0);
                }
            }
            for (tenth, count) in (1..=10).zip(below) {
                let share = f64::from(tenth) / 10.0;
                let sigma = (f64::from(all) * share * (1.0 - share)).sqrt();
                let off = (f64::from(count) - f64::from(all) * share).abs();
                assert!(off <= 5.0 * sigma, "{count} of {all} below {share}");
            }
        }
    }

    #[test]
    fn shares_follow_the_weights() {
        let keys = (0..100_000u64).map(|i| hash(&i.to_le_bytes()));
        let second = keys.filter(|&key| chosen(key, &[90.0, 10.0]) == 1).count();
        // 5 σ of 10 % over 100,000.
        assert!((9_525..=10_475).contains(&second), "{second}");
    }

    #[test]
    fn raising_a_canary_moves_only_who_must_move_and_back_again() {
        let mut moved = 0;
        for i in 0..50_000u64 {
            let key = hash(&i.to_le_bytes());
            let (five, ten) = (chosen(key, &[95.0, 5.0]), chosen(key, &[90.0, 10.0]));
            assert!(five <= ten, "a key left the canary while it grew");
            moved += usize::from(five != ten);
        }
        // 5 points of 50,000, at 5 σ.
        assert!((2_256..=2_744).contains(&moved), "{moved} keys moved");
    }

    #[test]
    fn a_version_of_weight_zero_gets_nobody() {
        assert!((0..1_000).all(|key| chosen(key, &[0.0, 1.0, 0.0]) == 1));
        assert_eq!(choose(1, [(7, 0.0)].into_iter()), None);
    }

    proptest! {
        #[test]
        fn one_weight_moves_keys_only_to_or_from_its_version(
            key: u64,
            mut weights in prop::collection::vec(0.1..100.0f64, 2..6),
            which in 0..6usize,
            new in 0.1..100.0f64,
        ) {
            let which = which % weights.len();
            let before = chosen(key, &weights);
            weights[which] = new;
            let after = chosen(key, &weights);
            prop_assert!(before == after || before == which || after == which);
        }
    }
}
