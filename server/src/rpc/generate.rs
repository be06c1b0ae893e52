//! `GenerateImage`: checks the request, and sends each picture when its batch is done. Whoever stops listening is not worked for any more.

use std::{sync::Arc, time::Instant};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use vitrine::v1::{GenerateImageRequest, GeneratedImage, ImageFormat, Item, generate_image_request::Condition};
use vitrine_models::Wish;

use super::{App, ImageStream, batch_status, context, deadline::deadline};
use crate::{
    check,
    error::{Violations, internal, invalid, no_model, not_found, status, unavailable},
    generator::{Generator, IMAGE_GENERATION, Made, file},
    model::{Loaded as _, Pinned},
};

const MAX_IMAGES: i32 = 64;
const MAX_PIXELS: i32 = 1_024;

/// So many are asked for at a time: the first come soon, and no more than these are made for nothing.
const STEP: usize = 4;

/// Where near copies are held back, so many times as many pictures are made at most.
const MOST_TRIES: usize = 4;

/// What every picture of a request is made by.
struct Making {
    generator: Pinned<Generator>,
    class: u32,
    /// Of the first picture; each of the others has the next one.
    seed: u64,
    count: usize,
    /// Width and height.
    size: (u32, u32),
    format: ImageFormat,
    /// Pictures that are nearer to one that was learnt from are not sent.
    reject_near_copies: f32,
    deadline: Instant,
}

/// Makes pictures.
pub fn generate(app: &App, request: Request<GenerateImageRequest>) -> Result<Response<ImageStream>, Status> {
    let deadline = deadline(request.metadata(), app.config.limits.default_timeout);
    let request = request.into_inner();
    let (context, shop) = context(app, request.context.as_ref())?;
    let mut violations = Violations::default();
    check::request_context(&mut violations, context);
    for (field, value, most) in [
        ("count", request.count, MAX_IMAGES),
        ("width", request.width, MAX_PIXELS),
        ("height", request.height, MAX_PIXELS),
    ] {
        if !(0..=most).contains(&value) {
            violations.add(field, format!("is {value}; it must be 0 to {most}"));
        }
    }
    if !(request.reject_near_copies.is_finite() && request.reject_near_copies >= 0.0) {
        violations.add("reject_near_copies", format!("is {}; it must be 0 or more", request.reject_near_copies));
    }
    check::enumeration::<ImageFormat>(&mut violations, "format", request.format, "PNG, JPEG or WEBP");
    match &request.condition {
        None => violations.add("condition", "is required: `category` or `item_id`"),
        Some(Condition::Category(category)) if category.trim().is_empty() => {
            violations.add("category", "must not be empty");
        }
        Some(Condition::Category(category)) => check::text(&mut violations, "category", category, 1_000),
        Some(Condition::ItemId(id)) => check::id(&mut violations, "item_id", id),
    }
    violations.into_result()?;

    let generators = app.generators.as_ref();
    let generators = generators
        .ok_or_else(|| no_model(IMAGE_GENERATION, "`image_generator.model` of the configuration names none"))?;
    let selector = context.model_selector.get(IMAGE_GENERATION).map(String::as_str);
    let generator = generators.resolve(selector).map_err(|error| match selector {
        Some(selector) => not_found("model version", selector, &error.to_string()),
        None => unavailable("MODEL_NOT_LOADED", format!("no picture generator: {error}")),
    })?;
    if request.reject_near_copies > 0.0 && !generator.knows_copies() {
        let message = "reject_near_copies: the model's version does not tell how near pictures come to those that it was trained on";
        return Err(status(Code::FailedPrecondition, "DISTANCE_UNKNOWN", message));
    }
    let class = match &request.condition {
        Some(Condition::ItemId(id)) => {
            let table = shop.catalog().items.read();
            let item = table.doc(id).and_then(|doc| table.item(doc));
            let item = item.ok_or_else(|| not_found("item", id, "check the id, or import the item first"))?;
            class_of_item(&generator, item)
        }
        Some(Condition::Category(category)) => class(&generator, category),
        None => None,
    };
    let class = class.ok_or_else(|| {
        let field = if matches!(request.condition, Some(Condition::ItemId(_))) { "item_id" } else { "category" };
        let classes = generator.classes().join(", ");
        invalid(field, format!("is of no category that the model was trained on: {classes}"))
    })?;
    let making = Making {
        size: size(generator.side(), request.width, request.height),
        class,
        seed: request.seed.unwrap_or_else(rand::random),
        count: usize::try_from(request.count).unwrap_or_default().max(1),
        format: request.format(),
        reject_near_copies: request.reject_near_copies as f32,
        deadline,
        generator,
    };
    let (sender, receiver) = mpsc::channel(STEP);
    tokio::spawn(making.send(sender));
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}

