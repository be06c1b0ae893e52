//! What networks that foretell clicks look at: an example's categories, hashed into buckets, and its numbers.
//!
//! A network has a weight or a vector for each bucket of each field, and one for each number's field. Hashing needs no list of
//! the words that there are, so words that come later have a place too ("Feature Hashing for Large Scale Multitask Learning",
//! Weinberger et al. 2009, <https://arxiv.org/abs/0902.2206>); each field has buckets of its own.

use candle_core::{Device, Result, Tensor};
use candle_nn::{Embedding, Module as _, VarBuilder, embedding};
use serde::{Deserialize, Serialize};

use crate::training::Mode;

/// So many deviations from the mean a number counts at most: what was learnt from nothing like it says nothing of it.
const FARTHEST: f32 = 5.0;

/// The most words of one example that a field may look at.
const MOST_WORDS: usize = 1000;

/// One thing that is known of examples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// What it is called where examples come from.
    pub name: String,
    /// What it holds.
    #[serde(flatten)]
    pub kind: FieldKind,
}

/// What a field holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum FieldKind {
    /// Words. Each falls into one of the buckets; several count as their mean.
    Category {
        /// Number of buckets.
        buckets: u32,
        /// The most words of one example that are looked at.
        most: usize,
    },
    /// A number. The network sees how many deviations it is from the mean, up to five.
    Number {
        /// Of the examples that it learns from.
        mean: f32,
        /// Of the examples that it learns from; above 0.
        deviation: f32,
    },
}

/// What one example has of a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// For a [`FieldKind::Category`]; none: it is not known.
    Words(Vec<String>),
    /// For a [`FieldKind::Number`].
    Number(f32),
    /// It is not known.
    Unknown,
}

/// Why an example cannot be looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldError {
    /// It has another number of values than there are fields.
    #[error("{values} values for {fields} fields")]
    Count {
        /// Values that were given.
        values: usize,
        /// Fields that there are.
        fields: usize,
    },
    /// Sizes that cannot be.
    #[error("`{0}` needs buckets and words above 0 (of words 1,000 at most), or a finite mean and a deviation above 0")]
    Size(String),
    /// Words for a number, or a number for words.
    #[error("`{0}` holds values of another type")]
    Type(String),
    /// A number that is not finite.
    #[error("`{0}` is not a finite number")]
    NotFinite(String),
}

/// The fields of a network's examples, in order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Fields(pub Vec<Field>);

/// Examples as a network takes them. A slot is a place for one word or number of an example.
#[derive(Clone, Debug)]
pub struct Examples {
    /// Rows of the network's tables: u32 `[examples, slots]`.
    pub ids: Tensor,
    /// What these are multiplied with, 0 for slots that are empty: f32 `[examples, slots]`.
    pub weights: Tensor,
}

/// Encoded examples, end to end.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Encoded {
    ids: Vec<u32>,
    weights: Vec<f32>,
}

impl Encoded {
    /// Each example as numbers of one kind: its ids, and the bits of their weights.
    #[must_use]
    pub fn rows(&self, slots: usize) -> Vec<Vec<u32>> {
        let examples = self.ids.chunks(slots.max(1)).zip(self.weights.chunks(slots.max(1)));
        examples
            .map(|(ids, weights)| ids.iter().copied().chain(weights.iter().map(|weight| weight.to_bits())).collect())
            .collect()
    }

    /// What such rows are of.
    #[must_use]
    pub fn of_rows(rows: &[&[u32]]) -> Self {
        let mut encoded = Self::default();
        for (ids, weights) in rows.iter().map(|row| row.split_at(row.len() / 2)) {
            encoded.ids.extend_from_slice(ids);
            encoded.weights.extend(weights.iter().map(|bits| f32::from_bits(*bits)));
        }
        encoded
    }

    /// Some of the examples, which have so many slots.
    #[must_use]
    pub fn part(&self, places: impl Iterator<Item = usize>, slots: usize) -> Self {
        let mut part = Self::default();
        for place in places {
            part.ids.extend_from_slice(&self.ids[place * slots..][..slots]);
            part.weights.extend_from_slice(&self.weights[place * slots..][..slots]);
        }
        part
    }
}

