//! Pictures of items, and finding items by them: with the committed networks of clothes, which make the pictures too.

#![cfg(test)]

mod harness;

use std::{io::Cursor, path::Path};

use harness::{
    CATALOG, Start, TestServer, context, eventually, item, recommend, refused, stock, text_search, vectors_done,
};
use image::{DynamicImage, ImageFormat};
use prost::bytes::Bytes;
use tokio_stream::StreamExt as _;
use vitrine::v1::{
    DeleteItemRequest, DeletePictureRequest, GenerateImageRequest, GetCatalogRequest, GetPictureRequest, ImageQuery,
    Item, ItemList, Likeness, MultimodalQuery, PutPictureRequest, ReasonCode, RecommendRequest, SearchRequest,
    SearchResponse, generate_image_request::Condition, recommend_request::Target, search_request::Query,
};
use vitrine_client::{Client, Code};

const CLASSES: [&str; 10] =
    ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot"];
const OF_EACH: usize = 4;

/// A server that runs the committed networks, and a client.
async fn served(start: Start) -> (TestServer, Client) {
    let registry = Path::new(env!("CARGO_MANIFEST_DIR")).join("model-registry/starter");
    let start = Start { registry, ..start };
    let server = start.set("image_encoder.model=fashion-cnn").set("image_generator.model=fashion-cgan").run();
    let client = server.client().await;
    (server, client)
}

fn name(id: &str) -> String {
    format!("{CATALOG}/items/{id}")
}

async fn put(client: &Client, id: &str, data: Bytes) {
    client.put_picture(PutPictureRequest { name: name(id), data }).await.unwrap();
}

/// New pictures of a class.
async fn made(client: &Client, class: &str, seed: u64, count: usize) -> Vec<Bytes> {
    let condition = Some(Condition::Category(class.into()));
    let request = GenerateImageRequest {
        context: context(),
        condition,
        seed: Some(seed),
        count: count as i32,
        ..Default::default()
    };
    let made = eventually("the generator is available", async || client.generate_image(request.clone()).await.ok());
    made.await.map(|image| image.unwrap().data).collect().await
}

/// Some goods of each class, each with a picture.
async fn shop(client: &Client) {
    let ids = CLASSES.iter().flat_map(|class| (0..OF_EACH).map(move |at| (format!("{class}-{at}"), *class)));
    let goods = ids.map(|(id, class)| Item { categories: vec![class.into()], ..item(&id, &format!("Article {id}")) });
    stock(client, goods.collect()).await;
    for class in CLASSES {
        for (at, data) in made(client, class, 0, OF_EACH).await.into_iter().enumerate() {
            put(client, &format!("{class}-{at}"), data).await;
        }
    }
    vectors_done(client).await;
}

fn by_picture(data: &Bytes) -> SearchRequest {
    SearchRequest { query: Some(Query::Image(ImageQuery { data: data.clone() })), ..text_search("") }
}

fn by_both(text: &str, data: &Bytes, image_weight: f64) -> SearchRequest {
    let image = Some(ImageQuery { data: data.clone() });
    let both = MultimodalQuery { text: text.into(), image, image_weight: Some(image_weight) };
    SearchRequest { query: Some(Query::Multimodal(both)), ..text_search("") }
}

fn ids(answer: &SearchResponse) -> Vec<&str> {
    answer.results.iter().map(|result| result.item.as_ref().unwrap().id.as_str()).collect()
}

fn png(picture: &DynamicImage) -> Bytes {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner().into()
}

#[tokio::test]
async fn a_picture_finds_what_looks_like_it_alone_with_words_and_from_an_item() {
    let (_server, client) = served(Start::default()).await;
    shop(&client).await;

    let (mut right, mut asked) = (0, 0);
    for class in CLASSES {
        for picture in made(&client, class, 1_000, 3).await {
            let answer =
                client.search(SearchRequest { page_size: OF_EACH as i32, ..by_picture(&picture) }).await.unwrap();
            assert_eq!((answer.results.len(), answer.degraded.len()), (OF_EACH, 0));
            let served_by = &answer.served_by[..];
            assert_eq!(served_by.iter().map(|by| by.task.as_str()).collect::<Vec<_>>(), ["image-embedding"]);
            assert_eq!(answer.results[0].stages[0].stage, "picture");
            right += ids(&answer).iter().filter(|id| id.starts_with(class)).count();
            asked += OF_EACH;
        }
    }
    // By chance one in ten would be right. A shirt is much like a coat to the network, and to people.
    assert!(right * 10 >= asked * 7, "{right} of {asked}");

    let bag = made(&client, "bag", 2_000, 1).await.remove(0);
    let filtered = SearchRequest { filter: "categories: \"coat\"".into(), ..by_picture(&bag) };
    let filtered = client.search(filtered).await.unwrap();
    assert!(filtered.results.len() == OF_EACH && ids(&filtered).iter().all(|id| id.starts_with("coat")));

    // Words and picture together: what counts more comes first, and the others are found as well.
    let weighed = [(0.9, "bag", &["picture", "fused"][..]), (0.1, "dress", &["lexical", "picture", "fused"])];
    for (image_weight, first, stages) in weighed {
        let answer = client.search(by_both("article dress", &bag, image_weight)).await.unwrap();
        let found = ids(&answer);
        assert!(found[..OF_EACH].iter().all(|id| id.starts_with(first)), "{image_weight}: {found:?}");
        assert_eq!(answer.results[0].stages.iter().map(|stage| stage.stage.as_str()).collect::<Vec<_>>(), stages);
    }

    let target = Target::SimilarToItems(ItemList { ids: vec!["sneaker-0".into(), "nothing".into()] });
    let alike =
        RecommendRequest { likeness: Likeness::Picture.into(), explain: true, page_size: 3, ..recommend(target) };
    let answer = client.recommend(alike).await.unwrap();
    assert_eq!((answer.missing_ids, answer.served_by.len()), (vec!["nothing".to_owned()], 1));
    assert_eq!(answer.results.len(), 3);
    for result in answer.results {
        assert!(result.item.unwrap().id != "sneaker-0");
        let reason = result.reason.unwrap();
        assert_eq!((reason.code(), reason.text.as_str()), (ReasonCode::LooksLike, "looks like Article sneaker-0"));
        assert_eq!(result.stages[0].stage, "looks_like");
    }
}

