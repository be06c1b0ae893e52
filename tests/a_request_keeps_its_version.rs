//! A request is answered by the version it was admitted to, however the label moves meanwhile; a selector chooses another,
//! and what is not loaded is refused with what is.

#![cfg(test)]

mod harness;

use harness::{
    Start, context,
    encoders::{Size, label, publish, random, tiny},
    eventually, item,
    models::{NO_HURRY, answers, infer, model, served, served_by, set_label, version, version_name},
    refused, stock, text_search,
};
use vitrine::v1::{
    LoadVersionRequest, RecommendRequest, RequestContext, SearchRequest, UnloadVersionRequest, VersionState,
};
use vitrine_client::{Client, Code, Error};

/// One that takes a moment for many texts.
const SLOW: Size = Size { width: 128, layers: 4 };

fn selected(task: &str, selector: &str) -> SearchRequest {
    let context = context().unwrap();
    let model_selector = [(task.to_owned(), selector.to_owned())].into();
    SearchRequest { context: Some(RequestContext { model_selector, ..context }), ..text_search("milk") }
}

async fn search_with(client: &Client, selector: &str) -> Result<(u32, String), Error> {
    let answer = client.search(selected("text-embedding", selector)).await?;
    let served = &answer.served_by[0];
    Ok((served.version, served.label.clone()))
}

async fn load(client: &Client, version: u32) {
    let name = version_name(version);
    client.load_version(LoadVersionRequest { name, unload_first: false }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_are_answered_by_the_version_they_began_with() {
    let start = Start::default().set("text_encoder.keep_previous=0s").set("text_encoder.max_queue_rows=100000");
    let start = start.set("metrics_listen=127.0.0.1:0");
    publish(&start.registry, random(1, SLOW).path());
    label(&start.registry, 1);
    let two = publish(&start.registry, tiny(2).path());
    let server = start.run();
    let client = server.client().await;
    stock(&client, vec![item("milk", "Whole milk")]).await;
    answers(&client, 1).await;
    load(&client, two).await;

    // Enough texts that the label moves while they run; twice as many if it did not.
    let mut texts = 1_000;
    loop {
        let many: Vec<String> = (0..texts).map(|n| format!("{} {n}", "milk bread ".repeat(15))).collect();
        let (many, (one, under_way)) = tokio::join!(infer(&server, 1, many), async {
            eventually("the texts wait", async || {
                let waiting = server.metric("vitrine_batch_queued_rows", &["lane=\"minilm/1\"", "interactive"]).await;
                (waiting? > 100.0).then_some(())
            })
            .await;
            let before = version(&client, 1).await.requests;
            // Waits its turn behind them.
            let one = tokio::spawn({
                let client = client.with_timeout(NO_HURRY);
                async move { client.search(text_search(&format!("oat {texts}"))).await.unwrap() }
            });
            let admitted = async || (version(&client, 1).await.requests > before).then_some(());
            eventually("the search is admitted", admitted).await;
            set_label(&client, 1, two).await.unwrap();
            let under_way = !one.is_finished();
            answers(&client, two).await;
            (one.await.unwrap(), under_way)
        });
        assert_eq!(many.unwrap().model_version, "1");
        assert_eq!(served_by(&one), Some(1), "{:?}", one.degraded);
        if under_way {
            break;
        }
        texts *= 2;
        set_label(&client, two, 1).await.unwrap();
        load(&client, two).await;
    }
    eventually("the version they held has left", async || {
        (version(&client, 1).await.state() == VersionState::Ended).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_label_or_a_version_is_selected_and_what_is_not_loaded_is_refused_with_what_is() {
    let (server, client) = served(Start::default()).await;
    let registry = &server.start.registry;
    let (two, three) = (publish(registry, tiny(2).path()), publish(registry, tiny(3).path()));
    load(&client, two).await;
    assert_eq!(search_with(&client, "stable").await.unwrap(), (1, "stable".to_owned()));
    assert_eq!(search_with(&client, "1").await.unwrap(), (1, String::new()));
    assert_eq!(search_with(&client, "2").await.unwrap(), (two, String::new()));
    for missing in [three.to_string().as_str(), "canary", "99"] {
        let error = refused(search_with(&client, missing).await);
        assert_eq!(error.code, Code::NotFound, "{error:?}");
        assert!(
            error.message.contains("loaded are the versions 1, 2") && error.message.contains("[stable]"),
            "{error:?}"
        );
    }
    let recommended = client
        .recommend(RecommendRequest {
            context: selected("text-embedding", &three.to_string()).context,
            ..harness::recommend(vitrine::v1::recommend_request::Target::Popular(vitrine::v1::Popular::default()))
        })
        .await;
    assert_eq!(refused(recommended).code, Code::NotFound);
    let error = refused(client.search(selected("rerank", "stable")).await);
    assert!(error.message.contains("model_selector"), "{error:?}");

    // By the Open Inference Protocol likewise.
    let texts = || vec!["milk".to_owned()];
    assert_eq!(infer(&server, two, texts()).await.unwrap().model_version, "2");
    assert_eq!(infer(&server, 0, texts()).await.unwrap().model_version, "1");
    let error = infer(&server, three, texts()).await.unwrap_err();
    assert_eq!(error.code(), Code::NotFound);
    assert!(error.message().contains("loaded are the versions 1, 2"), "{error:?}");

    client.unload_version(UnloadVersionRequest { name: version_name(two) }).await.unwrap();
    let error = refused(search_with(&client, "2").await);
    assert!(error.message.contains("loaded are the versions 1,"), "{error:?}");
    assert_eq!(model(&client).await.serving_labels["stable"], 1);
}
