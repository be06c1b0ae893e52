//! The kernels of every instruction set that this CPU has against plain scalar twins, over random shapes.

use proptest::prelude::*;
use rand::{SeedableRng as _, rngs::StdRng};

use super::attention::{Attention, Head};
use super::finish::{Activation, Add, Store};
use super::grid::Grid;
use super::kernels::{Kernels, Operation};
use super::linear::{Linear, tiles};
use super::norm::{Norm, NormWeights};
use super::portable::Portable;
use super::shared::Shared;
use super::simd::{Simd, erf, exp};

/// Runs a check with the kernels of each instruction set that this CPU has.
macro_rules! for_each_isa {
    ($check:ident($($argument:expr),*)) => {
        $check::<Portable>($($argument),*);
        #[cfg(target_arch = "x86_64")]
        {
            $check::<super::avx2::Avx2>($($argument),*);
            $check::<super::avx2int16::Avx2Int16>($($argument),*);
            $check::<super::avx512::Avx512>($($argument),*);
            $check::<super::avx512bf16::Avx512Bf16>($($argument),*);
            $check::<super::avx512int16::Avx512Int16>($($argument),*);
            $check::<super::amx::Amx>($($argument),*);
        }
    };
}

pub(super) fn random(seed: u64, count: usize) -> Vec<f32> {
    let mut random = StdRng::seed_from_u64(seed);
    (0..count).map(|_| random.random_range(-2.0..2.0)).collect()
}

/// What numbers are after they were units: themselves, the nearest bf16, or the nearest on the grid of their column.
fn rounded<K: Kernels>(numbers: &[f32], grid: &Grid) -> Vec<f32> {
    match grid.from(0) {
        _ if K::DEPTH == 1 => numbers.to_vec(),
        None => numbers.iter().map(|&number| nearest_bf16(number)).collect(),
        Some(factors) => {
            let columns = factors.len() - K::WIDTH;
            let number = |(at, number): (usize, &f32)| nearest_whole(*number, factors[at % columns]);
            numbers.iter().enumerate().map(number).collect()
        }
    }
}

fn nearest_whole(number: f32, factor: f32) -> f32 {
    (number * factor).round_ties_even() / factor
}

/// For numbers of which none passes a bound.
fn grid<K: Kernels>(bound: f32, columns: usize) -> Grid {
    Grid::of::<K>(std::iter::repeat_n(bound, columns))
}

/// By the definition: of the two bf16 beside a number the nearer, and of two equally near the even one.
#[allow(clippy::float_cmp, reason = "ties are exact")]
fn nearest_bf16(number: f32) -> f32 {
    let below = number.to_bits() & 0xffff_0000;
    let [low, high] = [below, below + 0x1_0000].map(|bits| f64::from(f32::from_bits(bits)));
    let (down, up) = ((f64::from(number) - low).abs(), (f64::from(number) - high).abs());
    let even = below & 0x1_0000 == 0;
    if down < up || (down == up && even) { low as f32 } else { high as f32 }
}

fn units<K: Kernels>(numbers: &[f32], columns: usize, grid: &Grid) -> Shared<K::Unit> {
    let factor = |at: usize| grid.from(at % columns).map_or(1.0, |factors| factors[0]);
    let numbers: Vec<f32> = numbers.iter().enumerate().map(|(at, number)| number * factor(at)).collect();
    let units: Vec<K::Unit> = numbers.chunks_exact(columns).flat_map(|row| row.chunks(K::DEPTH).map(K::unit)).collect();
    Shared::of(units, columns.div_ceil(K::DEPTH))
}

/// The numbers in units, by multiplying them with 1: kernels that store units can be looked at without a way back.
fn numbers<K: Kernels>(kernels: K, units: &Shared<K::Unit>, rows: usize, (columns, grid): (usize, &Grid)) -> Vec<f32> {
    let mut identity = Linear::<K>::new(columns, columns);
    for column in 0..columns {
        let mut one = vec![0.0; columns];
        one[column] = 1.0;
        identity.set(column, &one, &[0.0], (columns, grid));
    }
    // SAFETY: nobody else has it.
    unsafe { identity.outputs(kernels, units, rows) }
}

