//! From values to places in a picture.

use jiff::{Timestamp, tz::TimeZone};

/// Where values lie along a line of a picture.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl Axis {
    /// From the values in `low..=high` to the places `start..=end`; the latter may go backwards, as heights do.
    pub fn new((low, high): (f64, f64), (start, end): (f64, f64)) -> Self {
        // One value alone lies in the middle.
        let (low, high) = if high > low { (low, high) } else { (low - 0.5, low + 0.5) };
        Self { low, high, start, end }
    }

    /// The place of a value. One that is off the axis is at most as far off as the axis is long.
    pub fn place(&self, value: f64) -> f64 {
        let share = ((value - self.low) / (self.high - self.low)).clamp(-1.0, 2.0);
        self.start + share * (self.end - self.start)
    }

    /// Whether the axis reaches to that value.
    pub fn holds(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// The value, or the end of the axis that is nearest to it.
    pub fn within(&self, value: f64) -> f64 {
        value.clamp(self.low, self.high)
    }

    /// Round values along the axis, about so many.
    pub fn ticks(&self, about: f64) -> Vec<f64> {
        let rough = (self.high - self.low) / about;
        let magnitude = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * magnitude).into_iter().find(|step| *step >= rough);
        self.multiples(step.unwrap_or(rough))
    }

    /// Round moments along an axis of seconds since 1970, about six, and how to write them.
    pub fn moments(&self) -> Vec<(f64, String)> {
        const DAY: f64 = 86_400.0;
        const OF_A_DAY: [f64; 13] =
            [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0, 1_800.0, 3_600.0, 7_200.0, 21_600.0, 43_200.0];
        const DAYS: [f64; 8] = [1.0, 2.0, 4.0, 7.0, 14.0, 30.0, 90.0, 365.0];
        let rough = (self.high - self.low) / 6.0;
        let step = OF_A_DAY.into_iter().chain(DAYS.map(|days| days * DAY)).find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        let format = match step {
            ..60.0 => "%H:%M:%S",
            ..DAY => "%e %b %H:%M",
            _ => "%e %b",
        };
        let name = |seconds: f64| {
            let time = Timestamp::from_second(seconds as i64).unwrap_or_default();
            time.to_zoned(TimeZone::UTC).strftime(format).to_string().trim_start().to_owned()
        };
        self.multiples(step).into_iter().map(|seconds| (seconds, name(seconds))).collect()
    }

    fn multiples(&self, step: f64) -> Vec<f64> {
        let first = (self.low / step).ceil();
        (0..100).map(|n| (first + f64::from(n)) * step).take_while(|value| *value <= self.high).collect()
    }
}

/// A tick of an axis of shares, as `+2.5 %`; all of an axis with as many digits as the finest needs.
pub fn percents(ticks: &[f64]) -> Vec<String> {
    let step = ticks.windows(2).map(|pair| 100.0 * (pair[1] - pair[0])).fold(f64::INFINITY, f64::min);
    let digits = if step.is_finite() { (-step.log10().floor()).clamp(0.0, 6.0) as usize } else { 1 };
    let zero = step.min(1.0) / 1e6;
    let label = |percent: f64| if percent.abs() < zero { "0 %".to_owned() } else { format!("{percent:+.digits$} %") };
    ticks.iter().map(|tick| label(100.0 * tick)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_inside() {
        let axis = Axis::new((-0.032, 0.071), (0.0, 100.0));
        let ticks = axis.ticks(5.0);
        assert_eq!(percents(&ticks), ["0 %", "+5 %"]);
        let axis = Axis::new((-0.032, 0.071), (0.0, 100.0));
        assert_eq!(percents(&axis.ticks(10.0)), ["-2 %", "0 %", "+2 %", "+4 %", "+6 %"]);
        assert!(axis.holds(0.0) && !axis.holds(0.08));
    }

    #[test]
    fn fine_ticks_have_the_digits_they_need() {
        assert_eq!(percents(&[-0.0005, 0.0, 0.0005]), ["-0.05 %", "0 %", "+0.05 %"]);
    }

    #[test]
    fn what_is_infinite_lies_just_outside() {
        let axis = Axis::new((0.0, 1.0), (0.0, 100.0));
        let places = [f64::NEG_INFINITY, 0.5, f64::INFINITY].map(|value| axis.place(value) as i32);
        assert_eq!(places, [-100, 50, 200]);
        assert_eq!(Axis::new((3.0, 3.0), (0.0, 100.0)).place(3.0) as i32, 50);
    }

    #[test]
    fn moments_are_days_or_hours_by_the_length_of_the_axis() {
        let day = 86_400.0;
        let names = |length: f64| {
            Axis::new((0.0, length), (0.0, 1.0)).moments().into_iter().map(|(_, name)| name).collect::<Vec<_>>()
        };
        assert_eq!(names(6.0 * day)[..2], ["1 Jan", "2 Jan"]);
        assert_eq!(names(day)[..2], ["1 Jan 00:00", "1 Jan 06:00"]);
        assert!(
            [60.0, 600.0, 5_000.0, 100.0 * day, 9_000.0 * day]
                .iter()
                .all(|length| (1..=9).contains(&names(*length).len()))
        );
    }
}
