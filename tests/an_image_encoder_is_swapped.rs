//! The second version of the image encoder is the first with the numbers of its vectors in reverse: the angles between vectors are the
//! same, and comparing anything of one version with anything of the other finds something else. It is swapped in under searches, and the
//! first leaves at once.

#![cfg(test)]

mod harness;

use std::{
    collections::BTreeSet,
    fs,
    io::Cursor,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use harness::{CATALOG, Start, context, eventually, item, program, stock, vectors_done};
use image::{GrayImage, ImageFormat, Luma};
use prost::bytes::Bytes;
use serde_json::Value;
use vitrine::v1::{
    GetModelVersionRequest, ImageQuery, PutPictureRequest, SearchRequest, SearchResponse, SetLabelRequest,
    VersionState, search_request::Query,
};
use vitrine_client::Client;

const MODEL: &str = "fashion-cnn";
const ITEMS: u32 = 40;

fn registry_command(registry: &Path, arguments: &[&str]) {
    let mut command = Command::new(program("vitrine-registry"));
    let output = command.args(arguments).arg("--registry").arg(registry).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Publishes the committed version, and another one with its vectors in reverse.
fn publish_both(registry: &Path, work: &Path) {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("model-registry/starter/models").join(MODEL).join("1");
    fs::create_dir_all(work).unwrap();
    fs::copy(committed.join("config.json"), work.join("config.json")).unwrap();
    let weights = fs::read(committed.join("model.safetensors")).unwrap();
    for weights in [weights.clone(), reversed(weights)] {
        fs::write(work.join("model.safetensors"), weights).unwrap();
        let folder = work.to_str().unwrap();
        registry_command(registry, &["publish", MODEL, folder, "--kind", "cnn", "--task", "image-embedding"]);
    }
    registry_command(registry, &["label", MODEL, "stable", "1"]);
}

/// Weights of the network whose last channels stand in reverse. The format: <https://huggingface.co/docs/safetensors/index#format>.
fn reversed(mut weights: Vec<u8>) -> Vec<u8> {
    let length = u64::from_le_bytes(weights[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&weights[8..8 + length]).unwrap();
    let data = &mut weights[8 + length..];
    for (name, tensor) in header.as_object().unwrap() {
        let of_last = |part: &str| name.starts_with(&format!("stages.3.0.{part}"));
        if name == "centre" || of_last("convolutions.1") || of_last("norms.1") || of_last("shortcut") {
            let [begin, end] = [0, 1].map(|at| tensor["data_offsets"][at].as_u64().unwrap() as usize);
            let rows = tensor["shape"][0].as_u64().unwrap() as usize;
            let back: Vec<u8> = data[begin..end].chunks((end - begin) / rows).rev().flatten().copied().collect();
            data[begin..end].copy_from_slice(&back);
        }
    }
    weights
}

/// A picture unlike the others: bars as wide and as bright as its number has it.
fn picture(number: u32) -> Bytes {
    let wide = 2 + number % 8;
    let picture = GrayImage::from_fn(28, 28, |x, y| {
        let along = if number.is_multiple_of(2) { x } else { y };
        Luma([if (along / wide).is_multiple_of(2) { 0 } else { (60 + number * 4) as u8 }])
    });
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, ImageFormat::Png).unwrap();
    bytes.into_inner().into()
}

async fn search(client: &Client, number: u32) -> SearchResponse {
    let query = Some(Query::Image(ImageQuery { data: picture(number) }));
    let request = SearchRequest { context: context(), query, page_size: 5, ..Default::default() };
    client.search(request).await.unwrap()
}

/// Ids and scores: scores to the precision that stored vectors have.
fn found(answer: &SearchResponse) -> Vec<(String, i64)> {
    let of = |item: &Option<vitrine::v1::Item>| item.as_ref().unwrap().id.clone();
    answer.results.iter().map(|result| (of(&result.item), (result.score * 1e3).round() as i64)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn searches_by_pictures_go_on_and_no_vectors_of_two_versions_meet() {
    let start = Start::default();
    publish_both(&start.registry, &start.dir.path().join("version"));
    let start = start.set(&format!("image_encoder.model={MODEL}")).set("image_encoder.keep_previous=0s");
    let server = start.run();
    let client = server.client().await;
    stock(&client, (0..ITEMS).map(|number| item(&number.to_string(), &format!("Bars {number}"))).collect()).await;
    for number in 0..ITEMS {
        let name = format!("{CATALOG}/items/{number}");
        client.put_picture(PutPictureRequest { name, data: picture(number) }).await.unwrap();
    }
    vectors_done(&client).await;
    let mut before = Vec::new();
    for number in 0..ITEMS {
        let answer = found(&search(&client, number).await);
        assert!(answer.len() == 5 && answer[0].1 > 600, "{number}: {answer:?}");
        before.push(answer);
    }
    let (before, stop) = (Arc::new(before), Arc::new(AtomicBool::new(false)));
    let searching = (0..4).map(|caller| {
        let (client, before, stop) = (client.clone(), Arc::clone(&before), Arc::clone(&stop));
        tokio::spawn(async move {
            let (mut number, mut versions) = (caller * 10, BTreeSet::new());
            while !stop.load(Ordering::Relaxed) {
                let answer = search(&client, number).await;
                assert_eq!((found(&answer), answer.degraded.len()), (before[number as usize].clone(), 0));
                versions.insert(answer.served_by[0].version);
                number = (number + 1) % ITEMS;
            }
            versions
        })
    });
    let searching: Vec<_> = searching.collect();

    let label = SetLabelRequest {
        name: format!("models/{MODEL}"),
        label: "stable".into(),
        version: 2,
        expected_version: 1,
        ..Default::default()
    };
    client.with_timeout(harness::models::PATIENCE).set_label(label).await.unwrap();
    eventually("the first version is gone", async || {
        let name = format!("models/{MODEL}/versions/1");
        let version = client.get_model_version(GetModelVersionRequest { name }).await.unwrap();
        (version.state() == VersionState::Ended).then_some(())
    })
    .await;
    assert_eq!(search(&client, 7).await.served_by[0].version, 2);
    stop.store(true, Ordering::Relaxed);
    for caller in searching {
        assert_eq!(caller.await.unwrap().into_iter().collect::<Vec<_>>(), [1, 2]);
    }
}
