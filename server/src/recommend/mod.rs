//! The pipelines behind Recommend: candidates from several sources, blended, put in order by a ranker where there is one, what must not be
//! served left out last, made different from each other, and explained.
//!
//! - [`next`]: what a network that read the history expects; [`follows`]: what users did next; [`together`]: what is in the same orders; [`similar`]: what is alike by vectors;
//!   [`again`]: what the user buys regularly; [`popular`]: what many want.
//! - [`explore`]: now and then something else than the best.
//! - [`taste`]: what a history says about a person now.
//! - [`candidates`]: scores by source; [`blend`]: one list from several; [`reason`]: why an item is there.
//! - [`tally`]: counting by item. [`options`]: all weights and bounds.
//!
//! | target | sources |
//! |---|---|
//! | a user, a session | next, follows, together, similar, again (users only), popular; only popular for those unknown |
//! | similar items | similar, or looks like |
//! | bought together | together |
//! | popular | popular |
//! | advertisements | what campaigns bid for: see [`crate::ads`] |
//!
//! Everything is computed at the call, from the state at that moment and within fixed bounds of work: an event changes
//! the next answer. The same state and request give the same answer. Pages do not repeat items because the caller hands
//! in what was shown before as `exclude`.

pub mod again;
pub mod blend;
pub mod candidates;
pub mod explore;
pub mod follows;
pub mod next;
pub mod options;
pub mod popular;
pub mod reason;
pub mod similar;
pub mod tally;
pub mod taste;
#[cfg(test)]
mod tests;
pub mod together;

use roaring::RoaringBitmap;
use rustc_hash::FxHashMap;
use vitrine::v1::EventType;

pub use candidates::Source;
pub use explore::Exploration;
pub use options::RecommendOptions;
pub use reason::Reason;
pub use similar::Neighbours;

use crate::Doc;
use crate::behaviour::{Behaviour, Entry, History, Person, weight};
use crate::control::{self, Rules};
use crate::filter::Columns;
use crate::search::cap::Cap;
use blend::Blend;
use candidates::Candidates;
use explore::Drawn;
use taste::Taste;

/// What a recommendation is for.
#[derive(Clone, Copy, Debug)]
pub enum Target<'a> {
    /// Somebody's history; nobody's: popular items.
    ForUser(Option<Person>),
    /// Items like these by the vectors, which are of that source.
    SimilarTo(&'a [Doc], Source),
    /// What happened in a session, and in whose if that is known.
    ForSession(History<'a>, Option<Person>),
    /// Items bought in the same orders as these.
    BoughtTogether(&'a [Doc]),
    /// What many want: in the seconds before now, or else at all times, newer events counting more.
    Popular(Option<u32>),
    /// Items that campaigns pay for, with what showing each is worth; and who sees them.
    Ads(&'a [(Doc, f32)], Option<Person>),
}

/// What the answer must be like.
#[derive(Clone, Copy, Debug)]
pub struct Want<'a> {
    /// How many.
    pub count: usize,
    /// Only these: what matches the filter and can be served now.
    pub allowed: &'a RoaringBitmap,
    /// If fewer than `count` of those are found, popular ones of these follow: what can be served now, whatever the
    /// filter says.
    pub beyond: Option<&'a RoaringBitmap>,
    /// Never these: those the caller names, and those on earlier pages.
    pub exclude: &'a RoaringBitmap,
    /// Nothing that the person, or this session, already dealt with in that way.
    pub exclude_interacted: Option<Interacted<'a>>,
    /// Makes the results differ from each other.
    pub diversity: Option<Diversity<'a>>,
    /// Gives places by chance.
    pub exploration: Option<Exploration>,
    /// The shop's own rules. What they hide is in neither `allowed` nor `beyond`.
    pub rules: &'a Rules,
}

/// A way of having dealt with items.
#[derive(Clone, Copy, Debug)]
pub struct Interacted<'a> {
    /// By these events. Empty: by any but impressions.
    pub types: &'a [EventType],
    /// Only in so many seconds before now. `None`: ever.
    pub window_seconds: Option<u32>,
}

/// As in a search: see [`crate::search::Diversity`].
#[derive(Clone, Copy, Debug)]
pub struct Diversity<'a> {
    /// 1: only relevance; 0: only difference.
    pub lambda: f64,
    /// How many of the best are considered.
    pub candidates: usize,
    /// How many may share a value, and the values.
    pub cap: Option<(&'a Cap, &'a Columns)>,
}

