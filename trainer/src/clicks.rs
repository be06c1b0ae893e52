//! Examples of what was clicked on and what was not, for networks that foretell it: read from RecBole's files, joined, encoded, and
//! split by time.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args;
use vitrine_models::{Encoded, Field, FieldKind, Fields, Value};
use vitrine_registry::Sha256;

use crate::text_file::{self, Table};

/// Where examples come from: tab-separated files whose columns have their type behind the name, as RecBole writes them: `token`,
/// `token_seq` (words between spaces) or `float`.
#[derive(Clone, Debug, Args)]
pub struct ClickFiles {
    /// One example a line, with `user_id`, `item_id`, `timestamp`, and what came of it: an `.inter` file
    #[arg(long, value_name = "FILE.inter")]
    pub interactions: PathBuf,
    /// What is known of users, by `user_id`: a `.user` file
    #[arg(long, value_name = "FILE.user")]
    pub users: Option<PathBuf>,
    /// What is known of items, by `item_id`: an `.item` file
    #[arg(long, value_name = "FILE.item")]
    pub items: Option<PathBuf>,
    /// The column that says what came of an example
    #[arg(long, value_name = "COLUMN", default_value = "label")]
    pub label: String,
    /// From this value of it on there was a click
    #[arg(long, value_name = "VALUE", default_value_t = 1.0)]
    pub at_least: f64,
}

/// Which columns are looked at, and how.
#[derive(Clone, Debug)]
pub struct Look<'a> {
    /// Names; none: all but the label and the time.
    pub columns: &'a [String],
    /// The most buckets of a field.
    pub most_buckets: u32,
    /// The most words of a column.
    pub most_words: usize,
}

/// Examples, oldest first.
#[derive(Debug)]
pub struct Clicks {
    /// What the data is called.
    pub(crate) name: String,
    /// What is known of each.
    pub fields: Fields,
    pub(crate) encoded: Encoded,
    pub(crate) clicked: Vec<bool>,
    /// Whose each is, for scores by user.
    pub(crate) users: Vec<u32>,
}

/// A field has so many buckets for each different word, so that few share one.
const BUCKETS_A_WORD: u32 = 8;

/// A column that is looked at.
struct Source<'a> {
    file: &'a Joined,
    column: usize,
    name: String,
    kind: Kind,
}

enum Kind {
    Word,
    Words,
    Number,
}

/// A file, and which of its rows each example is joined with.
struct Joined {
    table: Table,
    /// One for each example, oldest first.
    rows: Vec<Option<usize>>,
}

impl Clicks {
    /// Reads, joins, sorts by time, and encodes. What numbers are like and how many words there are is counted among the examples
    /// to learn from only.
    ///
    /// `known` fields stay as they are, so that what has learnt with them goes on: a new word is hashed into their buckets.
    ///
    /// # Errors
    /// A file cannot be read, lacks a column, or has a cell that is not what its column says; the known fields are of other columns.
    pub fn read(files: &ClickFiles, look: &Look<'_>, known: Option<&Fields>) -> Result<Self> {
        Self::of(text_file::table(&files.interactions)?, files, look, known)
    }

    /// The same by the fields of a network that was learnt, and no other columns.
    pub(crate) fn read_by(files: &ClickFiles, fields: &Fields) -> Result<Self> {
        Self::by(text_file::table(&files.interactions)?, files, fields)
    }

    /// The same of examples that were read.
    pub(crate) fn by(table: Table, files: &ClickFiles, fields: &Fields) -> Result<Self> {
        let columns: Vec<String> = fields.0.iter().map(|field| field.name.clone()).collect();
        let look = Look { columns: &columns, most_buckets: u32::MAX, most_words: usize::MAX };
        Self::of(table, files, &look, Some(fields))
    }

