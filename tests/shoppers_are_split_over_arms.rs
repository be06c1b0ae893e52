//! An experiment from its plan to its report: shoppers are split as anybody can compute, answers come from their arms and say so, a change
//! takes effect at once, and what was shown outlives a killed server.

#![cfg(test)]

mod harness;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
};

use harness::{CATALOG, Start, context, eventually, item, price, recommend, refused, stock, text_search};
use tokio_stream::StreamExt as _;
use vitrine::v1::{
    Arm, ArmParameters, CreateExperimentRequest, EraseUserRequest, Event, EventItem, EventType, Experiment,
    ExperimentDesign, ExperimentMetric, ExperimentNamespace, ExperimentReport, ExportExposuresRequest, Exposure,
    FeedbackRequest, GuardRail, GuardRailState, Person, Popular, ReportExperimentRequest, RequestContext,
    SearchRequest, SearchResponse, StartExperimentRequest, StopExperimentRequest, UpdateExperimentRequest, person::Id,
    recommend_request::Target,
};
use vitrine_client::Client;

const NAME: &str = "experiments/words";

fn arm(name: &str, weight: f64) -> Arm {
    Arm { name: name.into(), weight, ..Arm::default() }
}

/// Half of the shoppers find the shop's goods in another order.
fn experiment() -> Experiment {
    let boosted = ArmParameters { without_controls: vec!["first".into()], ..ArmParameters::default() };
    Experiment {
        name: NAME.into(),
        catalog: CATALOG.into(),
        arms: vec![arm("control", 0.5), Arm { parameters: Some(boosted), ..arm("plain", 0.5) }],
        ..Experiment::default()
    }
}

async fn run(client: &Client, experiment: Experiment) -> Experiment {
    let name = experiment.name.clone();
    let create = CreateExperimentRequest { experiment: Some(experiment), author: "ann".into(), validate_only: false };
    client.create_experiment(create).await.unwrap();
    client.start_experiment(StartExperimentRequest { name, author: "ann".into() }).await.unwrap()
}

fn asks(user: &str) -> SearchRequest {
    let context = RequestContext { user_id: user.into(), ..context().unwrap() };
    SearchRequest { context: Some(context), ..text_search("milk") }
}

async fn search(client: &Client, user: &str) -> SearchResponse {
    client.search(asks(user)).await.unwrap()
}

fn first(answer: &SearchResponse) -> String {
    answer.results[0].item.clone().unwrap().id
}

fn shown(answer: &SearchResponse) -> &str {
    answer.experiments.first().map_or("", |served| &served.arm)
}

async fn report(client: &Client, name: &str) -> ExperimentReport {
    let request = ReportExperimentRequest { name: name.into(), curve_points: 4, ..Default::default() };
    client.report_experiment(request).await.unwrap()
}

async fn exposures(client: &Client) -> Vec<Exposure> {
    exposures_of(client, None).await
}

async fn exposures_of(client: &Client, person: Option<Person>) -> Vec<Exposure> {
    let request = ExportExposuresRequest { catalog: CATALOG.into(), person, ..Default::default() };
    let mut stream = client.export_exposures(request).await.unwrap();
    let mut all = Vec::new();
    while let Some(exposure) = stream.next().await {
        all.push(exposure.unwrap());
    }
    all
}

fn did(id: &str, kind: EventType, user: &str, item: &str, token: &str) -> Event {
    Event {
        event_id: id.into(),
        r#type: kind as i32,
        user_id: user.into(),
        items: vec![EventItem { id: item.into(), ..Default::default() }],
        attribution_token: token.into(),
        value: (kind == EventType::Purchase).then(|| price("12.50")).flatten(),
        ..Event::default()
    }
}

