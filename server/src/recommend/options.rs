//! What the pipelines weigh, and how far they look.

/// The defaults of every recommendation. Sums over several candidate sources first scale each source's scores so that
/// its best candidate has 1; the weights multiply that.
///
/// They were chosen on what people did last but one: the next film rated (`MovieLens` 100K) and the next basket
/// (Complete Journey).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RecommendOptions {
    /// How many of the newest different items of a history lead to candidates.
    pub source_items: usize,
    /// What an item of the history counts relative to the one after it, from 0 to 1.
    pub recency: f32,
    /// What an item counts at least that a person dealt with but has nothing against, as one that was only clicked;
    /// a purchase counts 1.
    pub least_strength: f32,
    /// How many of the newest actions on each source item are followed.
    pub follow_visits: usize,
    /// How many of a person's actions before and after the source item are looked at.
    pub follow_reach: usize,
    /// What an action counts relative to the one next nearer to the source item, from 0 to 1.
    pub follow_decay: f32,
    /// What an action before the source item counts relative to one after it, from 0 to 1.
    pub follow_backward: f32,
    /// How strongly popular candidates are held back: scores are divided by popularity to this power, from 0 to 1.
    pub follow_dampening: f32,
    /// How many visits without a successor are added to those of a source item, so that few visits say less.
    pub follow_shrinkage: f32,
    /// How many of the newest orders with each source item are looked at.
    pub together_orders: usize,
    /// How many orders of a pair by chance are added to the expected ones, so that rare pairs need more than luck.
    pub together_shrinkage: f32,
    /// The fewest orders that must have a pair.
    pub together_least: u32,
    /// How many items are searched for similar ones; only the first so many (newest, for a history) take part.
    pub similar_searches: usize,
    /// How many similar items each search asks for.
    pub similar_depth: usize,
    /// On how many different days an item must have been bought to be proposed again.
    pub again_least: u32,
    /// What a day of purchases counts relative to the one after it, from 0 to 1.
    pub again_decay: f32,
    /// What an item to buy again counts right after it was bought, relative to when it is due, from 0 to 1.
    pub again_early: f32,
    /// How many of what a network expects next are candidates.
    pub next_depth: usize,
    /// How much more the likeliest count than the others: how likely they are is taken to this power.
    pub next_sharpness: f64,
    /// Weight of what a network expects next.
    pub next: f32,
    /// Weight of what users did next.
    pub follows: f32,
    /// Weight of what is bought in the same orders.
    pub together: f32,
    /// Weight of what is similar by vectors.
    pub similar: f32,
    /// Weight of what the user buys regularly.
    pub again: f32,
    /// Weight of what is popular.
    pub popular: f32,
    /// What a candidate counts that the user dealt with before, unless it is one to buy again; from 0 to 1.
    pub seen: f32,
}

impl Default for RecommendOptions {
    fn default() -> Self {
        Self {
            source_items: 10,
            recency: 0.85,
            least_strength: 0.5,
            follow_visits: 100,
            follow_reach: 20,
            follow_decay: 0.9,
            follow_backward: 0.5,
            follow_dampening: 0.3,
            follow_shrinkage: 10.0,
            together_orders: 80,
            together_shrinkage: 3.0,
            together_least: 2,
            similar_searches: 3,
            similar_depth: 200,
            again_least: 2,
            again_decay: 0.95,
            again_early: 0.8,
            next_depth: 500,
            next_sharpness: 0.5,
            next: 0.2,
            follows: 0.3,
            together: 1.0,
            similar: 0.3,
            again: 5.0,
            popular: 0.05,
            seen: 0.5,
        }
    }
}
