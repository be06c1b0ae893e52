//! The committed generator of clothes makes pictures: of a category or an item, as files of every format, the same for the same seed.

#![cfg(test)]

mod harness;

use std::{io::Cursor, path::Path};

use harness::{Start, TestServer, context, eventually, item, refused, stock};
use image::{GenericImageView as _, ImageReader};
use prost_types::{Struct, Value, value::Kind};
use tokio_stream::StreamExt as _;
use vitrine::v1::{
    GenerateImageRequest, GeneratedImage, GetModelVersionRequest, ImageFormat, Item, VersionState,
    generate_image_request::Condition,
};
use vitrine_client::{CallError, Client, Code};

const VERSION: &str = "models/fashion-cgan/versions/1";

/// A server that runs the generator, and a client.
async fn served(start: Start) -> (TestServer, Client) {
    let registry = Path::new(env!("CARGO_MANIFEST_DIR")).join("model-registry/starter");
    let server = Start { registry, ..start }.set("image_generator.model=fashion-cgan").run();
    let client = server.client().await;
    eventually("the generator is available", async || {
        let version = client.get_model_version(GetModelVersionRequest { name: VERSION.into() }).await.unwrap();
        (version.state() == VersionState::Available).then_some(())
    })
    .await;
    (server, client)
}

/// The same, with two goods.
async fn shop(start: Start) -> (TestServer, Client) {
    let (server, client) = served(start).await;
    let dress = Item { categories: vec!["Clothes > Dress".into()], ..item("dress", "A long dress") };
    stock(&client, vec![dress, item("milk", "Whole milk")]).await;
    (server, client)
}

fn of(category: &str) -> GenerateImageRequest {
    let condition = Some(Condition::Category(category.into()));
    GenerateImageRequest { context: context(), condition, seed: Some(7), ..Default::default() }
}

async fn made(client: &Client, request: GenerateImageRequest) -> Vec<GeneratedImage> {
    client.generate_image(request).await.unwrap().map(Result::unwrap).collect().await
}

async fn error(client: &Client, request: GenerateImageRequest) -> CallError {
    match client.generate_image(request).await {
        Ok(mut images) => refused(images.next().await.unwrap()),
        Err(error) => refused::<()>(Err(error)),
    }
}

