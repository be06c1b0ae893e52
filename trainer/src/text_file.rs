//! Reading text files line by line, gzipped ones too.

use std::{
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use anyhow::{Context as _, Result};
use flate2::read::MultiGzDecoder;

/// The lines of a file; unpacked if its name ends in `.gz`.
pub fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    Ok(if path.extension().is_some_and(|extension| extension == "gz") {
        Box::new(BufReader::new(MultiGzDecoder::new(file)))
    } else {
        Box::new(BufReader::new(file))
    })
}

/// A tab-separated file.
pub struct Table {
    /// The columns as the first line has them.
    header: Vec<String>,
    /// Cells, as many as columns, each row with its line number.
    pub rows: Vec<(usize, Vec<String>)>,
    place: String,
}

/// A column of a file of RecBole, which writes the type behind the name: `user_id:token`.
pub struct Column<'a> {
    pub name: &'a str,
    /// None where nothing is said of it.
    pub kind: Option<&'a str>,
}

/// Reads a tab-separated file whose first line names the columns.
///
/// # Errors
///
/// It cannot be read, is empty, or a row has fewer cells than there are columns.
pub fn table(path: &Path) -> Result<Table> {
    let place = path.display().to_string();
    let at = |number: usize| format!("{place}:{number}");
    let mut lines = open(path)?.lines();
    let header = lines.next().with_context(|| format!("{place} is empty"))?.with_context(|| at(1))?;
    let cells = |line: &str| line.trim_end_matches('\r').split('\t').map(str::to_owned).collect::<Vec<_>>();
    let header = cells(&header);
    let mut rows = Vec::new();
    for (number, line) in (2..).zip(lines) {
        let line = line.with_context(|| at(number))?;
        if line.is_empty() {
            continue;
        }
        let cells = cells(&line);
        if let Some(missing) = header.get(cells.len()) {
            anyhow::bail!("{}: no `{missing}`", at(number));
        }
        rows.push((number, cells));
    }
    Ok(Table { header, rows, place })
}

impl Table {
    pub fn columns(&self) -> impl Iterator<Item = Column<'_>> {
        self.header.iter().map(|column| match column.split_once(':') {
            Some((name, kind)) => Column { name, kind: Some(kind) },
            None => Column { name: column, kind: None },
        })
    }

    /// Where a column is.
    ///
    /// # Errors
    ///
    /// There is none of that name, which may have its type behind it.
    pub fn column(&self, name: &str) -> Result<usize> {
        let named = |(column, full): (Column<'_>, &String)| column.name == name || full == name;
        let found = self.columns().zip(&self.header).position(named);
        found.with_context(|| format!("{}:1: there is no column `{name}` among {}", self.place, self.header.join(", ")))
    }

    /// A table with other rows.
    pub fn with_rows(&self, rows: Vec<(usize, Vec<String>)>) -> Self {
        Self { header: self.header.clone(), rows, place: self.place.clone() }
    }

    /// A line of the file, for messages.
    pub fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.place)
    }
}

/// The rows of a tab-separated file, each with its line number, cut into the columns named in its header.
///
/// # Errors
///
/// Those of [`table`] and [`Table::column`].
pub fn rows<const N: usize>(path: &Path, columns: [&str; N]) -> Result<Vec<(usize, [String; N])>> {
    let mut table = table(path)?;
    let mut places = [0; N];
    for (place, column) in places.iter_mut().zip(columns) {
        *place = table.column(column)?;
    }
    let rows = std::mem::take(&mut table.rows).into_iter();
    Ok(rows.map(|(number, cells)| (number, places.map(|place| cells[place].clone()))).collect())
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    #[test]
    fn columns_are_found_by_name_with_or_without_a_type() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.inter");
        fs::write(&path, "x:token\titem_id:token\tuser_id\n1\tb\ta\r\n\n2\td\tc\n").unwrap();
        let rows = rows(&path, ["user_id", "item_id"]).unwrap();
        assert_eq!(rows, [(2, ["a".into(), "b".into()]), (4, ["c".into(), "d".into()])]);
    }

    #[test]
    fn a_missing_column_or_cell_is_named_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tsv");
        fs::write(&path, "a\tb\n1\t2\n").unwrap();
        assert!(rows(&path, ["c"]).unwrap_err().to_string().contains("a.tsv:1: there is no column `c`"));
        fs::write(&path, "a\tb\n1\n").unwrap();
        assert!(rows(&path, ["b"]).unwrap_err().to_string().ends_with("a.tsv:2: no `b`"));
    }

    #[test]
    fn a_gzipped_file_is_unpacked() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.tsv.gz");
        let mut file = GzEncoder::new(File::create(&path).unwrap(), Compression::fast());
        file.write_all(b"a\n1\n").unwrap();
        file.finish().unwrap();
        assert_eq!(rows(&path, ["a"]).unwrap(), [(2, ["1".to_owned()])]);
    }
}
