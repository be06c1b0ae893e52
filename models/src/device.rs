//! Where a model runs: the name in the configuration, and opening the device behind it.

use std::fmt;
use std::panic::catch_unwind;
use std::str::FromStr;

use candle_core::Device;
use serde::{Deserialize, Serialize};

use crate::ModelError;

/// A device as named in a configuration: `cpu` or `cuda:N`.
///
/// ```
/// use vitrine_models::DeviceSpec;
///
/// assert_eq!("cuda:1".parse::<DeviceSpec>()?, DeviceSpec::Cuda(1));
/// # Ok::<(), vitrine_models::ModelError>(())
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum DeviceSpec {
    /// The cores that the process may use.
    #[default]
    Cpu,
    /// The CUDA device of this ordinal, from 0. Needs a build with the cargo feature `cuda`.
    Cuda(usize),
}

impl DeviceSpec {
    /// Opens the device.
    ///
    /// # Errors
    /// There is none of that name here, or this build runs on the CPU only.
    pub fn open(self) -> Result<Device, ModelError> {
        let Self::Cuda(ordinal) = self else { return Ok(Device::Cpu) };
        let fail = |reason: String| ModelError::Device { device: self, reason };
        if !cfg!(feature = "cuda") {
            return Err(fail("this build runs on the CPU only; build it with `--features cuda`".to_owned()));
        }
        // Without the driver's library, cudarc panics where it should return an error. The panic hook is left
        // alone: it belongs to the whole process.
        match catch_unwind(|| Device::new_cuda(ordinal)) {
            Ok(Ok(device)) => Ok(device),
            Ok(Err(error)) => Err(fail(format!("{error}; see `nvidia-smi -L` for the devices there are"))),
            Err(panic) => {
                let said = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("no message");
                Err(fail(format!("CUDA's libraries cannot be used: {said}; install the driver, or use `cpu`")))
            }
        }
    }

    /// Memory of the device itself that is free, in bytes. `None` for the CPU, which has none of its own, and where the
    /// driver does not say.
    #[must_use]
    pub fn free_memory(self) -> Option<u64> {
        match self {
            #[cfg(feature = "cuda")]
            Self::Cuda(ordinal) => {
                use candle_core::cuda_backend::cudarc::driver::CudaContext;

                // It panics as `open` may.
                let told = catch_unwind(|| CudaContext::new(ordinal).and_then(|context| context.mem_get_info()));
                told.ok()?.ok().map(|(free, _)| free as u64)
            }
            _ => None,
        }
    }
}

impl FromStr for DeviceSpec {
    type Err = ModelError;

    fn from_str(text: &str) -> Result<Self, ModelError> {
        // `parse` alone would take `+1` as well.
        let ordinal = |digits: &str| {
            let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|_| plain).map(Self::Cuda)
        };
        match text.split_once(':') {
            None if text == "cpu" => Some(Self::Cpu),
            Some(("cuda", digits)) => ordinal(digits),
            _ => None,
        }
        .ok_or_else(|| ModelError::DeviceName(text.to_owned()))
    }
}

impl TryFrom<String> for DeviceSpec {
    type Error = ModelError;

    fn try_from(text: String) -> Result<Self, ModelError> {
        text.parse()
    }
}

impl From<DeviceSpec> for String {
    fn from(device: DeviceSpec) -> Self {
        device.to_string()
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_to_what_they_print() {
        for name in ["cpu", "cuda:0", "cuda:12"] {
            assert_eq!(name.parse::<DeviceSpec>().unwrap().to_string(), name);
        }
    }

    #[test]
    fn other_names_are_refused_with_a_way_out() {
        for name in ["", "CPU", "cpu:0", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:+1", "cuda:x", "cuda:0:1"] {
            let error = name.parse::<DeviceSpec>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")) && error.contains("cuda:0"), "{error}");
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_an_error_and_no_panic() {
        let error = DeviceSpec::Cuda(4096).open().unwrap_err().to_string();
        assert!(error.contains("cuda:4096"), "{error}");
    }
}
