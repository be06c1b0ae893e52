//! Feedback: checks each event by itself, records the good ones, and says what became of each.

use tonic::{Request, Response, Status};
use vitrine::v1::{Event, EventResult, EventStatus, FeedbackRequest, FeedbackResponse, Served};

use super::{App, log_status, now_ms};
use crate::{
    DAY_MS, check,
    error::{Violations, invalid},
    log::{Appended, Change},
    telemetry,
    token::{Attribution, short_hash},
};

/// Records events. The answer comes when every accepted one is on disk.
pub async fn feedback(app: &App, request: Request<FeedbackRequest>) -> Result<Response<FeedbackResponse>, Status> {
    let request = request.into_inner();
    let shop = app.shop("catalog", &request.catalog)?;
    let limit = app.config.limits.max_events_per_call;
    if request.events.is_empty() {
        return Err(invalid("events", "is required: at least one event"));
    }
    if request.events.len() > limit {
        let count = request.events.len();
        return Err(invalid("events", format!("has {count} entries; at most {limit} are allowed in one call")));
    }
    let catalog = shop.catalog();
    let mut judged = Judged::default();
    for event in request.events {
        judged.add(app, catalog.id.as_str(), event);
    }
    let appended = catalog.append(judged.changes).await.map_err(log_status)?;
    let mut results = judged.results;
    for (index, appended) in judged.places.into_iter().zip(appended) {
        let result: &mut EventResult = &mut results[index];
        let status = match appended {
            Appended::Accepted { unknown, .. } => {
                result.unknown_items = unknown;
                EventStatus::Accepted
            }
            Appended::Duplicate => EventStatus::Duplicate,
        };
        result.status = status as i32;
    }
    for result in &results {
        metrics::counter!(telemetry::EVENTS, "status" => result.status().as_str_name()).increment(1);
    }
    Ok(Response::new(FeedbackResponse { results }))
}

/// How an item came into an answer, if there is more to say than that it did.
fn served(answer: &Attribution, item: &str, now_ms: i64) -> Option<Served> {
    let item = short_hash(item);
    let found = answer.items.iter().find(|served| served.item == item)?;
    let mut served = Served { answer: answer.request_id, ..found.served.clone()? };
    served.ad = served.ad.filter(|_| now_ms.saturating_sub(answer.time_ms) <= DAY_MS);
    (served.ad.is_some() || served.propensity.is_some()).then_some(served)
}

/// Events sorted into what is recorded and what is rejected.
#[derive(Default)]
pub struct Judged {
    /// What goes into the log.
    pub changes: Vec<Change>,
    /// For each change, the place of its event in the request.
    pub places: Vec<usize>,
    /// One for each event; the status of those in `places` is still to be set.
    pub results: Vec<EventResult>,
}

impl Judged {
    /// Judges one event.
    pub fn add(&mut self, app: &App, catalog: &str, mut event: Event) {
        let now = now_ms();
        let mut violations = Violations::default();
        check::event(&mut violations, "", &event, check::EventUse::Recorded, now);
        let mut result = EventResult { event_id: event.event_id.clone(), ..Default::default() };
        if violations.is_empty() {
            let answer = app.attributed(catalog, &event, now);
            result.attributed = answer.is_some();
            for item in &mut event.items {
                item.served = answer.as_ref().and_then(|answer| served(answer, &item.id, now));
            }
            self.places.push(self.results.len());
            self.changes.push(Change::Event(event));
        } else {
            result.status = EventStatus::Rejected as i32;
            result.violations = violations.into_messages();
        }
        self.results.push(result);
    }
}
