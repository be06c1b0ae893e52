//! A generator that knows what it was trained on says how near its pictures come to that, and holds back those that come too near.

#![cfg(test)]

mod harness;

use std::{fs, path::Path};

use harness::{Start, context, eventually, item, refused, run, stock};
use image::{Rgb, RgbImage};
use tokio_stream::StreamExt as _;
use vitrine::v1::{
    GenerateImageRequest, GeneratedImage, GetModelVersionRequest, VersionState, generate_image_request::Condition,
};
use vitrine_client::{CallError, Client, Code};

const VERSION: &str = "models/clothes/versions/1";

/// Pictures that are red above or blue below, as bright as chance has it.
fn photos(folder: &Path) {
    for (part, count) in [("train", 40_u32), ("validation", 20)] {
        for (class, channel) in [("hat", 0), ("shoe", 2)] {
            let folder = folder.join(part).join(class);
            fs::create_dir_all(&folder).unwrap();
            for at in 0..count {
                // Those for tests are others than those to learn from.
                let bright = at * 37 % 50 * 2 + u32::from(part == "validation");
                let mut colour = [bright, bright * 3, bright * 7].map(|number| (number % 40) as u8);
                colour[channel] = (150 + bright) as u8;
                let lit = |y: u32| (y < 4) == (class == "hat");
                let picture = RgbImage::from_fn(8, 8, |_, y| Rgb(if lit(y) { colour } else { [(at % 9) as u8; 3] }));
                picture.save(folder.join(format!("{at}.png"))).unwrap();
            }
        }
    }
}

/// A generator learnt from such pictures, published.
fn learnt(dir: &Path, registry: &Path) {
    photos(&dir.join("photos"));
    let size = "side = 8\nchannels = 3\n";
    let cnn = format!("{size}widths = [8]\n[learning]\nbatch = 16\nepochs = 4\nlearning_rate = 0.01\n");
    let gan = "noise = 8\naverage = 0.8\njudged = 32\nclassified = 0\n[layers]\nkind = \"dense\"\nwidths = [32]\n";
    let gan = format!("{size}{gan}[learning]\nbatch = 8\nepochs = 40\npatience = 40\nlearning_rate = 0.002\n");
    fs::write(dir.join("cnn.toml"), cnn).unwrap();
    fs::write(dir.join("gan.toml"), gan).unwrap();
    let registry = registry.display();
    for line in [
        "train cnn --pictures photos --config cnn.toml --out seen",
        "train cgan --pictures photos --judge seen --config gan.toml --out made",
        &format!("publish made --registry {registry} --model clothes --label stable"),
    ] {
        run("vitrine-trainer", dir, line);
    }
}

fn hats(count: i32, reject_near_copies: f64) -> GenerateImageRequest {
    let condition = Some(Condition::Category("hat".into()));
    GenerateImageRequest {
        context: context(),
        condition,
        seed: Some(7),
        count,
        reject_near_copies,
        ..Default::default()
    }
}

/// Those that were sent, and the error that ended it.
async fn made(client: &Client, request: GenerateImageRequest) -> (Vec<GeneratedImage>, Option<CallError>) {
    let mut images = client.generate_image(request).await.unwrap();
    let mut sent = Vec::new();
    while let Some(image) = images.next().await {
        match image {
            Ok(image) => sent.push(image),
            error => return (sent, Some(refused(error))),
        }
    }
    (sent, None)
}

#[tokio::test]
async fn pictures_too_near_to_known_ones_are_made_again() {
    let start = Start::default().set("image_generator.model=clothes");
    learnt(start.dir.path(), &start.registry);
    let server = start.run();
    let client = server.client().await;
    eventually("the generator is available", async || {
        let version = client.get_model_version(GetModelVersionRequest { name: VERSION.into() }).await.ok()?;
        (version.state() == VersionState::Available).then_some(())
    })
    .await;

    stock(&client, vec![item("hat", "A hat")]).await;
    let (all, error) = made(&client, hats(16, 0.0)).await;
    assert!(all.len() == 16 && error.is_none());
    let distance = |image: &GeneratedImage| image.nearest_training_distance.unwrap();
    let mut distances: Vec<f64> = all.iter().map(distance).collect();
    distances.sort_by(f64::total_cmp);
    assert!(distances[0] >= 0.0 && distances[15] > distances[0], "{distances:?}");

    // Half of them are nearer than the median.
    let least = distances[8];
    let (far, error) = made(&client, hats(8, least)).await;
    assert!(far.len() == 8 && error.is_none(), "{error:?}");
    assert_eq!(far.iter().map(|image| image.index).collect::<Vec<_>>(), (0..8).collect::<Vec<_>>());
    assert!(far.iter().all(|image| distance(image) >= least), "{least}: {far:?}");
    let kept = all.iter().filter(|image| distance(image) >= least).map(|image| (image.seed, &image.data));
    let sent = far.iter().map(|image| (image.seed, &image.data));
    assert_eq!(sent.collect::<Vec<_>>(), kept.take(8).collect::<Vec<_>>(), "the same seed makes the same picture");

    let (none, error) = made(&client, hats(2, 1e9)).await;
    let error = error.unwrap();
    assert!(none.is_empty() && error.message.contains("only 0 of 8"), "{error:?}");
    assert_eq!((error.code, error.reason.as_str()), (Code::FailedPrecondition, "NEAR_COPIES"));
}