    /// Examples that were read.
    fn of(table: Table, files: &ClickFiles, look: &Look<'_>, known: Option<&Fields>) -> Result<Self> {
        ensure!(!table.rows.is_empty(), "{} has no examples", files.interactions.display());
        let (label, time) = (numbers(&table, &files.label)?, numbers(&table, "timestamp")?);
        let mut order: Vec<usize> = (0..table.rows.len()).collect();
        order.sort_by(|&a, &b| time[a].total_cmp(&time[b]));
        let clicked: Vec<bool> = order.iter().map(|&row| label[row] >= files.at_least).collect();

        let join = |path: &Option<PathBuf>, key: &str| -> Result<Option<Joined>> {
            path.as_deref().map(|path| joined(path, key, &table, &order)).transpose()
        };
        let (of_users, of_items) = (join(&files.users, "user_id")?, join(&files.items, "item_id")?);
        let user = table.column("user_id")?;
        let mut met: HashMap<&str, u32> = HashMap::new();
        let users = order.iter().map(|&row| {
            let next = met.len() as u32;
            *met.entry(&table.rows[row].1[user]).or_insert(next)
        });
        let users: Vec<u32> = users.collect();

        let own = Joined { table, rows: order.into_iter().map(Some).collect() };
        let mut sources = own.sources(&[&files.label, "timestamp"])?;
        for (file, key) in [(&of_users, "user_id"), (&of_items, "item_id")] {
            sources.extend(file.as_ref().map(|file| file.sources(&[key])).transpose()?.into_iter().flatten());
        }
        choose(&mut sources, look.columns)?;
        let learning = learning(clicked.len());
        let fields = sources.iter().map(|source| source.field(learning.clone(), look)).collect::<Result<_>>()?;
        let mut fields = Fields(fields);
        if let Some(known) = known {
            let names = |fields: &Fields| fields.0.iter().map(|field| field.name.clone()).collect::<Vec<_>>();
            let (ours, theirs) = (names(&fields), names(known));
            ensure!(ours == theirs, "the columns are {ours:?}; what is begun with looks at {theirs:?}");
            fields = known.clone();
        }
        let mut encoded = Encoded::default();
        for example in 0..clicked.len() {
            let values = sources.iter().map(|source| source.value(example)).collect::<Result<Vec<_>>>()?;
            let line = own.rows[example].map_or(0, |row| own.table.rows[row].0);
            fields.encode(&values, &mut encoded).with_context(|| own.table.at(line))?;
        }
        let name = files.interactions.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, fields, encoded, clicked, users })
    }

    /// The oldest 80 %.
    pub fn learning(&self) -> Range<usize> {
        learning(self.clicked.len())
    }

    /// The 10 % after them, which tell when to stop.
    pub fn validation(&self) -> Range<usize> {
        self.learning().end..self.clicked.len() * 9 / 10
    }

    /// The newest.
    pub fn test(&self) -> Range<usize> {
        self.validation().end..self.clicked.len()
    }

    /// The part of some examples that was clicked on.
    pub fn rate(&self, examples: Range<usize>) -> f64 {
        let (count, clicks) = (examples.len(), self.clicked[examples].iter().filter(|clicked| **clicked).count());
        clicks as f64 / count.max(1) as f64
    }

    /// Tells other examples apart, in hexadecimal digits.
    pub fn fingerprint(&self) -> Result<String> {
        let mut bytes = serde_json::to_vec(&self.fields)?;
        serde_json::to_writer(&mut bytes, &self.encoded)?;
        bytes.extend(self.clicked.iter().map(|clicked| u8::from(*clicked)));
        Ok(Sha256::of_bytes(&bytes).to_string())
    }
}

fn learning(examples: usize) -> Range<usize> {
    0..examples * 8 / 10
}

/// A column of numbers, none of them missing.
pub(crate) fn numbers(table: &Table, name: &str) -> Result<Vec<f64>> {
    let column = table.column(name)?;
    let number = |(line, cells): &(usize, Vec<String>)| {
        let cell = &cells[column];
        let number = cell.parse().ok().filter(|number: &f64| number.is_finite());
        number.with_context(|| format!("{}: {name} is `{cell}`, not a finite number", table.at(*line)))
    };
    table.rows.iter().map(number).collect()
}

