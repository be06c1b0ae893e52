//! Amounts of money as whole millionths of a currency's unit, so that sums are exact.

use std::fmt;

use vitrine::v1::Money;

use crate::{check, error::Violations};

const MICROS: i64 = 1_000_000;
const DECIMALS: usize = 6;

/// Millionths of a currency's unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Micros(pub i64);

impl Micros {
    /// Reads a decimal number, as `0.45`. `None`: it is none, has more than six decimals, or is too large.
    pub fn parse(amount: &str) -> Option<Self> {
        let (whole, fraction) = amount.split_once('.').unwrap_or((amount, ""));
        let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if whole.is_empty() || fraction.len() > DECIMALS || !digits(whole) || !digits(fraction) {
            return None;
        }
        let units = whole.parse::<i64>().ok()?.checked_mul(MICROS)?;
        let micros = format!("{fraction:0<DECIMALS$}").parse::<i64>().ok()?;
        units.checked_add(micros).map(Self)
    }

    /// Of an amount from outside; what is wrong with it goes to `violations`.
    pub fn checked(violations: &mut Violations, field: &str, money: &Money) -> Option<Self> {
        let before = violations.len();
        check::money(violations, field, money);
        if violations.len() > before {
            return None;
        }
        let amount = Self::parse(&money.amount);
        if amount.is_none() {
            violations.add(format!("{field}.amount"), "has more than six decimals, or is too large");
        }
        amount
    }

    /// In units.
    pub fn units(self) -> f64 {
        self.0 as f64 / MICROS as f64
    }

    /// Of so many units, rounded up.
    pub fn at_least(units: f64) -> Self {
        Self((units * MICROS as f64).ceil() as i64)
    }

    /// As the API has it.
    pub fn money(self, currency: &str) -> Money {
        Money { amount: self.to_string(), currency: currency.to_owned() }
    }
}

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (units, micros) = (self.0 / MICROS, self.0 % MICROS);
        let fraction = format!("{micros:0DECIMALS$}");
        // Cents are always written.
        let short = fraction.trim_end_matches('0');
        write!(f, "{units}.{short:0<2}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_and_written() {
        for (text, micros, written) in [
            ("0.45", 450_000, "0.45"),
            ("12", 12_000_000, "12.00"),
            ("0.000001", 1, "0.000001"),
            ("3.1250", 3_125_000, "3.125"),
            ("9000000000000", 9_000_000_000_000 * MICROS, "9000000000000.00"),
        ] {
            assert_eq!(Micros::parse(text), Some(Micros(micros)), "{text}");
            assert_eq!(Micros(micros).to_string(), written);
        }
        for rubbish in ["", ".5", "-1", "1e3", "0.0000001", "99999999999999999", "1,5", "٣"] {
            assert_eq!(Micros::parse(rubbish), None, "{rubbish}");
        }
    }

    #[test]
    fn a_price_is_never_rounded_below_what_keeps_the_place() {
        assert_eq!(Micros::at_least(0.100_000_1), Micros(100_001));
    }
}
