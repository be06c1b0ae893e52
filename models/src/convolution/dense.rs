//! Windows that see all channels: products of matrices.

use std::ops::Range;

use gemm::Parallelism;
use rayon::prelude::*;

use super::plan::Plan;
use crate::fused::sum_of_parts;

/// Of pictures and kernel.
pub(super) fn output(plan: &Plan, pictures: &[f32], kernel: &[f32]) -> Vec<f32> {
    let mut output = vec![0.0; plan.outputs()];
    let (block, seen) = (plan.block(), plan.seen());
    let blocks = output.par_chunks_mut((block * plan.line()).max(1)).enumerate();
    blocks.for_each_init(Vec::new, |laid, (at, output)| {
        let lines = at * block..(at * block + output.len() / plan.line());
        let rows = lines.len() * plan.across;
        let laid = lay(plan, pictures, lines, laid);
        multiply(
            output,
            false,
            [rows, plan.outputs, seen],
            Matrix::rows(laid, seen),
            Matrix::rows(kernel, plan.outputs),
        );
    });
    output
}

/// Of outputs and kernel.
pub(super) fn input(plan: &Plan, outputs: &[f32], kernel: &[f32]) -> Vec<f32> {
    let mut input = vec![0.0; plan.inputs()];
    let (block, seen) = (plan.block(), plan.seen());
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
            let (from, to) = (Matrix::rows(outputs, plan.outputs), Matrix::columns(kernel, plan.outputs));
            if plan.is_plain() {
                let from_first = (lines.start - first) * plan.width * seen;
                let pictures = &mut pictures[from_first..from_first + rows * seen];
                multiply(pictures, false, [rows, seen, plan.outputs], from, to);
            } else {
                laid.resize(rows * seen, 0.0);
                multiply(laid, false, [rows, seen, plan.outputs], from, to);
                add_back(plan, pictures, lines.start - first..lines.end - first, laid);
            }
        }
    });
    input
}

/// Of pictures and outputs.
pub(super) fn kernel(plan: &Plan, pictures: &[f32], outputs: &[f32]) -> Vec<f32> {
    let (block, seen) = (plan.block(), plan.seen());
    sum_of_parts(plan.lines(), plan.weights(), |part, sum| {
        let mut laid = Vec::new();
        for begin in part.clone().step_by(block) {
            let lines = begin..(begin + block).min(part.end);
            let rows = lines.len() * plan.across;
            let outputs = &outputs[lines.start * plan.line()..lines.end * plan.line()];
            let laid = Matrix::columns(lay(plan, pictures, lines, &mut laid), seen);
            multiply(sum, true, [seen, plan.outputs, rows], laid, Matrix::rows(outputs, plan.outputs));
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
    laid.clear();
    laid.resize(lines.len() * plan.across * seen, 0.0);
    let mut rows = laid.chunks_exact_mut(seen.max(1));
    for line in lines {
        let (picture, down) = (line / plan.down * plan.picture(), line % plan.down);
        for (across, row) in rows.by_ref().take(plan.across).enumerate() {
            let (column, inside) = plan.columns(across);
            for (of_window, row) in row.chunks_exact_mut(side * channels).enumerate() {
                let Some(line) = plan.picture_line(down, of_window) else { continue };
                let from = picture + (line * plan.width + column) * channels;
                let row = &mut row[inside.start * channels..inside.end * channels];
                row.copy_from_slice(&pictures[from..from + row.len()]);
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

/// Numbers as rows and columns.
#[derive(Clone, Copy)]
struct Matrix<'a> {
    numbers: &'a [f32],
    /// From a number to the one below, and to the one on its right.
    steps: [usize; 2],
}

impl<'a> Matrix<'a> {
    /// Row after row, each of so many.
    fn rows(numbers: &'a [f32], each: usize) -> Self {
        Self { numbers, steps: [each, 1] }
    }

    /// Column after column, each of so many.
    fn columns(numbers: &'a [f32], each: usize) -> Self {
        Self { numbers, steps: [1, each] }
    }

    fn holds(&self, rows: usize, columns: usize) -> bool {
        rows == 0 || columns == 0 || (rows - 1) * self.steps[0] + (columns - 1) * self.steps[1] < self.numbers.len()
    }
}

/// The product of `a` `[rows, inner]` and `b` `[inner, columns]`, written to `to` row after row, or added to what is there.
fn multiply(to: &mut [f32], add: bool, [rows, columns, inner]: [usize; 3], a: Matrix<'_>, b: Matrix<'_>) {
    assert!(a.holds(rows, inner) && b.holds(inner, columns) && Matrix::rows(to, columns).holds(rows, columns));
    let [[a_row, a_column], [b_row, b_column]] = [a, b].map(|matrix| matrix.steps.map(usize::cast_signed));
    let (a, b) = (a.numbers.as_ptr(), b.numbers.as_ptr());
    // SAFETY: all three hold what is read and written, as was just seen.
    #[allow(unsafe_code)]
    unsafe {
        let (to, to_row) = (to.as_mut_ptr(), columns.cast_signed());
        gemm::gemm(
            rows,
            columns,
            inner,
            to,
            1,
            to_row,
            add,
            a,
            a_column,
            a_row,
            b,
            b_column,
            b_row,
            1.0,
            1.0,
            false,
            false,
            false,
            Parallelism::None,
        );
    }
}
