//! A folder of diffusers, published as it is, makes pictures of words: the same for the same seed, step by step, and no step for nobody.

#![cfg(test)]

mod harness;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use harness::{Start, TestServer, context, encoders, eventually, item, models, program, refused, stock, text_search};
use prost_types::{ListValue, Struct, Value, value::Kind};
use tokio_stream::StreamExt as _;
use vitrine::v1::{
    GenerateImageRequest, GeneratedImage, GetModelVersionRequest, Item, VersionState, generate_image_request::Condition,
};
use vitrine_client::{CallError, Client, Code};

const VERSION: &str = "models/tiny/versions/1";

/// The pipeline of random weights that the networks are compared with.
fn pipeline() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tests/data/tiny-diffusion")
}

/// Publishes a folder as a version that `stable` names.
fn publish(registry: &Path, folder: &Path) {
    let mut command = Command::new(program("vitrine-registry"));
    command.args(["publish", "tiny"]).arg(folder).args(["--kind", "stable-diffusion", "--task", "image-generation"]);
    let output = command.args(["--label", "stable", "--registry"]).arg(registry).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn available(client: &Client) {
    eventually("the generator is available", async || {
        let version = client.get_model_version(GetModelVersionRequest { name: VERSION.into() }).await.ok()?;
        (version.state() == VersionState::Available).then_some(())
    })
    .await;
}

/// A server that makes pictures of words, a client, and an item.
async fn shop() -> (TestServer, Client) {
    let start = Start::default().set("image_generator.model=tiny").set("metrics_listen=127.0.0.1:0");
    publish(&start.registry, &pipeline());
    let server = start.run();
    let client = server.client().await;
    available(&client).await;
    let fields = [("colour".to_owned(), text("blue"))].into_iter().collect();
    let attributes = Some(Struct { fields });
    let dress = Item { categories: vec!["Clothes > Dress".into()], attributes, ..item("dress", "A long dress") };
    stock(&client, vec![dress]).await;
    (server, client)
}

fn text(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.into())) }
}

fn of(condition: Condition) -> GenerateImageRequest {
    GenerateImageRequest {
        context: context(),
        condition: Some(condition),
        seed: Some(7),
        steps: Some(2),
        ..Default::default()
    }
}

fn words(prompt: &str) -> GenerateImageRequest {
    of(Condition::Prompt(prompt.into()))
}

async fn made(client: &Client, request: GenerateImageRequest) -> Vec<GeneratedImage> {
    client.generate_image(request).await.unwrap().map(Result::unwrap).collect().await
}

async fn one(client: &Client, request: GenerateImageRequest) -> GeneratedImage {
    made(client, request).await.remove(0)
}

async fn error(client: &Client, request: GenerateImageRequest) -> CallError {
    match client.generate_image(request).await {
        Ok(mut images) => refused(images.next().await.unwrap()),
        Err(error) => refused::<()>(Err(error)),
    }
}

/// How many steps were taken since the server began, and pixels made of them.
async fn steps(server: &TestServer) -> f64 {
    server.metric("vitrine_batch_rows_sum", &["tiny/1", "interactive"]).await.unwrap_or_default()
}

