//! Exploration: ε-greedy, place by place, with the chance that each item had to come to its place. With those chances, what users did with one
//! ranking tells what they would have done with another (Horvitz & Thompson 1952; Li et al. 2011).

use rand::{Rng, RngExt as _};

/// How an answer explores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exploration {
    /// How likely a place is given by chance.
    pub epsilon: f64,
    /// How many of the best take part.
    pub candidates: usize,
}

/// An item that came to its place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drawn<T> {
    /// It.
    pub one: T,
    /// How likely it was that it came there, given the places before.
    pub propensity: f64,
    /// Where it stood before, from 1.
    pub rank: u32,
    /// Whether it was not the best that was left.
    pub by_chance: bool,
}

impl Exploration {
    /// Fills `count` places with `ranked`, best first.
    pub fn draw<T>(&self, ranked: Vec<T>, count: usize, random: &mut impl Rng) -> Vec<Drawn<T>> {
        let mut ranked: Vec<(u32, T)> = (1..).zip(ranked).collect();
        let mut drawn = Vec::with_capacity(count.min(ranked.len()));
        while drawn.len() < count && !ranked.is_empty() {
            let left = ranked.len();
            let explores = random.random_bool(self.epsilon.clamp(0.0, 1.0));
            let place = if explores { random.random_range(0..left) } else { 0 };
            let best = if place == 0 { 1.0 - self.epsilon } else { 0.0 };
            let propensity = self.epsilon / left as f64 + best;
            let (rank, one) = ranked.remove(place);
            drawn.push(Drawn { one, propensity, rank, by_chance: place > 0 });
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;
    use rand::rngs::StdRng;

    use super::*;

    #[test]
    fn propensities_are_how_often_items_come_to_their_places() {
        let exploration = Exploration { epsilon: 0.3, candidates: 4 };
        let mut random = StdRng::seed_from_u64(7);
        let mut first = [0; 4];
        let rounds = 40_000;
        for _ in 0..rounds {
            let drawn = exploration.draw(vec![0, 1, 2, 3], 2, &mut random);
            first[drawn[0].one] += 1;
            let expected = if drawn[0].one == 0 { 0.7 + 0.075 } else { 0.075 };
            assert!((drawn[0].propensity - expected).abs() < 1e-12);
            assert_eq!((drawn[0].by_chance, drawn.len()), (drawn[0].one != 0, 2));
        }
        for (item, count) in first.into_iter().enumerate() {
            let expected = if item == 0 { 0.775 } else { 0.075 };
            let share = f64::from(count) / f64::from(rounds);
            assert!((share - expected).abs() < 0.01, "{item}: {share}");
        }
    }

    #[test]
    fn without_epsilon_the_order_stays_and_with_all_of_it_nothing_is_repeated() {
        let mut random = StdRng::seed_from_u64(1);
        let none = Exploration { epsilon: 0.0, candidates: 9 }.draw(vec![3, 1, 2], 9, &mut random);
        assert_eq!(
            none.iter().map(|drawn| (drawn.one, drawn.propensity)).collect::<Vec<_>>(),
            [(3, 1.0), (1, 1.0), (2, 1.0)]
        );
        let all = Exploration { epsilon: 1.0, candidates: 9 }.draw((0..9).collect(), 9, &mut random);
        let mut met: Vec<i32> = all.iter().map(|drawn| drawn.one).collect();
        met.sort_unstable();
        assert_eq!(met, (0..9).collect::<Vec<_>>());
    }
}
