//! Pictures whose channels are scaled and shifted, each picture's by numbers of its own.

use candle_core::{CpuStorage, CustomOp3, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::{Rectify, numbers, rectify};

/// `features` `[pictures, .., channels]` times `1 + scale`, and `shift`, both `[pictures, channels]`, and rectified.
pub(crate) fn modulate(features: &Tensor, scale: &Tensor, shift: &Tensor, then: Rectify) -> Result<Tensor> {
    if features.device().is_cpu() {
        return features.contiguous()?.apply_op3(&scale.contiguous()?, &shift.contiguous()?, Modulate(then));
    }
    let (pictures, channels) = scale.dims2()?;
    let mut dims = vec![1; features.rank()];
    (dims[0], dims[features.rank() - 1]) = (pictures, channels);
    let scaled = features.broadcast_mul(&(scale.reshape(&dims[..])? + 1.0)?)?;
    rectify(&scaled.broadcast_add(&shift.reshape(&dims[..])?)?, then)
}

struct Modulate(Rectify);

/// Gradients of scale and shift: sums over a picture of slope times number, and of slope, `[2, pictures, channels]`; from features, the
/// gradient of the output, and the output.
struct Sums(Rectify);

/// The gradient of the features; from scale, the gradient of the output, and the output.
struct Back(Rectify);

/// Numbers of a picture, and channels: 0 of neither.
fn sizes(features: &Layout, channels: usize) -> Result<(usize, usize)> {
    let pictures = features.dims().first().copied().unwrap_or(0);
    if features.dims().last() != Some(&channels) || pictures == 0 || channels == 0 {
        candle_core::bail!("{:?} has not {channels} channels of pictures", features.shape());
    }
    Ok((features.shape().elem_count() / pictures, channels))
}

impl CustomOp3 for Modulate {
    fn name(&self) -> &'static str {
        "modulate"
    }

    fn cpu_fwd(
        &self,
        features: &CpuStorage,
        layout: &Layout,
        scale: &CpuStorage,
        l2: &Layout,
        shift: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (size, channels) = sizes(layout, l2.dims().last().copied().unwrap_or(0))?;
        let (features, scale, shift) = (numbers(features, layout)?, numbers(scale, l2)?, numbers(shift, l3)?);
        if scale.len() * size != features.len() * channels || shift.len() != scale.len() {
            candle_core::bail!("{:?} scaled by {:?} and {:?}", layout.shape(), l2.shape(), l3.shape());
        }
        let mut to = vec![0.0; features.len()];
        let pictures = to.par_chunks_mut(size).zip(features.par_chunks(size));
        pictures.zip(scale.par_chunks(channels).zip(shift.par_chunks(channels))).for_each(
            |((to, from), (scale, shift))| {
                for (to, from) in to.chunks_exact_mut(channels).zip(from.chunks_exact(channels)) {
                    for ((to, number), (scale, shift)) in to.iter_mut().zip(from).zip(scale.iter().zip(shift)) {
                        *to = self.0.of(number * (1.0 + scale) + shift);
                    }
                }
            },
        );
        Ok((CpuStorage::F32(to), layout.shape().clone()))
    }

    fn bwd(
        &self,
        features: &Tensor,
        scale: &Tensor,
        _: &Tensor,
        output: &Tensor,
        slope: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let slope = slope.contiguous()?;
        let of_features = scale.apply_op3_no_bwd(&slope, output, &Back(self.0))?;
        let sums = features.apply_op3_no_bwd(&slope, output, &Sums(self.0))?;
        Ok((Some(of_features), Some(sums.get(0)?), Some(sums.get(1)?)))
    }
}

impl CustomOp3 for Back {
    fn name(&self) -> &'static str {
        "modulate-back"
    }

    fn cpu_fwd(
        &self,
        scale: &CpuStorage,
        l1: &Layout,
        slope: &CpuStorage,
        layout: &Layout,
        output: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (size, channels) = sizes(layout, l1.dims().last().copied().unwrap_or(0))?;
        let (scale, slope, output) = (numbers(scale, l1)?, numbers(slope, layout)?, numbers(output, l3)?);
        let mut to = vec![0.0; slope.len()];
        let pictures = to.par_chunks_mut(size).zip(slope.par_chunks(size).zip(output.par_chunks(size)));
        pictures.zip(scale.par_chunks(channels)).for_each(|((to, (slope, output)), scale)| {
            let rows = slope.chunks_exact(channels).zip(output.chunks_exact(channels));
            for (to, (slope, output)) in to.chunks_exact_mut(channels).zip(rows) {
                for ((to, scale), (slope, output)) in to.iter_mut().zip(scale).zip(slope.iter().zip(output)) {
                    *to = slope * self.0.slope(*output) * (1.0 + scale);
                }
            }
        });
        Ok((CpuStorage::F32(to), layout.shape().clone()))
    }
}

impl CustomOp3 for Sums {
    fn name(&self) -> &'static str {
        "modulate-sums"
    }

    fn cpu_fwd(
        &self,
        features: &CpuStorage,
        layout: &Layout,
        slope: &CpuStorage,
        l2: &Layout,
        output: &CpuStorage,
        l3: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (size, channels) = sizes(layout, layout.dims().last().copied().unwrap_or(0))?;
        let (features, slope, output) = (numbers(features, layout)?, numbers(slope, l2)?, numbers(output, l3)?);
        let pictures = features.len() / size;
        let mut sums = vec![0.0; 2 * pictures * channels];
        let (scaled, plain) = sums.split_at_mut(pictures * channels);
        let pictures = features.par_chunks(size).zip(slope.par_chunks(size).zip(output.par_chunks(size)));
        scaled.par_chunks_mut(channels).zip(plain.par_chunks_mut(channels)).zip(pictures).for_each(
            |((scaled, plain), (features, (slope, output)))| {
                let rows = slope.chunks_exact(channels).zip(output.chunks_exact(channels));
                for (features, (slope, output)) in features.chunks_exact(channels).zip(rows) {
                    let sums = scaled.iter_mut().zip(plain.iter_mut());
                    for (((scaled, plain), number), (slope, output)) in sums.zip(features).zip(slope.iter().zip(output))
                    {
                        let slope = slope * self.0.slope(*output);
                        *scaled += number * slope;
                        *plain += slope;
                    }
                }
            },
        );
        Ok((CpuStorage::F32(sums), Shape::from((2, layout.dims()[0], channels))))
    }
}
