//! Advertisements: campaigns pay for clicks on items, and each answer is an auction among them.
//!
//! - [`campaign`]: one campaign, checked and made ready.
//! - [`ledger`]: what campaigns spent and how often their items were shown and clicked, a projection of the log; and what a new click costs.
//! - [`pace`]: whether a campaign may spend now.
//! - [`calibration`]: what a ranker's chances are worth, from clicks on advertisements.
//! - [`auction`]: order and prices.
//! - [`market`]: the campaigns that take part in one answer.
//! - [`money`]: exact amounts.
//!
//! A campaign is a control ([`crate::control`]) of the shop. What an advertisement costs is in the token of its answer, comes back
//! with the click's event, and is fixed in the event when that is recorded ([`ledger::Charges`]): so the log alone says what was spent.

pub mod auction;
pub mod calibration;
pub mod campaign;
pub mod ledger;
pub mod market;
pub mod money;
pub mod pace;

pub use campaign::Campaign;
pub use ledger::{Charges, Ledger};
pub use market::Market;
pub use money::Micros;

/// Days since 1970 (UTC).
pub fn day(millis: i64) -> i64 {
    millis.div_euclid(crate::DAY_MS)
}