/// An answer.
#[derive(Clone, Debug, Default)]
pub struct Ranking {
    /// Best first.
    pub results: Vec<Recommended>,
    /// Whether some do not match the filter, see [`Want::beyond`]. They come last.
    pub relaxed: bool,
}

/// A proposed item.
#[derive(Clone, Debug, PartialEq)]
pub struct Recommended {
    /// Which.
    pub doc: Doc,
    /// What the results are ordered by; comparable within one answer only.
    pub score: f64,
    /// What each source that proposed it thought of it.
    pub stages: Vec<Stage>,
    /// Why it is there.
    pub reason: Reason,
    /// How likely it was that it came to its place, where places are given by chance.
    pub propensity: Option<f64>,
}

/// What one source thought of an item.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Stage {
    /// Which source.
    pub source: Source,
    /// Its own score.
    pub score: f64,
    /// The place among its candidates, from 1.
    pub rank: u32,
}

/// How likely each item is wanted, as a ranker says: best first.
#[derive(Clone, Debug)]
pub struct Chances {
    order: Vec<(Doc, f32)>,
    places: FxHashMap<Doc, u32>,
}

impl Chances {
    /// Of items in any order.
    pub fn new(mut order: Vec<(Doc, f32)>) -> Self {
        order.sort_unstable_by(candidates::best_first);
        let places = order.iter().zip(1..).map(|(&(doc, _), place)| (doc, place)).collect();
        Self { order, places }
    }

    /// An item's chance, and its place among them, from 1.
    pub fn of(&self, doc: Doc) -> Option<(f32, u32)> {
        let place = *self.places.get(&doc)?;
        Some((self.order.get(place as usize - 1)?.1, place))
    }

    fn least(&self) -> f32 {
        self.order.last().map_or(0.0, |last| last.1)
    }
}

/// Makes recommendations from the state of a catalog at one moment.
#[derive(Clone, Copy)]
pub struct Recommender<'a> {
    /// What users did.
    pub behaviour: &'a Behaviour,
    /// What a network that read the history expects next: items with the logarithms of how likely they are, but for a constant.
    pub next: Option<&'a [(Doc, f32)]>,
    /// The items' vectors, if there are any.
    pub vectors: Option<&'a dyn Neighbours>,
    /// The time, in milliseconds since 1970.
    pub now_ms: i64,
    /// Weights and bounds.
    pub options: &'a RecommendOptions,
}

/// Candidates from all sources, and what must not be served of them.
#[derive(Debug)]
pub struct Proposed {
    blend: Blend,
    exclude: RoaringBitmap,
}

impl Proposed {
    /// The best so many candidates, as their sources order them.
    pub fn best(&self, count: usize, want: &Want<'_>) -> Vec<Doc> {
        self.blend.best(count, &|doc| self.may_serve(doc, want))
    }

    fn may_serve(&self, doc: Doc, want: &Want<'_>) -> bool {
        want.allowed.contains(doc) && !self.exclude.contains(doc)
    }
}

