//! Campaigns pay for clicks: who pays more for a likelier click comes first and pays what keeps the place, budgets end, and nobody sees too
//! much of one campaign or anything that cannot be bought. What an answer explored by chance comes back with the events.

#![cfg(test)]

mod harness;

use std::time::{SystemTime, UNIX_EPOCH};

use harness::{CATALOG, Start, TestServer, item, price, purchase, recommend, refused, stock, upsert};
use prost_types::Timestamp;
use tokio_stream::StreamExt as _;
use vitrine::v1::{
    Ads, Advertise, CampaignState, Condition, Control, Event, EventItem, EventType, Exploration, ExportEventsRequest,
    FeedbackRequest, ForUser, FrequencyCap, GetCampaignRequest, Hide, Item, Money, Popular, PutControlRequest,
    ReasonCode, RecommendRequest, RecommendResponse, control::Action, recommend_request::Target,
};
use vitrine_client::{Client, Code};

fn campaign(brand: &str, bid: &str) -> Advertise {
    Advertise { filter: format!("brand = \"{brand}\""), bid: price(bid), ..Advertise::default() }
}

fn control(id: &str, advertise: Advertise) -> Control {
    let action = Some(Action::Advertise(advertise));
    Control { name: format!("{CATALOG}/controls/{id}"), action, ..Control::default() }
}

async fn put(client: &Client, control: Control) {
    client.put_control(PutControlRequest { control: Some(control), validate_only: false }).await.unwrap();
}

async fn shop() -> (TestServer, Client) {
    let server = Start::default().run();
    let client = server.client().await;
    let of = |id: &str, brand: &str| Item { brand: brand.into(), ..item(id, id) };
    stock(&client, vec![of("a1", "Acme"), of("a2", "Acme"), of("l1", "Lumen"), of("b1", "Brio")]).await;
    (server, client)
}

/// Advertisements for somebody, in the slot `home`.
fn ads(user: &str) -> RecommendRequest {
    let mut request = recommend(Target::Ads(Ads { slot: "home".into(), floor_price: None }));
    request.context.as_mut().unwrap().user_id = user.into();
    request
}

/// Ids and prices.
fn told(answer: &RecommendResponse) -> Vec<(String, String)> {
    let told = answer.results.iter().map(|result| {
        let click = result.ad.as_ref().and_then(|ad| ad.price.clone()).unwrap_or_default();
        (result.item.as_ref().unwrap().id.clone(), click.amount)
    });
    told.collect()
}

fn pairs(told: &[(String, String)]) -> Vec<(&str, &str)> {
    told.iter().map(|(id, price)| (id.as_str(), price.as_str())).collect()
}

/// An event about an item of an answer.
fn event(id: &str, kind: EventType, user: &str, answer: &RecommendResponse, item: &str) -> Event {
    Event {
        event_id: id.into(),
        r#type: kind.into(),
        user_id: user.into(),
        items: vec![EventItem { id: item.into(), ..EventItem::default() }],
        attribution_token: answer.attribution_token.clone(),
        ..Event::default()
    }
}

async fn send(client: &Client, events: Vec<Event>) {
    let answer = client.feedback(FeedbackRequest { catalog: CATALOG.into(), events }).await.unwrap();
    assert!(answer.results.iter().all(|result| result.violations.is_empty()), "{answer:?}");
}

async fn spent(client: &Client, id: &str) -> (String, CampaignState, i64, i64) {
    let name = format!("{CATALOG}/controls/{id}");
    let campaign = client.get_campaign(GetCampaignRequest { name }).await.unwrap();
    (campaign.spent.clone().unwrap().amount, campaign.state(), campaign.impressions, campaign.clicks)
}

fn in_seconds(seconds: i64) -> Timestamp {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    Timestamp { seconds: now + seconds, nanos: 0 }
}

