//! Which instruction set the kernels use: the best of this CPU, or the one that the environment names.

use std::fmt;

use crate::ModelError;

/// An instruction set for which there are kernels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isa {
    /// AMX's tiles of bf16, beside AVX-512 with BF16.
    Amx,
    /// AVX-512 (F and BW) with VNNI: products of whole numbers of 16 bits.
    Avx512Int16,
    /// AVX-512 (F and BW) with BF16.
    Avx512Bf16,
    /// AVX-512 (F and BW).
    Avx512,
    /// AVX2, FMA and F16C, with products of whole numbers of 16 bits.
    Avx2Int16,
    /// AVX2, FMA and F16C.
    Avx2,
    /// Any CPU.
    Portable,
}

/// The variable that names an instruction set, to try it or to compare.
const VARIABLE: &str = "VITRINE_CPU_ISA";

impl Isa {
    /// All of them, the quickest first.
    const ALL: [Self; 7] =
        [Self::Amx, Self::Avx512Int16, Self::Avx512Bf16, Self::Avx512, Self::Avx2Int16, Self::Avx2, Self::Portable];

    /// Those that this CPU has, the quickest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().filter(|isa| isa.is_available())
    }

    /// The one to use: what `VITRINE_CPU_ISA` names, or else the quickest that this CPU has.
    ///
    /// # Errors
    /// The variable names none, or one that this CPU lacks.
    pub fn chosen() -> Result<Self, ModelError> {
        let Some(name) = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()) else {
            return Ok(Self::available().next().unwrap_or(Self::Portable));
        };
        Self::named(&name.to_string_lossy())
    }

    /// Whether its products round what they take to 16 bits.
    pub fn rounds(self) -> bool {
        matches!(self, Self::Amx | Self::Avx512Int16 | Self::Avx512Bf16 | Self::Avx2Int16)
    }

    fn named(name: &str) -> Result<Self, ModelError> {
        let refused = |reason: &str| {
            let available: Vec<String> = Self::available().map(|isa| isa.to_string()).collect();
            ModelError::Isa { name: name.to_owned(), reason: reason.to_owned(), available: available.join(", ") }
        };
        let isa = Self::ALL.into_iter().find(|isa| isa.to_string() == name);
        let isa = isa.ok_or_else(|| refused("is no instruction set with kernels"))?;
        if isa.is_available() { Ok(isa) } else { Err(refused("is not what this CPU has")) }
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amx => "amx",
            Self::Avx512Int16 => "avx512int16",
            Self::Avx512Bf16 => "avx512bf16",
            Self::Avx512 => "avx512",
            Self::Avx2Int16 => "avx2int16",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cpu_has_the_portable_kernels_and_they_come_last() {
        assert_eq!(Isa::available().last(), Some(Isa::Portable));
    }

    #[test]
    fn names_are_found_and_others_refused_with_what_there_is() {
        for isa in Isa::ALL {
            match Isa::named(&isa.to_string()) {
                Ok(named) => assert_eq!(named, isa),
                Err(error) => assert!(!isa.is_available() && error.to_string().contains("this CPU"), "{error}"),
            }
        }
        let error = Isa::named("sse9").unwrap_err().to_string();
        assert!(error.contains("`sse9`") && error.contains("portable"), "{error}");
    }
}
