//! Reading whole columns of a Parquet file by name. The retail data is flat: every column is optional and none repeats.

use std::{fs::File, path::Path};

use anyhow::{Context as _, Result, anyhow, bail};
use parquet::{
    column::reader::{ColumnReader, ColumnReaderImpl},
    data_type::DataType,
    file::reader::{FileReader as _, SerializedFileReader},
};

pub struct Table {
    reader: SerializedFileReader<File>,
    name: String,
}

impl Table {
    pub fn open(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let file = File::open(path).with_context(|| name.clone())?;
        Ok(Self { reader: SerializedFileReader::new(file).with_context(|| name.clone())?, name })
    }

    pub fn integers(&self, column: &str) -> Result<Vec<Option<i64>>> {
        self.column(column, |reader, rows| match reader {
            ColumnReader::Int64ColumnReader(reader) => values(reader, rows),
            _ => bail!("it holds no whole numbers"),
        })
    }

    pub fn numbers(&self, column: &str) -> Result<Vec<Option<f64>>> {
        self.column(column, |reader, rows| match reader {
            ColumnReader::DoubleColumnReader(reader) => values(reader, rows),
            _ => bail!("it holds no numbers"),
        })
    }

    pub fn texts(&self, column: &str) -> Result<Vec<Option<String>>> {
        self.column(column, |reader, rows| match reader {
            ColumnReader::ByteArrayColumnReader(reader) => {
                let text = |value: parquet::data_type::ByteArray| value.as_utf8().map(str::to_owned);
                values(reader, rows)?.into_iter().map(|value| Ok(value.map(text).transpose()?)).collect()
            }
            _ => bail!("it holds no text"),
        })
    }

    /// Milliseconds since 1970.
    pub fn times(&self, column: &str) -> Result<Vec<Option<i64>>> {
        self.column(column, |reader, rows| match reader {
            // The older encoding of times: a Julian day and nanoseconds.
            ColumnReader::Int96ColumnReader(reader) => {
                Ok(values(reader, rows)?.into_iter().map(|value| value.map(|value| value.to_millis())).collect())
            }
            _ => bail!("it holds no times"),
        })
    }

    fn column<T>(&self, column: &str, read: impl Fn(ColumnReader, usize) -> Result<Vec<T>>) -> Result<Vec<T>> {
        let place = || format!("column \"{column}\" of {}", self.name);
        let schema = self.reader.metadata().file_metadata().schema_descr();
        let index = schema.columns().iter().position(|found| found.name() == column);
        let index = index.ok_or_else(|| anyhow!("it is missing")).with_context(place)?;
        let mut all = Vec::new();
        for group in 0..self.reader.num_row_groups() {
            let group = self.reader.get_row_group(group).with_context(place)?;
            let rows = usize::try_from(group.metadata().num_rows()).with_context(place)?;
            let reader = group.get_column_reader(index).with_context(place)?;
            all.extend(read(reader, rows).with_context(place)?);
        }
        Ok(all)
    }
}

fn values<T: DataType>(mut reader: ColumnReaderImpl<T>, rows: usize) -> Result<Vec<Option<T::T>>> {
    let (mut values, mut levels) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    let mut read = 0;
    while read < rows {
        let (records, _, _) = reader.read_records(rows - read, Some(&mut levels), None, &mut values)?;
        if records == 0 {
            bail!("it has {read} of {rows} rows");
        }
        read += records;
    }
    let mut values = values.into_iter();
    if levels.is_empty() {
        return Ok(values.map(Some).collect());
    }
    Ok(levels.into_iter().map(|level| if level > 0 { values.next() } else { None }).collect())
}