#[tokio::test]
async fn who_pays_more_comes_first_and_pays_what_keeps_the_place() {
    let (server, client) = shop().await;
    assert!(client.recommend(ads("u")).await.unwrap().results.is_empty(), "nobody pays yet");
    put(&client, control("acme", campaign("Acme", "0.50"))).await;
    put(&client, control("lumen", campaign("Lumen", "0.20"))).await;
    put(&client, control("brio", Advertise { slots: vec!["basket".into()], ..campaign("Brio", "9.00") })).await;

    let answer = client.recommend(RecommendRequest { explain: true, ..ads("u") }).await.unwrap();
    // Nothing was clicked yet, so that chances are equal; and Acme does not bid against itself.
    assert_eq!(pairs(&told(&answer)), [("a1", "0.20"), ("a2", "0.20"), ("l1", "0.00")]);
    let first = &answer.results[0];
    let ad = first.ad.as_ref().unwrap();
    assert_eq!((ad.campaign.as_str(), ad.bid.clone()), ("catalogs/shop/controls/acme", price("0.50")));
    assert!((ad.rank_score - 0.50 * ad.predicted_ctr).abs() < 1e-12 && ad.predicted_ctr > 0.0);
    assert_eq!(first.reason.as_ref().unwrap().code(), ReasonCode::Advertised);

    let floor = RecommendRequest {
        target: Some(Target::Ads(Ads { slot: "home".into(), floor_price: price("0.30") })),
        ..ads("u")
    };
    assert_eq!(pairs(&told(&client.recommend(floor).await.unwrap())), [("a1", "0.30"), ("a2", "0.30")]);

    // Clicks make what is clicked worth more: Lumen passes Acme, though it pays less.
    for round in 0..40 {
        let answer = client.recommend(ads("u")).await.unwrap();
        let shown = answer.results.iter().map(|result| {
            let id = &result.item.as_ref().unwrap().id;
            event(&format!("shown-{round}-{id}"), EventType::AdImpression, &format!("v{round}"), &answer, id)
        });
        let mut events: Vec<Event> = shown.collect();
        events.push(event(&format!("click-{round}"), EventType::AdClick, &format!("v{round}"), &answer, "l1"));
        send(&client, events).await;
    }
    let answer = client.recommend(ads("u")).await.unwrap();
    assert_eq!(told(&answer)[0].0, "l1");
    let (_, state, impressions, clicks) = spent(&client, "lumen").await;
    assert_eq!((state, impressions, clicks), (CampaignState::Running, 40, 40));

    // All of it is in the log: a server that was killed knows the same.
    let before = (spent(&client, "lumen").await, told(&answer));
    let server = server.kill().run();
    let client = server.client().await;
    assert_eq!((spent(&client, "lumen").await, told(&client.recommend(ads("u")).await.unwrap())), before);
}

#[tokio::test]
async fn a_budget_is_never_passed_and_a_click_counts_once() {
    let (_server, client) = shop().await;
    put(&client, control("acme", Advertise { budget: price("0.70"), ..campaign("Acme", "0.50") })).await;
    put(&client, control("lumen", campaign("Lumen", "0.50"))).await;
    let answer = client.recommend(ads("u")).await.unwrap();
    let of_acme = answer.results.iter().find(|result| result.item.as_ref().unwrap().id == "a1").unwrap();
    assert_eq!(of_acme.ad.as_ref().unwrap().price, price("0.50"));
    // Twice the same, by other ids; then one of another item, for which not enough is left; one without its answer.
    let click = |id: &str, item: &str| event(id, EventType::AdClick, "u", &answer, item);
    let organic = Event { attribution_token: String::new(), ..click("e4", "a1") };
    send(&client, vec![click("e1", "a1"), click("e2", "a1"), organic]).await;
    assert_eq!(spent(&client, "acme").await, ("0.50".into(), CampaignState::Running, 0, 1));
    send(&client, vec![click("e3", "a2"), click("e1", "a1")]).await;
    assert_eq!(spent(&client, "acme").await, ("0.70".into(), CampaignState::OutOfBudget, 0, 2));
    let after = client.recommend(ads("u")).await.unwrap();
    assert_eq!(pairs(&told(&after)), [("l1", "0.00")]);

    let request = ExportEventsRequest { catalog: CATALOG.into(), ..Default::default() };
    let mut exported = client.export_events(request).await.unwrap();
    let mut costs = Vec::new();
    while let Some(event) = exported.next().await {
        let event = event.unwrap();
        let ad = event.items[0].served.as_ref().and_then(|served| served.ad.as_ref());
        costs.push((event.event_id, ad.map(|ad| ad.charged_micros)));
    }
    costs.sort();
    let costs: Vec<_> = costs.iter().map(|(id, cost)| (id.as_str(), *cost)).collect();
    assert_eq!(costs, [("e1", Some(500_000)), ("e2", Some(0)), ("e3", Some(200_000)), ("e4", None)]);
}