#[track_caller]
fn assert_near(isa: super::Isa, ours: &[f32], twin: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), twin.len());
    for (at, (ours, twin)) in ours.iter().zip(twin).enumerate() {
        let difference = (f64::from(*ours) - twin).abs();
        assert!(difference <= tolerance * (1.0 + twin.abs()), "{isa}, {at}: {ours} and {twin}");
    }
}

fn linear_equals_its_twin<K: Kernels>(seed: u64, rows: usize, inputs: usize, outputs: usize) {
    let Some(kernels) = K::detect() else { return };
    let (left, weights, bias) =
        (random(seed, rows * inputs), random(seed + 1, outputs * inputs), random(seed + 2, outputs));
    let grid = grid::<K>(2.0, inputs);
    let mut linear = Linear::<K>::new(inputs, outputs);
    // In two parts, as queries, keys and values are.
    let first = outputs / 3;
    linear.set(0, &weights[..first * inputs], &bias[..first], (inputs, &grid));
    linear.set(first, &weights[first * inputs..], &bias[first..], (inputs, &grid));
    // SAFETY: nobody else has the rows.
    let ours = unsafe { linear.outputs(kernels, &units::<K>(&left, inputs, &grid), rows) };
    let left = rounded::<K>(&left, &grid);
    let weights: Vec<f32> = if K::WHOLE {
        // As the layer divides them, which has a test of its own.
        let output = |weights: &[f32]| {
            let (whole, factor) = grid.weights(weights);
            let weights = whole.iter().zip(grid.from(0).unwrap()).map(|(whole, by)| whole * factor * by);
            weights.collect::<Vec<_>>()
        };
        weights.chunks_exact(inputs).flat_map(output).collect()
    } else {
        rounded::<K>(&weights, &grid)
    };
    let twin: Vec<f64> = left
        .chunks_exact(inputs)
        .flat_map(|row| {
            weights.chunks_exact(inputs).zip(&bias).map(|(weights, bias)| dot(row, weights) + f64::from(*bias))
        })
        .collect();
    assert_near(K::ISA, &ours, &twin, 2e-6 * inputs as f64);
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

/// As Abramowitz and Stegun 7.1.5 has it, summed until nothing is added.
fn erf_by_series(x: f64) -> f64 {
    if x.abs() > 5.0 {
        return x.signum();
    }
    let (mut sum, mut term, mut n) = (x, x, 0.0);
    while term.abs() > 1e-18 {
        n += 1.0;
        term *= -x * x / n;
        sum += term / (2.0 * n + 1.0);
    }
    sum * std::f64::consts::FRAC_2_SQRT_PI
}

struct Functions<'a>(&'a [f32]);

impl<K: Kernels> Operation<K> for Functions<'_> {
    type Output = Vec<[f32; 2]>;

    #[inline(always)]
    unsafe fn run(self) -> Vec<[f32; 2]> {
        let mut out = Vec::new();
        for &x in self.0 {
            // SAFETY: the CPU has the instructions; one lane is looked at.
            out.push(unsafe {
                let x = K::Vector::splat(x);
                [exp(x).largest(), erf(x).largest()]
            });
        }
        out
    }
}

fn functions_are_within_their_bounds<K: Kernels>() {
    let Some(kernels) = K::detect() else { return };
    let points: Vec<f32> =
        (-8700..=8700).map(|at| at as f32 * 0.01).chain((-5000..5000).map(|at| at as f32 * 1e-3)).collect();
    for (x, [exp, erf]) in points.iter().zip(kernels.run(Functions(&points))) {
        let wanted = f64::from(*x).exp();
        assert!((f64::from(exp) / wanted - 1.0).abs() < 2.5e-7, "{}: exp({x}) = {exp}, not {wanted}", K::ISA);
        let wanted = erf_by_series(f64::from(*x));
        assert!((f64::from(erf) - wanted).abs() < 4e-7, "{}: erf({x}) = {erf}, not {wanted}", K::ISA);
    }
    let [[large, _], [small, _]] = kernels.run(Functions(&[1e9, f32::NEG_INFINITY]))[..] else { panic!("two") };
    assert!(large.is_finite() && (0.0..1e-37).contains(&small), "{large} {small}");
}

