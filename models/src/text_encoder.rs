//! A loaded version of task `text-embedding`: rows in, one vector a row out.

use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use serde::Deserialize;

use crate::bert::Bert;
use crate::buckets::{self, Bucket, Cost};
use crate::head::{Head, PackedHead};
use crate::{Backend, DeviceSpec, Isa, ModelError, Precision, Ragged, Tokenizer, files};

/// What a padded forward pass costs beside its rows, in tokens' dense work (see [`Cost`]): the time at no tokens, by the
/// line through 1 × 8 and 1 × 32 tokens of all-MiniLM-L6-v2 on candle.
const LAUNCH_CPU: f32 = 24.0;
/// The same on a GPU, which is waited for, not filled, until a pass has about this many tokens. An estimate.
const LAUNCH_CUDA: f32 = 1024.0;

/// A text encoder on its device. Any number of threads may call it; on our kernels one runs at a time, and the others wait.
pub struct TextEncoder {
    network: Bert,
    head: Head,
    /// The same, where the network runs on our kernels.
    packed: Option<PackedHead>,
    tokenizer: Arc<Tokenizer>,
    device: Device,
    cost: Cost,
}

/// The part of `config.json` that all kinds have.
#[derive(Deserialize)]
struct KindConfig {
    model_type: Option<String>,
}

impl TextEncoder {
    /// Loads the version in `dir`, laid out as a Hugging Face repository of sentence-transformers: `config.json`,
    /// `model.safetensors`, `tokenizer.json`, `modules.json` and what it names, as `1_Pooling/config.json`.
    ///
    /// # Errors
    /// A [`ModelError`] that names the file that is missing, damaged or asks for something unsupported, or the device
    /// that does not open.
    pub fn load(dir: &Path, device: &DeviceSpec) -> Result<Self, ModelError> {
        let backend = match device {
            DeviceSpec::Cpu => Backend::Kernels(Isa::chosen()?),
            DeviceSpec::Cuda(_) => Backend::Candle { precision: Precision::chosen()?, reason: None },
        };
        Self::load_on(dir, *device, backend)
    }

