//! Windows that see all channels: products of matrices.

use std::ops::Range;

use rayon::prelude::*;

use super::plan::Plan;
use crate::Products;
use crate::cpu::Matrix;
use crate::fused::sum_of_parts;

/// Of pictures and kernel.
pub(super) fn output(plan: &Plan, products: Products, pictures: &[f32], kernel: &[f32]) -> Vec<f32> {
    let mut output = vec![0.0; plan.outputs()];
    let (block, seen) = (plan.block(), plan.seen());
    let blocks = output.par_chunks_mut((block * plan.line()).max(1)).enumerate();
    blocks.for_each_init(Vec::new, |laid, (at, output)| {
        let lines = at * block..(at * block + output.len() / plan.line());
        let rows = lines.len() * plan.across;
        let laid = lay(plan, pictures, lines, laid);
        products.accumulate(output, Matrix { numbers: laid, steps: [seen, 1] }, kernel, [rows, plan.outputs, seen]);
    });
    output
}

/// Of outputs and kernel.
pub(super) fn input(plan: &Plan, products: Products, outputs: &[f32], kernel: &[f32]) -> Vec<f32> {
    let mut input = vec![0.0; plan.inputs()];
    let (block, seen) = (plan.block(), plan.seen());
    let turned: Vec<f32> =
        (0..plan.outputs).flat_map(|output| kernel.iter().skip(output).step_by(plan.outputs).copied()).collect();
    // Windows of one picture overlap: it is one thread's.
    let together = (block / plan.down.max(1)).max(1);
    let groups = input.par_chunks_mut((together * plan.picture()).max(1)).enumerate();
    groups.for_each_init(Vec::new, |laid, (at, pictures)| {
        let first = at * together * plan.down;
        let last = first + pictures.len() / plan.picture() * plan.down;
        for begin in (first..last).step_by(block) {
            let lines = begin..(begin + block).min(last);
            let rows = lines.len() * plan.across;
            let outputs = &outputs[lines.start * plan.line()..lines.end * plan.line()];
            let outputs = Matrix { numbers: outputs, steps: [plan.outputs, 1] };
            let sizes = [rows, seen, plan.outputs];
            if plan.is_plain() {
                let from = (lines.start - first) * plan.width * seen;
                products.accumulate(&mut pictures[from..from + rows * seen], outputs, &turned, sizes);
            } else {
                laid.clear();
                laid.resize(rows * seen, 0.0);
                products.accumulate(laid, outputs, &turned, sizes);
                add_back(plan, pictures, lines.start - first..lines.end - first, laid);
            }
        }
    });
    input
}

/// Of pictures and outputs.
pub(super) fn kernel(plan: &Plan, products: Products, pictures: &[f32], outputs: &[f32]) -> Vec<f32> {
    let (block, seen) = (plan.block(), plan.seen());
    sum_of_parts(plan.lines(), plan.weights(), |part, sum| {
        let mut laid = Vec::new();
        for begin in part.clone().step_by(block) {
            let lines = begin..(begin + block).min(part.end);
            let rows = lines.len() * plan.across;
            let outputs = &outputs[lines.start * plan.line()..lines.end * plan.line()];
            let laid = Matrix { numbers: lay(plan, pictures, lines, &mut laid), steps: [1, seen] };
            products.accumulate(sum, laid, outputs, [seen, plan.outputs, rows]);
        }
    })
}

/// Lays out what the windows of some lines see, a row for each window.
fn lay<'a>(plan: &Plan, pictures: &'a [f32], lines: Range<usize>, laid: &'a mut Vec<f32>) -> &'a [f32] {
    let (side, channels, seen) = (plan.windows.side, plan.channels, plan.seen());
    if plan.is_plain() {
        let line = plan.width * channels;
        return &pictures[lines.start * line..lines.end * line];
    }
    // What was laid out before is written over, zeros and all.
    laid.resize(lines.len() * plan.across * seen, 0.0);
    let mut rows = laid.chunks_exact_mut(seen.max(1));
    for line in lines {
        let (picture, down) = (line / plan.down * plan.picture(), line % plan.down);
        for (across, row) in rows.by_ref().take(plan.across).enumerate() {
            let (column, inside) = plan.columns(across);
            let inside = inside.start * channels..inside.end * channels;
            for (of_window, row) in row.chunks_exact_mut(side * channels).enumerate() {
                let Some(line) = plan.picture_line(down, of_window) else {
                    row.fill(0.0);
                    continue;
                };
                let from = picture + (line * plan.width + column) * channels;
                row[..inside.start].fill(0.0);
                row[inside.clone()].copy_from_slice(&pictures[from..from + inside.len()]);
                row[inside.end..].fill(0.0);
            }
        }
    }
    laid
}

/// Adds what is laid out for windows to where they lie.
fn add_back(plan: &Plan, pictures: &mut [f32], lines: Range<usize>, laid: &[f32]) {
    let (side, channels, seen) = (plan.windows.side, plan.channels, plan.seen());
    let mut rows = laid.chunks_exact(seen.max(1));
    for line in lines {
        let (picture, down) = (line / plan.down * plan.picture(), line % plan.down);
        for (across, row) in rows.by_ref().take(plan.across).enumerate() {
            let (column, inside) = plan.columns(across);
            for (of_window, row) in row.chunks_exact(side * channels).enumerate() {
                let Some(line) = plan.picture_line(down, of_window) else { continue };
                let to = picture + (line * plan.width + column) * channels;
                let row = &row[inside.start * channels..inside.end * channels];
                pictures[to..to + row.len()].iter_mut().zip(row).for_each(|(to, from)| *to += from);
            }
        }
    }
}
