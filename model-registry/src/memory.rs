//! How much memory serving a version takes, known before any of it is loaded.

use safetensors::Dtype;

use crate::{registry::VersionDir, verify};

/// Recorded rows are read for the warm-up and let go.
const GOLDEN: &str = "golden.safetensors";

impl VersionDir {
    /// The memory that serving takes, in bytes: what the manifest says, or the weights as f32 if that is more. A file
    /// whose header cannot be read counts nothing here; loading it will say why.
    pub fn memory_need(&self) -> u64 {
        let weights = self.manifest.files.keys().filter(|file| file.is_safetensors() && file.as_str() != GOLDEN);
        let bytes = weights.filter_map(|file| verify::header(&file.in_folder(&self.path)).ok()).map(|metadata| {
            let tensors = metadata.tensors();
            tensors.values().map(|tensor| in_memory(tensor.dtype, tensor.shape.iter().product())).sum::<u64>()
        });
        self.manifest.memory_bytes.max(bytes.sum())
    }
}

/// Networks compute in f32, whatever their weights are kept in.
fn in_memory(dtype: Dtype, elements: usize) -> u64 {
    let bits = match dtype {
        Dtype::F16 | Dtype::BF16 => Dtype::F32.bitsize(),
        other => other.bitsize(),
    };
    (elements as u64).saturating_mul(bits as u64) / 8
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crate::{PublishRequest, Registry};

    #[test]
    fn half_precision_counts_as_what_it_becomes_and_recorded_rows_count_nothing() {
        let (dir, source) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let header = br#"{"a":{"dtype":"F16","shape":[2,3],"data_offsets":[0,12]}}   "#;
        let file = [&(header.len() as u64).to_le_bytes(), header.as_slice(), &[0; 12]].concat();
        for name in ["model.safetensors", "golden.safetensors"] {
            fs::write(source.path().join(name), &file).unwrap();
        }
        let registry = Registry::create(dir.path()).unwrap();
        let model = "minilm".parse().unwrap();
        let mut request = PublishRequest::from_folder(&model, "bert", "text-embedding", source.path()).unwrap();
        request.memory_bytes = Some(20);
        assert_eq!(registry.publish(&request).unwrap().memory_need(), 24);
        request.memory_bytes = Some(30);
        assert_eq!(registry.publish(&request).unwrap().memory_need(), 30);
    }
}
