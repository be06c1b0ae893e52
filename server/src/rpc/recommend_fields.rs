//! What a recommendation is for, checked field by field.

use vitrine::v1::{self, Ads, ForSession, RecommendRequest, recommend_request::Target as Asked};

use super::now_ms;
use crate::{ads::Micros, check, error::Violations, recommend::Exploration};

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
        Some(Asked::Ads(ads)) => check_ads(v, ads, request),
    }
}

fn check_ads(v: &mut Violations, ads: &Ads, request: &RecommendRequest) {
    check::slot(v, "ads.slot", &ads.slot);
    if let Some(floor) = &ads.floor_price {
        Micros::checked(v, "ads.floor_price", floor);
    }
    for (field, used) in [
        ("page_token", !request.page_token.is_empty()),
        ("diversity", request.diversity.is_some()),
        ("exploration", request.exploration.is_some()),
        ("strict_filter", request.strict_filter == Some(false)),
    ] {
        if used {
            v.add(field, "is not for a request with `ads`");
        }
    }
}

/// How places are given by chance. `None`: they are not.
pub fn exploration(v: &mut Violations, wanted: &v1::Exploration) -> Option<Exploration> {
    const CANDIDATES: i32 = 100;
    const MOST: i32 = 1_000;
    let v1::Exploration { epsilon, candidates } = *wanted;
    if !(0.0..=1.0).contains(&epsilon) {
        v.add("exploration.epsilon", format!("is {epsilon}; it must be 0 to 1"));
    }
    if !(0..=MOST).contains(&candidates) {
        v.add("exploration.candidates", format!("is {candidates}; it must be 0 to {MOST}"));
    }
    let candidates = if candidates == 0 { CANDIDATES } else { candidates };
    (epsilon > 0.0).then_some(Exploration { epsilon, candidates: candidates.max(0) as usize })
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