#[test]
fn exp_and_erf_are_within_their_bounds() {
    for_each_isa!(functions_are_within_their_bounds());
}

fn finishing_equals_its_twin<K: Kernels>(seed: u64, rows: usize, columns: usize) {
    let Some(kernels) = K::detect() else { return };
    let (rows, columns) = (rows.min(K::ROWS), columns.min(K::WIDTH));
    let (sums, bias) = (random(seed, rows * K::WIDTH), random(seed + 1, K::WIDTH));
    let (scale, before) = (random(seed + 2, rows), random(seed + 3, rows * columns));
    let factors = random(seed + 4, K::WIDTH);
    let twin = |scaled: bool, f: &dyn Fn(f64) -> f64| -> Vec<f64> {
        let value = |row: usize, column: usize| {
            let scale = if scaled { f64::from(scale[row]) } else { 1.0 };
            f(f64::from(sums[row * K::WIDTH + column]) * scale * f64::from(factors[column]) + f64::from(bias[column]))
        };
        (0..rows).flat_map(|row| (0..columns).map(move |column| (row, column))).map(|(r, c)| value(r, c)).collect()
    };
    let tolerance = if K::DEPTH == 1 { 1e-6 } else { 4e-3 };
    let gelu = |x: f64| 0.5 * x * (1.0 + erf_by_series(x * std::f64::consts::FRAC_1_SQRT_2));
    for (activation, scaled, wanted) in
        [(Activation::Identity, true, twin(true, &|x| x)), (Activation::Gelu, false, twin(false, &gelu))]
    {
        let grid = grid::<K>(2.0 * 2.0 * 2.0 + 2.0, columns);
        let to = units::<K>(&vec![0.0; rows * columns], columns, &grid);
        // SAFETY: nobody else has it.
        let part = unsafe { to.part(0..rows, 0..to.columns()) };
        let (scale, factors, bias) = (scaled.then_some(&scale[..]), Some(&factors[..]), Some(&bias[..]));
        let on_grid = grid.from(0);
        kernels.run(Store::<K> { sums: &sums, scale, factors, bias, activation, grid: on_grid, to: part, columns });
        assert_near(K::ISA, &numbers(kernels, &to, rows, (columns, &grid)), &wanted, tolerance);
    }
    let to = Shared::of(before.clone(), columns);
    // SAFETY: nobody else has it.
    kernels.run(Add { sums: &sums, factors: &factors, bias: &bias, to: unsafe { to.part(0..rows, 0..columns) } });
    let wanted: Vec<f64> = twin(false, &|x| x).iter().zip(&before).map(|(x, before)| x + f64::from(*before)).collect();
    assert_near(K::ISA, &to.into_rows(rows), &wanted, 1e-6);
}

