//! `vitrine controls`.

mod file;
mod words;

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::{Args, Subcommand};
use prost_types::Timestamp;
use vitrine::v1::{
    Advertise, Boost, Bury, Campaign, Condition, Control, DeleteControlRequest, FrequencyCap, GetCampaignRequest,
    GetControlRequest, Hide, ListControlsRequest, Money, Pin, Placement, PutControlRequest, QueryMatch, Redirect,
    Synonyms, control,
};
use vitrine_client::Client;

use super::place::Place;
use crate::{
    arguments::{Global, duration, money, time},
    exit,
    output::{Column, Output, counted, grouped, json_line, last_part, line},
};

/// How a control is written.
const CONTROL_LINE: &str = r#"A control, on one line:
  {"name": "milk-first", "pin": {"item_id": "milk-1", "position": 1},
   "condition": {"queries": [{"text": "milk"}], "placements": ["PLACEMENT_SEARCH"],
   "end_time": "2026-06-01T00:00:00Z"}}
`name` and one of `pin`, `boost`, `bury`, `hide`, `synonyms`, `redirect` and `advertise` are required. Of a
whole name only the last part counts: the controls go into the catalog named by --catalog."#;

/// What to do with the shop's own rules.
#[derive(Debug, Subcommand)]
pub enum Controls {
    /// List the controls by name, and say what each does and when
    List {
        /// How many at most; 0: all
        #[arg(long, short = 'n', default_value_t = 50, value_name = "N")]
        limit: usize,
    },
    /// Show one control
    Get {
        /// The control, as `milk-first`
        id: String,
    },
    /// Show what a campaign (a control that advertises) spent and reached
    Campaign {
        /// The control, as `spring`
        id: String,
    },
    /// Add a control, or replace the one of that name
    ///
    /// Examples:
    ///   vitrine controls put milk-first pin milk-1 --query milk
    ///   vitrine controls put spring boost 'brand = "ACME"' 0.5 --from 2026-03-01 --until 2026-06-01
    ///   vitrine controls put sofas synonyms sofa couch settee
    #[command(verbatim_doc_comment)]
    Put {
        /// Its name: 1 to 63 characters of a-z, 0-9 and `-`, starting with a letter
        id: String,
        #[command(subcommand)]
        action: Box<Action>,
    },
    /// Remove controls
    Delete {
        /// The controls, as `milk-first`
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
        /// No error if there is none
        #[arg(long)]
        allow_missing: bool,
    },
    /// Add or replace controls from a file, one JSON object a line
    #[command(after_help = CONTROL_LINE)]
    Import {
        /// The file; `-` is stdin
        file: PathBuf,
    },
    /// Write the controls out by name, one JSON object a line
    Export {
        /// The file; it appears when it is complete [default: stdout]
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
    },
}

