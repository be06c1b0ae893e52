//! `vitrine recommend`.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use clap::{ArgGroup, Args, ValueEnum};
use vitrine::v1::{
    Ad, Ads, ExcludeInteracted, Exploration, ForSession, ForUser, ItemList, Likeness, Money, Popular, RecommendRequest,
    RecommendResponse, recommend_request::Target,
};
use vitrine_client::json;

use super::{diverse::Diverse, import::open, search::Who};
use crate::{
    arguments::{Global, duration, money},
    exit,
    exit::Usage,
    output::{
        Column, ITEM_COLUMNS, Output, answer_notes, control_notes, counted, experiment_notes, item_row, last_part,
        line, stage_cells, stage_names,
    },
};

/// Propose items to a user, beside an item, in a session, or for everybody
///
/// Examples:
///   vitrine recommend --user 1001
///   vitrine recommend --bought-together 1029743,995242 --exclude-interacted --user 1001
///   vitrine recommend --similar-to 1029743 --by picture
///   vitrine recommend --ads home --user 1001
///   vitrine recommend --popular --window 7d --category "Dairy"
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, group(ArgGroup::new("target").args(["similar_to", "bought_together", "popular", "session", "ads"])))]
pub struct Recommend {
    #[command(flatten)]
    who: Who,
    /// Items like these
    #[arg(long, value_delimiter = ',', value_name = "ID,…")]
    similar_to: Vec<String>,
    /// With --similar-to: what makes items alike [default: meaning]
    #[arg(
        long,
        requires = "similar_to",
        conflicts_with_all = ["bought_together", "popular", "session", "ads"],
        value_enum,
        value_name = "WHAT"
    )]
    by: Option<By>,
    /// Items bought in the same orders as these
    #[arg(long, value_delimiter = ',', value_name = "ID,…")]
    bought_together: Vec<String>,
    /// What sells
    #[arg(long)]
    popular: bool,
    /// With --popular: only lately, as `7d`
    #[arg(
        long,
        requires = "popular",
        conflicts_with_all = ["similar_to", "bought_together", "session", "ads"],
        value_parser = duration,
        value_name = "TIME"
    )]
    window: Option<Duration>,
    /// With --popular: only in this category or below it
    #[arg(
        long,
        requires = "popular",
        conflicts_with_all = ["similar_to", "bought_together", "session", "ads"],
        default_value = "",
        value_name = "PATH",
        hide_default_value = true
    )]
    category: String,
    /// From what happened in a session: a file of event lines, oldest first; `-` is stdin
    #[arg(long, value_name = "FILE")]
    session: Option<PathBuf>,
    /// Advertised items for this slot of the shop
    #[arg(long, value_name = "SLOT")]
    ads: Option<String>,
    /// With --ads: the least that a click must bring, as 0.10EUR
    #[arg(long, requires = "ads", value_parser = money, value_name = "AMOUNT")]
    floor: Option<Money>,
    /// Give each place to any candidate by chance, so often: 0 to 1
    #[arg(long, value_name = "EPSILON")]
    explore: Option<f64>,
    /// Never these (repeatable)
    #[arg(long, value_delimiter = ',', value_name = "ID,…")]
    exclude: Vec<String>,
    /// Nothing the user has dealt with before
    #[arg(long)]
    exclude_interacted: bool,
    /// Only items that match, as: brand = "X" AND price < 5
    #[arg(long, short, default_value = "", value_name = "FILTER", hide_default_value = true)]
    filter: String,
    /// With `false`: fill up with popular items when too few match the filter [default: true]
    #[arg(long, value_name = "BOOL")]
    strict_filter: Option<bool>,
    #[command(flatten)]
    diverse: Diverse,
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
    /// Show the score and place that each source gave
    #[arg(long)]
    explain: bool,
}

/// What makes items alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// What is written of them
    Meaning,
    /// How they look in their pictures
    Picture,
}

impl From<By> for Likeness {
    fn from(by: By) -> Self {
        match by {
            By::Meaning => Self::Meaning,
            By::Picture => Self::Picture,
        }
    }
}

impl Recommend {
    pub async fn run(self, global: &Global) -> Result<u8> {
        let output = global.output();
        let request = self.request(global.catalog()?, output)?;
        let answer = global.connect().await?.recommend(request).await?;
        if output.json {
            output.object(&answer)?;
        } else {
            print(output, &answer, self.explain)?;
        }
        Ok(exit::OK)
    }