fn joined(path: &Path, key: &str, examples: &Table, order: &[usize]) -> Result<Joined> {
    let table = text_file::table(path)?;
    let (here, there) = (table.column(key)?, examples.column(key)?);
    let places: HashMap<&str, usize> =
        table.rows.iter().enumerate().map(|(place, (_, cells))| (cells[here].as_str(), place)).collect();
    let rows = order.iter().map(|&row| places.get(examples.rows[row].1[there].as_str()).copied()).collect();
    Ok(Joined { table, rows })
}

impl Joined {
    fn sources(&self, without: &[&str]) -> Result<Vec<Source<'_>>> {
        let mut sources = Vec::new();
        for (column, header) in self.table.columns().enumerate() {
            if without.contains(&header.name) {
                continue;
            }
            let kind = match header.kind {
                None | Some("token") => Kind::Word,
                Some("token_seq") => Kind::Words,
                Some("float") => Kind::Number,
                Some(other) => {
                    bail!(
                        "{}: `{}` has the type {other}; known: token, token_seq, float",
                        self.table.at(1),
                        header.name
                    )
                }
            };
            sources.push(Source { file: self, column, name: header.name.to_owned(), kind });
        }
        Ok(sources)
    }
}

/// Leaves the columns of these names, in their order, if there are any names.
fn choose(sources: &mut Vec<Source<'_>>, names: &[String]) -> Result<()> {
    let mut met = HashSet::new();
    if let Some(twice) = sources.iter().find(|source| !met.insert(source.name.clone())) {
        bail!("two columns are called `{}`", twice.name);
    }
    let known = sources.iter().map(|source| source.name.clone()).collect::<Vec<_>>().join(", ");
    if let Some(unknown) = names.iter().find(|name| !met.contains(*name)) {
        bail!("there is no column `{unknown}`; there are {known}");
    }
    sources.retain(|source| names.is_empty() || names.contains(&source.name));
    Ok(())
}