/// What a control does.
#[derive(Debug, Subcommand)]
pub enum Action {
    /// Put an item at a place
    ///
    /// Examples:
    ///   vitrine controls put milk-first pin milk-1 --query milk
    ///   vitrine controls put gift-second pin gift-7 --position 2 --placement for-user --placement popular
    #[command(verbatim_doc_comment)]
    Pin {
        /// The item's id
        item: String,
        /// The place among all results, from 1
        #[arg(long, default_value_t = 1, value_name = "N", allow_negative_numbers = true)]
        position: i32,
        #[command(flatten)]
        rule: Rule,
    },
    /// Raise or lower the score of items
    ///
    /// Examples:
    ///   vitrine controls put spring boost 'brand = "ACME"' 0.5 --from 2026-03-01 --until 2026-06-01
    ///   vitrine controls put fewer-refills boost 'categories: "Refills"' -0.5 --query-part soap
    #[command(verbatim_doc_comment)]
    Boost {
        /// Which items, as: brand = "X" AND price < 5
        filter: String,
        /// -1 to 1, not 0: 1 counts an item four times, 0.5 twice, -0.5 half
        #[arg(allow_negative_numbers = true)]
        strength: f64,
        #[command(flatten)]
        rule: Rule,
    },
    /// Put items behind all others
    ///
    /// Examples:
    ///   vitrine controls put samples-last bury 'tags: "sample"'
    ///   vitrine controls put dear-last bury 'price > 500' --query gift --query present
    #[command(verbatim_doc_comment)]
    Bury {
        /// Which items, as: brand = "X" AND price < 5
        filter: String,
        #[command(flatten)]
        rule: Rule,
    },
    /// Never show items
    ///
    /// Examples:
    ///   vitrine controls put no-recalled hide 'tags: "recalled"'
    ///   vitrine controls put no-alcohol hide 'categories: "Alcohol"' --placement for-user --placement popular
    #[command(verbatim_doc_comment)]
    Hide {
        /// Which items, as: brand = "X" AND price < 5
        filter: String,
        #[command(flatten)]
        rule: Rule,
    },
    /// Make words stand for each other in searches
    ///
    /// Examples:
    ///   vitrine controls put sofas synonyms sofa couch settee
    ///   vitrine controls put laptops synonyms notebook ultrabook --for laptop
    #[command(verbatim_doc_comment)]
    Synonyms {
        /// Words or phrases: a search for one also finds the others
        #[arg(required = true, value_name = "TERM")]
        terms: Vec<String>,
        /// One way: a search for this also finds the terms, but not the other way round (repeatable)
        #[arg(long = "for", value_name = "QUERY")]
        one_way_from: Vec<String>,
        #[command(flatten)]
        rule: Rule,
    },
    /// Tell the shop to show another page than the results
    ///
    /// Examples:
    ///   vitrine controls put sale redirect /sale --query sale --query "special offers"
    ///   vitrine controls put returns redirect /help/returns --query-part return
    #[command(verbatim_doc_comment)]
    Redirect {
        /// Where to: a path as /sale, or a whole address
        uri: String,
        #[command(flatten)]
        rule: Rule,
    },
    /// Pay for items to be shown as advertisements: a campaign
    ///
    /// Examples:
    ///   vitrine controls put spring advertise 'brand = "ACME"' 0.40EUR --daily-budget 50EUR --until 2026-06-01
    ///   vitrine controls put teas advertise 'categories: "Tea"' 0.15EUR --slot home --cap 3 --cap-window 1d
    #[command(verbatim_doc_comment)]
    Advertise {
        /// Which items, as: brand = "X" AND price < 5
        filter: String,
        /// The most that a click may cost, as 0.40EUR
        #[arg(value_parser = money)]
        bid: Money,
        /// Only in this slot (repeatable)
        #[arg(long = "slot", value_name = "SLOT")]
        slots: Vec<String>,
        /// What it may spend altogether
        #[arg(long, value_parser = money, value_name = "AMOUNT")]
        budget: Option<Money>,
        /// What it may spend in a day (UTC)
        #[arg(long, value_parser = money, value_name = "AMOUNT")]
        daily_budget: Option<Money>,
        /// How often one user or visitor may see its items in --cap-window
        #[arg(long, value_name = "N")]
        cap: Option<i32>,
        /// With --cap: in the last so long
        #[arg(long, requires = "cap", default_value = "1d", value_parser = duration, value_name = "TIME")]
        cap_window: Duration,
        #[command(flatten)]
        rule: Rule,
    },
}

/// What every control has beside its action.
#[derive(Debug, Args)]
#[command(next_help_heading = "When it applies")]
pub struct Rule {
    /// Only for searches for just this (repeatable)
    #[arg(long = "query", value_name = "TEXT")]
    queries: Vec<String>,
    /// Only for searches that have this in them (repeatable)
    #[arg(long = "query-part", value_name = "TEXT")]
    query_parts: Vec<String>,
    /// Only in these answers (repeatable)
    #[arg(long = "placement", value_enum, value_name = "WHERE")]
    placements: Vec<Place>,
    /// From this time on, as 2026-02-01 or 2026-02-01T10:00:00Z
    #[arg(long, value_parser = time, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Until before this time
    #[arg(long, value_parser = time, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Anything the shop wants to remember about it
    #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true, help_heading = "Options")]
    note: String,
    /// Only have it checked; nothing is recorded
    #[arg(long, help_heading = "Options")]
    check: bool,
}

impl Controls {
    pub async fn run(self, global: &Global) -> Result<u8> {
        let catalog = global.catalog()?;
        match self {
            Self::List { limit } => list(global, catalog, limit).await?,
            Self::Get { id } => {
                let request = GetControlRequest { name: name(&catalog, &id) };
                let control = global.connect().await?.get_control(request).await?;
                show(global.output(), &control)?;
            }
            Self::Campaign { id } => {
                let request = GetCampaignRequest { name: name(&catalog, &id) };
                let campaign = global.connect().await?.get_campaign(request).await?;
                show_campaign(global.output(), &campaign)?;
            }
            Self::Put { id, action } => put(global, action.request(name(&catalog, &id))).await?,
            Self::Delete { ids, allow_missing } => {
                let client = global.connect().await?;
                for id in ids {
                    let request = DeleteControlRequest { name: name(&catalog, &id), allow_missing };
                    client.delete_control(request).await?;
                }
            }
            Self::Import { file } => return file::import(global, &catalog, &file).await,
            Self::Export { out } => file::export(global, catalog, out).await?,
        }
        Ok(exit::OK)
    }
}

fn name(catalog: &str, id: &str) -> String {
    format!("{catalog}/controls/{id}")
}