    /// Loads the version in `dir` for the CPU, to run with an instruction set that it must have.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn load_for(dir: &Path, isa: Isa) -> Result<Self, ModelError> {
        Self::load_on(dir, DeviceSpec::Cpu, Backend::Kernels(isa))
    }

    /// Loads the version in `dir` for any device, to run on candle in this precision. candle has no products in bf16 on
    /// the CPU.
    ///
    /// # Errors
    /// As for [`load`](Self::load).
    pub fn load_on_candle(dir: &Path, device: &DeviceSpec, precision: Precision) -> Result<Self, ModelError> {
        Self::load_on(dir, *device, Backend::Candle { precision, reason: None })
    }

    fn load_on(dir: &Path, spec: DeviceSpec, backend: Backend) -> Result<Self, ModelError> {
        let path = dir.join("config.json");
        let kind: KindConfig = files::json(&path, "; it describes the network")?;
        if kind.model_type.as_deref() != Some("bert") {
            let what = match kind.model_type {
                Some(kind) => format!("a network of model_type `{kind}`"),
                None => "a network without saying its model_type".to_owned(),
            };
            return Err(ModelError::Unsupported { path, what, supported: "bert" });
        }
        let device = spec.open()?;
        let network = Bert::load(dir, &device, backend)?;
        let head = Head::load(dir, network.hidden(), &device)?;
        let packed = match *network.backend() {
            Backend::Kernels(isa) => Some(head.pack(isa)?),
            Backend::Candle { .. } => None,
        };
        let tokenizer = Arc::new(Tokenizer::load(dir, network.positions(), network.vocabulary())?);
        let launch = match spec {
            DeviceSpec::Cpu => LAUNCH_CPU,
            DeviceSpec::Cuda(_) => LAUNCH_CUDA,
        };
        let cost = Cost { launch, hidden: network.hidden(), intermediate: network.intermediate() };
        Ok(Self { network, head, packed, tokenizer, device, cost })
    }

    /// The version's tokenizer, to share with the threads that make rows.
    pub fn tokenizer(&self) -> Arc<Tokenizer> {
        Arc::clone(&self.tokenizer)
    }

    /// Length of an embedding.
    pub fn dimensions(&self) -> usize {
        self.head.dimensions()
    }

    /// Number of token ids the network knows; ids are below it.
    pub fn vocabulary(&self) -> usize {
        self.network.vocabulary()
    }

    /// What it runs on.
    pub fn backend(&self) -> &Backend {
        self.network.backend()
    }

    /// Lets so many threads share the work from now on, the calling one of them; until then a pass is its caller's work
    /// alone. Small passes stay with the caller where that is measured to be quicker. The other threads inherit the
    /// priority of the thread that calls this, and end with the encoder.
    ///
    /// On candle this changes nothing: it has threads of its own.
    ///
    /// # Errors
    /// [`ModelError::Threads`] when the system starts none.
    pub fn share_work(&self, threads: usize) -> Result<(), ModelError> {
        self.network.kernels().map_or(Ok(()), |mut kernels| kernels.share_work(threads)).map_err(ModelError::Threads)
    }

    /// Estimated device time of a row of so many tokens, in units of one token's way through the dense layers:
    /// `t · (1 + t / (2h + i))` for `t` tokens, hidden size `h` and feed-forward size `i`. The second term is the
    /// attention, which grows with the square of the length.
    pub fn cost(&self, tokens: usize) -> f32 {
        self.cost.row(tokens)
    }

    /// One embedding a row, in the rows' order.
    ///
    /// Rows of very different lengths may be given together. On our kernels they need no padding, and no row's embedding
    /// depends on the others. On candle they run in buckets of similar length, chosen so that padding costs less than
    /// starting another forward pass would.
    ///
    /// # Errors
    /// A row that is empty, too long or of another vocabulary, or the device's failure. Then no row has a result.
    pub fn embed(&self, rows: &Ragged) -> Result<Vec<Vec<f32>>, ModelError> {
        self.check(rows)?;
        let embeddings = match (self.network.kernels(), &self.packed) {
            _ if rows.is_empty() => return Ok(Vec::new()),
            (Some(mut kernels), Some(head)) => head.apply(kernels.embed(rows, self.head.pooling()), rows.len()),
            _ => self.padded(rows)?,
        };
        let not_finite = |embedding: &Vec<f32>| embedding.iter().any(|value| !value.is_finite());
        match embeddings.iter().position(not_finite) {
            Some(row) => Err(ModelError::NotFinite { row }),
            None => Ok(embeddings),
        }
    }

    /// Embeddings by candle.
    fn padded(&self, rows: &Ragged) -> Result<Vec<Vec<f32>>, ModelError> {
        let lengths: Vec<usize> = rows.iter().map(<[u32]>::len).collect();
        let mut embeddings = vec![Vec::new(); rows.len()];
        for bucket in buckets::plan(&lengths, &self.cost) {
            for (&row, embedding) in bucket.rows.iter().zip(self.pass(rows, &bucket)?) {
                embeddings[row] = embedding;
            }
        }
        Ok(embeddings)
    }

    fn check(&self, rows: &Ragged) -> Result<(), ModelError> {
        let (limit, vocabulary) = (self.network.positions(), self.network.vocabulary());
        for (row, ids) in rows.iter().enumerate() {
            if ids.is_empty() {
                return Err(ModelError::EmptyRow { row });
            }
            if ids.len() > limit {
                return Err(ModelError::LongRow { row, tokens: ids.len(), limit });
            }
            if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
                return Err(ModelError::UnknownToken { row, id, vocabulary });
            }
        }
        Ok(())
    }

    /// One forward pass over a bucket, its rows padded to its longest.
    fn pass(&self, rows: &Ragged, bucket: &Bucket) -> Result<Vec<Vec<f32>>, ModelError> {
        let shape = (bucket.rows.len(), bucket.tokens);
        let mut ids = vec![self.network.padding(); shape.0 * shape.1];
        let mut mask = vec![0_f32; shape.0 * shape.1];
        for ((&row, ids), mask) in
            bucket.rows.iter().zip(ids.chunks_mut(bucket.tokens)).zip(mask.chunks_mut(bucket.tokens))
        {
            let row = rows.row(row);
            ids[..row.len()].copy_from_slice(row);
            mask[..row.len()].fill(1.0);
        }
        let ids = Tensor::from_vec(ids, shape, &self.device)?;
        let mask = Tensor::from_vec(mask, shape, &self.device)?;
        let hidden = self.network.forward(&ids, &mask)?;
        Ok(self.head.apply(&hidden, &mask)?.to_vec2()?)
    }
}