/// A shop whose control puts oat milk first.
async fn shop(client: &Client) {
    stock(client, vec![item("m1", "Milk"), item("m2", "Milk of oats, very long title of it"), item("b1", "Bread")])
        .await;
    let pin = vitrine::v1::Pin { item_id: "m2".into(), position: 1 };
    let control = vitrine::v1::Control {
        name: format!("{CATALOG}/controls/first"),
        action: Some(vitrine::v1::control::Action::Pin(pin)),
        ..Default::default()
    };
    client.put_control(vitrine::v1::PutControlRequest { control: Some(control), ..Default::default() }).await.unwrap();
    eventually("milk is found", async || (search(client, "nobody").await.total_size == 2).then_some(())).await;
}

/// As `docs/experiments.md` has it for other languages.
fn bucket(seed: &str, unit: &str) -> u32 {
    let fnv = |text: &str| {
        text.encode_utf16().fold(0x811c_9dc5_u32, |hash, unit| (hash ^ u32::from(unit)).wrapping_mul(0x0100_0193))
    };
    fnv(&fnv(&format!("{seed}{unit}")).to_string()) % 10_000
}

#[tokio::test]
async fn shoppers_see_the_arm_that_their_id_falls_into() {
    let server = Start::default().run();
    let client = server.client().await;
    shop(&client).await;
    let running = run(&client, experiment()).await;
    let mut seen = BTreeMap::new();
    for number in 0..60 {
        let user = format!("käufer-{number}");
        let answer = search(&client, &user).await;
        let expected = if bucket("words", &user) < 5_000 { "control" } else { "plain" };
        assert_eq!(
            (shown(&answer), first(&answer).as_str()),
            (expected, if expected == "control" { "m2" } else { "m1" })
        );
        let of_user = running
            .arms
            .iter()
            .find(|arm| arm.ranges.iter().any(|range| (range.first..range.end).contains(&bucket("words", &user))));
        assert_eq!(of_user.unwrap().name, expected);
        *seen.entry(expected).or_insert(0) += 1;
    }
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert_eq!(
        shown(
            &client
                .search(SearchRequest {
                    context: Some(RequestContext { user_id: String::new(), ..context().unwrap() }),
                    ..text_search("milk")
                })
                .await
                .unwrap()
        ),
        "",
        "nobody is in no arm"
    );
    // Where no arm says anything of itself, answers are everybody's.
    let popular = client.recommend(recommend(Target::Popular(Popular::default()))).await.unwrap();
    assert_eq!(popular.experiments.len(), 1, "a control is left out there too");
}

