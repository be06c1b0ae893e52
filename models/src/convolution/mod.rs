//! Convolutions over pictures, for learning and for answers.
//!
//! Pictures are `[pictures, height, width, channels]`: all that a window sees of a line lies together. On the CPU every convolution is a product of
//! matrices over windows that are laid out block by block, small enough to stay in the cache; `candle`'s own has gradients that are forty
//! times slower. On other devices it is `candle`'s.

mod dense;
mod depthwise;
mod plan;

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use candle_nn::{Init, VarBuilder};

use crate::Products;
use crate::fused::{add_bias, numbers};
use plan::Plan;

/// How windows lie over a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Windows {
    /// Lines and columns of a window.
    pub(crate) side: usize,
    /// From one window to the next.
    pub(crate) stride: usize,
    /// Zeros before and after each line, and above and below.
    pub(crate) padding: [usize; 2],
}

impl Windows {
    /// Windows with an output for each number, or each second one: zeros on both sides.
    pub(crate) fn around(side: usize, stride: usize) -> Self {
        Self { side, stride, padding: [(side - 1) / 2; 2] }
    }

    /// TensorFlow's padding `SAME`, for a picture of so many lines (or columns): what is left over comes last.
    pub(crate) fn same(side: usize, stride: usize, lines: usize) -> Self {
        let missing = (lines.div_ceil(stride).saturating_sub(1) * stride + side).saturating_sub(lines);
        Self { side, stride, padding: [missing / 2, missing - missing / 2] }
    }

    /// Windows over so many lines.
    fn over(self, lines: usize) -> Option<usize> {
        let [before, after] = self.padding;
        Some((lines + before + after).checked_sub(self.side)? / self.stride + 1)
    }
}

/// A layer of windows that see all channels, or each its own one.
pub(crate) struct Conv2d {
    /// As PyTorch keeps it: `[outputs, inputs, side, side]`; with a channel for each output, `[channels, 1, side, side]`.
    kernel: Tensor,
}

impl Conv2d {
    /// Weights `weight`. There is no bias: batch normalisation, which comes next, has one.
    pub(crate) fn new(inputs: usize, outputs: usize, side: usize, weights: &VarBuilder<'_>) -> Result<Self> {
        Ok(Self { kernel: weights.get_with_hints((outputs, inputs, side, side), "weight", Init::Const(0.0))? })
    }

    /// One window for each channel.
    pub(crate) fn depthwise(channels: usize, side: usize, weights: &VarBuilder<'_>) -> Result<Self> {
        Self::new(1, channels, side, weights)
    }

    /// `[pictures, height, width, inputs]` to `[pictures, windows, windows, outputs]`.
    pub(crate) fn forward(&self, pictures: &Tensor, windows: Windows) -> Result<Tensor> {
        convolve(pictures, &self.kernel, windows)
    }
}

/// A layer that makes pictures larger: the gradient of a convolution by its input ("A guide to convolution arithmetic for deep learning",
/// Dumoulin & Visin 2016, chapter 4).
pub(crate) struct ConvTranspose2d {
    /// As PyTorch keeps it: `[inputs, outputs, side, side]`.
    kernel: Tensor,
    bias: Option<Tensor>,
}

impl ConvTranspose2d {
    /// Weights `weight`, and `bias` if there is to be one.
    pub(crate) fn new(
        inputs: usize,
        outputs: usize,
        side: usize,
        bias: bool,
        weights: &VarBuilder<'_>,
    ) -> Result<Self> {
        let kernel = weights.get_with_hints((inputs, outputs, side, side), "weight", Init::Const(0.0))?;
        let bias = bias.then(|| weights.get_with_hints(outputs, "bias", Init::Const(0.0))).transpose()?;
        Ok(Self { kernel, bias })
    }

    /// `[pictures, height, width, inputs]` to pictures over which so many windows would lie.
    pub(crate) fn forward(&self, pictures: &Tensor, windows: Windows) -> Result<Tensor> {
        let (count, height, width, inputs) = pictures.dims4()?;
        let (_, outputs, side, _) = self.kernel.dims4()?;
        let larger = |lines: usize| ((lines - 1) * windows.stride + side).saturating_sub(windows.padding.iter().sum());
        let larger = [count, larger(height), larger(width), outputs];
        let enlarged = if pictures.device().is_cpu() {
            let plan = Plan::new(larger, inputs, false, windows)?;
            let op = Convolve { plan, product: Product::Input };
            pictures.contiguous()?.apply_op2(&matrix(&self.kernel)?, op)?
        } else {
            let pictures = pictures.permute((0, 3, 1, 2))?.contiguous()?;
            let enlarged = pictures.conv_transpose2d(&self.kernel, windows.padding[0], 0, windows.stride, 1)?;
            enlarged.permute((0, 2, 3, 1))?.contiguous()?
        };
        self.bias.as_ref().map_or(Ok(enlarged.clone()), |bias| add_bias(&enlarged, bias))
    }
}

