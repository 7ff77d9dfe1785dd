//! A value that a file or a person names, as an element of a tensor.

use aegis_protocol::{Datatype, Element};
use half::{bf16, f16};

use super::raw::RawValue;

// === impl RawValue ===

impl RawValue {
    /// Appends it in the raw encoding; none, with nothing appended, where the datatype has no such value.
    ///
    /// Whole numbers have to fit. Floats are rounded to the nearest, and may be written as whole numbers of 32 bits.
    /// Nothing is an element of BYTES, whose elements are of any length.
    pub(crate) fn put(&self, datatype: Datatype, raw: &mut Vec<u8>) -> Option<()> {
        match datatype {
            Datatype::Bool => self.boolean()?.put(raw),
            Datatype::Uint8 => self.whole::<u8>()?.put(raw),
            Datatype::Uint16 => self.whole::<u16>()?.put(raw),
            Datatype::Uint32 => self.whole::<u32>()?.put(raw),
            Datatype::Uint64 => self.whole::<u64>()?.put(raw),
            Datatype::Int8 => self.whole::<i8>()?.put(raw),
            Datatype::Int16 => self.whole::<i16>()?.put(raw),
            Datatype::Int32 => self.whole::<i32>()?.put(raw),
            Datatype::Int64 => self.whole::<i64>()?.put(raw),
            Datatype::Fp16 => f16::from_f64(self.float()?).put(raw),
            Datatype::Bf16 => bf16::from_f64(self.float()?).put(raw),
            #[expect(clippy::cast_possible_truncation, reason = "rounded to the nearest")]
            Datatype::Fp32 => (self.float()? as f32).put(raw),
            Datatype::Fp64 => self.float()?.put(raw),
            Datatype::Bytes => return None,
        }
        Some(())
    }

    fn boolean(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    fn whole<T: TryFrom<i64>>(&self) -> Option<T> {
        match self {
            Self::Int(value) => T::try_from(*value).ok(),
            _ => None,
        }
    }

    fn float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            Self::Int(value) => i32::try_from(*value).ok().map(f64::from),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(value: &RawValue, datatype: Datatype) -> Option<Vec<u8>> {
        let mut raw = Vec::new();
        value.put(datatype, &mut raw)?;
        Some(raw)
    }

    #[test]
    fn a_number_is_an_element_of_every_datatype_but_bool_and_bytes() {
        for datatype in Datatype::ALL {
            let seven = element(&RawValue::Int(7), datatype);
            let expected = match datatype {
                Datatype::Bool | Datatype::Bytes => None,
                Datatype::Fp16 => Some(vec![0x00, 0x47]),
                Datatype::Bf16 => Some(vec![0xe0, 0x40]),
                Datatype::Fp32 => Some(7_f32.to_le_bytes().to_vec()),
                Datatype::Fp64 => Some(7_f64.to_le_bytes().to_vec()),
                whole => whole.size().map(|size| {
                    let mut bytes = vec![0; size];
                    bytes[0] = 7;
                    bytes
                }),
            };
            assert_eq!(seven, expected, "{datatype}");
        }
    }

    #[test]
    fn what_does_not_fit_is_no_element() {
        for (value, datatype) in [
            (RawValue::Int(256), Datatype::Uint8),
            (RawValue::Int(-1), Datatype::Uint64),
            (RawValue::Int(-129), Datatype::Int8),
            (RawValue::Float(1.0), Datatype::Int64),
            (RawValue::Bool(true), Datatype::Uint8),
            (RawValue::Bool(true), Datatype::Fp32),
            (RawValue::Int(1), Datatype::Bool),
            (RawValue::Int(1 << 40), Datatype::Fp64),
            (RawValue::Str("a".to_owned()), Datatype::Bytes),
        ] {
            assert_eq!(element(&value, datatype), None, "{value:?}, {datatype}");
        }
        assert_eq!(
            element(&RawValue::Bool(true), Datatype::Bool),
            Some(vec![1])
        );
    }
}
