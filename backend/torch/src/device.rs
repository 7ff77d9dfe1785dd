//! Where a module's weights lie and its work is done.

use std::fmt;
use std::str::FromStr;

use crate::cuda;
use crate::error::LoadError;

/// A processor that runs models: written `cpu` or `cuda:N`, as `PyTorch` writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Device {
    /// The host's processors.
    #[default]
    Cpu,
    /// The GPU of this number, counted from 0 among those that the process may see.
    Cuda(u16),
}

/// Says that a text names no device.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `cpu` or `cuda:N`, got `{got}`")]
pub struct UnknownDevice {
    /// The text that was given.
    pub got: String,
}

// === impl Device ===

impl Device {
    /// Makes sure that the process can use it.
    pub(crate) fn prepare(self) -> Result<(), LoadError> {
        let Self::Cuda(index) = self else {
            return Ok(());
        };
        cuda::load().map_err(|source| LoadError::NoCuda {
            device: self,
            source,
        })?;
        let count = tch::Cuda::device_count();
        if tch::Cuda::is_available() && i64::from(index) < count {
            return Ok(());
        }
        let device = self;
        Err(LoadError::NoDevice { device, count })
    }
}

impl From<Device> for tch::Device {
    fn from(device: Device) -> Self {
        match device {
            Device::Cpu => Self::Cpu,
            Device::Cuda(index) => Self::Cuda(usize::from(index)),
        }
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for Device {
    type Err = UnknownDevice;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownDevice {
            got: text.to_owned(),
        };
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            Some(("cuda", index)) => index.parse().map(Self::Cuda).map_err(|_| unknown()),
            _ => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for device in [Device::Cpu, Device::Cuda(0), Device::Cuda(7)] {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
    }

    #[test]
    fn other_names_are_refused_with_the_ones_that_exist() {
        for text in [
            "", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:one", "cpu:0", "CPU",
        ] {
            let error = text.parse::<Device>().unwrap_err().to_string();
            assert_eq!(error, format!("expected `cpu` or `cuda:N`, got `{text}`"));
        }
    }
}
