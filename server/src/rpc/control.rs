//! The part of `CatalogService` about controls.

use std::sync::Arc;

use tokio::task;
use tonic::{Code, Response, Status};
use vitrine::v1::{
    Campaign, CampaignState, Control, DeleteControlRequest, GetCampaignRequest, GetControlRequest, ListControlsRequest,
    ListControlsResponse, PutControlRequest,
};

use super::{
    App,
    catalog::{DEFAULT_PAGE, MAX_PAGE},
    log_status, now_ms,
};
use crate::{
    ads::day,
    check,
    control::rule::Rule,
    error::{Violations, internal, invalid, not_found, status},
    log::{Appended, Change},
    token::stable_hash,
};

/// Every request looks at all of them.
const MAX_CONTROLS: usize = 1_000;

pub(super) fn get(app: &App, request: &GetControlRequest) -> Result<Response<Control>, Status> {
    let (catalog, id) = check::control_name("name", &request.name)?;
    let controls = app.shop_of(&catalog)?.catalog().controls();
    let control = controls.get(&id).ok_or_else(|| no_control(&id))?;
    Ok(Response::new(Control::clone(control)))
}

pub(super) fn list(app: &App, request: &ListControlsRequest) -> Result<Response<ListControlsResponse>, Status> {
    let shop = app.shop("parent", &request.parent)?;
    let mut violations = Violations::default();
    let size = check::page_size(&mut violations, "page_size", request.page_size, DEFAULT_PAGE, MAX_PAGE);
    violations.into_result()?;
    let hash = stable_hash(("ListControls", &request.parent));
    let after = app.list_position(&request.page_token, hash)?;
    let stored = shop.catalog().controls();
    let mut left = stored.iter().filter(|(id, _)| after.as_deref().is_none_or(|after| &***id > after)).peekable();
    let page: Vec<_> = left.by_ref().take(size).collect();
    let last = page.last().filter(|_| left.peek().is_some()).map(|(id, _)| id.to_string());
    let controls = page.iter().map(|(_, control)| Control::clone(control)).collect();
    Ok(Response::new(ListControlsResponse { controls, next_page_token: app.list_token(hash, last) }))
}

pub(super) async fn put(app: &App, request: PutControlRequest) -> Result<Response<Control>, Status> {
    let Some(control) = request.control else {
        return Err(invalid("control", "is required"));
    };
    let (catalog, id) = check::control_name("control.name", &control.name)?;
    let shop = app.shop_of(&catalog)?;
    let mut violations = Violations::default();
    Rule::new(&control, &mut violations);
    violations.into_result()?;
    let stored = shop.catalog().controls();
    if stored.len() >= MAX_CONTROLS && !stored.contains_key(&id) {
        let message = format!("the catalog has {} controls, which is the most it may have; delete some", stored.len());
        return Err(status(Code::FailedPrecondition, "TOO_MANY_CONTROLS", message));
    }
    if !request.validate_only {
        shop.catalog().append(vec![Change::PutControl(id, control.clone())]).await.map_err(log_status)?;
        // Made ready here, so that no search has to.
        task::spawn_blocking(move || shop.controls()).await.map_err(internal)?;
    }
    Ok(Response::new(control))
}

pub(super) async fn delete(app: &App, request: DeleteControlRequest) -> Result<Response<()>, Status> {
    let (catalog, id) = check::control_name("name", &request.name)?;
    let shop = app.shop_of(&catalog)?;
    let change = Change::DeleteControl(Arc::clone(&id));
    let appended = shop.catalog().append(vec![change]).await.map_err(log_status)?;
    let existed = appended.iter().any(Appended::existed);
    if existed || request.allow_missing { Ok(Response::new(())) } else { Err(no_control(&id)) }
}

pub(super) fn campaign(app: &App, request: &GetCampaignRequest) -> Result<Response<Campaign>, Status> {
    let (catalog, id) = check::control_name("name", &request.name)?;
    let shop = app.shop_of(&catalog)?;
    let controls = shop.controls();
    let rule = controls.rule(&request.name).ok_or_else(|| no_control(&id))?;
    let campaign = rule.campaign().ok_or_else(|| not_found("campaign", &id, "the control does not advertise"))?;
    let now = now_ms();
    let behaviour = shop.catalog().behaviour.read();
    let ledger = behaviour.ads();
    let state = if now < rule.active.start {
        CampaignState::Scheduled
    } else if now >= rule.active.end {
        CampaignState::Ended
    } else if campaign.is_out_of_budget(&id, ledger) {
        CampaignState::OutOfBudget
    } else if campaign.may_spend(&id, ledger, rule.time(), now) {
        CampaignState::Running
    } else {
        CampaignState::Waiting
    };
    let shown = ledger.shown(&id);
    Ok(Response::new(Campaign {
        name: request.name.clone(),
        state: state.into(),
        spent: Some(ledger.spent(&id).money(&campaign.currency)),
        spent_today: Some(ledger.spent_on(&id, day(now)).money(&campaign.currency)),
        impressions: shown.impressions as i64,
        clicks: shown.clicks as i64,
    }))
}

fn no_control(id: &str) -> Status {
    not_found("control", id, "`vitrine controls list` shows what there is")
}