impl Source<'_> {
    /// The cell of an example, and its line; none where nothing is known.
    fn cell(&self, example: usize) -> Option<(usize, &str)> {
        let (line, cells) = &self.file.table.rows[self.file.rows[example]?];
        Some((*line, cells[self.column].as_str())).filter(|(_, cell)| !cell.is_empty())
    }

    fn value(&self, example: usize) -> Result<Value> {
        let Some((line, cell)) = self.cell(example) else { return Ok(Value::Unknown) };
        Ok(match self.kind {
            Kind::Word => Value::Words(vec![cell.to_owned()]),
            Kind::Words => Value::Words(cell.split_whitespace().map(str::to_owned).collect()),
            Kind::Number => {
                let number = cell.parse().ok().filter(|number: &f32| number.is_finite());
                let at = || format!("{}: {} is `{cell}`, not a finite number", self.file.table.at(line), self.name);
                Value::Number(number.with_context(at)?)
            }
        })
    }

    fn field(&self, examples: Range<usize>, look: &Look<'_>) -> Result<Field> {
        let kind = match self.kind {
            Kind::Number => {
                let mut numbers = Vec::new();
                for example in examples {
                    if let Value::Number(number) = self.value(example)? {
                        numbers.push(f64::from(number));
                    }
                }
                let count = numbers.len().max(1) as f64;
                let mean = numbers.iter().sum::<f64>() / count;
                let variance = numbers.iter().map(|number| (number - mean).powi(2)).sum::<f64>() / count;
                // A number that is always the same says nothing, however it is divided.
                let deviation = if variance > 0.0 { variance.sqrt() } else { 1.0 };
                FieldKind::Number { mean: mean as f32, deviation: deviation as f32 }
            }
            Kind::Word | Kind::Words => {
                let cells = examples.filter_map(|example| Some(self.cell(example)?.1));
                let (words, most) = match self.kind {
                    Kind::Word => (cells.collect::<BTreeSet<_>>().len(), 1),
                    _ => (cells.flat_map(str::split_whitespace).collect::<BTreeSet<_>>().len(), look.most_words),
                };
                let buckets = (words as u32).saturating_mul(BUCKETS_A_WORD).max(16).min(look.most_buckets);
                FieldKind::Category { buckets, most }
            }
        };
        Ok(Field { name: self.name.clone(), kind })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const LOOK: Look<'_> = Look { columns: &[], most_buckets: 1 << 16, most_words: 3 };

    fn files(dir: &Path, inter: &str, items: &str) -> ClickFiles {
        let (interactions, of_items) = (dir.join("x.inter"), dir.join("x.item"));
        fs::write(&interactions, inter).unwrap();
        fs::write(&of_items, items).unwrap();
        let label = "rating".to_owned();
        ClickFiles { interactions, users: None, items: Some(of_items), label, at_least: 4.0 }
    }

    const INTER: &str = "user_id:token\titem_id:token\trating:float\ttimestamp:float\n\
        u\tb\t5\t30\nu\ta\t3\t10\nv\ta\t4\t20\nw\tz\t1\t40\nu\tc\t4\t50\n";
    const ITEMS: &str = "item_id:token\tclass:token_seq\tprice:float\na\tdrama war\t10\nb\tdrama\t20\nc\t\t\n";

    #[test]
    fn examples_are_joined_and_come_in_order_of_time() {
        let dir = tempfile::tempdir().unwrap();
        let clicks = Clicks::read(&files(dir.path(), INTER, ITEMS), &LOOK, None).unwrap();
        assert_eq!(
            clicks.fields.0.iter().map(|field| field.name.as_str()).collect::<Vec<_>>(),
            ["user_id", "item_id", "class", "price"]
        );
        assert_eq!(clicks.clicked, [false, true, true, false, true]);
        assert_eq!(clicks.users, [0, 1, 0, 2, 0]);
        assert_eq!([clicks.learning(), clicks.validation(), clicks.test()], [0..4, 4..4, 4..5]);
        // Learnt from: 10, 10, 20 and one that is not known.
        let FieldKind::Number { mean, .. } = clicks.fields.0[3].kind else { panic!("price is no number") };
        assert!((mean - 40.0 / 3.0).abs() < 1e-5);
    }

    #[test]
    fn columns_can_be_chosen() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path(), INTER, ITEMS);
        let columns = ["price".to_owned(), "user_id".to_owned()];
        let clicks = Clicks::read(&files, &Look { columns: &columns, ..LOOK }, None).unwrap();
        assert_eq!(clicks.fields.0.len(), 2);
        let columns = ["colour".to_owned()];
        let error = Clicks::read(&files, &Look { columns: &columns, ..LOOK }, None).unwrap_err().to_string();
        assert!(error.contains("`colour`") && error.contains("class"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        for (inter, items, wanted) in [
            (INTER.replace("\t3\t", "\tNaN\t"), ITEMS.to_owned(), "x.inter:3: rating"),
            (INTER.replace("\t20\n", "\tsoon\n"), ITEMS.to_owned(), "x.inter:4: timestamp"),
            (INTER.to_owned(), ITEMS.replace("\t10\n", "\tinf\n"), "x.item:2: price"),
            (INTER.to_owned(), ITEMS.replace(":float", ":float_seq"), "float_seq"),
            (INTER.to_owned(), ITEMS.replace("class", "user_id"), "user_id"),
            (INTER.lines().take(1).collect(), ITEMS.to_owned(), "no examples"),
            (INTER.replace("rating", "stars"), ITEMS.to_owned(), "rating"),
        ] {
            let error = format!("{:#}", Clicks::read(&files(dir.path(), &inter, &items), &LOOK, None).unwrap_err());
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
    }
}