#[tokio::test]
async fn the_same_seed_makes_the_same_pictures_and_the_next_seed_another() {
    let (server, client) = shop(Start::default()).await;
    let ten = made(&client, GenerateImageRequest { count: 10, ..of("Dress") }).await;
    assert_eq!(ten.iter().map(|image| image.index).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    assert_eq!(ten.iter().map(|image| image.seed).collect::<Vec<_>>(), (7..17).collect::<Vec<_>>());
    for image in &ten {
        let picture = image::load_from_memory(&image.data).unwrap();
        assert_eq!(picture.dimensions(), (28, 28));
        assert_eq!((image.width, image.height, image.resized_by.as_str()), (28, 28, ""));
        assert_eq!(image.content_type, "image/png");
        assert!((0.0..=1.0).contains(&image.discriminator_score.unwrap()));
        let by = image.served_by.as_ref().unwrap();
        assert_eq!((by.task.as_str(), by.model.as_str(), by.version), ("image-generation", "fashion-cgan", 1));
    }
    assert!(ten.windows(2).all(|pair| pair[0].data != pair[1].data));
    let alone = made(&client, GenerateImageRequest { seed: Some(9), ..of(" dress ") }).await;
    assert_eq!((alone.len(), &alone[0].data), (1, &ten[2].data), "whichever share its batch");
    assert_ne!(made(&client, GenerateImageRequest { seed: Some(9), ..of("Bag") }).await[0].data, ten[2].data);
    let chosen = made(&client, GenerateImageRequest { seed: None, ..of("Dress") }).await;
    let again = made(&client, GenerateImageRequest { seed: Some(chosen[0].seed), ..of("Dress") }).await;
    assert_eq!(chosen[0].data, again[0].data, "a seed that the server chose is told");

    let (_server, client) = served(server.kill()).await;
    assert_eq!(made(&client, GenerateImageRequest { count: 10, ..of("Dress") }).await, ten, "after a restart");
}

#[tokio::test]
async fn every_format_and_size_can_be_had_and_says_what_made_it() {
    let (_server, client) = shop(Start::default()).await;
    for (format, mime) in
        [(ImageFormat::Png, "image/png"), (ImageFormat::Jpeg, "image/jpeg"), (ImageFormat::Webp, "image/webp")]
    {
        let request = GenerateImageRequest { width: 100, height: 120, format: format.into(), ..of("Sneaker") };
        let image = made(&client, request).await.remove(0);
        let reader = ImageReader::new(Cursor::new(&image.data)).with_guessed_format().unwrap();
        assert_eq!((image.content_type.as_str(), reader.format().unwrap().to_mime_type()), (mime, mime));
        assert_eq!(reader.decode().unwrap().dimensions(), (100, 120));
        assert_eq!((image.width, image.height, image.resized_by.as_str()), (100, 120, "lanczos3"));
        let note = format!("Made by {VERSION}: class sneaker, seed 7");
        assert!(image.data.windows(note.len()).any(|part| part == note.as_bytes()), "{mime}");
    }
}

#[tokio::test]
async fn an_item_has_the_class_of_its_category_and_what_has_none_is_named() {
    let (_server, client) = shop(Start::default()).await;
    let item = |id: &str| GenerateImageRequest { condition: Some(Condition::ItemId(id.into())), ..of("") };
    assert_eq!(made(&client, item("dress")).await, made(&client, of("Dress")).await);
    for (request, field) in [(item("milk"), "item_id"), (of("Cheese"), "category")] {
        let error = error(&client, request).await;
        assert_eq!(error.code, Code::InvalidArgument, "{error:?}");
        assert_eq!(error.violations[0].field, field);
        assert!(error.violations[0].description.contains("ankle-boot"), "{error:?}");
    }
    assert_eq!(error(&client, item("nothing")).await.code, Code::NotFound);
    let attributes = |named: &[(&str, &str)]| {
        let text = |text: &str| Value { kind: Some(Kind::StringValue(text.into())) };
        let fields = named.iter().map(|(name, value)| ((*name).to_owned(), text(value))).collect();
        GenerateImageRequest { condition: Some(Condition::Attributes(Struct { fields })), ..of("") }
    };
    assert_eq!(made(&client, attributes(&[("category", "dress")])).await, made(&client, of("Dress")).await);
    for (request, field) in [
        (attributes(&[("category", "cheese")]), "attributes.category"),
        (attributes(&[("category", "dress"), ("colour", "blue")]), "attributes.colour"),
        (GenerateImageRequest { condition: Some(Condition::Prompt("a dress".into())), ..of("") }, "prompt"),
        (GenerateImageRequest { negative_prompt: "red".into(), ..of("Dress") }, "negative_prompt"),
        (GenerateImageRequest { steps: Some(5), ..of("Dress") }, "steps"),
        (GenerateImageRequest { guidance: Some(5.0), ..of("Dress") }, "guidance"),
    ] {
        let error = error(&client, request).await;
        assert_eq!((error.code, error.violations[0].field.as_str()), (Code::InvalidArgument, field), "{error:?}");
    }
    let error_of =
        async |reject_near_copies| error(&client, GenerateImageRequest { reject_near_copies, ..of("Dress") }).await;
    assert_eq!(error_of(f64::NAN).await.violations[0].field, "reject_near_copies");
    assert_eq!(error_of(1.0).await.reason, "DISTANCE_UNKNOWN");
    let mut selecting = of("Dress");
    selecting.context.as_mut().unwrap().model_selector.insert("image-generation".into(), "2".into());
    let error = error(&client, selecting).await;
    assert_eq!(error.code, Code::NotFound, "{error:?}");
    assert!(error.message.contains("the versions 1"), "{error:?}");
}

#[tokio::test]
async fn whoever_stops_listening_is_not_worked_for() {
    let (server, client) = shop(Start::default().set("metrics_listen=127.0.0.1:0")).await;
    let many = GenerateImageRequest { count: 64, width: 1024, ..of("Coat") };
    let mut images = client.generate_image(many).await.unwrap();
    images.next().await.unwrap().unwrap();
    drop(images);
    let rows = async || {
        let metrics = server.metrics().await;
        let line = metrics.lines().find(|line| {
            line.starts_with("vitrine_batch_rows_sum")
                && line.contains("fashion-cgan/1")
                && line.contains("interactive")
        });
        line.unwrap().rsplit(' ').next().unwrap().parse::<f64>().unwrap()
    };
    // One more answers only when what was begun for the others is over.
    made(&client, of("Coat")).await;
    assert!(rows().await < 64.0, "{} were made", rows().await);
}
