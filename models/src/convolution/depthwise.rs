//! Windows that see one channel each: all channels of a point go through the loop side by side.

use std::ops::Range;

use rayon::prelude::*;

use super::plan::Plan;
use crate::fused::sum_of_parts;

/// Calls with each pair of a window's point in the picture and its weight: begins of the picture's channels, the outputs', and the weight's.
fn each(plan: &Plan, lines: Range<usize>, mut point: impl FnMut(usize, usize, usize)) {
    let (side, channels) = (plan.windows.side, plan.channels);
    let first = lines.start;
    for line in lines {
        let (picture, down) = (line / plan.down * plan.picture(), line % plan.down);
        for of_window in 0..side {
            let Some(picture_line) = plan.picture_line(down, of_window) else { continue };
            for across in 0..plan.across {
                let (column, inside) = plan.columns(across);
                let from = picture + (picture_line * plan.width + column) * channels;
                let to = ((line - first) * plan.across + across) * channels;
                for (at, of_column) in inside.enumerate() {
                    point(from + at * channels, to, (of_window * side + of_column) * channels);
                }
            }
        }
    }
}

/// `to += a · b`.
fn add_products(to: &mut [f32], a: &[f32], b: &[f32]) {
    to.iter_mut().zip(a).zip(b).for_each(|((to, a), b)| *to += a * b);
}

/// Of pictures and kernel.
pub(super) fn output(plan: &Plan, pictures: &[f32], kernel: &[f32]) -> Vec<f32> {
    let mut output = vec![0.0; plan.outputs()];
    let (block, c) = (plan.block(), plan.channels);
    let blocks = output.par_chunks_mut((block * plan.line()).max(1)).enumerate();
    blocks.for_each(|(at, output)| {
        let lines = at * block..(at * block + output.len() / plan.line());
        each(plan, lines, |picture, out, weight| {
            add_products(&mut output[out..out + c], &pictures[picture..picture + c], &kernel[weight..weight + c]);
        });
    });
    output
}

/// Of outputs and kernel.
pub(super) fn input(plan: &Plan, outputs: &[f32], kernel: &[f32]) -> Vec<f32> {
    let mut input = vec![0.0; plan.inputs()];
    let c = plan.channels;
    let pictures = input.par_chunks_mut(plan.picture().max(1)).enumerate();
    pictures.for_each(|(at, picture)| {
        let outputs = &outputs[at * plan.down * plan.line()..(at + 1) * plan.down * plan.line()];
        each(plan, 0..plan.down, |to, out, weight| {
            add_products(&mut picture[to..to + c], &outputs[out..out + c], &kernel[weight..weight + c]);
        });
    });
    input
}

/// Of pictures and outputs.
pub(super) fn kernel(plan: &Plan, pictures: &[f32], outputs: &[f32]) -> Vec<f32> {
    let c = plan.channels;
    sum_of_parts(plan.lines(), plan.weights(), |part, sum| {
        let outputs = &outputs[part.start * plan.line()..part.end * plan.line()];
        each(plan, part, |picture, out, weight| {
            add_products(&mut sum[weight..weight + c], &pictures[picture..picture + c], &outputs[out..out + c]);
        });
    })
}