#[tokio::test]
async fn campaigns_wait_end_and_are_not_seen_too_often() {
    let (_server, client) = shop().await;
    let mut acme = control("acme", campaign("Acme", "0.50"));
    acme.condition = Some(Condition { start_time: Some(in_seconds(3_600)), ..Condition::default() });
    put(&client, acme.clone()).await;
    let cap = FrequencyCap { impressions: 2, window_seconds: 3_600 };
    put(&client, control("lumen", Advertise { frequency_cap: Some(cap), ..campaign("Lumen", "0.20") })).await;
    let mut brio = control("brio", Advertise { budget: price("1.00"), ..campaign("Brio", "0.01") });
    brio.condition = Some(Condition {
        start_time: Some(in_seconds(-60)),
        end_time: Some(in_seconds(31_536_000)),
        ..Condition::default()
    });
    put(&client, brio).await;

    let answer = client.recommend(ads("u")).await.unwrap();
    assert_eq!(pairs(&told(&answer)), [("l1", "0.01"), ("b1", "0.00")]);
    assert_eq!(spent(&client, "acme").await.1, CampaignState::Scheduled);
    acme.condition = Some(Condition { end_time: Some(in_seconds(-60)), ..Condition::default() });
    put(&client, acme).await;
    assert_eq!(spent(&client, "acme").await.1, CampaignState::Ended);

    let shown = |id: &str| event(id, EventType::AdImpression, "u", &answer, "l1");
    send(&client, vec![shown("s1"), shown("s2")]).await;
    assert_eq!(pairs(&told(&client.recommend(ads("u")).await.unwrap())), [("b1", "0.00")]);
    assert_eq!(told(&client.recommend(ads("somebody else")).await.unwrap()).len(), 2);

    // What cannot be bought, is hidden, or was refused is not advertised.
    upsert(&client, vec![Item { brand: "Lumen".into(), available: Some(false), ..item("l1", "l1") }]).await;
    assert_eq!(pairs(&told(&client.recommend(ads("somebody else")).await.unwrap())), [("b1", "0.00")]);
    send(&client, vec![event("h", EventType::Hide, "u", &RecommendResponse::default(), "b1")]).await;
    assert!(client.recommend(ads("u")).await.unwrap().results.is_empty());
    let hide = Action::Hide(Hide { filter: "id = \"b1\"".into() });
    put(&client, Control { name: format!("{CATALOG}/controls/no-b1"), action: Some(hide), ..Control::default() }).await;
    assert!(client.recommend(ads("somebody else")).await.unwrap().results.is_empty());
}