    fn request(&self, catalog: String, output: Output) -> Result<RecommendRequest> {
        Ok(RecommendRequest {
            context: Some(self.who.context(catalog)),
            target: Some(self.target()?),
            page_size: self.page_size,
            page_token: self.page_token.clone(),
            exclude_items: self.exclude.clone(),
            exclude_interacted: self.exclude_interacted.then(ExcludeInteracted::default),
            filter: self.filter.clone(),
            strict_filter: self.strict_filter,
            diversity: self.diverse.request(),
            exploration: self.explore.map(|epsilon| Exploration { epsilon, candidates: 0 }),
            likeness: self.by.map_or(Likeness::Unspecified, Likeness::from).into(),
            // The table always has the reason.
            explain: self.explain || !output.json,
            ..Default::default()
        })
    }

    fn target(&self) -> Result<Target> {
        let target = if !self.similar_to.is_empty() {
            Target::SimilarToItems(ItemList { ids: self.similar_to.clone() })
        } else if !self.bought_together.is_empty() {
            Target::BoughtTogether(ItemList { ids: self.bought_together.clone() })
        } else if self.popular {
            let window_seconds = self.window.map_or(0, |window| window.as_secs() as i64);
            Target::Popular(Popular { window_seconds, category: self.category.clone() })
        } else if let Some(path) = &self.session {
            let mut events = Vec::new();
            for line in json::LineReader::new(open(path)?) {
                let line = line.with_context(|| format!("cannot read {}", path.display()))?;
                let event = line.text.and_then(|text| json::parse_event(&text).map_err(|error| error.to_string()));
                events.push(event.map_err(|error| Usage(format!("{}:{}: {error}", path.display(), line.number)))?);
            }
            Target::ForSession(ForSession { events })
        } else if let Some(slot) = &self.ads {
            Target::Ads(Ads { slot: slot.clone(), floor_price: self.floor.clone() })
        } else if !self.who.user.is_empty() || !self.who.visitor.is_empty() {
            Target::ForUser(ForUser {})
        } else {
            let what = "say for whom (--user, --visitor), or what for: --similar-to, --bought-together, --popular, --session or --ads";
            return Err(Usage(what.to_owned()).into());
        };
        Ok(target)
    }
}

/// How an advertisement came by its place, as `spring: 0.23 EUR a click, of at most 0.40; clicked by 2.1 %`.
fn advertised(ad: &Ad) -> String {
    let (price, bid) = (ad.price.clone().unwrap_or_default(), ad.bid.clone().unwrap_or_default());
    let (campaign, clicked) = (last_part(&ad.campaign), 100.0 * ad.predicted_ctr);
    format!(
        "{campaign}: {} {} a click, of at most {}; clicked by {clicked:.1} %",
        price.amount, price.currency, bid.amount
    )
}

fn print(output: Output, answer: &RecommendResponse, explain: bool) -> Result<()> {
    if answer.results.is_empty() {
        line("nothing to recommend")?;
    } else {
        let stages = if explain { stage_names(answer.results.iter().map(|result| &result.stages)) } else { Vec::new() };
        let mut columns = ITEM_COLUMNS.to_vec();
        columns.push(Column::Text("reason"));
        columns.extend(stages.iter().map(|stage| Column::Number(stage)));
        let rows = answer.results.iter().map(|result| {
            let mut row = item_row(result.rank, result.score, &result.item.clone().unwrap_or_default());
            let reason = result.reason.as_ref().map(|reason| reason.text.clone()).unwrap_or_default();
            row.push(result.ad.as_ref().map_or(reason, advertised));
            row.extend(stage_cells(&stages, &result.stages));
            row
        });
        output.table(&columns, rows)?;
    }
    control_notes(output, &answer.applied_controls)?;
    experiment_notes(output, &answer.experiments)?;
    let mut notes = vec![counted(answer.results.len() as i64, "result")];
    if !answer.missing_ids.is_empty() {
        notes.push(format!("not in the catalog: {}", answer.missing_ids.join(", ")));
    }
    answer_notes(output, notes, &answer.served_by, &answer.degraded, &answer.next_page_token)
}
