//! What follows the network, as sentence-transformers' `modules.json` lists it: Pooling, then any number of Dense and
//! Normalize.

use std::path::{Component, Path, PathBuf};

use candle_core::cpu::erf::erf_f32;
use candle_core::{Device, Result as CandleResult, Tensor};
use candle_nn::{Linear, Module as _};
use serde::Deserialize;

use crate::cpu::{self, CpuLinear, Isa};
use crate::pooling::Pooling;
use crate::weights::Weights;
use crate::{ModelError, files};

const MODULES: &str = "Transformer at the top, then Pooling, then any of Dense and Normalize";
const ACTIVATIONS: &str = "Identity, Tanh, ReLU, GELU, Sigmoid";

/// What makes one vector a row of the network's one a token.
pub(crate) struct Head {
    pooling: Pooling,
    steps: Vec<Step>,
    dimensions: usize,
}

enum Step {
    /// A linear layer and its activation.
    Dense(Linear, Activation),
    /// To length one.
    Normalize,
}

/// What follows the pooling, on our kernels: rows of f32, without tensors.
pub(crate) struct PackedHead {
    steps: Vec<PackedStep>,
}

enum PackedStep {
    Dense(Box<dyn CpuLinear>, Activation),
    Normalize,
}

impl PackedHead {
    /// `count` rows f32 of the network's vectors, end to end, to one vector a row.
    pub(crate) fn apply(&self, mut rows: Vec<f32>, count: usize) -> Vec<Vec<f32>> {
        for step in &self.steps {
            match step {
                PackedStep::Dense(linear, activation) => {
                    rows = linear.apply(rows);
                    for number in &mut rows {
                        *number = activation.of(*number);
                    }
                }
                PackedStep::Normalize => {
                    let width = rows.len() / count.max(1);
                    rows.chunks_exact_mut(width.max(1)).for_each(normalize);
                }
            }
        }
        rows.chunks_exact((rows.len() / count.max(1)).max(1)).map(<[f32]>::to_vec).collect()
    }
}

/// As `torch.nn.functional.normalize`: the norm is at least 1e-12.
fn normalize(row: &mut [f32]) {
    let norm = row.iter().map(|number| number * number).sum::<f32>().sqrt().max(1e-12);
    for number in row {
        *number /= norm;
    }
}

#[derive(Clone, Copy)]
enum Activation {
    Identity,
    Tanh,
    Relu,
    Gelu,
    Sigmoid,
}

#[derive(Deserialize)]
struct Module {
    path: PathBuf,
    #[serde(rename = "type")]
    class: String,
}

/// `config.json` of a Dense module.
#[derive(Deserialize)]
struct DenseConfig {
    in_features: usize,
    out_features: usize,
    #[serde(default = "yes")]
    bias: bool,
    /// A class of `torch.nn`.
    #[serde(default = "tanh")]
    activation_function: String,
}

fn yes() -> bool {
    true
}

fn tanh() -> String {
    "torch.nn.modules.activation.Tanh".to_owned()
}

impl Head {
    /// Reads the version's `modules.json` and what it names. `hidden` is the length of the network's vectors.
    pub(crate) fn load(dir: &Path, hidden: usize, device: &Device) -> Result<Self, ModelError> {
        let path = dir.join("modules.json");
        let modules: Vec<Module> = files::json(&path, "; it says how the vectors of a text's tokens become one")?;
        let unsupported = |what| ModelError::Unsupported { path: path.clone(), what, supported: MODULES };
        let names: Vec<&str> = modules.iter().map(|module| class(&module.class)).collect();
        let [transformer, pooling, rest @ ..] = modules.as_slice() else {
            return Err(unsupported(format!("the modules [{}]", names.join(", "))));
        };
        if names[..2] != ["Transformer", "Pooling"] {
            return Err(unsupported(format!("the modules [{}]", names.join(", "))));
        }
        if transformer.path != Path::new("") {
            return Err(unsupported(format!("a Transformer in `{}`", transformer.path.display())));
        }
        if let Some(module) = modules.iter().find(|module| !module.stays_inside()) {
            let reason = format!("`{}` leaves the version's directory", module.path.display());
            return Err(ModelError::format(path, reason));
        }
        let pooling = Pooling::load(&dir.join(&pooling.path).join("config.json"))?;
        let (mut steps, mut dimensions) = (Vec::new(), hidden);
        for module in rest {
            steps.push(match class(&module.class) {
                "Dense" => {
                    let (dense, width) = dense(&dir.join(&module.path), dimensions, device)?;
                    dimensions = width;
                    dense
                }
                "Normalize" => Step::Normalize,
                _ => return Err(unsupported(format!("the modules [{}]", names.join(", ")))),
            });
        }
        Ok(Self { pooling, steps, dimensions })
    }

