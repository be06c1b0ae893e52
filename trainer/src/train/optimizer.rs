//! "Decoupled Weight Decay Regularization" (Loshchilov & Hutter 2019, <https://arxiv.org/abs/1711.05101>): AdamW, whose state can be
//! kept and taken up again, as that of `candle-nn` cannot. Gradients are clipped by their common length first (Pascanu et al. 2013).

use std::collections::{BTreeMap, HashMap};

use candle_core::backprop::GradStore;
use candle_core::{Result, Tensor, Var};

const BETA_1: f64 = 0.9;
const BETA_2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// The optimiser of named variables.
pub struct AdamW {
    variables: BTreeMap<String, Var>,
    /// Running means of each gradient and of its square.
    moments: BTreeMap<String, [Tensor; 2]>,
    steps: i32,
}

/// How to change the variables.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub learning_rate: f64,
    /// Of matrices; biases and scales keep theirs.
    pub weight_decay: f64,
    /// The longest gradient.
    pub clip: f64,
}

impl AdamW {
    pub fn new(variables: BTreeMap<String, Var>) -> Result<Self> {
        let zeros = |variable: &Var| -> Result<_> { Ok([variable.zeros_like()?, variable.zeros_like()?]) };
        let moments = variables.iter().map(|(name, variable)| Ok((name.clone(), zeros(variable)?)));
        Ok(Self { moments: moments.collect::<Result<_>>()?, variables, steps: 0 })
    }

    /// One step down the gradient of a loss.
    pub fn step(&mut self, loss: &Tensor, rule: Rule) -> Result<()> {
        let gradients = loss.backward()?;
        let length = self.length(&gradients)?;
        let shrink = (rule.clip / length.max(f64::MIN_POSITIVE)).min(1.0);
        self.steps += 1;
        let [scale_1, scale_2] = [BETA_1, BETA_2].map(|beta| 1.0 / (1.0 - beta.powi(self.steps)));
        for (name, variable) in &self.variables {
            let (Some(gradient), Some([first, second])) = (gradients.get(variable), self.moments.get_mut(name)) else {
                continue;
            };
            let gradient = (gradient * shrink)?;
            *first = ((&*first * BETA_1)? + (&gradient * (1.0 - BETA_1))?)?.detach();
            *second = ((&*second * BETA_2)? + (gradient.sqr()? * (1.0 - BETA_2))?)?.detach();
            let direction = ((&*first * scale_1)? / ((&*second * scale_2)?.sqrt()? + EPSILON)?)?;
            let decay = if variable.dims().len() > 1 { rule.learning_rate * rule.weight_decay } else { 0.0 };
            variable.set(&((variable.as_tensor() * (1.0 - decay))? - (direction * rule.learning_rate)?)?)?;
        }
        Ok(())
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

    /// Goes on where [`tensors`](Self::tensors) were taken, after so many steps.
    pub fn resume(&mut self, tensors: &HashMap<String, Tensor>, steps: i32) -> Result<()> {
        let of = |part: &str, name: &str| {
            let name = format!("{part}/{name}");
            tensors.get(&name).cloned().ok_or_else(|| candle_core::Error::msg(format!("the checkpoint lacks {name}")))
        };
        for (name, variable) in &self.variables {
            variable.set(&of("weight", name)?)?;
            self.moments.insert(name.clone(), [of("first", name)?, of("second", name)?]);
        }
        self.steps = steps;
        Ok(())
    }

    pub fn steps(&self) -> i32 {
        self.steps
    }
}