#[tokio::test]
async fn an_arm_is_forced_for_debugging_and_leaves_no_trace() {
    let server = Start::default().run();
    let client = server.client().await;
    shop(&client).await;
    run(&client, experiment()).await;
    for (name, expected) in [("control", "m2"), ("plain", "m1")] {
        let mut request = asks("u1");
        request.context.as_mut().unwrap().force_arms = [("words".to_owned(), name.to_owned())].into();
        let answer = client.search(request).await.unwrap();
        assert_eq!((first(&answer).as_str(), answer.experiments[0].forced), (expected, true));
    }
    assert!(exposures(&client).await.iter().all(|exposure| exposure.user_id != "u1"));
    let mut unknown = asks("u1");
    unknown.context.as_mut().unwrap().force_arms = [("words".to_owned(), "nowhere".to_owned())].into();
    assert_eq!(refused(client.search(unknown).await).reason, "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn what_shoppers_did_is_counted_for_their_arm() {
    let server = Start::default().run();
    let client = server.client().await;
    shop(&client).await;
    let guard = GuardRail { metric: ExperimentMetric::Ctr as i32, tolerance: 0.2 };
    run(&client, Experiment { guard_rails: vec![guard], ..experiment() }).await;
    let mut events = Vec::new();
    for number in 0..400 {
        let user = format!("u{number}");
        let answer = search(&client, &user).await;
        let token = answer.attribution_token.clone();
        // Nine of ten click what the control shows; one in four the other.
        let clicks = if shown(&answer) == "control" { number % 10 != 0 } else { number % 4 == 0 };
        if clicks {
            events.push(did(&format!("click-{number}"), EventType::Click, &user, &first(&answer), &token));
            // A purchase seldom names what led to it.
            events.push(did(&format!("order-{number}"), EventType::Purchase, &user, &first(&answer), ""));
        }
    }
    events.push(did("organic", EventType::Purchase, "stranger", "m1", ""));
    let feedback = FeedbackRequest { catalog: CATALOG.into(), events };
    client.feedback(feedback).await.unwrap();
    let report = report(&client, NAME).await;
    let users: i64 = report.arms.iter().map(|arm| arm.users).sum();
    assert_eq!((users, report.multiple_exposures), (400, 0));
    let ctr = &report.comparisons[0];
    assert_eq!((ctr.metric(), ctr.not_enough_data.as_str()), (ExperimentMetric::Ctr, ""));
    let interval = ctr.sequential_interval.unwrap();
    assert!(ctr.lift < -0.5 && interval.upper < -0.4 && ctr.p_value < 1e-9, "{ctr:?}");
    let of = |arm: usize, metric: ExperimentMetric| {
        report.arms[arm].metrics.iter().find(|known| known.metric() == metric).unwrap().estimate.unwrap()
    };
    assert!((of(0, ExperimentMetric::Revenue) / of(0, ExperimentMetric::Conversion) - 12.5).abs() < 1e-9);
    assert_eq!(report.revenue_currency, "EUR");
    assert_eq!(report.guard_rails[0].state(), GuardRailState::Broken);
    assert!(!report.sample_ratio.unwrap().mismatch, "{:?}", report.sample_ratio);
    assert_eq!((report.curve.len(), report.warnings.len()), (4, 0), "{:?}", report.warnings);
}

#[tokio::test]
async fn what_was_shown_outlives_a_killed_server_and_not_its_shopper() {
    let server = Start::default().run();
    let client = server.client().await;
    shop(&client).await;
    run(&client, experiment()).await;
    let answered = Arc::new(Mutex::new(BTreeSet::new()));
    let shoppers = (0..4).map(|shopper| {
        let (client, answered) = (client.clone(), Arc::clone(&answered));
        tokio::spawn(async move {
            for number in 0.. {
                let user = format!("u{shopper}-{number}");
                if client.search(asks(&user)).await.is_err() {
                    return;
                }
                answered.lock().unwrap().insert(user);
            }
        })
    });
    let shoppers: Vec<_> = shoppers.collect();
    eventually("many were answered", async || (answered.lock().unwrap().len() > 400).then_some(())).await;
    let start = server.kill();
    for shopper in shoppers {
        shopper.await.unwrap();
    }
    let answered = answered.lock().unwrap().clone();
    let server = start.run();
    let client = server.client().await;
    let logged: BTreeSet<String> = exposures(&client).await.into_iter().map(|exposure| exposure.user_id).collect();
    let lost: Vec<&String> = answered.difference(&logged).collect();
    assert!(lost.is_empty(), "{lost:?} of {}", answered.len());
    assert!(!shown(&search(&client, "u0-7").await).is_empty(), "it runs still");
    let person = Some(Person { id: Some(Id::UserId("u0-7".into())) });
    let theirs = exposures_of(&client, person.clone()).await;
    assert!(!theirs.is_empty() && theirs.iter().all(|exposure| exposure.user_id == "u0-7"), "{theirs:?}");
    client.erase_user(EraseUserRequest { catalog: CATALOG.into(), person }).await.unwrap();
    assert!(exposures(&client).await.iter().all(|exposure| exposure.user_id != "u0-7"));
}

#[tokio::test]
async fn a_change_takes_effect_at_once_and_on_other_servers_within_a_second() {
    let first_server = Start::default().run();
    let client = first_server.client().await;
    shop(&client).await;
    let other = Start { registry: first_server.start.registry.clone(), ..Start::default() }.run();
    let there = other.client().await;
    shop(&there).await;
    let running = run(&client, Experiment { coverage: Some(0.0), ..experiment() }).await;
    assert_eq!(shown(&search(&client, "u1").await), "");
    let grown = Experiment { coverage: Some(1.0), ..running.clone() };
    let update = |experiment: &Experiment| UpdateExperimentRequest {
        experiment: Some(experiment.clone()),
        author: "bob".into(),
    };
    let changed = client.update_experiment(update(&grown)).await.unwrap();
    assert_ne!(shown(&search(&client, "u1").await), "");
    eventually("the other server has seen it", async || (!shown(&search(&there, "u1").await).is_empty()).then_some(()))
        .await;
    let late = refused(there.update_experiment(update(&grown)).await);
    assert_eq!(late.reason, "EXPERIMENT_CHANGED");
    assert!(late.to_string().contains("bob"), "{late}");
    let other_arms = Experiment { arms: vec![arm("control", 0.5), arm("new", 0.5)], ..changed.clone() };
    assert_eq!(refused(client.update_experiment(update(&other_arms)).await).reason, "EXPERIMENT_STATE");
    let stop = StopExperimentRequest { name: NAME.into(), author: "ann".into(), reason: "enough".into() };
    let over = there.stop_experiment(stop).await.unwrap();
    assert_eq!(
        over.changes.iter().map(|change| change.summary.as_str()).collect::<Vec<_>>(),
        ["planned", "started", "coverage: 0 → 1", "stopped: enough"]
    );
    eventually("everybody is outside", async || shown(&search(&client, "u1").await).is_empty().then_some(())).await;
}

#[tokio::test]
async fn who_was_shown_an_arm_keeps_it_where_that_is_wanted() {
    let server = Start::default().run();
    let client = server.client().await;
    shop(&client).await;
    let running = run(&client, Experiment { sticky: true, ..experiment() }).await;
    let users: Vec<String> = (0..40).map(|number| format!("u{number}")).collect();
    let mut before = Vec::new();
    for user in &users {
        before.push(shown(&search(&client, user).await).to_owned());
    }
    let mut turned = running.clone();
    (turned.arms[0].weight, turned.arms[1].weight) = (0.0, 1.0);
    let update = UpdateExperimentRequest { experiment: Some(turned), author: String::new() };
    let turned = client.update_experiment(update).await.unwrap();
    for (user, before) in users.iter().zip(&before) {
        assert_eq!(shown(&search(&client, user).await), before, "{user}");
    }
    assert_eq!(shown(&search(&client, "new").await), "plain");
    let update =
        UpdateExperimentRequest { experiment: Some(Experiment { bucket_version: 1, ..turned }), author: String::new() };
    client.update_experiment(update).await.unwrap();
    for user in &users {
        assert_eq!(shown(&search(&client, user).await), "plain");
    }
    assert_eq!(report(&client, NAME).await.arms[0].users, 0, "it began anew");
}

#[tokio::test]
async fn who_saw_two_arms_counts_for_none_and_what_comes_late_counts() {
    let server = Start::default().run();
    let client = server.client().await;
    shop(&client).await;
    let running = run(&client, experiment()).await;
    let mut tokens = Vec::new();
    for number in 0..40 {
        let answer = search(&client, &format!("u{number}")).await;
        tokens.push((format!("u{number}"), shown(&answer).to_owned(), answer.attribution_token));
    }
    let mut turned = running;
    (turned.arms[0].weight, turned.arms[1].weight) = (0.0, 1.0);
    let update = UpdateExperimentRequest { experiment: Some(turned), author: String::new() };
    client.update_experiment(update).await.unwrap();
    for number in 0..20 {
        search(&client, &format!("u{number}")).await;
    }
    // Five hours after the answers.
    let hours = 5 * 3_600;
    let events = tokens.iter().map(|(user, _, token)| Event {
        time: Some(prost_types::Timestamp { seconds: now_seconds() + hours, nanos: 0 }),
        ..did(&format!("late-{user}"), EventType::Click, user, "m1", token)
    });
    client.feedback(FeedbackRequest { catalog: CATALOG.into(), events: events.collect() }).await.unwrap();
    let report = report(&client, NAME).await;
    let turned = tokens[..20].iter().filter(|(_, arm, _)| arm == "control").count() as i64;
    let stayed = tokens.iter().filter(|(_, arm, _)| arm == "control").count() as i64 - turned;
    assert_eq!((report.multiple_exposures, report.arms[0].users), (turned, stayed));
    assert_eq!(report.arms[1].users, 40 - turned - stayed);
    let ctr = report.arms[0].metrics[0].estimate.unwrap();
    assert!((ctr - 1.0).abs() < 1e-9, "{ctr}");
    assert!(report.warnings.iter().any(|warning| warning.contains("more than one arm")), "{:?}", report.warnings);
}

fn now_seconds() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64
}

