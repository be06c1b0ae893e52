//! The index on disk, kept in step with the items.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use prost_types::value::Kind;
use serde::{Deserialize, Serialize};
use tantivy::indexer::IndexWriterOptions;
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::{Index, IndexReader, IndexWriter, ReloadPolicy, Searcher, TantivyDocument, Term};
use vitrine::v1::Item;

use super::highlight::Highlighter;
use super::query::Understood;
use super::rank::{self, Ranking};
use super::words::{TOKENIZER, Words};
use super::{LexicalError, LexicalHits, LexicalQuery};
use crate::Doc;

/// Of the writer: it makes a segment when this is full, or at a commit.
const WRITER_BYTES: usize = 50_000_000;

/// The full-text index of one catalog.
pub struct LexicalIndex {
    index: Index,
    fields: Fields,
    reader: IndexReader,
    /// None after a failed write, and before the first: made when it is needed.
    writer: Mutex<Option<IndexWriter>>,
    watermark: AtomicU64,
    ranking: Ranking,
}

/// The fields of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fields {
    doc: Field,
    title_words: Field,
    pub(super) title: Field,
    pub(super) brand: Field,
    pub(super) categories: Field,
    pub(super) tags: Field,
    pub(super) description: Field,
    pub(super) attributes: Field,
}

/// The name of the fast field that holds each item's [`Doc`].
pub(super) const DOC: &str = "doc";
/// The name of the fast field that holds how many words a title has.
pub(super) const TITLE_WORDS: &str = "title_words";

/// What a commit carries.
#[derive(Debug, Serialize, Deserialize)]
struct Payload {
    watermark: u64,
}

fn schema() -> Schema {
    let mut builder = Schema::builder();
    let text = || {
        let indexing = TextFieldIndexing::default().set_tokenizer(TOKENIZER);
        TextOptions::default().set_indexing_options(indexing.set_index_option(IndexRecordOption::WithFreqsAndPositions))
    };
    builder.add_u64_field(DOC, INDEXED | FAST);
    builder.add_u64_field(TITLE_WORDS, FAST);
    for name in ["title", "brand", "categories", "tags", "description", "attributes"] {
        builder.add_text_field(name, text());
    }
    builder.build()
}

impl Fields {
    /// Those with text.
    pub(super) fn texts(&self) -> [Field; 6] {
        [self.title, self.brand, self.categories, self.tags, self.description, self.attributes]
    }

    fn of(schema: &Schema) -> Result<Self, LexicalError> {
        Ok(Self {
            doc: schema.get_field(DOC)?,
            title_words: schema.get_field(TITLE_WORDS)?,
            title: schema.get_field("title")?,
            brand: schema.get_field("brand")?,
            categories: schema.get_field("categories")?,
            tags: schema.get_field("tags")?,
            description: schema.get_field("description")?,
            attributes: schema.get_field("attributes")?,
        })
    }
}

impl LexicalIndex {
    /// Opens the index in a folder, or makes an empty one there. One that is damaged, or was made by another version of
    /// the tokenizer or the schema, is replaced by an empty one: its watermark is 0, and everything is to be applied
    /// again.
    pub fn open(dir: &Path) -> Result<Self, LexicalError> {
        fs::create_dir_all(dir)?;
        if dir.join("meta.json").exists() {
            match Self::open_existing(dir) {
                Ok(index) => return Ok(index),
                Err(error @ (LexicalError::Full | LexicalError::ReadOnly(_) | LexicalError::InUse)) => {
                    return Err(error);
                }
                Err(LexicalError::Index(error)) => {
                    tracing::warn!(dir = %dir.display(), %error, "the full-text index cannot be used: making it anew");
                }
            }
        }
        fs::remove_dir_all(dir)?;
        fs::create_dir_all(dir)?;
        Self::with(Index::create_in_dir(dir, schema())?)
    }

    fn open_existing(dir: &Path) -> Result<Self, LexicalError> {
        let index = Index::open_in_dir(dir)?;
        if index.schema() != schema() {
            return Err(tantivy::TantivyError::SchemaError("made by another version".to_owned()).into());
        }
        let damaged = index.validate_checksum()?;
        if !damaged.is_empty() {
            let names = format!("files do not have their checksum: {damaged:?}");
            return Err(tantivy::TantivyError::InternalError(names).into());
        }
        Self::with(index)
    }

    fn with(index: Index) -> Result<Self, LexicalError> {
        index.tokenizers().register(TOKENIZER, Words::new());
        let fields = Fields::of(&index.schema())?;
        let payload = index.load_metas()?.payload.unwrap_or_default();
        let watermark = serde_json::from_str(&payload).map_or(0, |payload: Payload| payload.watermark);
        if watermark == 0 && index.load_metas()?.segments.iter().any(|segment| segment.num_docs() > 0) {
            return Err(tantivy::TantivyError::InternalError("the last commit says no watermark".to_owned()).into());
        }
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let ranking = Ranking::default();
        Ok(Self { index, fields, reader, writer: Mutex::new(None), watermark: AtomicU64::new(watermark), ranking })
    }

