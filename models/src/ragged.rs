//! Rows of different lengths, stored end to end without padding.

use crate::ModelError;

/// The token ids of one text, special tokens included.
pub type Row = Vec<u32>;

/// Rows of token ids: all ids end to end, and where each row starts.
///
/// ```
/// use vitrine_models::Ragged;
///
/// let rows: Ragged = [vec![101, 7592, 102], vec![101, 102]].into_iter().collect();
/// assert_eq!(rows.len(), 2);
/// assert_eq!(rows.tokens(), 5);
/// assert_eq!(rows.iter().collect::<Vec<_>>(), [&[101, 7592, 102][..], &[101, 102]]);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ragged {
    ids: Vec<u32>,
    /// End of each row in `ids`.
    ends: Vec<usize>,
}

impl Ragged {
    /// No rows yet, with room for `rows` rows of `tokens` tokens together.
    pub fn with_capacity(rows: usize, tokens: usize) -> Self {
        Self { ids: Vec::with_capacity(tokens), ends: Vec::with_capacity(rows) }
    }

    /// Rows from all ids end to end and `rows + 1` offsets, the first 0, the last the number of ids.
    ///
    /// # Errors
    /// [`ModelError::Tokenize`] when the offsets do not divide the ids into rows.
    pub fn from_parts(ids: Vec<u32>, offsets: &[u32]) -> Result<Self, ModelError> {
        let ends: Vec<usize> = offsets.iter().skip(1).map(|&end| end as usize).collect();
        let rising = offsets.windows(2).all(|pair| pair[0] <= pair[1]);
        if offsets.first() != Some(&0) || offsets.last().map(|&end| end as usize) != Some(ids.len()) || !rising {
            return Err(ModelError::Tokenize(format!(
                "{} offsets do not divide {} token ids into rows",
                offsets.len(),
                ids.len()
            )));
        }
        Ok(Self { ids, ends })
    }

    /// Adds a row at the end.
    pub fn push(&mut self, row: &[u32]) {
        self.ids.extend_from_slice(row);
        self.ends.push(self.ids.len());
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Number of tokens of all rows together.
    pub fn tokens(&self) -> usize {
        self.ids.len()
    }

    /// All token ids, end to end.
    pub fn ids(&self) -> &[u32] {
        &self.ids
    }

    /// Where each row starts in [`Self::ids`], and after them where the last one ends: `len() + 1` numbers.
    pub fn offsets(&self) -> impl Iterator<Item = usize> + '_ {
        std::iter::once(0).chain(self.ends.iter().copied())
    }

    /// One row.
    ///
    /// # Panics
    /// When there is no such row.
    pub fn row(&self, index: usize) -> &[u32] {
        let start = index.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.ids[start..self.ends[index]]
    }

    /// The rows in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &[u32]> + '_ {
        (0..self.len()).map(|index| self.row(index))
    }
}

impl<R: AsRef<[u32]>> FromIterator<R> for Ragged {
    fn from_iter<I: IntoIterator<Item = R>>(rows: I) -> Self {
        let mut ragged = Self::default();
        for row in rows {
            ragged.push(row.as_ref());
        }
        ragged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_the_rows_they_came_from() {
        let rows: Ragged = [vec![1, 2, 3], vec![], vec![4]].into_iter().collect();
        let offsets: Vec<u32> = rows.offsets().map(|offset| offset as u32).collect();
        assert_eq!(offsets, [0, 3, 3, 4]);
        assert_eq!(Ragged::from_parts(rows.ids().to_vec(), &offsets).unwrap(), rows);
    }

    #[test]
    fn offsets_that_do_not_divide_the_ids_are_refused() {
        for offsets in [&[][..], &[0], &[1, 3], &[0, 2], &[0, 4], &[0, 3, 2, 3]] {
            assert!(Ragged::from_parts(vec![7, 8, 9], offsets).is_err(), "{offsets:?}");
        }
    }

    #[test]
    fn no_ids_and_one_offset_are_no_rows() {
        assert!(Ragged::from_parts(Vec::new(), &[0]).unwrap().is_empty());
    }
}
