//! AdamW over named variables, whose state can be kept and taken up again, as that of `candle-nn` cannot. Gradients are clipped by their
//! common length first ("On the difficulty of training Recurrent Neural Networks", Pascanu et al. 2013).

use std::collections::{BTreeMap, HashMap};

use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor, Var};
use rayon::prelude::*;
use vitrine_models::AdamW;

/// How much of the running mean of squares is kept.
const BETA_2: f64 = 0.999;

/// The optimiser of named variables.
pub struct Optimizer {
    variables: BTreeMap<String, Var>,
    /// Running means of each gradient and of its square.
    means: BTreeMap<String, [Vec<f32>; 2]>,
}

/// How to change the variables.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Counted from 1.
    pub step: i32,
    pub learning_rate: f64,
    /// How much of the running mean of gradients is kept.
    pub momentum: f64,
    /// Of matrices; biases and scales keep theirs.
    pub weight_decay: f64,
    /// The longest gradient.
    pub clip: f64,
}

/// The loss of a part of a batch, and its gradients.
pub struct Slope {
    /// What part it is; all of them are 1 together.
    share: f64,
    loss: f64,
    gradients: GradStore,
}

impl Slope {
    pub fn of(loss: &Tensor, share: f64) -> Result<Self> {
        Ok(Self { share, loss: f64::from(loss.to_scalar::<f32>()?), gradients: loss.backward()? })
    }
}

impl Optimizer {
    pub fn new(variables: BTreeMap<String, Var>) -> Self {
        let zeros = |variable: &Var| [(); 2].map(|()| vec![0.0; variable.elem_count()]);
        Self { means: variables.iter().map(|(name, variable)| (name.clone(), zeros(variable))).collect(), variables }
    }

    /// One step down the gradient of a loss, which is returned. Variables that no gradient reaches stay as they are.
    pub fn step(&mut self, loss: &Tensor, rule: Rule) -> Result<f64> {
        self.step_by(&[Slope::of(loss, 1.0)?], rule)
    }

    /// One step down the gradients of parts of a batch, whose loss is returned.
    pub fn step_by(&mut self, slopes: &[Slope], rule: Rule) -> Result<f64> {
        let changing: Vec<_> = self.variables.values().zip(self.means.values_mut()).collect();
        let gradients = changing.par_iter().map(|(variable, _)| mean_of(slopes, variable));
        let gradients: Vec<_> = gradients.collect::<Result<_>>()?;
        let squares = |gradient: &[f32]| gradient.iter().map(|number| f64::from(number * number)).sum::<f64>();
        let length = gradients.iter().flatten().map(|gradient| squares(gradient)).sum::<f64>().sqrt();
        let shrink = (rule.clip / length.max(f64::MIN_POSITIVE)).min(1.0);
        for ((variable, [first, second]), gradient) in changing.into_iter().zip(gradients) {
            let Some(gradient) = gradient else { continue };
            let weight_decay = if variable.dims().len() > 1 { rule.weight_decay } else { 0.0 };
            let kept = [rule.momentum, BETA_2];
            let step = AdamW { step: rule.step, learning_rate: rule.learning_rate, kept, weight_decay, shrink };
            let mut changed = numbers(variable)?;
            step.step(&mut changed, &gradient, [first, second]);
            variable.set(&Tensor::from_vec(changed, variable.shape(), variable.device())?)?;
        }
        Ok(slopes.iter().map(|slope| slope.share * slope.loss).sum())
    }

    /// Variables and state, by name.
    pub fn tensors(&self) -> Result<HashMap<String, Tensor>> {
        let mut tensors = HashMap::new();
        for (name, variable) in &self.variables {
            tensors.insert(format!("weight/{name}"), variable.as_tensor().clone());
            for (part, mean) in ["first", "second"].iter().zip(self.means.get(name).into_iter().flatten()) {
                let mean = Tensor::from_slice(mean, variable.shape(), &Device::Cpu)?;
                tensors.insert(format!("{part}/{name}"), mean);
            }
        }
        Ok(tensors)
    }

    /// Goes on where [`tensors`](Self::tensors) were taken.
    pub fn resume(&mut self, tensors: &HashMap<String, Tensor>) -> Result<()> {
        let of = |part: &str, name: &str| {
            let name = format!("{part}/{name}");
            tensors.get(&name).ok_or_else(|| candle_core::Error::msg(format!("the checkpoint lacks {name}")))
        };
        for (name, variable) in &self.variables {
            variable.set(&of("weight", name)?.to_device(variable.device())?)?;
            self.means.insert(name.clone(), [numbers(of("first", name)?)?, numbers(of("second", name)?)?]);
        }
        Ok(())
    }
}

/// A tensor's numbers, row after row.
fn numbers(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

/// The mean of a variable's gradients, if any reaches it.
fn mean_of(slopes: &[Slope], variable: &Tensor) -> Result<Option<Vec<f32>>> {
    let gradients = slopes.iter().filter_map(|slope| Some((slope.share as f32, slope.gradients.get(variable)?)));
    let mut mean: Option<Vec<f32>> = None;
    for (share, gradient) in gradients {
        let mut gradient = numbers(gradient)?;
        for number in &mut gradient {
            *number *= share;
        }
        match &mut mean {
            Some(mean) => mean.iter_mut().zip(gradient).for_each(|(mean, number)| *mean += number),
            None => mean = Some(gradient),
        }
    }
    Ok(mean)
}
