//! The campaigns that take part in one answer, and what they offer.

use roaring::RoaringBitmap;
use rustc_hash::FxHashMap;
use vitrine::v1::{Ad, Ads, EventType, ServedAd};

use super::Campaign;
use super::auction::{Offer, Won, auction};
use super::calibration::logistic;
use super::ledger::Ledger;
use super::money::Micros;
use crate::Doc;
use crate::behaviour::Entry;
use crate::catalog::items::Table;
use crate::control::Controls;
use crate::ranker::odds;
use crate::recommend::Chances;

/// An auction that is open.
pub struct Market {
    floor: Micros,
    currency: String,
    /// Names.
    campaigns: Vec<String>,
    offers: FxHashMap<Doc, Offer>,
}

/// Who sees the advertisements, where, and when.
pub struct Audience<'a> {
    /// What was asked for; it was checked.
    pub ads: &'a Ads,
    /// What the person was shown before, oldest first.
    pub shown: &'a [Entry],
    /// Milliseconds since 1970.
    pub now_ms: i64,
}

impl Market {
    /// Campaigns that want the slot, have money for it, and are not yet seen too often; with those of their items that are `allowed`. Of
    /// several for one item the highest bid counts, of equal ones the first by name. Chances are those by earlier advertisements.
    pub fn open(
        controls: &Controls,
        ledger: &Ledger,
        table: &Table,
        allowed: &RoaringBitmap,
        audience: &Audience<'_>,
    ) -> Self {
        let &Audience { ads, shown, now_ms } = audience;
        let floor = ads.floor_price.as_ref().and_then(|floor| Micros::parse(&floor.amount)).unwrap_or_default();
        let mut currency = ads.floor_price.as_ref().map(|floor| floor.currency.clone());
        let (mut campaigns, mut offers) = (Vec::new(), FxHashMap::<Doc, Offer>::default());
        for (name, campaign, time) in controls.campaigns(now_ms) {
            let Campaign { bid, .. } = *campaign;
            if !campaign.is_for(&ads.slot)
                || *currency.get_or_insert_with(|| campaign.currency.clone()) != campaign.currency
            {
                continue;
            }
            if bid < floor || !campaign.may_spend(last_part(name), ledger, time, now_ms) {
                continue;
            }
            let items = table.columns().evaluate(&campaign.filter);
            if is_seen_enough(campaign, &items, shown, now_ms) {
                continue;
            }
            for doc in items & allowed {
                let best = offers.get(&doc).is_none_or(|other| bid > other.bid);
                if best {
                    let chance = ledger.chance(doc);
                    offers.insert(doc, Offer { doc, campaign: campaigns.len(), bid, chance });
                }
            }
            campaigns.push(name.to_owned());
        }
        Self { floor, currency: currency.unwrap_or_default(), campaigns, offers }
    }

    /// What could be advertised, with what it is worth.
    pub fn candidates(&self) -> Vec<(Doc, f32)> {
        self.offers.values().map(|offer| (offer.doc, offer.score() as f32)).collect()
    }

    /// The winners among `docs`, by what a ranker says of them, if there is one: its chances and what is to be added to their logits.
    pub fn close(&self, docs: &[Doc], chances: Option<(&Chances, f64)>, count: usize) -> Vec<Won> {
        let offers = docs.iter().filter_map(|doc| {
            let offer = *self.offers.get(doc)?;
            let Some((chances, shift)) = chances else { return Some(offer) };
            let (chance, _) = chances.of(*doc)?;
            Some(Offer { chance: logistic(f64::from(odds(chance)) + shift), ..offer })
        });
        auction(offers.collect(), self.floor, count)
    }

    /// A winner as the API has it.
    pub fn ad(&self, won: &Won) -> Ad {
        let Won { offer, price } = won;
        Ad {
            campaign: self.campaigns[offer.campaign].clone(),
            bid: Some(offer.bid.money(&self.currency)),
            predicted_ctr: offer.chance,
            rank_score: offer.score(),
            price: Some(price.money(&self.currency)),
        }
    }

    /// A winner as its answer's token has it; a ranker's version said `chance`.
    pub fn served(&self, won: &Won, ranker: Option<(&str, f32)>) -> ServedAd {
        ServedAd {
            campaign: last_part(&self.campaigns[won.offer.campaign]).to_owned(),
            price_micros: won.price.0,
            predictor: ranker.map(|(predictor, _)| predictor.to_owned()).unwrap_or_default(),
            predicted_logit: ranker.map(|(_, chance)| odds(chance)).unwrap_or_default(),
            charged_micros: 0,
        }
    }
}

/// The part of a control's name that campaigns are known by in the ledger.
fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn is_seen_enough(campaign: &Campaign, items: &RoaringBitmap, shown: &[Entry], now_ms: i64) -> bool {
    campaign.cap.is_some_and(|(most, window)| {
        let since = (now_ms / 1_000).saturating_sub(i64::from(window));
        let seen = shown.iter().rev().take_while(|entry| i64::from(entry.seconds()) > since);
        let seen = seen.filter(|entry| entry.kind() == EventType::AdImpression && items.contains(entry.doc));
        seen.take(most).count() == most
    })
}
