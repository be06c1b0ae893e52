//! Reading weights tensor by tensor, so that loading holds one copy of them and one tensor, and not two copies.
//!
//! They are not mapped: a mapped file that is cut short meanwhile kills the process.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use candle_core::{DType, Device, Error as CandleError, Result as CandleResult, Shape, Tensor};
use candle_nn::var_builder::{SimpleBackend, VarBuilder};
use safetensors::tensor::Metadata;

use crate::ModelError;
use crate::rest::rest;

const HINT: &str =
    "; weights are loaded from safetensors only: convert other formats with the `safetensors` package for Python";
/// The longest header, as the format says.
const MAX_HEADER: u64 = 100_000_000;
/// So many bytes are read from one rest to the next.
const PART: usize = 1 << 21;

/// An open safetensors file. The format: <https://huggingface.co/docs/safetensors/index#format>.
pub(crate) struct Weights {
    file: File,
    metadata: Metadata,
    /// Where the tensors begin in the file.
    start: u64,
}

impl Weights {
    /// Reads the header.
    pub(crate) fn open(path: &Path) -> Result<Self, ModelError> {
        let unreadable = |source| ModelError::File { path: path.to_owned(), source, hint: HINT };
        let mut file = File::open(path).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let mut length = [0; 8];
        file.read_exact(&mut length).map_err(|_| ModelError::format(path, "it is too short for a header"))?;
        let length = u64::from_le_bytes(length);
        if length > MAX_HEADER || length > size.saturating_sub(8) {
            return Err(ModelError::format(path, format!("its header would have {length} bytes")));
        }
        let mut header = vec![0; length as usize];
        file.read_exact(&mut header).map_err(unreadable)?;
        let metadata: Metadata = serde_json::from_slice(&header).map_err(|error| ModelError::format(path, error))?;
        Ok(Self { file, metadata, start: 8 + length })
    }

    /// The tensors' names, in no order.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.metadata.tensors().into_keys()
    }

    /// Hands out its tensors as f32 on a device.
    pub(crate) fn on(self, device: &Device) -> VarBuilder<'static> {
        VarBuilder::from_backend(Box::new(self), DType::F32, device.clone())
    }
}

impl SimpleBackend for Weights {
    fn get(&self, shape: Shape, name: &str, _: candle_nn::Init, dtype: DType, device: &Device) -> CandleResult<Tensor> {
        let tensor = self.get_unchecked(name, dtype, device)?;
        if *tensor.shape() != shape {
            let got = tensor.shape();
            return Err(CandleError::msg(format!(
                "`{name}` has the shape {got:?}; the configuration asks for {shape:?}"
            )));
        }
        Ok(tensor)
    }

    fn get_unchecked(&self, name: &str, dtype: DType, device: &Device) -> CandleResult<Tensor> {
        let missing = || CandleError::msg(format!("there is no tensor `{name}`"));
        let info = self.metadata.info(name).ok_or_else(missing)?;
        let (from, to) = info.data_offsets;
        let mut bytes = vec![0; to - from];
        for (at, part) in bytes.chunks_mut(PART).enumerate() {
            self.file
                .read_exact_at(part, self.start + (from + at * PART) as u64)
                .map_err(|error| CandleError::msg(format!("`{name}` cannot be read: {error}")))?;
            rest();
        }
        Tensor::from_raw_buffer(&bytes, info.dtype.try_into()?, &info.shape, device)?.to_dtype(dtype)
    }

    fn contains_tensor(&self, name: &str) -> bool {
        self.metadata.info(name).is_some()
    }
}