/// A network that foretells whether an example will be clicked on.
pub trait ClickNetwork: Send + Sync {
    /// The logarithm of the odds of a click: f32 `[examples]`.
    ///
    /// # Errors
    /// An id is beyond the tables, or the device failed.
    fn logits(&self, examples: &Examples, mode: &mut Mode<'_>) -> Result<Tensor>;
}

impl Fields {
    /// Slots of an example.
    pub fn slots(&self) -> usize {
        self.0.iter().map(|field| field.kind.slots()).sum()
    }

    /// The slots of each field, in their order.
    pub fn slots_of_each(&self) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        let mut next = 0;
        self.0.iter().map(move |field| {
            let first = next;
            next += field.kind.slots();
            first..next
        })
    }

    /// Rows of the network's tables.
    pub fn rows(&self) -> usize {
        self.0.iter().map(|field| field.kind.rows() as usize).sum()
    }

    /// Refuses sizes that cannot be: a file may say anything.
    ///
    /// # Errors
    /// [`FieldError::Size`].
    pub fn check(&self) -> std::result::Result<(), FieldError> {
        let sound = |field: &&Field| match field.kind {
            FieldKind::Category { buckets, most } => buckets > 0 && (1..=MOST_WORDS).contains(&most),
            FieldKind::Number { mean, deviation } => mean.is_finite() && deviation.is_finite() && deviation > 0.0,
        };
        match self.0.iter().find(|field| !sound(field)) {
            Some(field) => Err(FieldError::Size(field.name.clone())),
            None => Ok(()),
        }
    }

    /// How many examples are encoded.
    pub fn count(&self, encoded: &Encoded) -> usize {
        encoded.ids.len() / self.slots().max(1)
    }

    /// Adds an example, one value for each field.
    ///
    /// # Errors
    /// See [`FieldError`]; then nothing is added.
    pub fn encode(&self, values: &[Value], to: &mut Encoded) -> std::result::Result<(), FieldError> {
        if values.len() != self.0.len() {
            return Err(FieldError::Count { values: values.len(), fields: self.0.len() });
        }
        let length = to.ids.len();
        let mut first = 0;
        for (field, value) in self.0.iter().zip(values) {
            if let Err(error) = field.encode(value, first, to) {
                to.ids.truncate(length);
                to.weights.truncate(length);
                return Err(error);
            }
            first += field.kind.rows();
        }
        Ok(())
    }

    /// Some encoded examples, by their places.
    ///
    /// # Errors
    /// The device failed.
    pub fn examples(&self, encoded: &Encoded, places: &[usize], device: &Device) -> Result<Examples> {
        let slots = self.slots();
        let of = |place: &usize| place * slots..(place + 1) * slots;
        let ids: Vec<u32> = places.iter().flat_map(|place| &encoded.ids[of(place)]).copied().collect();
        let weights: Vec<f32> = places.iter().flat_map(|place| &encoded.weights[of(place)]).copied().collect();
        let shape = (places.len(), slots);
        Ok(Examples { ids: Tensor::from_vec(ids, shape, device)?, weights: Tensor::from_vec(weights, shape, device)? })
    }
}

impl FieldKind {
    fn slots(&self) -> usize {
        match self {
            Self::Category { most, .. } => *most,
            Self::Number { .. } => 1,
        }
    }

    fn rows(&self) -> u32 {
        match self {
            Self::Category { buckets, .. } => *buckets,
            Self::Number { .. } => 1,
        }
    }
}

impl Field {
    /// Fills the field's slots; its rows begin at `first`.
    fn encode(&self, value: &Value, first: u32, to: &mut Encoded) -> std::result::Result<(), FieldError> {
        let end = to.ids.len() + self.kind.slots();
        match (&self.kind, value) {
            (FieldKind::Category { buckets, most }, Value::Words(words)) => {
                let words = &words[..words.len().min(*most)];
                to.ids.extend(words.iter().map(|word| first + (hash(word) % u64::from(*buckets)) as u32));
                to.weights.extend(words.iter().map(|_| 1.0 / words.len() as f32));
            }
            (FieldKind::Number { .. }, Value::Number(number)) if !number.is_finite() => {
                return Err(FieldError::NotFinite(self.name.clone()));
            }
            (FieldKind::Number { mean, deviation }, Value::Number(number)) => {
                to.ids.push(first);
                to.weights.push(((number - mean) / deviation).clamp(-FARTHEST, FARTHEST));
            }
            (_, Value::Unknown) => {}
            _ => return Err(FieldError::Type(self.name.clone())),
        }
        to.ids.resize(end, first);
        to.weights.resize(end, 0.0);
        Ok(())
    }
}