impl Recommender<'_> {
    /// Proposes items, and orders them as their sources do.
    pub fn recommend(&self, target: &Target<'_>, want: &Want<'_>) -> Ranking {
        self.ranking(&self.propose(target, want), want, None)
    }

    /// Finds candidates.
    pub fn propose(&self, target: &Target<'_>, want: &Want<'_>) -> Proposed {
        let (history, person) = match *target {
            Target::ForUser(Some(person)) | Target::Ads(_, Some(person)) => {
                (self.behaviour.history(person), Some(person))
            }
            Target::ForSession(session, person) => (session, person),
            _ => (History::default(), None),
        };
        let taste = Taste::of(&history, self.options);
        let exclude = self.excluded(&taste, &history, person, want);
        let eligible = |doc| want.allowed.contains(doc) && !exclude.contains(doc);

        let blend = match *target {
            Target::ForUser(_) => self.personal(&taste, person, want, &eligible).with(
                Source::Again,
                self.options.again,
                again::again(history.actions, self.now_seconds(), self.options),
            ),
            Target::ForSession(..) => self.personal(&taste, person, want, &eligible),
            Target::SimilarTo(docs, source) => {
                let found =
                    self.vectors.map(|vectors| similar::similar(vectors, &alike(docs), want.allowed, self.options));
                Blend::default().with(source, 1.0, found.unwrap_or_default())
            }
            Target::BoughtTogether(docs) => {
                let depth = self.behaviour.options().orders_per_item;
                let found = together::together(self.behaviour, &alike(docs), depth, self.options);
                Blend::default().with(Source::Together, 1.0, found)
            }
            Target::Popular(window) => {
                let wanted = popular::popularity(self.behaviour.popularity(), window, self.now_seconds());
                Blend::default().with(Source::Popular, 1.0, popular::popular(&wanted, want.considered(), eligible))
            }
            Target::Ads(offers, _) => {
                let mut advertised = Candidates::default();
                for &(doc, worth) in offers {
                    advertised.set(doc, worth);
                }
                Blend::default().with(Source::Advertised, 1.0, advertised)
            }
        };
        Proposed { blend, exclude }
    }

    /// Orders candidates, by the chances of those that a ranker has judged.
    pub fn ranking(&self, proposed: &Proposed, want: &Want<'_>, chances: Option<&Chances>) -> Ranking {
        let eligible = |doc| proposed.may_serve(doc, want);
        let results = match want.exploration {
            None => proposed.blend.rank(want, self.vectors, chances, &eligible),
            Some(exploration) => {
                let wide = Want { count: want.considered(), ..*want };
                let ranked = proposed.blend.rank(&wide, self.vectors, chances, &eligible);
                let drawn = exploration.draw(ranked, want.count, &mut rand::rng());
                drawn.into_iter().map(Recommended::drawn).collect()
            }
        };
        let mut ranking = Ranking { results, relaxed: false };
        if let Some(beyond) = want.beyond {
            self.relax(&mut ranking, want, &(beyond - &proposed.exclude));
        }
        pin(&mut ranking.results, want, &eligible);
        ranking
    }

    /// What must not be proposed: what the caller excludes, what the person refused, and what they dealt with.
    fn excluded(&self, taste: &Taste, history: &History<'_>, person: Option<Person>, want: &Want<'_>) -> RoaringBitmap {
        let mut exclude = want.exclude | &taste.refused;
        let ever = person.map(|person| self.behaviour.history(person)).unwrap_or_default();
        exclude |= taste::refused(&ever);
        if let Some(interacted) = &want.exclude_interacted {
            exclude |= interacted.of(history, self.now_seconds());
            exclude |= interacted.of(&ever, self.now_seconds());
        }
        exclude
    }

    /// What the newest items of a history lead to. Without any, what is popular.
    fn personal(&self, taste: &Taste, who: Option<Person>, want: &Want<'_>, eligible: &impl Fn(Doc) -> bool) -> Blend {
        let (sources, options) = (&taste.sources, self.options);
        let follows = follows::follows(self.behaviour, sources, who, options);
        let together = together::together(self.behaviour, sources, options.together_orders, options);
        let found = self.vectors.map(|vectors| similar::similar(vectors, sources, want.allowed, options));
        let similar = found.unwrap_or_default();
        let wanted = popular::popularity(self.behaviour.popularity(), None, self.now_seconds());
        let mut popular = popular::popular(&wanted, want.considered(), eligible);
        let depth = options.next_depth.max(want.considered());
        let next =
            self.next.map(|scores| next::next(scores, depth, options.next_sharpness, eligible)).unwrap_or_default();
        for (doc, _) in next.iter().chain(follows.iter()).chain(together.iter()).chain(similar.iter()) {
            popular.set(doc, wanted.get(doc as usize).copied().unwrap_or(0.0));
        }
        Blend::for_whom(taste.seen.clone(), options.seen)
            .with(Source::Next, options.next, next)
            .with(Source::Follows, options.follows, follows)
            .with(Source::Together, options.together, together)
            .with(Source::Similar, options.similar, similar)
            .with(Source::Popular, options.popular, popular)
    }

    /// Fills up with popular items of `beyond`.
    fn relax(&self, ranking: &mut Ranking, want: &Want<'_>, beyond: &RoaringBitmap) {
        let missing = want.count.saturating_sub(ranking.results.len());
        if missing == 0 {
            return;
        }
        let given: RoaringBitmap = ranking.results.iter().map(|result| result.doc).collect();
        let eligible = |doc| beyond.contains(doc) && !given.contains(doc);
        let wanted = popular::popularity(self.behaviour.popularity(), None, self.now_seconds());
        let found = popular::popular(&wanted, missing, eligible);
        let mut more = Blend::default().with(Source::Popular, 1.0, found).rank(
            &Want { diversity: None, ..*want },
            None,
            None,
            &eligible,
        );
        // They come after what was asked for, and their scores say so.
        let least = ranking.results.last().map_or(1.0, |last| last.score);
        more.truncate(missing);
        for result in &mut more {
            result.score = least - 1.0 + result.score.min(1.0);
        }
        ranking.relaxed = more.iter().any(|result| !want.allowed.contains(result.doc));
        ranking.results.append(&mut more);
    }

    fn now_seconds(&self) -> u32 {
        (self.now_ms / 1_000).clamp(0, i64::from(u32::MAX)) as u32
    }
}

