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

/// The rows of a tab-separated file, each with its line number, cut into the columns named in its header.
///
/// # Errors
///
/// When a column is missing from the header, or a row has fewer columns than the header.
pub fn rows<const N: usize>(path: &Path, columns: [&str; N]) -> Result<Vec<(usize, [String; N])>> {
    let mut lines = open(path)?.lines();
    let at = |number: usize| format!("{}:{number}", path.display());
    let header = lines.next().with_context(|| format!("{} is empty", path.display()))?.with_context(|| at(1))?;
    let header: Vec<&str> = header.trim_end_matches('\r').split('\t').collect();
    let mut places = [0; N];
    for (place, column) in places.iter_mut().zip(columns) {
        // RecBole writes the type behind the name: `user_id:token`.
        let named = |name: &&str| *name == column || name.split_once(':').is_some_and(|(name, _)| name == column);
        *place = header
            .iter()
            .position(named)
            .with_context(|| format!("{}: there is no column `{column}` among {}", at(1), header.join(", ")))?;
    }
    let mut rows = Vec::new();
    for (number, line) in (2..).zip(lines) {
        let line = line.with_context(|| at(number))?;
        if line.is_empty() {
            continue;
        }
        let cells: Vec<&str> = line.trim_end_matches('\r').split('\t').collect();
        let mut row = [const { String::new() }; N];
        for ((cell, place), column) in row.iter_mut().zip(places).zip(columns) {
            (*cells.get(place).with_context(|| format!("{}: no `{column}`", at(number)))?).clone_into(cell);
        }
        rows.push((number, row));
    }
    Ok(rows)
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
        fs::write(&path, "a\tb\n1\n").unwrap();
        assert!(rows(&path, ["c"]).unwrap_err().to_string().contains("a.tsv:1: there is no column `c`"));
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