#[tokio::test]
async fn two_rankings_are_drafted_into_one_and_clicks_say_which_is_preferred() {
    let server = Start::default().run();
    let client = server.client().await;
    let goods = (0..30).map(|number| item(&format!("m{number}"), &format!("Milk {}", "x ".repeat(number)))).collect();
    stock(&client, goods).await;
    eventually("milk is found", async || (search(&client, "nobody").await.total_size == 30).then_some(())).await;
    let boost = vitrine::v1::Boost { filter: "id = \"m29\" OR id = \"m28\"".into(), strength: 1.0 };
    let control = vitrine::v1::Control {
        name: format!("{CATALOG}/controls/last"),
        action: Some(vitrine::v1::control::Action::Boost(boost)),
        ..Default::default()
    };
    client.put_control(vitrine::v1::PutControlRequest { control: Some(control), ..Default::default() }).await.unwrap();
    let without = ArmParameters { without_controls: vec!["last".into()], ..ArmParameters::default() };
    let arms = vec![Arm { parameters: Some(without), ..arm("short", 0.5) }, arm("long", 0.5)];
    run(&client, Experiment { arms, ..Experiment { design: ExperimentDesign::Interleaved as i32, ..experiment() } })
        .await;
    let mut events = Vec::new();
    for number in 0..60 {
        let user = format!("u{number}");
        let answer = search(&client, &user).await;
        let ids: Vec<String> = answer.results.iter().map(|result| result.item.clone().unwrap().id).collect();
        assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), 10);
        assert!(ids[..4].contains(&"m29".to_owned()) && ids[..4].contains(&"m0".to_owned()), "{ids:?}");
        let next = SearchRequest { page_token: answer.next_page_token.clone(), ..asks(&user) };
        let second = client.search(next).await.unwrap();
        assert!(
            second.results.iter().all(|result| !ids.contains(&result.item.clone().unwrap().id)),
            "pages fit together"
        );
        events.push(did(&format!("e{number}"), EventType::Click, &user, "m29", &answer.attribution_token));
    }
    client.feedback(FeedbackRequest { catalog: CATALOG.into(), events }).await.unwrap();
    let preference = report(&client, NAME).await.preference.unwrap();
    assert_eq!((preference.control, preference.treatment), (0, 60));
    assert!(preference.p_value < 1e-9);
}