#[tokio::test]
async fn the_same_words_and_seed_make_the_same_picture_and_all_that_is_asked_for_counts() {
    let (_server, client) = shop().await;
    let two = made(&client, GenerateImageRequest { count: 2, ..words("a blue dress") }).await;
    assert_eq!(two.iter().map(|image| (image.index, image.seed)).collect::<Vec<_>>(), [(0, 7), (1, 8)]);
    let first = &two[0];
    assert_eq!((first.width, first.height, first.resized_by.as_str()), (16, 16, ""));
    assert_eq!((first.discriminator_score, first.nearest_training_distance), (None, None));
    let by = first.served_by.as_ref().unwrap();
    assert_eq!((by.task.as_str(), by.model.as_str(), by.version), ("image-generation", "tiny", 1));
    let note = format!("Made by {VERSION}: prompt \"a blue dress\", 2 steps, guidance 7.5, seed 7");
    assert!(first.data.windows(note.len()).any(|part| part == note.as_bytes()));
    assert_eq!(one(&client, words(" a blue dress ")).await, *first);
    assert_eq!(one(&client, GenerateImageRequest { seed: Some(8), ..words("a blue dress") }).await.data, two[1].data);

    let pixels = |image: &GeneratedImage| image::load_from_memory(&image.data).unwrap().into_bytes();
    for other in [
        words("a red shoe"),
        GenerateImageRequest { seed: Some(9), ..words("a blue dress") },
        GenerateImageRequest { steps: Some(3), ..words("a blue dress") },
        GenerateImageRequest { guidance: Some(2.0), ..words("a blue dress") },
        GenerateImageRequest { guidance: Some(0.0), ..words("a blue dress") },
        GenerateImageRequest { negative_prompt: "blurred".into(), ..words("a blue dress") },
    ] {
        assert_ne!(pixels(&one(&client, other.clone()).await), pixels(first), "{other:?}");
    }
    let wide = one(&client, GenerateImageRequest { width: 32, height: 24, ..words("a blue dress") }).await;
    assert_eq!((wide.width, wide.height, wide.resized_by.as_str()), (32, 24, ""));
}

#[tokio::test]
async fn an_item_a_category_and_attributes_become_words() {
    let (_server, client) = shop().await;
    let list = Value { kind: Some(Kind::ListValue(ListValue { values: vec![text("blue"), text("white")] })) };
    let fields = [("colour".to_owned(), list), ("category".to_owned(), text("dress"))].into_iter().collect();
    for (condition, prompt) in [
        (Condition::ItemId("dress".into()), "A long dress, Dress, colour: blue"),
        (Condition::Category("dress".into()), "dress"),
        (Condition::Attributes(Struct { fields }), "category: dress, colour: blue and white"),
    ] {
        assert_eq!(one(&client, of(condition)).await, one(&client, words(prompt)).await, "{prompt}");
    }
    assert_eq!(error(&client, of(Condition::ItemId("nothing".into()))).await.code, Code::NotFound);
}

#[tokio::test]
async fn what_cannot_be_made_names_the_field() {
    let (_server, client) = shop().await;
    let dress = || words("a dress");
    for (request, field) in [
        (GenerateImageRequest { condition: None, ..dress() }, "condition"),
        (words(" "), "prompt"),
        (words(&"1 ".repeat(80)), "prompt"),
        (words(&"a".repeat(2_001)), "prompt"),
        (of(Condition::Attributes(Struct::default())), "attributes"),
        (GenerateImageRequest { negative_prompt: "1 ".repeat(80), ..dress() }, "negative_prompt"),
        (GenerateImageRequest { negative_prompt: "red".into(), guidance: Some(1.0), ..dress() }, "negative_prompt"),
        (GenerateImageRequest { steps: Some(0), ..dress() }, "steps"),
        (GenerateImageRequest { steps: Some(151), ..dress() }, "steps"),
        (GenerateImageRequest { guidance: Some(f64::NAN), ..dress() }, "guidance"),
        (GenerateImageRequest { guidance: Some(30.5), ..dress() }, "guidance"),
        (GenerateImageRequest { width: 20, ..dress() }, "width"),
        (GenerateImageRequest { height: 1_025, ..dress() }, "height"),
    ] {
        let error = error(&client, request).await;
        assert_eq!((error.code, error.violations[0].field.as_str()), (Code::InvalidArgument, field), "{error:?}");
        assert_eq!(error.violations.len(), 1, "{error:?}");
    }
    let near = GenerateImageRequest { reject_near_copies: 1.0, ..dress() };
    assert_eq!(error(&client, near).await.reason, "DISTANCE_UNKNOWN");
}