    /// Length of a row's vector.
    pub(crate) fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// How the vectors of a row's tokens become one.
    pub(crate) fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// What follows the pooling, for an instruction set that this CPU has.
    pub(crate) fn pack(&self, isa: Isa) -> CandleResult<PackedHead> {
        let pack = |step: &Step| match step {
            Step::Dense(linear, activation) => {
                let weights = linear.weight();
                let bias = linear.bias().map_or_else(|| Ok(vec![0.0; weights.dim(0)?]), Tensor::to_vec1)?;
                Ok(PackedStep::Dense(cpu::linear(isa, &weights.flatten_all()?.to_vec1()?, &bias)?, *activation))
            }
            Step::Normalize => Ok(PackedStep::Normalize),
        };
        Ok(PackedHead { steps: self.steps.iter().map(pack).collect::<CandleResult<_>>()? })
    }

    /// `[rows, tokens, hidden]` to `[rows, dimensions]`; `mask` is f32 `[rows, tokens]`, 1 at a row's tokens and 0 after.
    pub(crate) fn apply(&self, hidden: &Tensor, mask: &Tensor) -> CandleResult<Tensor> {
        let mut rows = self.pooling.apply(hidden, mask)?;
        for step in &self.steps {
            rows = match step {
                Step::Dense(linear, activation) => activation.apply(&linear.forward(&rows)?)?,
                // See `normalize`.
                Step::Normalize => rows.broadcast_div(&rows.sqr()?.sum_keepdim(1)?.sqrt()?.maximum(1e-12)?)?,
            };
        }
        Ok(rows)
    }
}

/// Loads a Dense module that takes vectors of length `width`, and says how long those are that it makes.
fn dense(dir: &Path, width: usize, device: &Device) -> Result<(Step, usize), ModelError> {
    let path = dir.join("config.json");
    let config: DenseConfig = files::json(&path, "; it describes a Dense module")?;
    if config.in_features != width {
        let reason = format!("in_features is {}, and what comes before it makes {width}", config.in_features);
        return Err(ModelError::format(path, reason));
    }
    let activation = Activation::load(&config.activation_function).ok_or_else(|| ModelError::Unsupported {
        path,
        what: format!("the activation `{}`", config.activation_function),
        supported: ACTIVATIONS,
    })?;
    let path = dir.join("model.safetensors");
    let weights = Weights::open(&path)?.on(device).pp("linear");
    let layer = if config.bias { candle_nn::linear } else { candle_nn::linear_no_bias };
    let linear = layer(config.in_features, config.out_features, weights);
    let linear = linear.map_err(|error| ModelError::format(path, error))?;
    Ok((Step::Dense(linear, activation), config.out_features))
}

impl Module {
    fn stays_inside(&self) -> bool {
        self.path.components().all(|part| matches!(part, Component::Normal(_)))
    }
}

impl Activation {
    fn load(name: &str) -> Option<Self> {
        match class(name) {
            "Identity" => Some(Self::Identity),
            "Tanh" => Some(Self::Tanh),
            "ReLU" => Some(Self::Relu),
            "GELU" => Some(Self::Gelu),
            "Sigmoid" => Some(Self::Sigmoid),
            _ => None,
        }
    }

    fn apply(self, rows: &Tensor) -> CandleResult<Tensor> {
        match self {
            Self::Identity => Ok(rows.clone()),
            Self::Tanh => rows.tanh(),
            Self::Relu => rows.relu(),
            Self::Gelu => rows.gelu_erf(),
            Self::Sigmoid => candle_nn::ops::sigmoid(rows),
        }
    }

    fn of(self, number: f32) -> f32 {
        match self {
            Self::Identity => number,
            Self::Tanh => number.tanh(),
            Self::Relu => number.max(0.0),
            Self::Gelu => 0.5 * number * (1.0 + erf_f32(number * std::f32::consts::FRAC_1_SQRT_2)),
            Self::Sigmoid => 1.0 / (1.0 + (-number).exp()),
        }
    }
}

/// A class without its Python package.
fn class(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or_default()
}