/// FNV-1a of 64 bits (Fowler, Noll & Vo): what is learnt depends on it, so it is one that never changes.
fn hash(word: &str) -> u64 {
    word.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A vector for each field of each example: the sum of its slots' vectors, by their weights.
pub(crate) struct FieldVectors {
    table: Embedding,
    /// Which slot is which field's: f32 `[1, fields, slots]`; none where each field has one slot.
    sum: Option<Tensor>,
}

impl FieldVectors {
    pub(crate) fn new(fields: &Fields, width: usize, weights: &VarBuilder<'_>) -> Result<Self> {
        let slots = fields.slots();
        let mut sum = vec![0.0_f32; fields.0.len() * slots];
        let mut first = 0;
        for (field, row) in fields.0.iter().zip(sum.chunks_mut(slots.max(1))) {
            row[first..first + field.kind.slots()].fill(1.0);
            first += field.kind.slots();
        }
        let sum = Tensor::from_vec(sum, (1, fields.0.len(), slots), weights.device())?;
        let table = embedding(fields.rows(), width, weights.clone())?;
        Ok(Self { table, sum: (slots != fields.0.len()).then_some(sum) })
    }

    /// f32 `[examples, fields, width]`.
    pub(crate) fn forward(&self, examples: &Examples) -> Result<Tensor> {
        let vectors = self.table.forward(&examples.ids)?.broadcast_mul(&examples.weights.unsqueeze(2)?)?;
        match &self.sum {
            None => Ok(vectors),
            Some(sum) => sum.broadcast_matmul(&vectors),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Fields {
        let field = |name: &str, kind| Field { name: name.to_owned(), kind };
        Fields(vec![
            field("genre", FieldKind::Category { buckets: 8, most: 3 }),
            field("age", FieldKind::Number { mean: 30.0, deviation: 10.0 }),
            field("user", FieldKind::Category { buckets: 4, most: 1 }),
        ])
    }

    fn words(words: &[&str]) -> Value {
        Value::Words(words.iter().map(|&word| word.to_owned()).collect())
    }

    #[test]
    fn every_field_has_slots_and_rows_of_its_own() {
        let fields = fields();
        assert_eq!((fields.slots(), fields.rows()), (5, 13));
        let mut encoded = Encoded::default();
        fields.encode(&[words(&["drama", "war"]), Value::Number(45.0), words(&["u1"])], &mut encoded).unwrap();
        let row = |word: &str, buckets: u64| (hash(word) % buckets) as u32;
        assert_eq!(encoded.ids, [row("drama", 8), row("war", 8), 0, 8, 9 + row("u1", 4)]);
        assert_eq!(encoded.weights, [0.5, 0.5, 0.0, 1.5, 1.0]);
        fields.encode(&[words(&["a", "b", "c", "d"]), Value::Unknown, Value::Unknown], &mut encoded).unwrap();
        let mut far = Encoded::default();
        fields.encode(&[Value::Unknown, Value::Number(-1e9), Value::Unknown], &mut far).unwrap();
        assert_eq!(far.weights, [0.0, 0.0, 0.0, -5.0, 0.0]);
        assert_eq!(encoded.weights[5..], [1.0 / 3.0, 1.0 / 3.0, 1.0 / 3.0, 0.0, 0.0]);
        let rows = encoded.rows(5);
        assert_eq!(Encoded::of_rows(&[&rows[0], &rows[1]]), encoded);
    }

    #[test]
    fn words_keep_their_buckets() {
        // Of the reference implementation.
        assert_eq!(hash(""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(hash("foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn what_does_not_fit_is_refused_by_name_and_leaves_nothing() {
        let (fields, mut encoded) = (fields(), Encoded::default());
        let mut refuse = |values: &[Value]| fields.encode(values, &mut encoded).unwrap_err().to_string();
        assert!(refuse(&[Value::Unknown, Value::Number(f32::NAN), Value::Unknown]).contains("`age`"));
        assert!(refuse(&[words(&["war"]), words(&["old"]), Value::Unknown]).contains("`age`"));
        assert!(refuse(&[Value::Unknown]).contains("3 fields"));
        assert_eq!(encoded, Encoded::default());
    }
}
