//! Rectifiers: what is below 0 counts less or not at all, and what is above a limit no more than that.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{BLOCK, numbers};

/// One of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rectify {
    /// What numbers below 0 are multiplied with.
    below: f32,
    /// The largest that is let through.
    most: f32,
}

impl Rectify {
    /// Everything is let through.
    pub(crate) const NOT: Self = Self { below: 1.0, most: f32::INFINITY };
    /// "Deep Sparse Rectifier Neural Networks" (Glorot et al. 2011).
    pub(crate) const RELU: Self = Self { below: 0.0, most: f32::INFINITY };
    /// "Convolutional Deep Belief Networks on CIFAR-10" (Krizhevsky 2010).
    pub(crate) const RELU_6: Self = Self { below: 0.0, most: 6.0 };
    /// "Rectifier Nonlinearities Improve Neural Network Acoustic Models" (Maas et al. 2013), with the slope that GANs have.
    pub(crate) const LEAKY: Self = Self { below: 0.2, most: f32::INFINITY };

    pub(super) fn of(self, number: f32) -> f32 {
        number.max(number * self.below).min(self.most)
    }

    /// From what came in, or from what came out.
    pub(super) fn slope(self, number: f32) -> f32 {
        if number <= 0.0 {
            self.below
        } else if number < self.most {
            1.0
        } else {
            0.0
        }
    }
}

/// Rectifies each number.
pub(crate) fn rectify(tensor: &Tensor, how: Rectify) -> Result<Tensor> {
    if tensor.device().is_cpu() {
        return tensor.contiguous()?.apply_op1(how);
    }
    let above = tensor.clamp(0.0_f32, how.most)?;
    if how.below > 0.0 { above + (tensor.minimum(0.0_f32)? * f64::from(how.below))? } else { Ok(above) }
}

/// The gradient: that of the output, times the slope at the input.
struct Back(Rectify);

impl CustomOp1 for Rectify {
    fn name(&self) -> &'static str {
        "rectify"
    }

    fn cpu_fwd(&self, tensor: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let from = numbers(tensor, layout)?;
        let mut to = vec![0.0; from.len()];
        to.par_chunks_mut(BLOCK).zip(from.par_chunks(BLOCK)).for_each(|(to, from)| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = self.of(*from));
        });
        Ok((CpuStorage::F32(to), layout.shape().clone()))
    }

    fn bwd(&self, tensor: &Tensor, _: &Tensor, slope: &Tensor) -> Result<Option<Tensor>> {
        Ok(Some(tensor.apply_op2_no_bwd(&slope.contiguous()?, &Back(*self))?))
    }
}

impl CustomOp2 for Back {
    fn name(&self) -> &'static str {
        "rectify-back"
    }

    fn cpu_fwd(
        &self,
        tensor: &CpuStorage,
        layout: &Layout,
        slope: &CpuStorage,
        ls: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (from, slope) = (numbers(tensor, layout)?, numbers(slope, ls)?);
        let mut to = vec![0.0; from.len()];
        to.par_chunks_mut(BLOCK).zip(from.par_chunks(BLOCK)).zip(slope.par_chunks(BLOCK)).for_each(
            |((to, from), slope)| {
                to.iter_mut().zip(from).zip(slope).for_each(|((to, from), slope)| *to = slope * self.0.slope(*from));
            },
        );
        Ok((CpuStorage::F32(to), layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn numbers_and_slopes_are_those_of_the_definitions() {
        for (how, wanted, slopes) in [
            (Rectify::RELU, [0.0, 0.5, 7.0], [0.0, 1.0, 1.0]),
            (Rectify::RELU_6, [0.0, 0.5, 6.0], [0.0, 1.0, 0.0]),
            (Rectify::LEAKY, [-0.4, 0.5, 7.0], [0.2, 1.0, 1.0]),
        ] {
            let tensor = Var::new(&[-2.0_f32, 0.5, 7.0], &Device::Cpu).unwrap();
            let rectified = rectify(&tensor, how).unwrap();
            assert_eq!(rectified.to_vec1::<f32>().unwrap(), wanted);
            let gradients = rectified.sum_all().unwrap().backward().unwrap();
            assert_eq!(gradients.get(&tensor).unwrap().to_vec1::<f32>().unwrap(), slopes);
        }
    }
}
