//! In which numbers candle computes a network on a GPU.

use std::fmt;
use std::str::FromStr;

use candle_core::DType;

use crate::ModelError;

/// The numbers of weights and of results between layers. What goes in and what comes out is f32 with all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 16 bits, as large as f32's, with 8 of them for the digits.
    Bf16,
    /// 16 bits, up to 65,504, with 11 of them for the digits.
    F16,
}

/// The variable that names a precision.
const VARIABLE: &str = "VITRINE_CUDA_PRECISION";

impl Precision {
    /// All of them, the most exact first.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    /// The one to use: what `VITRINE_CUDA_PRECISION` names, or else f32.
    ///
    /// # Errors
    /// The variable names none.
    pub fn chosen() -> Result<Self, ModelError> {
        match std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) {
            Some(name) => name.to_string_lossy().parse(),
            None => Ok(Self::default()),
        }
    }

    /// candle's name for it.
    pub(crate) fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}

impl FromStr for Precision {
    type Err = ModelError;

    fn from_str(name: &str) -> Result<Self, ModelError> {
        let found = Self::ALL.into_iter().find(|precision| precision.to_string() == name);
        found.ok_or_else(|| ModelError::Precision(name.to_owned()))
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_to_what_they_print_and_others_are_refused_with_what_there_is() {
        for precision in Precision::ALL {
            assert_eq!(precision.to_string().parse::<Precision>().unwrap(), precision);
        }
        for name in ["", "F32", "fp16", "int8"] {
            let error = name.parse::<Precision>().unwrap_err().to_string();
            assert!(error.contains(&format!("`{name}`")) && error.contains("f32, f16, bf16"), "{error}");
        }
    }
}
