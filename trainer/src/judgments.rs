//! Judged queries: which documents are right for which query, and how much so.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
};

use anyhow::{Context as _, Result, ensure};

use crate::text_file;

/// A query and what people judged about it.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// Its id in the file.
    pub id: String,
    /// What is searched for.
    pub text: String,
    /// Document to grade; 0: not relevant.
    pub grades: HashMap<String, f64>,
}

/// Reads tab-separated judgements with the columns `query_id`, `query`, `doc_id` and `grade`; the queries by id.
pub fn read(path: &Path) -> Result<Vec<Query>> {
    let mut queries = BTreeMap::new();
    for (number, [id, text, document, grade]) in text_file::rows(path, ["query_id", "query", "doc_id", "grade"])? {
        let grade: f64 = grade.parse().with_context(|| format!("{}:{number}: grade `{grade}`", path.display()))?;
        ensure!(grade.is_finite() && grade >= 0.0, "{}:{number}: grade {grade} is negative", path.display());
        let query = queries.entry(id.clone()).or_insert_with(|| Query { id, text, grades: HashMap::new() });
        query.grades.insert(document, grade);
    }
    Ok(queries.into_values().collect())
}

/// Chooses `count` of the queries: the same ones for the same seed, whatever the file's order.
pub fn sample(mut queries: Vec<Query>, count: usize, seed: u64) -> Vec<Query> {
    queries.sort_by_cached_key(|query| (fnv1a(seed, query.id.as_bytes()), query.id.clone()));
    queries.truncate(count);
    queries
}

/// FNV-1a, 64 bits, over the seed and the bytes.
fn fnv1a(seed: u64, bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = seed.to_le_bytes().iter().chain(bytes).fold(0xcbf2_9ce4_8422_2325, step);
    // The last byte reaches only the low bits: spread it before comparing.
    (hash ^ (hash >> 32)).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn query(id: &str) -> Query {
        Query { id: id.to_owned(), text: String::new(), grades: HashMap::new() }
    }

    #[test]
    fn judgements_are_gathered_by_query() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("judgements.tsv");
        fs::write(&path, "query_id\tquery\tdoc_id\tgrade\nq2\tb\t7\t0\nq1\ta\t7\t1\nq2\tb\t8\t3\n").unwrap();
        let queries = read(&path).unwrap();
        assert_eq!(queries.iter().map(|q| q.text.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(queries[1].grades, HashMap::from([("7".to_owned(), 0.0), ("8".to_owned(), 3.0)]));
    }

    #[test]
    fn a_grade_that_is_no_number_is_named_with_its_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("judgements.tsv");
        fs::write(&path, "query_id\tquery\tdoc_id\tgrade\nq\ta\t7\tgood\n").unwrap();
        assert!(format!("{:#}", read(&path).unwrap_err()).contains(":2: grade `good`"));
    }

    #[test]
    fn a_sample_depends_on_the_seed_and_not_on_the_order() {
        let queries: Vec<Query> = (0..100).map(|n| query(&format!("qid:{n}"))).collect();
        let reversed = queries.iter().rev().cloned().collect();
        let chosen = sample(queries.clone(), 10, 1);
        assert_eq!(chosen, sample(reversed, 10, 1));
        assert_ne!(chosen, sample(queries, 10, 2));
    }
}
