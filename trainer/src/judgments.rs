//! Judged queries: which documents are right for which query, and how much so.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::Path,
    str::FromStr,
};

use anyhow::{Context as _, Result, ensure};
use sha2::{Digest as _, Sha256};

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

/// One of several parts of the queries, written `2/3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    number: u64,
    of: u64,
}

impl Part {
    /// Whether the query belongs to this part: by its id alone.
    pub fn holds(self, query: &Query) -> bool {
        let digest = Sha256::digest(query.id.as_bytes());
        let (first, _) = digest.split_at(8);
        let hash = first.iter().fold(0, |hash, byte| (hash << 8) | u64::from(*byte));
        hash % self.of == self.number - 1
    }
}

impl Default for Part {
    fn default() -> Self {
        Self { number: 1, of: 1 }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.of)
    }
}

impl FromStr for Part {
    type Err = &'static str;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        let parsed = text.split_once('/').and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match parsed {
            Some((number, of)) if 1 <= number && number <= of => Ok(Self { number, of }),
            _ => Err("a part is written as 1/2: which one, of how many"),
        }
    }
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
    fn every_query_is_in_one_part() {
        let parts: Vec<Part> = ["1/3", "2/3", "3/3"].map(|part| part.parse().unwrap()).into();
        let mut sizes = [0; 3];
        for query in (0..300).map(|n| query(&format!("qid:{n}"))) {
            let holding: Vec<usize> = (0..3).filter(|&part| parts[part].holds(&query)).collect();
            assert_eq!(holding.len(), 1, "{}", query.id);
            sizes[holding[0]] += 1;
        }
        assert!(sizes.iter().all(|size| (70..=130).contains(size)), "{sizes:?}");
        assert!(Part::default().holds(&query("any")));
    }

    #[test]
    fn a_part_that_cannot_be_is_refused() {
        for text in ["", "2", "0/2", "3/2", "1/0", "-1/2", "1/2/3"] {
            text.parse::<Part>().unwrap_err();
        }
    }
}
