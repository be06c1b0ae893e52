//! `vitrine search`.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{ArgGroup, Args, ValueEnum};
use vitrine::v1::{
    Boost, Facet, FacetRequest, ImageQuery, Item, MultimodalQuery, Personalize, RequestContext, SearchMode,
    SearchRequest, SearchResponse, SearchResult, Spelling, StageScore, TotalSizeRelation, search_request::Query,
};

use super::diverse::Diverse;
use crate::{
    arguments::Global,
    exit,
    output::{
        Column, ITEM_COLUMNS, Output, answer_notes, category, control_notes, counted, experiment_notes, grouped,
        item_row, line, printable, stage_cells, stage_names, variant_row,
    },
    picture,
};

/// Find items by words and meaning, and by a picture
///
/// Examples:
///   vitrine search "oat milk" --filter 'brand = "ACME" AND price < 5'
///   vitrine search shampoo --facet brand --facet price --explain
///   vitrine search sneakers --boost '0.5:brand = "ACME"' --group-by attributes.model --group-size 3
///   vitrine search --image photo.jpg
///   vitrine search "in red" --image photo.jpg --image-weight 0.7
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, group(ArgGroup::new("what").args(["query", "image"]).required(true).multiple(true)))]
pub struct Search {
    /// What is looked for
    query: Option<String>,
    /// A picture of what is looked for: PNG, JPEG or WebP, at most 10 MiB
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// With words and --image: what the picture counts, 0 to 1 [default: 0.5]
    #[arg(long, requires_all = ["query", "image"], value_name = "WEIGHT", allow_negative_numbers = true)]
    image_weight: Option<f64>,
    /// Only items that match, as: brand = "X" AND price < 5 AND categories: "Dairy"
    #[arg(long, short, default_value = "", value_name = "FILTER", hide_default_value = true)]
    filter: String,
    /// Which retrievers take part
    #[arg(long, value_enum, default_value_t = Mode::Hybrid)]
    mode: Mode,
    /// How many results [default: the server's, 10]
    #[arg(
        long,
        short = 'n',
        default_value_t = 0,
        value_name = "N",
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    page_size: i32,
    /// Go on where an answer ended: its `next page` token
    #[arg(long, default_value = "", value_name = "TOKEN", hide_default_value = true)]
    page_token: String,
    /// Count the matching items by this key (repeatable), as `brand` or `attributes.size`
    #[arg(long = "facet", value_name = "KEY")]
    facets: Vec<String>,
    /// Sort by a field instead of relevance, as `price desc`
    #[arg(long, default_value = "", value_name = "ORDER", hide_default_value = true)]
    order_by: String,
    #[command(flatten)]
    diverse: Diverse,
    /// Move up what the user or visitor likes: 0 is relevance only, 1 liking only; 0.3 if no number is given
    #[arg(long, value_name = "STRENGTH", num_args = 0..=1, default_missing_value = "0.3", require_equals = true)]
    personalize: Option<f64>,
    /// Raise or lower the score of items that match a filter (repeatable), as '0.5:brand = "X"': -1 to 1, 1 counts four times
    #[arg(long = "boost", value_name = "STRENGTH:FILTER", value_parser = boost, allow_hyphen_values = true)]
    boosts: Vec<Boost>,
    /// Show items that share a value as one result, as `brand` or `attributes.model`
    #[arg(long, default_value = "", value_name = "KEY", hide_default_value = true)]
    group_by: String,
    /// With --group-by: how many items of each group [default: the server's, 1]
    #[arg(
        long,
        requires = "group_by",
        default_value_t = 0,
        value_name = "N",
        hide_default_value = true,
        allow_negative_numbers = true
    )]
    group_size: i32,
    /// Take the words as they are, misspelt or not
    #[arg(long)]
    exact_spelling: bool,
    /// Show the score and place that each stage gave
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    who: Who,
}

/// Who asks.
#[derive(Debug, Clone, Default, Args)]
pub struct Who {
    /// For this known user
    #[arg(long, short, default_value = "", value_name = "ID", hide_default_value = true)]
    pub user: String,
    /// For this anonymous visitor
    #[arg(long, default_value = "", value_name = "ID", hide_default_value = true)]
    pub visitor: String,
    /// Have this label or version of a model answer, as text-embedding=canary or text-embedding=3 (for debugging)
    #[arg(long = "model", value_name = "TASK=LABEL", value_parser = assignment)]
    pub models: Vec<(String, String)>,
    /// Have this arm of an experiment answer, and log nothing of it, as search-encoder=canary (for debugging)
    #[arg(long = "arm", value_name = "EXPERIMENT=ARM", value_parser = assignment)]
    pub arms: Vec<(String, String)>,
}

/// Reads `text-embedding=canary`.
pub fn assignment(text: &str) -> Result<(String, String), String> {
    let (left, right) = text.split_once('=').ok_or_else(|| format!("`{text}` is not NAME=VALUE"))?;
    Ok((left.to_owned(), right.to_owned()))
}

fn boost(text: &str) -> Result<Boost, String> {
    let wrong = || format!("`{text}` is not STRENGTH:FILTER, as 0.5:brand = \"X\"");
    let (strength, filter) = text.split_once(':').ok_or_else(wrong)?;
    let strength = strength.trim().parse().map_err(|_| wrong())?;
    Ok(Boost { filter: filter.trim().to_owned(), strength })
}