impl Action {
    /// The control of that name.
    fn request(self, name: String) -> PutControlRequest {
        let (action, rule) = match self {
            Self::Pin { item, position, rule } => (control::Action::Pin(Pin { item_id: item, position }), rule),
            Self::Boost { filter, strength, rule } => (control::Action::Boost(Boost { filter, strength }), rule),
            Self::Bury { filter, rule } => (control::Action::Bury(Bury { filter }), rule),
            Self::Hide { filter, rule } => (control::Action::Hide(Hide { filter }), rule),
            Self::Synonyms { terms, one_way_from: queries, rule } => {
                (control::Action::Synonyms(Synonyms { terms, queries }), rule)
            }
            Self::Redirect { uri, rule } => (control::Action::Redirect(Redirect { uri }), rule),
            Self::Advertise { filter, bid, slots, budget, daily_budget, cap, cap_window, rule } => {
                let window_seconds = cap_window.as_secs() as i64;
                let frequency_cap = cap.map(|impressions| FrequencyCap { impressions, window_seconds });
                let advertise = Advertise { filter, bid: Some(bid), slots, budget, daily_budget, frequency_cap };
                (control::Action::Advertise(advertise), rule)
            }
        };
        let whole = rule.queries.into_iter().map(|text| QueryMatch { text, partial: false });
        let parts = rule.query_parts.into_iter().map(|text| QueryMatch { text, partial: true });
        let condition = Condition {
            queries: whole.chain(parts).collect(),
            placements: rule.placements.into_iter().map(|place| Placement::from(place).into()).collect(),
            start_time: rule.from,
            end_time: rule.until,
        };
        let condition = (condition != Condition::default()).then_some(condition);
        let control = Control { name, condition, action: Some(action), note: rule.note };
        PutControlRequest { control: Some(control), validate_only: rule.check }
    }
}

async fn put(global: &Global, request: PutControlRequest) -> Result<()> {
    let checked_only = request.validate_only;
    let control = global.connect().await?.put_control(request).await?;
    let output = global.output();
    show(output, &control)?;
    if checked_only && !output.json {
        output.note("checked only: nothing is recorded")?;
    }
    Ok(())
}

fn show(output: Output, control: &Control) -> Result<()> {
    if output.json {
        return output.object(control);
    }
    let mut rows = vec![("id", last_part(&control.name).to_owned()), ("action", words::action(control))];
    rows.push(("when", words::condition(control)));
    rows.push(("now", words::standing(control, jiff::Timestamp::now()).to_owned()));
    if !control.note.is_empty() {
        rows.push(("note", control.note.clone()));
    }
    Ok(output.fields(rows)?)
}

fn show_campaign(output: Output, campaign: &Campaign) -> Result<()> {
    if output.json {
        return output.object(campaign);
    }
    let rows = [
        ("campaign", last_part(&campaign.name).to_owned()),
        ("state", words::state(campaign.state()).to_owned()),
        ("spent", words::money(campaign.spent.as_ref())),
        ("spent today", words::money(campaign.spent_today.as_ref())),
        ("shown", grouped(campaign.impressions)),
        ("clicked", grouped(campaign.clicks)),
    ];
    Ok(output.fields(rows)?)
}

async fn list(global: &Global, catalog: String, limit: usize) -> Result<()> {
    let client = global.connect().await?;
    let output = global.output();
    let (controls, more) = fetch(&client, catalog, if limit == 0 { usize::MAX } else { limit }).await?;
    if output.json { controls.iter().try_for_each(json_line) } else { print_list(output, &controls, more) }
}

/// The first controls by name, and whether there are more.
async fn fetch(client: &Client, parent: String, limit: usize) -> Result<(Vec<Control>, bool)> {
    let mut request = ListControlsRequest { parent, ..Default::default() };
    let mut controls = Vec::new();
    loop {
        request.page_size = (limit - controls.len()).min(1000) as i32;
        let page = client.list_controls(request.clone()).await?;
        controls.extend(page.controls);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || controls.len() >= limit {
            return Ok((controls, !request.page_token.is_empty()));
        }
    }
}

fn print_list(output: Output, controls: &[Control], more: bool) -> Result<()> {
    if controls.is_empty() {
        line("no controls")?;
        return Ok(());
    }
    let columns = [Column::Id("control"), Column::Text("action"), Column::Text("when"), Column::Text("now")];
    let now = jiff::Timestamp::now();
    let rows = controls.iter().map(|control| {
        let standing = words::standing(control, now).to_owned();
        vec![last_part(&control.name).to_owned(), words::action(control), words::condition(control), standing]
    });
    output.table(&columns, rows)?;
    let more = if more { ", and there are more: --limit 0 lists all" } else { "" };
    Ok(output.note(format!("{}{more}", counted(controls.len() as i64, "control")))?)
}