impl Making {
    /// Makes and sends all of them, a few at a time, until nobody listens.
    async fn send(self, to: mpsc::Sender<Result<GeneratedImage, Status>>) {
        let making = Arc::new(self);
        let (mut sent, mut tried) = (0, 0);
        while sent < making.count {
            let step = (making.count - sent).min(STEP).min(making.most() - tried);
            if step == 0 {
                let _ = to.send(Err(making.too_near(sent))).await;
                return;
            }
            let wishes: Vec<Wish> = (tried..tried + step).map(|index| making.wish(index)).collect();
            tried += step;
            let made = tokio::select! {
                made = making.generator.make(&wishes, Some(making.deadline)) => made,
                // The row that has not begun never will.
                () = to.closed() => return,
            };
            let files = match made {
                Ok(made) => {
                    let kept = wishes.into_iter().zip(made).filter(|(_, made)| !making.is_copy(made));
                    let (making, kept) = (Arc::clone(&making), kept.collect::<Vec<_>>());
                    let write = move || (sent..).zip(kept).map(|(index, made)| making.image(index, made)).collect();
                    tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| vec![Err(internal(error))])
                }
                Err(error) => vec![Err(batch_status(error))],
            };
            for image in files {
                let failed = image.is_err();
                if to.send(image).await.is_err() || failed {
                    return;
                }
                sent += 1;
            }
        }
    }

    /// So many are made at most.
    fn most(&self) -> usize {
        if self.reject_near_copies > 0.0 { self.count * MOST_TRIES } else { self.count }
    }

    fn is_copy(&self, made: &Made) -> bool {
        made.nearest.is_some_and(|nearest| nearest < self.reject_near_copies)
    }

    fn too_near(&self, sent: usize) -> Status {
        let (most, limit) = (self.most(), self.reject_near_copies);
        let message = format!(
            "only {sent} of {most} pictures are at least {limit} away from those that the model was trained on; lower reject_near_copies, or try another seed"
        );
        status(Code::FailedPrecondition, "NEAR_COPIES", message)
    }

    fn wish(&self, index: usize) -> Wish {
        Wish { class: self.class, seed: self.seed.wrapping_add(index as u64) }
    }

    /// The answer for a picture.
    fn image(&self, index: usize, (wish, made): (Wish, Made)) -> Result<GeneratedImage, Status> {
        let (generator, Wish { class, seed }) = (&self.generator, wish);
        let opened = generator.opened();
        let named = &generator.classes()[class as usize];
        let note = format!("Made by models/{}/versions/{}: class {named}, seed {seed}", opened.model, opened.version);
        let picture =
            file::picture(made.pixels, generator.side(), generator.channels(), self.size).map_err(internal)?;
        let file = file::write(&picture, self.format, &note).map_err(internal)?;
        let own = (generator.side() as u32, generator.side() as u32) == self.size;
        Ok(GeneratedImage {
            index: index as i32,
            data: file.data.into(),
            content_type: file.content_type.to_owned(),
            width: self.size.0 as i32,
            height: self.size.1 as i32,
            seed,
            discriminator_score: made.realism.into(),
            nearest_training_distance: made.nearest.map(f64::from),
            served_by: Some(generator.served_by()),
            resized_by: if own { String::new() } else { file::RESIZED_BY.to_owned() },
        })
    }
}

/// The size that is asked for: the network's own, or, where one length is given, a square.
fn size(side: usize, width: i32, height: i32) -> (u32, u32) {
    let own = side as u32;
    let given = |length: i32| u32::try_from(length).ok().filter(|length| *length > 0);
    let (width, height) = (given(width), given(height));
    (width.or(height).unwrap_or(own), height.or(width).unwrap_or(own))
}

/// The class of that name, however it is written.
fn class(generator: &Generator, name: &str) -> Option<u32> {
    let wanted = name.trim().to_lowercase();
    (0..).zip(generator.classes()).find(|(_, class)| class.to_lowercase() == wanted).map(|(number, _)| number)
}

/// The class that is one of the item's categories, or the last part of one, as of `Clothes > Dress`.
fn class_of_item(generator: &Generator, item: &Item) -> Option<u32> {
    let parts = item.categories.iter().map(|category| category.rsplit('>').next().unwrap_or(category));
    item.categories.iter().map(String::as_str).chain(parts).find_map(|name| class(generator, name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_length_makes_a_square_and_none_the_networks_own() {
        assert_eq!(size(28, 0, 0), (28, 28));
        assert_eq!(size(28, 100, 0), (100, 100));
        assert_eq!(size(28, 0, 64), (64, 64));
        assert_eq!(size(28, 100, 64), (100, 64));
    }
}
