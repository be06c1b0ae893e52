//! Order and prices: a generalised second-price auction (Edelman, Ostrovsky & Schwarz 2007) on bid × chance of a click.

use std::cmp::Ordering;

use super::money::Micros;
use crate::Doc;

/// An item that could be advertised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Offer {
    /// Which.
    pub doc: Doc,
    /// By which campaign, as the market numbers them.
    pub campaign: usize,
    /// What it pays for a click at most; at least the floor.
    pub bid: Micros,
    /// How likely it is clicked.
    pub chance: f64,
}

impl Offer {
    /// What showing it is worth.
    pub fn score(&self) -> f64 {
        self.bid.units() * self.chance
    }
}

/// An item that is advertised.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Won {
    /// It.
    pub offer: Offer,
    /// What a click costs.
    pub price: Micros,
}

/// The `count` best offers. A click costs what makes its score that of the next offer of another campaign: nobody bids against
/// themselves.
pub fn auction(mut offers: Vec<Offer>, floor: Micros, count: usize) -> Vec<Won> {
    offers.retain(|offer| offer.score() > 0.0);
    offers.sort_unstable_by(best_first);
    let next = |place: usize| offers[place..].iter().find(|other| other.campaign != offers[place].campaign);
    let won = offers.iter().enumerate().take(count).map(|(place, offer)| {
        let keeps = next(place).map_or(Micros(0), |other| Micros::at_least(other.score() / offer.chance));
        Won { offer: *offer, price: keeps.max(floor).min(offer.bid) }
    });
    won.collect()
}

fn best_first(a: &Offer, b: &Offer) -> Ordering {
    b.score().total_cmp(&a.score()).then(a.doc.cmp(&b.doc))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn offer(doc: Doc, campaign: usize, bid: i64, chance: f64) -> Offer {
        Offer { doc, campaign, bid: Micros(bid), chance }
    }

    #[test]
    fn a_click_costs_what_keeps_the_place() {
        let offers = vec![offer(1, 0, 1_000_000, 0.02), offer(2, 1, 500_000, 0.03), offer(3, 2, 200_000, 0.05)];
        let won = auction(offers, Micros(50_000), 2);
        let told: Vec<_> = won.iter().map(|won| (won.offer.doc, won.price)).collect();
        // 0.5 × 0.03 / 0.02, and 0.2 × 0.05 / 0.03.
        assert_eq!(told, [(1, Micros(750_000)), (2, Micros(333_334))]);
    }

    #[test]
    fn nobody_bids_against_themselves_and_the_last_pays_the_floor() {
        let offers = vec![offer(1, 0, 900_000, 0.5), offer(2, 0, 900_000, 0.4), offer(3, 1, 100_000, 0.1)];
        let prices: Vec<_> = auction(offers, Micros(30_000), 9).iter().map(|won| won.price).collect();
        assert_eq!(prices, [Micros(30_000), Micros(30_000), Micros(30_000)]);
    }

    proptest! {
        #[test]
        fn prices_are_between_floor_and_bid_and_keep_the_order(
            bids in prop::collection::vec((0_usize..4, 10_000_i64..5_000_000, 0.0_f64..1.0), 0..20), floor in 0_i64..10_000
        ) {
            let offers: Vec<Offer> =
                (0..).zip(&bids).map(|(doc, &(campaign, bid, chance))| offer(doc, campaign, bid, chance)).collect();
            let won = auction(offers.clone(), Micros(floor), 20);
            for (place, one) in won.iter().enumerate() {
                prop_assert!(one.price >= Micros(floor) && one.price <= one.offer.bid);
                for later in &won[place..] {
                    prop_assert!(one.offer.score() >= later.offer.score());
                    if later.offer.campaign != one.offer.campaign {
                        // A price rounded up to a millionth still keeps the place.
                        prop_assert!(one.price.units() * one.offer.chance >= later.offer.score() - 1e-9);
                    }
                }
            }
            // Bidding more never brings a later place, and never costs more than the bid.
            if let Some(first) = offers.first() {
                let place = |won: &[Won]| won.iter().position(|one| one.offer.doc == first.doc).unwrap_or(usize::MAX);
                let mut raised = offers.clone();
                raised[0].bid = Micros(first.bid.0 * 2);
                prop_assert!(place(&auction(raised, Micros(floor), 20)) <= place(&won));
            }
        }
    }
}
