//! `GenerateImage`: checks the request, and sends each picture when its batch is done. Whoever stops listening is not worked for any more.

use std::{sync::Arc, time::Instant};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use vitrine::v1::{GenerateImageRequest, GeneratedImage, ImageFormat, Item, generate_image_request::Condition};
use vitrine_models::Wish;

use super::{App, ImageStream, batch_status, context, deadline::deadline};
use crate::{
    check,
    error::{Violations, internal, invalid, no_model, not_found, unavailable},
    generator::{Generator, IMAGE_GENERATION, Made, file},
    model::{Loaded as _, Pinned},
};

const MAX_IMAGES: i32 = 64;
const MAX_PIXELS: i32 = 1_024;

/// So many are asked for at a time: the first come soon, and no more than these are made for nothing.
const STEP: usize = 4;

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
        for first in (0..making.count).step_by(STEP) {
            let wishes: Vec<Wish> = (first..making.count.min(first + STEP)).map(|index| making.wish(index)).collect();
            let made = tokio::select! {
                made = making.generator.make(&wishes, Some(making.deadline)) => made,
                // The row that has not begun never will.
                () = to.closed() => return,
            };
            let files = match made {
                Ok(made) => {
                    let making = Arc::clone(&making);
                    let write = move || (first..).zip(made).map(|(index, made)| making.image(index, made)).collect();
                    tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| vec![Err(internal(error))])
                }
                Err(error) => vec![Err(batch_status(error))],
            };
            for image in files {
                let failed = image.is_err();
                if to.send(image).await.is_err() || failed {
                    return;
                }
            }
        }
    }

    fn wish(&self, index: usize) -> Wish {
        Wish { class: self.class, seed: self.seed.wrapping_add(index as u64) }
    }

    /// The answer for a picture.
    fn image(&self, index: usize, made: Made) -> Result<GeneratedImage, Status> {
        let (generator, Wish { class, seed }) = (&self.generator, self.wish(index));
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
            served_by: Some(generator.served_by()),
            resized_by: if own { String::new() } else { file::RESIZED_BY.to_owned() },
            ..GeneratedImage::default()
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