/// A kernel `[outputs, inputs, side, side]` over pictures `[pictures, height, width, channels]`.
pub(crate) fn convolve(pictures: &Tensor, kernel: &Tensor, windows: Windows) -> Result<Tensor> {
    let (count, height, width, channels) = pictures.dims4()?;
    let (outputs, inputs, _, _) = kernel.dims4()?;
    let depthwise = inputs == 1 && channels > 1;
    if !depthwise && inputs != channels || depthwise && outputs != channels {
        candle_core::bail!("a kernel of shape {:?} over pictures of {channels} channels", kernel.shape());
    }
    if pictures.device().is_cpu() {
        let plan = Plan::new([count, height, width, channels], outputs, depthwise, windows)?;
        let op = Convolve { plan, product: Product::Output };
        return pictures.contiguous()?.apply_op2(&matrix(kernel)?, op);
    }
    let [before, after] = windows.padding;
    let padded = pictures.permute((0, 3, 1, 2))?.pad_with_zeros(2, before, after)?.pad_with_zeros(3, before, after)?;
    let groups = if depthwise { channels } else { 1 };
    let convolved = padded.contiguous()?.conv2d(kernel, 0, windows.stride, 1, groups)?;
    convolved.permute((0, 2, 3, 1))?.contiguous()
}

/// A kernel as its windows see it: `[side · side · inputs, outputs]`.
fn matrix(kernel: &Tensor) -> Result<Tensor> {
    let (outputs, inputs, height, width) = kernel.dims4()?;
    kernel.permute((2, 3, 1, 0))?.contiguous()?.reshape((height * width * inputs, outputs))
}

/// The three products of a convolution. It is linear in pictures and in kernel, so that the gradients of each are the other two.
#[derive(Clone, Copy)]
enum Product {
    /// Of pictures and kernel.
    Output,
    /// Of outputs and kernel: what reaches the pictures.
    Input,
    /// Of pictures and outputs: what reaches the kernel.
    Kernel,
}

#[derive(Clone, Copy)]
struct Convolve {
    plan: Plan,
    product: Product,
}