impl Who {
    /// The context of a request.
    pub fn context(&self, catalog: String) -> RequestContext {
        RequestContext {
            catalog,
            user_id: self.user.clone(),
            visitor_id: self.visitor.clone(),
            model_selector: self.models.iter().cloned().collect(),
            force_arms: self.arms.iter().cloned().collect(),
            ..Default::default()
        }
    }
}

/// Which retrievers take part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Words and meaning
    Hybrid,
    /// Words only
    Lexical,
    /// Meaning only
    Semantic,
}

impl From<Mode> for SearchMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Hybrid => Self::Hybrid,
            Mode::Lexical => Self::Lexical,
            Mode::Semantic => Self::Semantic,
        }
    }
}

impl Search {
    pub async fn run(self, global: &Global) -> Result<u8> {
        let request = self.request(global.catalog()?)?;
        let answer = global.connect().await?.search(request).await?;
        let output = global.output();
        if output.json {
            output.object(&answer)?;
        } else {
            print(output, &answer, self.explain)?;
        }
        Ok(exit::OK)
    }

    fn query(&self) -> Result<Option<Query>> {
        let image = match &self.image {
            Some(path) => Some(ImageQuery { data: picture::read(path).with_context(|| path.display().to_string())? }),
            None => None,
        };
        Ok(match (self.query.clone(), image) {
            (Some(text), None) => Some(Query::Text(text)),
            (None, image) => image.map(Query::Image),
            (Some(text), image) => {
                Some(Query::Multimodal(MultimodalQuery { text, image, image_weight: self.image_weight }))
            }
        })
    }

    fn request(&self, catalog: String) -> Result<SearchRequest> {
        let facets = self.facets.iter().map(|key| FacetRequest { key: key.clone(), ..Default::default() });
        Ok(SearchRequest {
            context: Some(self.who.context(catalog)),
            query: self.query()?,
            page_size: self.page_size,
            page_token: self.page_token.clone(),
            filter: self.filter.clone(),
            order_by: self.order_by.clone(),
            facets: facets.collect(),
            boosts: self.boosts.clone(),
            group_by: self.group_by.clone(),
            group_size: self.group_size,
            personalize: self.personalize.map(|strength| Personalize { strength: Some(strength), candidates: 0 }),
            diversity: self.diverse.request(),
            mode: SearchMode::from(self.mode).into(),
            spelling: if self.exact_spelling { Spelling::Off } else { Spelling::Auto }.into(),
            ..Default::default()
        })
    }
}

fn print(output: Output, answer: &SearchResponse, explain: bool) -> Result<()> {
    if answer.results.is_empty() {
        line("nothing found")?;
    } else {
        let stages = if explain { stage_names(answer.results.iter().map(|result| &result.stages)) } else { Vec::new() };
        let mut columns = ITEM_COLUMNS.to_vec();
        // The stages take the category's place: both together are too wide for most terminals.
        columns.extend(stages.iter().map(|stage| Column::Number(stage)));
        if !explain {
            columns.push(Column::Text("category"));
        }
        let in_groups = answer.results.iter().any(|result| result.group_total > 0);
        if in_groups {
            columns.insert(ITEM_COLUMNS.len(), Column::Number("group"));
        }
        output.table(&columns, answer.results.iter().flat_map(|result| result_rows(result, &stages, in_groups)))?;
    }
    for facet in &answer.facets {
        print_facet(output, facet)?;
    }
    if !answer.redirect_uri.is_empty() {
        output.note(printable(&format!("redirect to {}", answer.redirect_uri)))?;
    }
    control_notes(output, &answer.applied_controls)?;
    experiment_notes(output, &answer.experiments)?;
    let at_least = if answer.total_size_relation() == TotalSizeRelation::LowerBound { "at least " } else { "" };
    let mut notes = vec![format!("{at_least}{}", counted(answer.total_size, "result"))];
    if !answer.corrected_query.is_empty() {
        notes.push(format!("searched for “{}”", answer.corrected_query));
    }
    answer_notes(output, notes, &answer.served_by, &answer.degraded, &answer.next_page_token)
}

/// A result, and below it the variants that came with it.
fn result_rows(result: &SearchResult, stages: &[String], in_groups: bool) -> Vec<Vec<String>> {
    let complete = |mut row: Vec<String>, item: &Item, stage_scores: &[StageScore], group: String| {
        row.extend(in_groups.then_some(group));
        row.extend(stage_cells(stages, stage_scores));
        row.push(category(item));
        row
    };
    let group = if result.group_total > 0 { grouped(result.group_total) } else { String::new() };
    let item = result.item.clone().unwrap_or_default();
    let mut rows = vec![complete(item_row(result.rank, result.score, &item), &item, &result.stages, group)];
    rows.extend(result.variants.iter().map(|variant| {
        let item = variant.item.clone().unwrap_or_default();
        complete(variant_row(variant.score, &item), &item, &[], String::new())
    }));
    rows
}

fn print_facet(output: Output, facet: &Facet) -> Result<()> {
    line("")?;
    let columns = [Column::Text(&facet.key), Column::Number("items")];
    output.table(&columns, facet.values.iter().map(|value| vec![value.value.clone(), grouped(value.count)]))?;
    if let (Some(minimum), Some(maximum)) = (facet.minimum, facet.maximum) {
        output.note(format!("from {minimum} to {maximum}"))?;
    }
    Ok(())
}