impl Want<'_> {
    /// How many candidates are ranked.
    fn considered(&self) -> usize {
        let diversity = self.diversity.map_or(0, |diversity| diversity.candidates);
        let exploration = self.exploration.map_or(0, |exploration| exploration.candidates);
        self.count.max(diversity).max(exploration)
    }
}

impl Interacted<'_> {
    fn of(&self, history: &History<'_>, now: u32) -> RoaringBitmap {
        let since = self.window_seconds.map_or(0, |window| now.saturating_sub(window));
        let counts = |entry: &&Entry| match self.types {
            [] => !weight::is_shown(entry.kind()),
            types => types.contains(&entry.kind()),
        };
        let entries = history.actions.iter().chain(history.shown).chain(history.refused);
        entries.filter(|entry| entry.seconds() >= since).filter(counts).map(|entry| entry.doc).collect()
    }
}

/// Puts items where the shop wants them.
fn pin(results: &mut Vec<Recommended>, want: &Want<'_>, eligible: &impl Fn(Doc) -> bool) {
    let mut pinned = Vec::new();
    for &(place, doc) in want.rules.pins.iter().filter(|&&(_, doc)| eligible(doc)) {
        let found = results.iter().position(|result| result.doc == doc).map(|at| results.remove(at));
        pinned.push((place, Recommended::pinned(doc, found)));
    }
    control::pin(results, pinned);
    results.truncate(want.count);
}

impl Recommended {
    /// An item that came to its place by chance, or could have lost it so.
    fn drawn(drawn: Drawn<Self>) -> Self {
        let Drawn { mut one, propensity, rank, by_chance } = drawn;
        one.propensity = Some(propensity);
        if by_chance {
            one.stages.push(Stage { source: Source::Explored, score: propensity, rank });
            one.reason = Reason { code: Source::Explored.code(), sources: Vec::new() };
        }
        one
    }

    /// An item that the shop pins, whether a source found it or not.
    fn pinned(doc: Doc, found: Option<Self>) -> Self {
        let reason = Reason { code: Source::Pinned.code(), sources: Vec::new() };
        let stage = Stage { source: Source::Pinned, score: 0.0, rank: 1 };
        let reason_only = Self { doc, score: 0.0, stages: Vec::new(), reason: reason.clone(), propensity: None };
        let mut pinned = found.unwrap_or(reason_only);
        pinned.stages.push(stage);
        // It is there for certain.
        Self { reason, propensity: None, ..pinned }
    }
}

/// Items that all count the same.
fn alike(docs: &[Doc]) -> Vec<(Doc, f32)> {
    let mut met = RoaringBitmap::new();
    docs.iter().filter(|&&doc| met.insert(doc)).map(|&doc| (doc, 1.0)).collect()
}
