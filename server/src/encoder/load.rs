//! From a version's folder to a model that can run, and to the text that it takes.

use std::{num::NonZero, thread, time::Duration};

use vitrine_models::{DeviceSpec, Ragged, TextEncoder, Tokenizer, check_golden, golden_tolerance};
use vitrine_registry::VersionDir;

use super::{Encoder, loaded::EncoderParts};
use crate::{
    batch::{Row, RowCost, RunError, Runner},
    model::{Load, Ready, Warming, checked},
};

/// A first guess of the time for one unit of [`TextEncoder::cost`], before the first run corrects it.
const UNIT: Duration = Duration::from_micros(100);

/// Makes rows of texts.
pub(super) trait Tokenize: Send + Sync {
    fn row(&self, text: &str) -> Result<Row, String>;
}

/// Loads text encoders onto a device.
pub struct LoadEncoder {
    /// The device.
    pub device: DeviceSpec,
    /// Memory for the vectors of recent queries, in bytes, for each loaded version.
    pub query_cache_bytes: u64,
}

impl Load<Encoder> for LoadEncoder {
    fn load(&self, version: &VersionDir, warming: &Warming) -> Result<Ready<Encoder>, String> {
        let network = TextEncoder::load(&version.path, &self.device).map_err(|error| error.to_string())?;
        warming()?;
        tracing::info!(path = %version.path.display(), backend = %network.backend(), "a text encoder is loaded");
        let tolerance = version.manifest.golden_tolerance.unwrap_or_else(|| golden_tolerance(&network));
        checked(check_golden(&version.path, &network, tolerance), version)?;
        let tokenizer = network.tokenizer();
        let max_tokens = tokenizer.max_tokens();
        let cost = RowCost::from_fn(max_tokens, |tokens| UNIT.mul_f32(network.cost(tokens)));
        let parts = EncoderParts {
            dimensions: network.dimensions(),
            tokenize: tokenizer,
            query_cache_bytes: self.query_cache_bytes,
        };
        Ok(Ready {
            runner: Box::new(Network { encoder: network, shared: false }),
            max_tokens,
            cost,
            published: version.manifest.created.to_string(),
            open: Box::new(|opened| Encoder::new(opened, parts)),
        })
    }
}

impl Tokenize for Tokenizer {
    fn row(&self, text: &str) -> Result<Row, String> {
        self.encode(text).map_err(|error| error.to_string())
    }
}

struct Network {
    encoder: TextEncoder,
    /// Whether the work is shared between threads.
    shared: bool,
}

impl Runner for Network {
    fn run(&mut self, rows: &[&[u32]]) -> Result<Vec<Vec<f32>>, RunError> {
        if !self.shared {
            // Not when it was loaded: that thread has a low priority, and others would inherit it.
            self.shared = true;
            let threads = thread::available_parallelism().map_or(1, NonZero::get);
            if let Err(error) = self.encoder.share_work(threads) {
                tracing::warn!(%error, "the text encoder runs on one thread");
            }
        }
        let mut ragged = Ragged::with_capacity(rows.len(), rows.iter().map(|row| row.len()).sum());
        for row in rows {
            ragged.push(row);
        }
        self.encoder.embed(&ragged).map_err(|error| RunError(error.to_string()))
    }
}