    /// Ranks by other weights than the default ones.
    #[must_use]
    pub fn with_ranking(mut self, ranking: Ranking) -> Self {
        self.ranking = ranking;
        self
    }

    /// The position in the log up to which changes are committed.
    pub fn watermark(&self) -> u64 {
        self.watermark.load(Ordering::Acquire)
    }

    /// How many items it holds.
    pub fn len(&self) -> u64 {
        self.searcher().num_docs()
    }

    /// Whether it holds no item.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes in changes: an item in its new state, or None for one that is gone. They are searched after the next
    /// [`commit`](Self::commit).
    pub fn apply<'a>(&self, changes: impl IntoIterator<Item = (Doc, Option<&'a Item>)>) -> Result<(), LexicalError> {
        self.write(|writer| {
            for (doc, item) in changes {
                writer.delete_term(Term::from_field_u64(self.fields.doc, u64::from(doc)));
                if let Some(item) = item {
                    writer.add_document(self.document(doc, item))?;
                }
            }
            Ok(())
        })
    }

    /// Makes everything applied so far durable and visible to searches, and remembers the position in the log.
    pub fn commit(&self, watermark: u64) -> Result<(), LexicalError> {
        self.write(|writer| {
            let mut commit = writer.prepare_commit()?;
            commit.set_payload(&serde_json::json!(Payload { watermark }).to_string());
            commit.commit()?;
            Ok(())
        })?;
        self.watermark.store(watermark, Ordering::Release);
        Ok(self.reader.reload()?)
    }

    /// Gives `act` the writer. If it fails the writer goes, and with it everything that was not committed.
    fn write(&self, act: impl FnOnce(&mut IndexWriter) -> Result<(), LexicalError>) -> Result<(), LexicalError> {
        let mut slot = self.writer.lock();
        let writer = match slot.as_mut() {
            Some(writer) => writer,
            None => slot.insert(
                self.index.writer_with_options(
                    IndexWriterOptions::builder()
                        .num_worker_threads(1)
                        .memory_budget_per_thread(WRITER_BYTES)
                        .num_merge_threads(1)
                        .build(),
                )?,
            ),
        };
        let done = act(writer);
        if done.is_err() {
            *slot = None;
        }
        done
    }

    fn document(&self, doc: Doc, item: &Item) -> TantivyDocument {
        let fields = &self.fields;
        let mut document = TantivyDocument::default();
        document.add_u64(fields.doc, u64::from(doc));
        document.add_text(fields.title, &item.title);
        document.add_text(fields.brand, &item.brand);
        document.add_text(fields.description, &item.description);
        for category in &item.categories {
            document.add_text(fields.categories, category);
        }
        for tag in &item.tags {
            document.add_text(fields.tags, tag);
        }
        for (_, text) in attribute_texts(item) {
            document.add_text(fields.attributes, text);
        }
        let title_words = Words::new().of(&item.title).iter().filter(|word| word.parts == 1).count();
        document.add_u64(fields.title_words, title_words as u64);
        document
    }

    pub(super) fn searcher(&self) -> Searcher {
        self.reader.searcher()
    }

    /// Finds the items that match a query, best first.
    pub fn search(&self, query: &LexicalQuery<'_>) -> Result<LexicalHits, LexicalError> {
        let searcher = self.searcher();
        let understood = Understood::new(&searcher, &self.fields, &self.ranking, query)?;
        let found = rank::search(&searcher, &self.fields, &self.ranking, &understood, query)?;
        Ok(LexicalHits { marks: Highlighter::new(&understood), corrected: understood.corrected, ..found })
    }

    /// What marks the words of a query in the items found with it.
    pub fn highlighter(&self, query: &LexicalQuery<'_>) -> Result<Highlighter, LexicalError> {
        let understood = Understood::new(&self.searcher(), &self.fields, &self.ranking, query)?;
        Ok(Highlighter::new(&understood))
    }
}

/// Every text among an item's attributes, with the attribute's name, in the order of names.
pub(super) fn attribute_texts(item: &Item) -> impl Iterator<Item = (&str, &str)> {
    let fields = item.attributes.iter().flat_map(|attributes| &attributes.fields);
    fields.flat_map(|(name, value)| {
        let values = match &value.kind {
            Some(Kind::ListValue(list)) => list.values.as_slice(),
            _ => std::slice::from_ref(value),
        };
        values.iter().filter_map(move |value| match &value.kind {
            Some(Kind::StringValue(text)) => Some((name.as_str(), text.as_str())),
            _ => None,
        })
    })
}
