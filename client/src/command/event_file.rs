//! Events as a Parquet file: one row an event, Snappy-compressed.

use std::{io::Write, sync::Arc};

use anyhow::{Context as _, Result};
use parquet::{
    basic::Compression,
    data_type::{ByteArray, ByteArrayType as Text, DataType, DoubleType, FloatType, Int32Type, Int64Type},
    file::{
        properties::WriterProperties,
        writer::{SerializedFileWriter, SerializedRowGroupWriter},
    },
    schema::parser::parse_message_type,
};
use vitrine::v1::{Event, EventItem, Served, ServedAd};
use vitrine_client::json;

const SCHEMA: &str = "message event {
    required binary event_id (UTF8);
    required binary type (UTF8);
    optional int64 time (TIMESTAMP(MILLIS, true));
    optional binary user_id (UTF8);
    optional binary visitor_id (UTF8);
    optional binary session_id (UTF8);
    required group items (LIST) {
        repeated group list {
            required group element {
                required binary id (UTF8);
                required int32 quantity (INTEGER(32, false));
                optional binary price (UTF8);
                optional group served {
                    required int64 answer (INTEGER(64, false));
                    optional double propensity;
                    optional group ad {
                        required binary campaign (UTF8);
                        required int64 price_micros;
                        required binary predictor (UTF8);
                        required float predicted_logit;
                        required int64 charged_micros;
                    }
                }
            }
        }
    }
    optional binary attribution_token (UTF8);
    required int32 position (INTEGER(32, false));
    optional group value {
        required binary amount (UTF8);
        required binary currency (UTF8);
    }
    optional binary order_id (UTF8);
    optional double weight;
    optional binary query (UTF8);
    optional binary attributes (JSON);
}";
/// Events in a row group: what is held in memory.
const GROUP: usize = 50_000;

/// A file of events that is being written.
pub struct EventFile<W: Write + Send> {
    writer: SerializedFileWriter<W>,
    waiting: Vec<Event>,
}

impl<W: Write + Send> EventFile<W> {
    /// Begins a file.
    pub fn new(file: W) -> Result<Self> {
        let schema = Arc::new(parse_message_type(SCHEMA)?);
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        Ok(Self { writer: SerializedFileWriter::new(file, schema, Arc::new(properties))?, waiting: Vec::new() })
    }

    /// Adds an event.
    pub fn push(&mut self, event: Event) -> Result<()> {
        self.waiting.push(event);
        if self.waiting.len() < GROUP { Ok(()) } else { self.write_group() }
    }

    /// Writes the rest and the file's end.
    pub fn finish(mut self) -> Result<()> {
        if !self.waiting.is_empty() {
            self.write_group()?;
        }
        self.writer.close()?;
        Ok(())
    }

    fn write_group(&mut self) -> Result<()> {
        let events = std::mem::take(&mut self.waiting);
        let mut group = Group { writer: self.writer.next_row_group()?, events: &events };
        // In the order of the schema.
        group.required::<Text>(|event| text(&event.event_id))?;
        group.required::<Text>(|event| text(&json::event_type(event)))?;
        group.optional::<Int64Type>(|event| {
            let time = event.time.as_ref()?;
            Some(time.seconds.saturating_mul(1_000).saturating_add(i64::from(time.nanos) / 1_000_000))
        })?;
        group.optional::<Text>(|event| some_text(&event.user_id))?;
        group.optional::<Text>(|event| some_text(&event.visitor_id))?;
        group.optional::<Text>(|event| some_text(&event.session_id))?;
        group.items::<Text>(1, |item| Ok(text(&item.id)))?;
        group.items::<Int32Type>(1, |item| Ok(item.quantity as i32))?;
        group.items::<Text>(2, |item| some_text(&item.price).ok_or(1))?;
        group.items::<Int64Type>(2, |item| Ok(served(item)?.answer as i64))?;
        group.items::<DoubleType>(3, |item| served(item)?.propensity.ok_or(2))?;
        group.items::<Text>(3, |item| Ok(text(&ad(item)?.campaign)))?;
        group.items::<Int64Type>(3, |item| Ok(ad(item)?.price_micros))?;
        group.items::<Text>(3, |item| Ok(text(&ad(item)?.predictor)))?;
        group.items::<FloatType>(3, |item| Ok(ad(item)?.predicted_logit))?;
        group.items::<Int64Type>(3, |item| Ok(ad(item)?.charged_micros))?;
        group.optional::<Text>(|event| some_text(&event.attribution_token))?;
        group.required::<Int32Type>(|event| event.position as i32)?;
        group.optional::<Text>(|event| Some(text(&event.value.as_ref()?.amount)))?;
        group.optional::<Text>(|event| Some(text(&event.value.as_ref()?.currency)))?;
        group.optional::<Text>(|event| some_text(&event.order_id))?;
        group.optional::<DoubleType>(|event| event.weight)?;
        group.optional::<Text>(|event| some_text(&event.query))?;
        let attributes = events.iter().map(json::event_attributes).collect::<Result<Vec<_>, _>>()?;
        let mut attributes = attributes.iter();
        group.optional::<Text>(|_| Some(text(attributes.next()?.as_deref()?)))?;
        group.writer.close()?;
        Ok(())
    }
}

