//! One number of JSON, as an element.
//!
//! Strict: what JSON has no such number for is none, such as `01`, `1.` or `inf`; nor is one that its type
//! can hold only as an infinity.
//!
//! **Floats** are rounded to the nearest, as the standard library does it. Nearly all have at most 19 digits
//! and a small power of ten. Then the digits are exact in a `f64`, and so is the power, and one multiplication
//! or division rounds once (Clinger 1990, "How to read floating point numbers accurately"). A `f32` is made of that `f64`, which
//! rounds twice, and that is only wrong where the first rounding fell in the very middle between two `f32`;
//! there, and in every other case, `fast_float2` does it.

use half::{bf16, f16};

use crate::element::Element;

/// The most digits that a `u64` holds, whatever they are.
const DIGITS: usize = 19;
/// Up to here every whole number is a `f64`.
const EXACT: u64 = 1 << 53;
/// The powers of ten that are `f64` exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];
/// The bits of a `f64` that a `f32` has no room for, and the middle of what they can be.
const LOST: u64 = (1 << 29) - 1;
const MIDDLE: u64 = 1 << 28;

/// An element that numbers of JSON can be.
pub(super) trait Number: Element {
    /// Reads the number that begins the text. Returns what follows it.
    fn read(text: &[u8]) -> Option<(Self, &[u8])>;
}

/// A number as it is written: digits and a power of ten.
struct Decimal<'a> {
    is_negative: bool,
    digits: u64,
    power: i64,
    /// Whether the digits are all there.
    is_whole: bool,
    text: &'a [u8],
}

/// What follows this byte, where that is next.
#[inline]
pub(super) fn behind(text: &[u8], byte: u8) -> Option<&[u8]> {
    match text.split_first() {
        Some((first, rest)) if *first == byte => Some(rest),
        Some((b' ' | b'\t' | b'\n' | b'\r', rest)) => match spaces(rest).split_first() {
            Some((first, rest)) if *first == byte => Some(rest),
            _ => None,
        },
        _ => None,
    }
}

/// What follows JSON's white space.
#[inline]
pub(super) fn spaces(mut text: &[u8]) -> &[u8] {
    while let Some((b' ' | b'\t' | b'\n' | b'\r', rest)) = text.split_first() {
        text = rest;
    }
    text
}

/// Splits the digits that begin the text off, and appends them to a number. Says how many they are.
#[inline]
fn digits<'a>(mut text: &'a [u8], number: &mut u64) -> (usize, &'a [u8]) {
    let whole = text.len();
    while let Some((digit @ b'0'..=b'9', rest)) = text.split_first() {
        *number = number
            .wrapping_mul(10)
            .wrapping_add(u64::from(digit - b'0'));
        text = rest;
    }
    (whole - text.len(), text)
}

/// Splits the digits before the point off: at least one, and no zero before others.
#[inline]
fn integer<'a>(text: &'a [u8], number: &mut u64) -> Option<(usize, &'a [u8])> {
    let (count, rest) = digits(text, number);
    let is_one = count == 1 || (count > 1 && text.first() != Some(&b'0'));
    is_one.then_some((count, rest))
}

// === impl Decimal ===

impl<'a> Decimal<'a> {
    #[inline]
    fn read(text: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (is_negative, unsigned) = match text.split_first() {
            Some((b'-', rest)) => (true, rest),
            _ => (false, text),
        };
        let (mut digits, mut power) = (0, 0);
        let (mut count, mut rest) = integer(unsigned, &mut digits)?;
        if let Some((b'.', fraction)) = rest.split_first() {
            let (more, behind) = self::digits(fraction, &mut digits);
            if more == 0 {
                return None;
            }
            count += more;
            power = -i64::try_from(more).ok()?;
            rest = behind;
        }
        if let Some((b'e' | b'E', exponent)) = rest.split_first() {
            let (sign, exponent) = match exponent.split_first() {
                Some((b'-', rest)) => (-1, rest),
                Some((b'+', rest)) => (1, rest),
                _ => (1, exponent),
            };
            let mut value = 0;
            let (more, behind) = self::digits(exponent, &mut value);
            // Longer ones are for somebody else, too.
            if more == 0 || more > 4 {
                return None;
            }
            power += sign * i64::try_from(value).ok()?;
            rest = behind;
        }
        let decimal = Self {
            is_negative,
            digits,
            power,
            is_whole: count <= DIGITS,
            text: &text[..text.len() - rest.len()],
        };
        Some((decimal, rest))
    }

    /// Its absolute value, rounded once, where that takes one operation.
    #[inline]
    fn rounded(&self) -> Option<f64> {
        if !self.is_whole || self.digits > EXACT {
            return None;
        }
        let power = POWERS.get(usize::try_from(self.power.unsigned_abs()).ok()?)?;
        let digits = self.digits as f64;
        Some(if self.power < 0 {
            digits / power
        } else {
            digits * power
        })
    }
}

// === impl Number ===

impl Number for f64 {
    #[inline]
    fn read(text: &[u8]) -> Option<(Self, &[u8])> {
        let (decimal, rest) = Decimal::read(text)?;
        let value = match decimal.rounded() {
            Some(value) if decimal.is_negative => -value,
            Some(value) => value,
            None => fast_float2::parse::<Self, _>(decimal.text).ok()?,
        };
        value.is_finite().then_some((value, rest))
    }
}

impl Number for f32 {
    #[inline]
    fn read(text: &[u8]) -> Option<(Self, &[u8])> {
        let (decimal, rest) = Decimal::read(text)?;
        let once = |value: &f64| {
            let is_normal = *value == 0.0 || *value >= f64::from(Self::MIN_POSITIVE);
            is_normal && value.to_bits() & LOST != MIDDLE
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rounded to the nearest, as it should be"
        )]
        let value = match decimal.rounded().filter(once) {
            Some(value) if decimal.is_negative => -value as Self,
            Some(value) => value as Self,
            None => fast_float2::parse::<Self, _>(decimal.text).ok()?,
        };
        value.is_finite().then_some((value, rest))
    }
}

macro_rules! narrowed {
    ($($type:ty),+) => {$(
        impl Number for $type {
            fn read(text: &[u8]) -> Option<(Self, &[u8])> {
                let (value, rest) = f64::read(text)?;
                let value = Self::from_f64(value);
                value.is_finite().then_some((value, rest))
            }
        }
    )+};
}

narrowed!(f16, bf16);

macro_rules! unsigned {
    ($($type:ty),+) => {$(
        impl Number for $type {
            #[inline]
            fn read(text: &[u8]) -> Option<(Self, &[u8])> {
                let mut value = 0;
                let (count, rest) = integer(text, &mut value)?;
                let value = Self::try_from(value).ok().filter(|_| count <= DIGITS)?;
                Some((value, rest))
            }
        }
    )+};
}

unsigned!(u8, u16, u32, u64);

macro_rules! signed {
    ($($type:ty),+) => {$(
        impl Number for $type {
            #[inline]
            fn read(text: &[u8]) -> Option<(Self, &[u8])> {
                let (is_negative, text) = match text.split_first() {
                    Some((b'-', rest)) => (true, rest),
                    _ => (false, text),
                };
                let mut value = 0;
                let (count, rest) = integer(text, &mut value)?;
                let value = i64::try_from(value).ok().filter(|_| count <= DIGITS)?;
                let value = if is_negative { -value } else { value };
                Some((Self::try_from(value).ok()?, rest))
            }
        }
    )+};
}

signed!(i8, i16, i32, i64);