#[tokio::test]
async fn a_picture_that_does_not_fit_in_memory_is_refused_and_nothing_else_is() {
    let (_server, client) = shop().await;
    // Every latent looks at every other one, which are 512 × 512: a terabyte.
    let large = GenerateImageRequest { width: 1_024, ..words("a dress") };
    let error = error(&client, large).await;
    assert_eq!((error.code, error.reason.as_str()), (Code::ResourceExhausted, "OUT_OF_MEMORY"), "{error:?}");
    assert!(error.message.contains("width") && error.message.contains("1024 × 1024"), "{error:?}");
    client.search(text_search("dress")).await.unwrap();
    one(&client, words("a dress")).await;
}

#[tokio::test]
async fn no_step_is_taken_for_whoever_has_gone_or_run_out_of_time() {
    let (server, client) = shop().await;
    let before = steps(&server).await;
    let long = GenerateImageRequest { steps: Some(150), width: 64, ..words("a coat") };
    let images = client.generate_image(long.clone()).await.unwrap();
    eventually("some steps were taken", async || (steps(&server).await >= before + 2.0).then_some(())).await;
    drop(images);
    // One more answers only when what was begun for the other is over.
    one(&client, words("a coat")).await;
    let taken = steps(&server).await - before;
    assert!(taken < 140.0, "{taken} steps");

    let hurried = client.with_timeout(Duration::from_millis(100));
    assert_eq!(error(&hurried, long).await.code, Code::DeadlineExceeded);
    one(&client, words("a coat")).await;
    let taken = steps(&server).await - before - taken;
    assert!(taken < 140.0, "{taken} steps");
}

#[tokio::test]
async fn others_have_their_turns_between_the_steps() {
    let start = Start::default().set("image_generator.model=tiny").set("metrics_listen=127.0.0.1:0");
    publish(&start.registry, &pipeline());
    let (server, client) = models::served(start).await;
    available(&client).await;
    let before = steps(&server).await;
    let long = GenerateImageRequest { steps: Some(150), width: 64, ..words("a coat") };
    let _images = client.with_timeout(models::PATIENCE).generate_image(long).await.unwrap();
    eventually("a step was taken", async || (steps(&server).await > before).then_some(())).await;
    for _ in 0..5 {
        assert_eq!(models::embed(&server, 1, "milk").await.len(), encoders::TINY_WIDTH);
    }
    let taken = steps(&server).await - before;
    assert!(taken < 150.0, "the texts' vectors came after {taken} steps");
}

#[tokio::test]
async fn a_version_whose_recorded_picture_comes_out_differently_is_not_served() {
    let start = Start::default().set("image_generator.model=tiny");
    let folder = start.dir.path().join("changed");
    let copied = Command::new("cp").arg("-r").arg(pipeline()).arg(&folder).status().unwrap();
    assert!(copied.success());
    let config = folder.join("vae/config.json");
    let changed = fs::read_to_string(&config).unwrap().replace("0.18215", "0.17");
    fs::write(&config, changed).unwrap();
    publish(&start.registry, &folder);
    let server = start.run();
    let client = server.client().await;
    let failed = eventually("the version has failed", async || {
        let version = client.get_model_version(GetModelVersionRequest { name: VERSION.into() }).await.ok()?;
        (version.state() == VersionState::Failed).then_some(version)
    })
    .await;
    assert!(format!("{failed:?}").contains("away from its recording"), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_asks_for_words_and_attributes() {
    let (server, _client) = shop().await;
    let folder = server.start.dir.path().join("pictures");
    let out = folder.to_str().unwrap();
    for asked in [["--prompt", "a blue dress"], ["--attribute", "colour=blue"]] {
        let mut arguments =
            vec!["generate-image", "--negative", "red", "--steps", "2", "--guidance", "3", "--width", "24"];
        arguments.extend(asked.into_iter().chain(["--seed", "7", "--out", out]));
        let ran = server.cli(&arguments);
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
        assert_eq!(image::image_dimensions(folder.join("image-0.png")).unwrap(), (24, 24));
    }
    let ran = server.cli(&["generate-image", "--prompt", "a dress", "--category", "dress", "--out", out]);
    assert_eq!(ran.status.code(), Some(2), "one of them");
}
