//! The rows of a Parquet file as lines of JSON, so that what is said of lines is true of rows. The columns have the names of the JSON
//! fields; lists are `LIST`s and objects groups, as engines write them.

use std::{io, path::Path};

use ::parquet::{
    data_type::Decimal,
    errors::ParquetError,
    file::reader::{FileReader, SerializedFileReader},
    record::{Field, Row, reader::RowIter},
};
use jiff::{Timestamp, civil::Date};
use serde_json::{Map, Number, Value};

use crate::json::Line;

/// A column that holds JSON as a text: what a shop keeps there has no common type.
const JSON_COLUMN: &str = "attributes";

/// Whether a file is to be taken for Parquet: by its name.
pub fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}

/// The rows of a file, from 1; `bytes` is each one's share of the file. A file that cannot be read any further ends with
/// an error.
pub fn lines<R: ::parquet::file::reader::ChunkReader + 'static>(
    reader: SerializedFileReader<R>,
    bytes: u64,
) -> impl Iterator<Item = io::Result<Line>> {
    let rows = reader.metadata().file_metadata().num_rows().max(1) as u64;
    (1..).zip(RowIter::from_file_into(Box::new(reader))).map(move |(number, row)| {
        let text = object(&row.map_err(io::Error::other)?).map(|value| value.to_string());
        Ok(Line { number, text, bytes: bytes / rows })
    })
}

/// A row or group; what is null is left out.
fn object(row: &Row) -> Result<Value, String> {
    let mut fields = Map::new();
    for (name, field) in row.get_column_iter() {
        let value = match field {
            Field::Null => continue,
            Field::Str(text) if name == JSON_COLUMN => {
                serde_json::from_str(text).map_err(|error| format!("{name}: {error}"))?
            }
            field => value(field).map_err(|problem| format!("{name}: {problem}"))?,
        };
        fields.insert(name.clone(), value);
    }
    Ok(Value::Object(fields))
}

fn value(field: &Field) -> Result<Value, String> {
    let time =
        |time: Result<Timestamp, jiff::Error>| time.map(|time| time.to_string().into()).map_err(|e| e.to_string());
    Ok(match field {
        Field::Null => Value::Null,
        Field::Bool(value) => (*value).into(),
        Field::Byte(value) => (*value).into(),
        Field::Short(value) => (*value).into(),
        Field::Int(value) => (*value).into(),
        Field::Long(value) => (*value).into(),
        Field::UByte(value) => (*value).into(),
        Field::UShort(value) => (*value).into(),
        Field::UInt(value) => (*value).into(),
        Field::ULong(value) => (*value).into(),
        Field::Float16(value) => number(f64::from(f32::from(*value)))?,
        Field::Float(value) => number(f64::from(*value))?,
        Field::Double(value) => number(*value)?,
        Field::Decimal(value) => decimal(value)?.into(),
        Field::Str(text) => text.as_str().into(),
        Field::Bytes(bytes) => bytes.as_utf8().map_err(|error: ParquetError| error.to_string())?.into(),
        Field::Date(days) => {
            let day = Date::constant(1970, 1, 1).checked_add(jiff::Span::new().days(*days));
            format!("{}T00:00:00Z", day.map_err(|error| error.to_string())?).into()
        }
        Field::TimestampMillis(millis) => time(Timestamp::from_millisecond(*millis))?,
        Field::TimestampMicros(micros) => time(Timestamp::from_microsecond(*micros))?,
        Field::TimeMillis(_) | Field::TimeMicros(_) => return Err("a time of day without a date".to_owned()),
        Field::Group(row) => object(row)?,
        Field::ListInternal(list) => list.elements().iter().map(value).collect::<Result<_, _>>()?,
        Field::MapInternal(map) => {
            let entry = |(key, field): &(Field, Field)| match key {
                Field::Str(key) => Ok((key.clone(), value(field)?)),
                _ => Err("a map whose keys are no texts".to_owned()),
            };
            Value::Object(map.entries().iter().map(entry).collect::<Result<_, String>>()?)
        }
    })
}

fn number(value: f64) -> Result<Value, String> {
    Number::from_f64(value).map(Value::Number).ok_or_else(|| format!("{value} is no number"))
}

/// A decimal number as text, as `-1.50`: its unscaled value is a big-endian two's complement.
fn decimal(value: &Decimal) -> Result<String, String> {
    let bytes = value.data();
    let negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let mut wide = [if negative { 0xff } else { 0 }; 16];
    let start = wide.len().checked_sub(bytes.len()).ok_or("a decimal number of more than 38 digits")?;
    wide[start..].copy_from_slice(bytes);
    let unscaled = i128::from_be_bytes(wide);
    let scale = usize::try_from(value.scale()).unwrap_or(0);
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    Ok(if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") })
}

#[cfg(test)]
mod tests {
    use ::parquet::data_type::ByteArray;

    use super::*;

    #[test]
    fn decimals_are_written_out() {
        let of =
            |bytes: &[u8], scale| decimal(&Decimal::from_bytes(ByteArray::from(bytes.to_vec()), 9, scale)).unwrap();
        assert_eq!(of(&[0x23, 0x1e], 2), "89.90");
        assert_eq!(of(&[5], 2), "0.05");
        assert_eq!(of(&[0xff], 1), "-0.1");
        assert_eq!(of(&[7], 0), "7");
        assert_eq!(decimal(&Decimal::from_i32(8990, 9, 2)).unwrap(), "89.90");
    }

    #[test]
    fn days_and_instants_are_times() {
        assert_eq!(value(&Field::Date(20_485)).unwrap(), "2026-02-01T00:00:00Z");
        assert_eq!(value(&Field::TimestampMicros(1_500)).unwrap(), "1970-01-01T00:00:00.0015Z");
        value(&Field::TimeMillis(5)).unwrap_err();
        value(&Field::Double(f64::NAN)).unwrap_err();
    }
}
