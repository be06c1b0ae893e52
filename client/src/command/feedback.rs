//! `vitrine feedback`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::{ArgGroup, Args};
use prost_types::Timestamp;
use vitrine::v1::{Event, EventItem, EventResult, EventStatus, FeedbackRequest, FeedbackResponse};
use vitrine_client::json::{self, LineReader};

use super::import::open;
use crate::{
    arguments::{Global, time},
    exit,
    output::{Column, Output, line, printable},
};

/// How many events of a file go into one call.
const BATCH: usize = 500;

/// Tell what users did.
///
/// Examples:
///   vitrine feedback --user 1001 --type purchase --item 1029743:2:3.49 --item 995242 --order o-77
///   vitrine feedback --file events.jsonl
#[derive(Debug, Args)]
#[command(verbatim_doc_comment, group(ArgGroup::new("what").args(["item", "file"]).required(true).multiple(false)))]
pub struct Feedback {
    /// The known user who did it
    #[arg(long, short, default_value = "", value_name = "ID", hide_default_value = true)]
    user: String,
    /// The anonymous visitor who did it
    #[arg(long, default_value = "", value_name = "ID", hide_default_value = true)]
    visitor: String,
    /// What was done, as `view`, `add_to_cart` or `purchase`
    #[arg(long = "type", short, requires = "item", value_name = "TYPE")]
    kind: Option<String>,
    /// To which item (repeatable): its id, the quantity and the price of one
    #[arg(long, short, requires = "kind", value_name = "ID[:QTY[:PRICE]]", value_parser = event_item)]
    item: Vec<EventItem>,
    /// The event's own id: sending it twice counts once [default: random]
    #[arg(long, value_name = "ID")]
    event_id: Option<String>,
    /// The order that a purchase belongs to
    #[arg(long, default_value = "", value_name = "ID", hide_default_value = true)]
    order: String,
    /// The attribution token of the answer that led to it
    #[arg(long, default_value = "", value_name = "TOKEN", hide_default_value = true)]
    token: String,
    /// The session in which it was done
    #[arg(long, default_value = "", value_name = "ID", hide_default_value = true)]
    session: String,
    /// For `rate` the rating, for `dwell` the seconds
    #[arg(long)]
    weight: Option<f64>,
    /// When [default: now]
    #[arg(long, value_parser = time, value_name = "TIME")]
    time: Option<Timestamp>,
    /// Events from a file, one JSON object a line; `-` is stdin
    #[arg(long, value_name = "FILE", conflicts_with_all = ["user", "visitor", "event_id", "order", "token", "session", "weight", "time"])]
    file: Option<PathBuf>,
}

/// Reads `ID`, `ID:QTY` or `ID:QTY:PRICE`. The id may contain colons itself: only figures at the end are taken off.
fn event_item(text: &str) -> Result<EventItem, String> {
    let item = |id: &str, quantity: u32, price: &str| EventItem {
        id: id.to_owned(),
        quantity,
        price: price.to_owned(),
        served: None,
    };
    let is_price = |text: &str| text.parse::<f64>().is_ok_and(f64::is_finite);
    if let [price, quantity, id] = text.rsplitn(3, ':').collect::<Vec<_>>()[..]
        && let (true, Ok(quantity)) = (is_price(price), quantity.parse())
    {
        return Ok(item(id, quantity, price));
    }
    if let Some((id, quantity)) = text.rsplit_once(':')
        && let Ok(quantity) = quantity.parse()
    {
        return Ok(item(id, quantity, ""));
    }
    if text.is_empty() { Err("the id is empty".to_owned()) } else { Ok(item(text, 0, "")) }
}

/// What became of the events.
#[derive(Debug, Default)]
struct Outcome {
    results: Vec<EventResult>,
    bad_lines: u64,
}

impl Feedback {
    pub async fn run(self, global: &Global) -> Result<u8> {
        let outcome = match &self.file {
            Some(path) => send_file(global, path).await?,
            None => Outcome { results: send(global, vec![self.event()?]).await?, bad_lines: 0 },
        };
        let rejected = outcome.results.iter().any(|result| result.status() == EventStatus::Rejected);
        print(global.output(), outcome.results, self.file.is_some())?;
        Ok(if rejected || outcome.bad_lines > 0 { exit::SOME_REJECTED } else { exit::OK })
    }