#[tokio::test]
async fn a_picture_is_found_by_until_it_is_replaced_or_goes_and_survives_a_power_cut() {
    let (server, client) = served(Start::default()).await;
    stock(&client, vec![item("a", "A"), item("b", "B"), item("c", "C")]).await;
    let (bag, boot) = (made(&client, "bag", 7, 1).await.remove(0), made(&client, "ankle-boot", 7, 1).await.remove(0));
    for id in ["a", "b"] {
        put(&client, id, bag.clone()).await;
    }
    vectors_done(&client).await;
    let kept = client.get_picture(GetPictureRequest { name: name("a") }).await.unwrap();
    assert_eq!((&kept.data, kept.content_type.as_str()), (&bag, "image/png"));
    assert_eq!(refused(client.get_picture(GetPictureRequest { name: name("c") }).await).code, Code::NotFound);

    put(&client, "a", boot.clone()).await;
    let (server, client) = served(server.kill()).await;
    let found = async |picture: &Bytes| {
        let answer = client.search(by_picture(picture)).await.ok()?;
        Some(ids(&answer).into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let finds = async |picture: &Bytes, wanted: &[&str]| {
        let what = format!("{wanted:?} are found");
        eventually(&what, async || found(picture).await.filter(|found| found == wanted)).await;
    };
    finds(&boot, &["a", "b"]).await;
    finds(&bag, &["b", "a"]).await;
    let catalog = client.get_catalog(GetCatalogRequest { name: CATALOG.into() }).await.unwrap();
    let index = catalog.vector_indexes.iter().find(|index| index.task == "image-embedding").unwrap();
    assert_eq!((catalog.picture_count, index.indexed_items, index.pending_items), (2, 2, 0));

    client.delete_picture(DeletePictureRequest { name: name("a"), allow_missing: false }).await.unwrap();
    finds(&boot, &["b"]).await;
    let again = DeletePictureRequest { name: name("a"), allow_missing: false };
    assert_eq!(refused(client.delete_picture(again.clone()).await).code, Code::NotFound);
    client.delete_picture(DeletePictureRequest { allow_missing: true, ..again }).await.unwrap();
    client.delete_item(DeleteItemRequest { name: name("b"), allow_missing: false }).await.unwrap();
    finds(&boot, &[]).await;
    drop(server);
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_and_large_pictures_are_kept_smaller() {
    let (server, client) = served(Start::default()).await;
    stock(&client, vec![item("a", "A")]).await;
    for data in [&b""[..], b"hello", b"\x89PNG\r\n\x1a\n"] {
        let request = PutPictureRequest { name: name("a"), data: Bytes::from_static(data) };
        let error = refused(client.put_picture(request).await);
        assert_eq!((error.code, error.violations[0].field.as_str()), (Code::InvalidArgument, "data"));
    }
    let large = png(&DynamicImage::new_rgb8(2_000, 1_000));
    let to_none = PutPictureRequest { name: name("z"), data: large.clone() };
    assert_eq!(refused(client.put_picture(to_none).await).code, Code::NotFound);
    put(&client, "a", large).await;
    let kept = client.get_picture(GetPictureRequest { name: name("a") }).await.unwrap().data;
    let kept = image::load_from_memory(&kept).unwrap();
    assert_eq!((kept.width(), kept.height()), (512, 256));

    // The header is right, and the rest is missing: it shows when the picture is decoded.
    let whole = png(&DynamicImage::new_rgb8(90, 90));
    let half = whole.slice(..whole.len() / 2);
    vectors_done(&client).await;
    for (request, field) in [(by_picture(&half), "image.data"), (by_both("a", &half, 0.5), "multimodal.image.data")] {
        let error = refused(client.search(request).await);
        assert_eq!((error.code, error.violations[0].field.as_str()), (Code::InvalidArgument, field));
    }
    for (weight, text, field) in [(1.5, "a", "multimodal.image_weight"), (0.5, " ", "multimodal.text")] {
        let error = refused(client.search(by_both(text, &whole, weight)).await);
        assert_eq!((error.code, error.violations[0].field.as_str()), (Code::InvalidArgument, field));
    }

    // Without a model for pictures: words still answer, and pictures say what is missing.
    let start = server.kill();
    let server = Start { settings: Vec::new(), ..start }.run();
    let client = server.client().await;
    let error = refused(client.search(by_picture(&whole)).await);
    assert_eq!(error.code, Code::NotFound);
    assert!(error.to_string().contains("image_encoder.model"), "{error}");
    assert_eq!(ids(&client.search(text_search("a")).await.unwrap()), ["a"]);
}