fn norm_equals_its_twin<K: Kernels>(seed: u64, rows: usize, columns: usize) {
    let Some(kernels) = K::detect() else { return };
    let before = random(seed, rows * columns);
    let weights = NormWeights::new::<K>(random(seed + 1, columns), random(seed + 2, columns), 1e-3);
    let grid = &weights.grid;
    let (vectors, out) = (Shared::of(before.clone(), columns), units::<K>(&vec![0.0; rows * columns], columns, grid));
    // SAFETY: nobody else has them.
    let (part, to) = unsafe { (vectors.part(0..rows, 0..columns), out.part(0..rows, 0..out.columns())) };
    kernels.run(Norm { weights: &weights, rows: part, units: to });
    let twin: Vec<f64> = before
        .chunks_exact(columns)
        .flat_map(|row| {
            let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / columns as f64;
            let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / columns as f64;
            let factor = 1.0 / (variance + f64::from(weights.epsilon)).sqrt();
            let normal = row.iter().zip(&weights.scale).zip(&weights.shift);
            normal
                .map(|((&x, &scale), &shift)| (f64::from(x) - mean) * factor * f64::from(scale) + f64::from(shift))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_near(K::ISA, &numbers(kernels, &out, rows, (columns, grid)), &twin, if K::DEPTH == 1 { 2e-5 } else { 5e-3 });
    assert_near(K::ISA, &vectors.into_rows(rows), &twin, 2e-5);
}

fn attention_equals_its_twin<K: Kernels>(seed: u64, tokens: usize, half: usize) {
    let Some(kernels) = K::detect() else { return };
    let (size, heads) = (2 * half, 2);
    let hidden = heads * size;
    let projections = random(seed, tokens * 3 * hidden);
    // Results lie between the values.
    let grid = grid::<K>(2.0, hidden);
    let from = units::<K::Attention>(&projections, 3 * hidden, &Grid::default());
    let to = units::<K>(&vec![0.0; tokens * hidden], hidden, &grid);
    let mut attention = Attention::<K::Attention>::new();
    for head in 0..heads {
        // SAFETY: nobody else has them.
        let rows = unsafe { from.rows(0..tokens) };
        let starts = [0, 1, 2].map(|part| (part * hidden + head * size) / K::Attention::DEPTH);
        let view = Head { projections: rows, stride: from.columns(), starts, size };
        attention.run::<K>(kernels.attention(), &view, |rows, column| {
            let columns = head * size + column..(head + 1) * size;
            // SAFETY: nobody else has it.
            let part = unsafe { to.part(rows, columns.start / K::DEPTH..columns.end / K::DEPTH) };
            (part, grid.from(columns.start))
        });
    }
    let projections = rounded::<K::Attention>(&projections, &Grid::default());
    let part = |token: usize, part: usize, head: usize| {
        let start = token * 3 * hidden + part * hidden + head * size;
        &projections[start..start + size]
    };
    let mut twin = Vec::new();
    for token in 0..tokens {
        for head in 0..heads {
            let score = |key| dot(part(token, 0, head), part(key, 1, head)) / (size as f64).sqrt();
            let scores: Vec<f64> = (0..tokens).map(score).collect();
            let largest = scores.iter().copied().fold(f64::MIN, f64::max);
            let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let all: f64 = weights.iter().sum();
            twin.extend((0..size).map(|number| {
                let weighted = |(key, weight): (usize, &f64)| weight * f64::from(part(key, 2, head)[number]);
                weights.iter().enumerate().map(weighted).sum::<f64>() / all
            }));
        }
    }
    let tolerance = if K::DEPTH == 1 { 5e-6 } else { 1e-2 };
    assert_near(K::ISA, &numbers(kernels, &to, tokens, (hidden, &grid)), &twin, tolerance);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn linear_layers_of_any_shape(seed: u32, rows in 1_usize..70, inputs in 1_usize..90, outputs in 1_usize..110) {
        for_each_isa!(linear_equals_its_twin(seed.into(), rows, inputs, outputs));
    }

    #[test]
    fn bias_activation_scale_and_residual(seed: u32, rows in 1_usize..33, columns in 1_usize..33) {
        for_each_isa!(finishing_equals_its_twin(seed.into(), rows, columns));
    }

    #[test]
    fn layer_norm_of_any_width(seed: u32, rows in 1_usize..5, columns in 1_usize..100) {
        for_each_isa!(norm_equals_its_twin(seed.into(), rows, columns));
    }

    #[test]
    fn attention_over_any_number_of_tokens(seed: u32, tokens in 1_usize..80, half in 1_usize..40) {
        for_each_isa!(attention_equals_its_twin(seed.into(), tokens, half));
    }

    #[test]
    fn tiles_cover_the_rows_and_are_nearly_equal(start in 0_usize..9, rows in 0_usize..200, most in 1_usize..17) {
        let tiles: Vec<_> = tiles(start..start + rows, most).collect();
        prop_assert_eq!(tiles.iter().cloned().flatten().collect::<Vec<_>>(), (start..start + rows).collect::<Vec<_>>());
        let lengths = || tiles.iter().map(std::ops::Range::len);
        prop_assert!(lengths().all(|length| (1..=most).contains(&length)));
        prop_assert!(lengths().max().unwrap_or(0) - lengths().min().unwrap_or(0) <= 1);
    }
}
