//! How much an event says about an item, by its type.
//!
//! | type | strength | because |
//! |---|---|---|
//! | impression, ad impression | 0 | being shown says nothing about the user |
//! | click, view, ad click | 0.125 | curiosity |
//! | dwell | 0.125 to 0.5 | interest grows with the seconds, up to two minutes |
//! | add to cart | 0.5 | an intention |
//! | remove from cart | −0.5 | takes the intention back |
//! | purchase | 1 | the unit |
//! | return | −1 | takes the purchase back |
//! | rate | (rating − 3) / 2, from −1 to 1 | on the usual scale of 1 to 5; without a rating 0 |
//! | like | 0.5 | |
//! | dislike, hide | −1 | and the item is not proposed to that user again |

use vitrine::v1::EventType;

pub use vitrine_models::is_met;

/// How much an event says for (or, negative, against) an item, in sixteenths of a purchase. Whole numbers, so that sums
/// are exact and do not depend on the order in which events come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Strength(pub i8);

impl Strength {
    const UNIT: f32 = 16.0;
    const CLICK: Self = Self(2);
    const INTENT: Self = Self(8);
    const PURCHASE: Self = Self(16);
    /// The middle of the rating scale, and the distance from there to its ends.
    const RATING: (f64, f64) = (3.0, 2.0);
    /// Reading for longer than these seconds says no more.
    const DWELL_SECONDS: f64 = 120.0;

    /// The strength of an event of that type; `value` is its rating or its seconds.
    pub fn of(kind: EventType, value: Option<f64>) -> Self {
        match kind {
            EventType::Unspecified | EventType::Impression | EventType::AdImpression => Self(0),
            EventType::Click | EventType::View | EventType::AdClick => Self::CLICK,
            EventType::Dwell => {
                let share = (value.unwrap_or(0.0) / Self::DWELL_SECONDS).clamp(0.0, 1.0);
                Self::between(Self::CLICK, Self::INTENT, share)
            }
            EventType::AddToCart | EventType::Like => Self::INTENT,
            EventType::RemoveFromCart => Self(-Self::INTENT.0),
            EventType::Purchase => Self::PURCHASE,
            EventType::Return | EventType::Dislike | EventType::Hide => Self(-Self::PURCHASE.0),
            EventType::Rate => {
                let (middle, reach) = Self::RATING;
                let share = ((value.unwrap_or(middle) - middle) / reach).clamp(-1.0, 1.0);
                Self::between(Self(0), Self::PURCHASE, share)
            }
        }
    }

    fn between(low: Self, high: Self, share: f64) -> Self {
        Self((f64::from(low.0) + f64::from(high.0 - low.0) * share).round() as i8)
    }

    /// In purchases.
    pub fn value(self) -> f32 {
        f32::from(self.0) / Self::UNIT
    }
}

/// Whether the item was only shown.
pub fn is_shown(kind: EventType) -> bool {
    matches!(kind, EventType::Unspecified | EventType::Impression | EventType::AdImpression)
}

/// Whether the user does not want the item.
pub fn is_refusal(kind: EventType) -> bool {
    matches!(kind, EventType::Dislike | EventType::Hide)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_purchase_is_the_unit_and_says_more_than_a_click() {
        assert!((Strength::of(EventType::Purchase, None).value() - 1.0).abs() < f32::EPSILON);
        assert!(Strength::of(EventType::Click, None) < Strength::of(EventType::AddToCart, None));
        assert!(Strength::of(EventType::AddToCart, None) < Strength::of(EventType::Purchase, None));
        assert_eq!(Strength::of(EventType::Impression, None), Strength(0));
    }

    #[test]
    fn a_rating_is_centred_and_clamped() {
        assert_eq!(Strength::of(EventType::Rate, Some(5.0)), Strength(16));
        assert_eq!(Strength::of(EventType::Rate, Some(1.0)), Strength(-16));
        assert_eq!(Strength::of(EventType::Rate, Some(3.0)), Strength(0));
        assert_eq!(Strength::of(EventType::Rate, None), Strength(0));
        assert_eq!(Strength::of(EventType::Rate, Some(1e300)), Strength(16));
    }

    #[test]
    fn reading_longer_says_more_up_to_a_bound() {
        let glance = Strength::of(EventType::Dwell, Some(1.0));
        let read = Strength::of(EventType::Dwell, Some(60.0));
        let asleep = Strength::of(EventType::Dwell, Some(100_000.0));
        assert!(glance < read && read < asleep);
        assert_eq!(asleep, Strength::INTENT);
        assert_eq!(Strength::of(EventType::Dwell, Some(-5.0)), Strength::CLICK);
    }

    #[test]
    fn a_return_cancels_a_purchase() {
        assert_eq!(Strength::of(EventType::Return, None).0 + Strength::of(EventType::Purchase, None).0, 0);
    }
}