    fn event(&self) -> Result<Event> {
        // The type is read as it is in files, so that both have the same names and the same complaints.
        let kind = json::parse_event(&serde_json::json!({ "type": self.kind }).to_string());
        let kind = kind.map_err(|error| exit::Usage(format!("--{error}")))?.r#type;
        Ok(Event {
            event_id: self.event_id.clone().unwrap_or_else(random_id),
            r#type: kind,
            time: self.time,
            user_id: self.user.clone(),
            visitor_id: self.visitor.clone(),
            session_id: self.session.clone(),
            items: self.item.clone(),
            attribution_token: self.token.clone(),
            order_id: self.order.clone(),
            weight: self.weight,
            ..Default::default()
        })
    }
}

/// A random (version 4) UUID.
pub fn random_id() -> String {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid().to_string()
}

async fn send(global: &Global, events: Vec<Event>) -> Result<Vec<EventResult>> {
    let request = FeedbackRequest { catalog: global.catalog()?, events };
    Ok(global.connect().await?.feedback(request).await?.results)
}

async fn send_file(global: &Global, path: &Path) -> Result<Outcome> {
    let catalog = global.catalog()?;
    let client = global.connect().await?;
    let mut outcome = Outcome::default();
    let mut events = Vec::new();
    let mut lines = LineReader::new(open(path)?);
    loop {
        let line = lines.next().transpose().with_context(|| format!("cannot read {}", path.display()))?;
        let ended = line.is_none();
        if let Some(line) = line {
            match line.text.and_then(|text| json::parse_event(&text).map_err(|error| error.to_string())) {
                Ok(event) => events.push(event),
                Err(problem) => {
                    outcome.bad_lines += 1;
                    eprintln!("{}:{}: {}", path.display(), line.number, printable(&problem));
                }
            }
        }
        if events.len() == BATCH || ended && !events.is_empty() {
            let request = FeedbackRequest { catalog: catalog.clone(), events: std::mem::take(&mut events) };
            outcome.results.extend(client.feedback(request).await?.results);
        }
        if ended {
            return Ok(outcome);
        }
    }
}

fn print(output: Output, results: Vec<EventResult>, many: bool) -> Result<()> {
    if output.json {
        return output.object(&FeedbackResponse { results });
    }
    let count = |status| results.iter().filter(|result| result.status() == status).count();
    let (accepted, duplicate) = (count(EventStatus::Accepted), count(EventStatus::Duplicate));
    let rejected = count(EventStatus::Rejected);
    // Of a file only what needs a look is listed.
    let notable =
        |result: &&EventResult| !many || result.status() == EventStatus::Rejected || !result.unknown_items.is_empty();
    let rows: Vec<Vec<String>> = results.iter().filter(notable).map(row).collect();
    if !rows.is_empty() {
        let columns = [Column::Id("event"), Column::Text("status"), Column::Text("counts as"), Column::Text("remarks")];
        output.table(&columns, rows)?;
    }
    if many {
        line(format!("{accepted} accepted, {duplicate} known before, {rejected} rejected"))?;
    }
    Ok(())
}

fn row(result: &EventResult) -> Vec<String> {
    let status = result.status().as_str_name().trim_start_matches("EVENT_STATUS_").to_ascii_lowercase();
    let counts_as = match result.status() {
        EventStatus::Accepted if result.attributed => "attributed",
        EventStatus::Accepted => "organic",
        _ => "",
    };
    let mut remarks: Vec<String> =
        result.violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect();
    if !result.unknown_items.is_empty() {
        remarks.push(format!("not in the catalog: {}", result.unknown_items.join(", ")));
    }
    vec![result.event_id.clone(), status, counts_as.to_owned(), remarks.join("; ")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn reads(text: &str, id: &str, quantity: u32, price: &str) {
        assert_eq!(event_item(text), Ok(EventItem { id: id.into(), quantity, price: price.into(), served: None }));
    }

    #[test]
    fn an_item_is_an_id_a_quantity_and_a_price() {
        reads("B07", "B07", 0, "");
        reads("B07:2", "B07", 2, "");
        reads("B07:2:89.90", "B07", 2, "89.90");
    }

    #[test]
    fn an_id_with_colons_keeps_them() {
        reads("urn:isbn", "urn:isbn", 0, "");
        reads("urn:isbn:3:9.5", "urn:isbn", 3, "9.5");
        reads("a:b:c", "a:b:c", 0, "");
    }

    #[test]
    fn random_ids_are_uuids_and_differ() {
        let (a, b) = (random_id(), random_id());
        assert!(a != b && a.len() == 36 && a.as_bytes()[14] == b'4', "{a}");
    }
}