impl CustomOp2 for Convolve {
    fn name(&self) -> &'static str {
        "convolve"
    }

    fn cpu_fwd(&self, a: &CpuStorage, la: &Layout, b: &CpuStorage, lb: &Layout) -> Result<(CpuStorage, Shape)> {
        let Self { plan, product } = self;
        let (a, b) = (numbers(a, la)?, numbers(b, lb)?);
        let (wanted, shape) = match product {
            Product::Output => ([plan.inputs(), plan.weights()], plan.output_shape()),
            Product::Input => ([plan.outputs(), plan.weights()], plan.input_shape()),
            Product::Kernel => ([plan.inputs(), plan.outputs()], plan.kernel_shape()),
        };
        if [a.len(), b.len()] != wanted {
            candle_core::bail!("{} and {} numbers for a convolution of {wanted:?}", a.len(), b.len());
        }
        let products = Products::chosen().map_err(candle_core::Error::wrap)?;
        let result = match (product, plan.depthwise) {
            (Product::Output, false) => dense::output(plan, products, a, b),
            (Product::Input, false) => dense::input(plan, products, a, b),
            (Product::Kernel, false) => dense::kernel(plan, products, a, b),
            (Product::Output, true) => depthwise::output(plan, a, b),
            (Product::Input, true) => depthwise::input(plan, a, b),
            (Product::Kernel, true) => depthwise::kernel(plan, a, b),
        };
        Ok((CpuStorage::F32(result), shape))
    }

    fn bwd(&self, a: &Tensor, b: &Tensor, _: &Tensor, slope: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let slope = slope.contiguous()?;
        let product = |product, a: &Tensor, b: &Tensor| a.apply_op2(b, Self { product, ..*self });
        // Pictures that are given, not computed, need none.
        let of_a = || match self.product {
            Product::Output => product(Product::Input, &slope, b),
            Product::Input => product(Product::Output, &slope, b),
            Product::Kernel => product(Product::Input, b, &slope),
        };
        let of_b = || match self.product {
            Product::Output => product(Product::Kernel, a, &slope),
            Product::Input => product(Product::Kernel, &slope, a),
            Product::Kernel => product(Product::Output, a, &slope),
        };
        Ok((a.track_op().then(of_a).transpose()?, b.track_op().then(of_b).transpose()?))
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    /// Numbers without a pattern.
    fn some(shape: &[usize], seed: usize) -> Var {
        let numbers: Vec<f32> =
            (0..shape.iter().product()).map(|at: usize| ((at * 37 + seed * 11) % 23) as f32 / 23.0 - 0.5).collect();
        Var::from_tensor(&Tensor::from_vec(numbers, shape, &Device::Cpu).unwrap()).unwrap()
    }

    #[track_caller]
    fn close(a: &Tensor, b: &Tensor) {
        assert_eq!(a.shape(), b.shape());
        let [a, b] = [a, b].map(|tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        let off = a.iter().zip(&b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(off < 1e-4, "{off}");
    }

    /// Output and both gradients, of ours and of candle's.
    #[track_caller]
    fn same(pictures: &Var, kernel: &Var, ours: &Tensor, candles: &Tensor) {
        close(ours, candles);
        let weighted = |output: &Tensor| (output * some(output.dims(), 5).as_tensor()).unwrap().sum_all().unwrap();
        let [ours, candles] = [ours, candles].map(|output| weighted(output).backward().unwrap());
        for variable in [pictures, kernel] {
            close(ours.get(variable).unwrap(), candles.get(variable).unwrap());
        }
    }

    #[test]
    fn convolutions_and_their_gradients_are_candles() {
        for (side, stride, lines, columns, channels, outputs) in [
            (3, 1, 7, 9, 3, 5),
            (3, 2, 8, 8, 4, 2),
            (1, 1, 5, 5, 6, 3),
            (1, 2, 6, 6, 2, 3),
            (4, 2, 8, 6, 2, 3),
            (5, 1, 40, 30, 2, 3),
        ] {
            let (pictures, kernel) =
                (some(&[3, lines, columns, channels], 1), some(&[outputs, channels, side, side], 2));
            let windows = Windows::around(side, stride);
            let ours = convolve(&pictures, &kernel, windows).unwrap();
            let planes = pictures.permute((0, 3, 1, 2)).unwrap();
            let candles = planes.conv2d(&kernel, windows.padding[0], stride, 1, 1).unwrap();
            same(&pictures, &kernel, &ours, &candles.permute((0, 2, 3, 1)).unwrap());
        }
    }

    #[test]
    fn so_are_those_of_each_channel_with_what_is_left_over_last() {
        for (side, stride, lines) in [(3, 1, 7), (3, 2, 8), (5, 2, 9), (5, 1, 6)] {
            let (pictures, kernel) = (some(&[2, lines, lines, 6], 1), some(&[6, 1, side, side], 2));
            let windows = Windows::same(side, stride, lines);
            let ours = convolve(&pictures, &kernel, windows).unwrap();
            let [before, after] = windows.padding;
            let planes = pictures.permute((0, 3, 1, 2)).unwrap();
            let planes = planes.pad_with_zeros(2, before, after).unwrap().pad_with_zeros(3, before, after).unwrap();
            let candles = planes.conv2d(&kernel, 0, stride, 1, 6).unwrap();
            assert_eq!(ours.dims()[1], lines.div_ceil(stride));
            same(&pictures, &kernel, &ours, &candles.permute((0, 2, 3, 1)).unwrap());
        }
    }

    #[test]
    fn so_are_those_that_make_pictures_larger() {
        for (side, stride, padding, lines) in [(4, 2, 1, 5), (3, 1, 1, 4), (4, 1, 0, 1)] {
            let (pictures, kernel) = (some(&[3, lines, lines, 4], 1), some(&[4, 3, side, side], 2));
            let windows = Windows { side, stride, padding: [padding; 2] };
            let layer = ConvTranspose2d { kernel: kernel.as_tensor().clone(), bias: None };
            let ours = layer.forward(&pictures, windows).unwrap();
            let planes = pictures.permute((0, 3, 1, 2)).unwrap();
            let candles = planes.conv_transpose2d(&kernel, padding, 0, stride, 1).unwrap();
            same(&pictures, &kernel, &ours, &candles.permute((0, 2, 3, 1)).unwrap());
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let windows = Windows { side: 3, stride: 1, padding: [0, 0] };
        let of = |pictures: &[usize], kernel: &[usize]| convolve(&some(pictures, 1), &some(kernel, 1), windows);
        assert!(of(&[1, 2, 5, 2], &[3, 2, 3, 3]).is_err(), "windows larger than the picture");
        assert!(of(&[1, 5, 5, 2], &[3, 4, 3, 3]).is_err(), "other channels");
        assert!(of(&[1, 5, 5, 3], &[4, 1, 3, 3]).is_err(), "more outputs than channels");
    }
}