#[tokio::test]
async fn bad_campaigns_and_requests_name_the_field() {
    let (_server, client) = shop().await;
    let dollars = Some(Money { amount: "1".into(), currency: "USD".into() });
    let cases: [(Advertise, &str); 8] = [
        (Advertise { bid: None, ..campaign("Acme", "1") }, "control.advertise.bid"),
        (campaign("Acme", "0"), "control.advertise.bid.amount"),
        (campaign("Acme", "0.0000001"), "control.advertise.bid.amount"),
        (campaign("Acme", "-1"), "control.advertise.bid.amount"),
        (Advertise { budget: dollars, ..campaign("Acme", "1") }, "control.advertise.budget.currency"),
        (Advertise { slots: vec!["Home Page".into()], ..campaign("Acme", "1") }, "control.advertise.slots[0]"),
        (Advertise { filter: String::new(), ..campaign("Acme", "1") }, "control.advertise.filter"),
        (
            Advertise { frequency_cap: Some(FrequencyCap { impressions: 0, window_seconds: 9 }), ..campaign("A", "1") },
            "control.advertise.frequency_cap.impressions",
        ),
    ];
    for (advertise, field) in cases {
        let request = PutControlRequest { control: Some(control("bad", advertise)), validate_only: false };
        let error = refused(client.put_control(request).await);
        assert_eq!((error.code, error.violations[0].field.as_str()), (Code::InvalidArgument, field));
    }
    let requests: [(RecommendRequest, &str); 4] = [
        (RecommendRequest { target: Some(Target::Ads(Ads::default())), ..ads("u") }, "ads.slot"),
        (
            RecommendRequest { exploration: Some(Exploration { epsilon: 0.1, candidates: 0 }), ..ads("u") },
            "exploration",
        ),
        (
            RecommendRequest {
                exploration: Some(Exploration { epsilon: f64::NAN, candidates: 0 }),
                ..recommend(Target::Popular(Popular::default()))
            },
            "exploration.epsilon",
        ),
        (
            RecommendRequest {
                target: Some(Target::Ads(Ads { slot: "home".into(), floor_price: price("1e9") })),
                ..ads("u")
            },
            "ads.floor_price.amount",
        ),
    ];
    for (request, field) in requests {
        let error = refused(client.recommend(request).await);
        assert_eq!((error.code, error.violations[0].field.as_str()), (Code::InvalidArgument, field));
    }
    let get = GetCampaignRequest { name: format!("{CATALOG}/controls/none") };
    assert_eq!(refused(client.get_campaign(get).await).code, Code::NotFound);
}

#[tokio::test]
async fn what_came_by_chance_is_known_with_its_events() {
    let (_server, client) = shop().await;
    let bought: Vec<Event> = (0..6).map(|order| purchase(&format!("p{order}"), "x", "a1")).collect();
    send(&client, bought).await;
    send(&client, ["a2", "l1", "b1"].map(|id| purchase(&format!("p-{id}"), "x", id)).into()).await;
    let exploration = Some(Exploration { epsilon: 0.5, candidates: 4 });
    let mut request = recommend(Target::ForUser(ForUser {}));
    request.context.as_mut().unwrap().user_id = "newcomer".into();
    let request = RecommendRequest { exploration, page_size: 1, explain: true, ..request };
    let (mut best, mut others) = (0, 0);
    for round in 0..60 {
        let answer = client.recommend(request.clone()).await.unwrap();
        let result = &answer.results[0];
        let id = result.item.as_ref().unwrap().id.clone();
        // Half of the time the best, else one of four, which the best may be too.
        let (expected, code) = if id == "a1" {
            best += 1;
            (0.625, ReasonCode::Popular)
        } else {
            others += 1;
            (0.125, ReasonCode::Explored)
        };
        assert!((result.propensity.unwrap() - expected).abs() < 1e-12, "{result:?}");
        assert_eq!(result.reason.as_ref().unwrap().code(), code);
        send(&client, vec![event(&format!("i{round}"), EventType::Impression, "newcomer", &answer, &id)]).await;
    }
    assert!(best > 20 && others > 5, "{best} and {others}");
    let request = ExportEventsRequest { catalog: CATALOG.into(), ..Default::default() };
    let mut exported = client.export_events(request).await.unwrap();
    let mut told = 0;
    while let Some(event) = exported.next().await {
        let event = event.unwrap();
        if event.r#type() == EventType::Impression {
            let propensity = event.items[0].served.as_ref().and_then(|served| served.propensity).unwrap();
            assert!((propensity - if event.items[0].id == "a1" { 0.625 } else { 0.125 }).abs() < 1e-12);
            told += 1;
        }
    }
    assert_eq!(told, 60);
}
