//! What a recommendation is for, checked field by field.

use vitrine::v1::{ForSession, RecommendRequest, recommend_request::Target as Asked};

use super::now_ms;
use crate::{check, error::Violations};

const MAX_TARGETS: usize = 100;
const MAX_SESSION: usize = 500;

/// The target.
pub fn check_target(v: &mut Violations, request: &RecommendRequest) {
    match &request.target {
        None => v.add("target", "is required, as `for_user` or `similar_to_items`"),
        Some(Asked::ForUser(_)) => {
            let context = request.context.as_ref();
            if context.is_some_and(|context| context.user_id.is_empty() && context.visitor_id.is_empty()) {
                v.add("context.user_id", "is required for `for_user`, or `visitor_id` is");
            }
        }
        Some(Asked::SimilarToItems(list)) => check_ids(v, "similar_to_items.ids", &list.ids),
        Some(Asked::BoughtTogether(list)) => check_ids(v, "bought_together.ids", &list.ids),
        Some(Asked::ForSession(session)) => check_session(v, session),
        Some(Asked::Popular(popular)) => {
            window(v, "popular.window_seconds", popular.window_seconds);
            check::text(v, "popular.category", &popular.category, 1_000);
        }
    }
}

fn check_ids(v: &mut Violations, field: &str, ids: &[String]) {
    if ids.is_empty() || ids.len() > MAX_TARGETS {
        v.add(field, format!("has {} entries; 1 to {MAX_TARGETS} are allowed", ids.len()));
    }
    for (index, id) in ids.iter().enumerate().take(MAX_TARGETS) {
        check::id(v, &format!("{field}[{index}]"), id);
    }
}

fn check_session(v: &mut Violations, session: &ForSession) {
    if session.events.is_empty() || session.events.len() > MAX_SESSION {
        let count = session.events.len();
        v.add("for_session.events", format!("has {count} entries; 1 to {MAX_SESSION} are allowed"));
    }
    let now = now_ms();
    for (index, event) in session.events.iter().enumerate().take(MAX_SESSION) {
        check::event(v, &format!("for_session.events[{index}]"), event, check::EventUse::Inline, now);
    }
}

/// A number of seconds; 0 is no window.
pub fn window(v: &mut Violations, field: &str, seconds: i64) -> Option<u32> {
    if seconds < 0 {
        v.add(field, format!("is {seconds}; it must not be negative"));
    }
    u32::try_from(seconds).ok().filter(|&seconds| seconds > 0)
}