#[tokio::test]
async fn a_shadow_answers_for_nobody() {
    let server = Start::default().run();
    let client = server.client().await;
    shop(&client).await;
    let parameters = ArmParameters { without_controls: vec!["first".into()], ..ArmParameters::default() };
    let shadow = Arm { shadow: true, parameters: Some(parameters), ..arm("shadow", 0.0) };
    run(&client, Experiment { arms: vec![arm("control", 1.0), shadow], ..experiment() }).await;
    for number in 0..20 {
        let answer = search(&client, &format!("u{number}")).await;
        assert_eq!((shown(&answer), first(&answer).as_str()), ("control", "m2"));
    }
    let told = eventually("all shadows have answered", async || {
        let shadow = report(&client, NAME).await.shadows.pop()?;
        (shadow.answers + shadow.failures >= 20).then_some(shadow)
    });
    let told = told.await;
    assert!(told.answers > 0 && told.overlap_at_10 > 0.9, "{told:?}");
    assert!(told.same_first < 0.1, "they begin with another item: {told:?}");
    assert_eq!(report(&client, NAME).await.arms[1].users, 0);
}

#[tokio::test]
async fn bad_plans_name_the_field_and_overlaps_are_refused() {
    let server = Start::default().run();
    let client = server.client().await;
    shop(&client).await;
    let create =
        |experiment: Experiment| CreateExperimentRequest { experiment: Some(experiment), ..Default::default() };
    let half = |start: f64, end: f64| Some(ExperimentNamespace { name: "checkout".into(), start, end });
    let models = |task: &str, selector: &str| [(task.to_owned(), selector.to_owned())].into();
    let wrong: [(Experiment, &str); 12] = [
        (Experiment { name: "words".into(), ..experiment() }, "experiment.name"),
        (Experiment { arms: vec![arm("a", 1.0)], ..experiment() }, "experiment.arms"),
        (Experiment { arms: vec![arm("a", 0.5), arm("a", 0.5)], ..experiment() }, "experiment.arms[1].name"),
        (Experiment { arms: vec![arm("a", 0.5), arm("b", 0.6)], ..experiment() }, "experiment.arms"),
        (Experiment { arms: vec![arm("a", f64::NAN), arm("b", 0.6)], ..experiment() }, "experiment.arms[0].weight"),
        (
            Experiment {
                arms: vec![arm("a", 0.5), Arm { models: models("poetry", "1"), ..arm("b", 0.5) }],
                ..experiment()
            },
            "experiment.arms[1].models",
        ),
        (
            Experiment {
                arms: vec![
                    arm("a", 0.5),
                    Arm { parameters: Some(ArmParameters { mode: 9, ..Default::default() }), ..arm("b", 0.5) },
                ],
                ..experiment()
            },
            "experiment.arms[1].parameters.mode",
        ),
        (
            Experiment {
                arms: vec![
                    arm("a", 0.5),
                    Arm {
                        parameters: Some(ArmParameters { sources: vec!["magic".into()], ..Default::default() }),
                        ..arm("b", 0.5)
                    },
                ],
                ..experiment()
            },
            "experiment.arms[1].parameters.sources[0]",
        ),
        (Experiment { coverage: Some(1.5), ..experiment() }, "experiment.coverage"),
        (Experiment { namespace: half(0.5, 0.5), ..experiment() }, "experiment.namespace.start"),
        (Experiment { placements: vec![99], ..experiment() }, "experiment.placements[0]"),
        (
            Experiment { guard_rails: vec![GuardRail { metric: 1, tolerance: 0.0 }], ..experiment() },
            "experiment.guard_rails[0].tolerance",
        ),
    ];
    for (experiment, field) in wrong {
        let error = refused(client.create_experiment(create(experiment)).await);
        assert!(error.violations.iter().any(|violation| violation.field == field), "{field}: {error:?}");
    }
    run(&client, Experiment { namespace: half(0.0, 0.5), ..experiment() }).await;
    let second = Experiment { name: "experiments/second".into(), namespace: half(0.4, 1.0), ..experiment() };
    client.create_experiment(create(second)).await.unwrap();
    let start = StartExperimentRequest { name: "experiments/second".into(), author: String::new() };
    assert_eq!(refused(client.start_experiment(start).await).reason, "NAMESPACE_TAKEN");
    let missing = Arm { models: models("text-embedding", "9"), ..arm("b", 0.5) };
    let third = Experiment { name: "experiments/third".into(), arms: vec![arm("a", 0.5), missing], ..experiment() };
    client.create_experiment(create(third)).await.unwrap();
    let start = StartExperimentRequest { name: "experiments/third".into(), author: String::new() };
    assert_eq!(refused(client.start_experiment(start).await).reason, "VERSION_NOT_AVAILABLE");
}
