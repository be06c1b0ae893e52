//! "Decoupled Weight Decay Regularization" (Loshchilov & Hutter 2019, <https://arxiv.org/abs/1711.05101>): AdamW, whose state can be
//! kept and taken up again, as that of `candle-nn` cannot. Gradients are clipped by their common length first (Pascanu et al. 2013).

use std::collections::{BTreeMap, HashMap};

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};

const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// The optimiser of named variables.
pub struct AdamW {
    variables: BTreeMap<String, Var>,
    /// Running means of each gradient and of its square.
    moments: BTreeMap<String, [Tensor; 2]>,
}

/// How to change the variables.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Counted from 1: the running means begin at 0, and are too small at first.
    pub step: i32,
    pub learning_rate: f64,
    /// How much of the running mean of gradients is kept.
    pub momentum: f64,
    /// Of matrices; biases and scales keep theirs.
    pub weight_decay: f64,
    /// The longest gradient.
    pub clip: f64,
}

impl AdamW {
    pub fn new(variables: BTreeMap<String, Var>) -> Result<Self> {
        let zeros = |variable: &Var| -> Result<_> { Ok([variable.zeros_like()?, variable.zeros_like()?]) };
        let moments = variables.iter().map(|(name, variable)| Ok((name.clone(), zeros(variable)?)));
        Ok(Self { moments: moments.collect::<Result<_>>()?, variables })
    }

    /// One step down the gradient of a loss, which is returned. Variables that no gradient reaches stay as they are.
    pub fn step(&mut self, loss: &Tensor, rule: Rule) -> Result<f64> {
        let gradients = loss.backward()?;
        let length = self.length(&gradients)?;
        let shrink = (rule.clip / length.max(f64::MIN_POSITIVE)).min(1.0);
        let beta_1 = rule.momentum;
        let [scale_1, scale_2] = [beta_1, BETA_2].map(|beta| 1.0 / (1.0 - beta.powi(rule.step)));
        for (name, variable) in &self.variables {
            let (Some(gradient), Some([first, second])) = (gradients.get(variable), self.moments.get_mut(name)) else {
                continue;
            };
            let gradient = (gradient * shrink)?;
            *first = ((&*first * beta_1)? + (&gradient * (1.0 - beta_1))?)?.detach();
            *second = ((&*second * BETA_2)? + (gradient.sqr()? * (1.0 - BETA_2))?)?.detach();
            let direction = ((&*first * scale_1)? / ((&*second * scale_2)?.sqrt()? + EPSILON)?)?;
            let decay = if variable.dims().len() > 1 { rule.learning_rate * rule.weight_decay } else { 0.0 };
            variable.set(&((variable.as_tensor() * (1.0 - decay))? - (direction * rule.learning_rate)?)?)?;
        }
        Ok(f64::from(loss.to_scalar::<f32>()?))
    }

    /// The length of all gradients as one vector.
    fn length(&self, gradients: &GradStore) -> Result<f64> {
        let mut squares = 0.0;
        for gradient in self.variables.values().filter_map(|variable| gradients.get(variable)) {
            squares += f64::from(gradient.sqr()?.sum_all()?.to_scalar::<f32>()?);
        }
        Ok(squares.sqrt())
    }

    /// Variables and state, by name.
    pub fn tensors(&self) -> HashMap<String, Tensor> {
        let weights =
            self.variables.iter().map(|(name, variable)| (format!("weight/{name}"), variable.as_tensor().clone()));
        let moments = self.moments.iter().flat_map(|(name, [first, second])| {
            [(format!("first/{name}"), first.clone()), (format!("second/{name}"), second.clone())]
        });
        weights.chain(moments).collect()
    }

    /// Goes on where [`tensors`](Self::tensors) were taken.
    pub fn resume(&mut self, tensors: &HashMap<String, Tensor>) -> Result<()> {
        let of = |part: &str, name: &str| {
            let name = format!("{part}/{name}");
            tensors.get(&name).cloned().ok_or_else(|| candle_core::Error::msg(format!("the checkpoint lacks {name}")))
        };
        for (name, variable) in &self.variables {
            variable.set(&of("weight", name)?)?;
            self.moments.insert(name.clone(), [of("first", name)?, of("second", name)?]);
        }
        Ok(())
    }
}
