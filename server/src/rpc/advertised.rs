//! The answer to `ads`: an auction among the candidates, by the chances that a ranker says or else by earlier advertisements.

use rustc_hash::FxHashMap;
use vitrine::v1::{Ad, ServedAd};

use super::ranked::Ranked;
use crate::{
    Doc,
    ads::{Ledger, Market},
    recommend::{Reason, Recommended, Source, Stage},
};

/// Advertisements, in their order.
#[derive(Default)]
pub struct Advertised {
    /// What won a place.
    pub results: Vec<Recommended>,
    /// What the answer says of each, and its token.
    pub ads: FxHashMap<Doc, (Ad, ServedAd)>,
}

impl Advertised {
    /// The winners among `docs`.
    pub fn of(market: &Market, docs: &[Doc], ranked: Option<&Ranked>, ledger: &Ledger, count: usize) -> Self {
        let ranker = ranked.map(|ranked| (&ranked.chances, ranked.version()));
        let chances = ranker.as_ref().map(|(chances, version)| (*chances, ledger.shift(version)));
        let mut advertised = Self::default();
        for (won, rank) in market.close(docs, chances, count).iter().zip(1..) {
            let doc = won.offer.doc;
            let score = won.offer.score();
            let mut stages = vec![Stage { source: Source::Advertised, score, rank }];
            let said = ranker.as_ref().and_then(|(chances, version)| Some((version.as_str(), chances.of(doc)?)));
            stages.extend(said.map(|(_, (chance, rank))| Stage { source: Source::Ranked, score: chance.into(), rank }));
            let reason = Reason { code: Source::Advertised.code(), sources: Vec::new() };
            advertised.results.push(Recommended { doc, score, stages, reason, propensity: None });
            let said = said.map(|(version, (chance, _))| (version, chance));
            advertised.ads.insert(doc, (market.ad(won), market.served(won, said)));
        }
        advertised
    }
}