/// A row group and the events it is made of.
struct Group<'a, W: Write + Send> {
    writer: SerializedRowGroupWriter<'a, W>,
    events: &'a [Event],
}

impl<W: Write + Send> Group<'_, W> {
    fn required<T: DataType>(&mut self, of: impl FnMut(&Event) -> T::T) -> Result<()> {
        let values: Vec<T::T> = self.events.iter().map(of).collect();
        self.column::<T>(&values, None, None)
    }

    fn optional<T: DataType>(&mut self, of: impl FnMut(&Event) -> Option<T::T>) -> Result<()> {
        let values: Vec<Option<T::T>> = self.events.iter().map(of).collect();
        let levels: Vec<i16> = values.iter().map(|value| i16::from(value.is_some())).collect();
        let values: Vec<T::T> = values.into_iter().flatten().collect();
        self.column::<T>(&values, Some(&levels), None)
    }

    /// A column of the items: values at level `defined`, or where there is none the level that is defined. An event without items
    /// has level 0.
    fn items<T: DataType>(&mut self, defined: i16, of: impl Fn(&EventItem) -> Result<T::T, i16>) -> Result<()> {
        let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
        for event in self.events {
            for (place, item) in event.items.iter().enumerate() {
                let value = of(item);
                definitions.push(*value.as_ref().err().unwrap_or(&defined));
                repetitions.push(i16::from(place > 0));
                values.extend(value);
            }
            if event.items.is_empty() {
                definitions.push(0);
                repetitions.push(0);
            }
        }
        self.column::<T>(&values, Some(&definitions), Some(&repetitions))
    }

    fn column<T: DataType>(
        &mut self,
        values: &[T::T],
        definitions: Option<&[i16]>,
        repetitions: Option<&[i16]>,
    ) -> Result<()> {
        let mut column = self.writer.next_column()?.context("the schema has fewer columns")?;
        column.typed::<T>().write_batch(values, definitions, repetitions)?;
        column.close()?;
        Ok(())
    }
}

/// How an item was served, or the level that is defined without that.
fn served(item: &EventItem) -> Result<&Served, i16> {
    item.served.as_ref().ok_or(1)
}

/// The advertisement that it was, or the level that is defined without that.
fn ad(item: &EventItem) -> Result<&ServedAd, i16> {
    served(item)?.ad.as_ref().ok_or(2)
}

fn text(text: &str) -> ByteArray {
    text.as_bytes().to_vec().into()
}

fn some_text(of: &str) -> Option<ByteArray> {
    (!of.is_empty()).then(|| text(of))
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::SerializedFileReader;

    use super::*;

    #[test]
    fn events_come_back_as_they_were_written() {
        let full = r#"{"event_id": "e-1", "type": "purchase", "time": "2026-02-01T10:00:00.5Z", "user_id": "ü1",
            "session_id": "s", "items": [{"id": "B07", "quantity": 2, "price": "89.90"}, {"id": "B08"}],
            "attribution_token": "t", "position": 3, "value": {"amount": "179.80", "currency": "EUR"}, "order_id": "o4",
            "query": "shoe", "attributes": {"device": "phone", "sizes": [40, 41.5]}}"#;
        let bare = r#"{"event_id": "e-2", "type": "rate", "visitor_id": "v9", "item_id": "B08", "weight": 4.5}"#;
        let without_items = Event { event_id: "e-3".into(), r#type: 3, ..Event::default() };
        let served = r#"{"event_id": "e-4", "type": "ad_click", "user_id": "u", "items": [
            {"id": "a", "served": {"answer": "18446744073709551615", "propensity": 0.25}}, {"id": "b", "served": {"answer": "7", "ad":
            {"campaign": "spring", "price_micros": "230000", "predictor": "clicks/3", "predicted_logit": -2.5, "charged_micros": "9"}}}]}"#;
        let mut events: Vec<Event> = [full, bare, served].map(|line| json::parse_event(line).unwrap()).into();
        events.push(without_items);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.parquet");
        let mut file = EventFile::new(std::fs::File::create(&path).unwrap()).unwrap();
        let all: Vec<Event> = events.iter().cycle().take(GROUP + 2).cloned().collect();
        for event in &all {
            file.push(event.clone()).unwrap();
        }
        file.finish().unwrap();
        let reader = SerializedFileReader::try_from(path.as_path()).unwrap();
        let back: Vec<Event> = vitrine_client::parquet::lines(reader, 0)
            .map(|line| json::parse_event(&line.unwrap().text.unwrap()).unwrap())
            .collect();
        assert!(back == all, "{:?}", back.iter().zip(&all).find(|(back, event)| back != event));
    }
}
