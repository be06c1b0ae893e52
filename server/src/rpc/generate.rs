//! `GenerateImage`: checks the request, and sends each picture when its batch is done. Whoever stops listening is not worked for any more.

use std::{sync::Arc, time::Instant};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Response, Status};
use vitrine::v1::{
    GenerateImageRequest, GeneratedImage, ImageFormat, Placement, RequestContext, generate_image_request::Condition,
};

use super::{
    App, ImageStream,
    arms::{Arms, Shown},
    batch_status, context,
    deadline::deadline,
    generate_subject::{Asked, subject},
};
use crate::{
    check,
    error::{Violations, internal, no_model, not_found, status, unavailable},
    generator::{Generator, IMAGE_GENERATION, MOST_PIXELS, Made, file},
    model::{Loaded as _, Pinned},
    serving::Shop,
};

const MAX_IMAGES: i32 = 64;
const MAX_PROMPT_CHARS: usize = 2_000;
const MAX_STEPS: i32 = 150;
const MAX_GUIDANCE: f64 = 30.0;

/// So many pictures wait to be sent at most.
const WAITING: usize = 4;

/// Where near copies are held back, so many times as many pictures are made at most.
const MOST_TRIES: usize = 4;

/// What every picture of a request is made by.
struct Making {
    generator: Pinned<Generator>,
    asked: Asked,
    /// Of the first picture; each of the others has the next one.
    seed: u64,
    count: usize,
    format: ImageFormat,
    /// Pictures that are nearer to one that was learnt from are not sent.
    reject_near_copies: f32,
    deadline: Instant,
    /// Whom the pictures are for, and by which arms of experiments.
    arms: Arms,
    context: RequestContext,
    shop: Arc<Shop>,
}

/// Makes pictures.
pub fn generate(app: &App, request: Request<GenerateImageRequest>) -> Result<Response<ImageStream>, Status> {
    let deadline = deadline(request.metadata(), app.config.limits.default_timeout);
    let request = request.into_inner();
    let (context, shop) = context(app, request.context.as_ref())?;
    let mut violations = Violations::default();
    check::request_context(&mut violations, context);
    check(&mut violations, &request);
    violations.into_result()?;

    let generators = app.generators.as_ref();
    let generators = generators
        .ok_or_else(|| no_model(IMAGE_GENERATION, "`image_generator.model` of the configuration names none"))?;
    let (mut arms, mut context) = (app.arms(&shop, context, Placement::GenerateImage)?, context.clone());
    // Pictures have no place to say that an arm lacked its version: the report does.
    app.choose_versions(&mut arms, &mut context);
    let selector = context.model_selector.get(IMAGE_GENERATION).map(String::as_str);
    let generator = generators.resolve(selector).map_err(|error| match selector {
        Some(selector) => not_found("model version", selector, &error.to_string()),
        None => unavailable("MODEL_NOT_LOADED", format!("no picture generator: {error}")),
    })?;
    if request.reject_near_copies > 0.0 && !generator.knows_copies() {
        let message = "reject_near_copies: the model's version does not tell how near pictures come to those that it was trained on";
        return Err(status(Code::FailedPrecondition, "DISTANCE_UNKNOWN", message));
    }
    let asked = subject(&generator, &request, shop.catalog())?;
    if let Some((needed, free)) = generator.lacks_memory(&asked.subject) {
        let ((width, height), megabytes) = (asked.size, |bytes: u64| bytes >> 20);
        let message = format!(
            "width, height: a picture of {width} × {height} pixels takes about {} MB beside the weights, and {} MB are free; ask for a smaller one",
            megabytes(needed),
            megabytes(free)
        );
        return Err(status(Code::ResourceExhausted, "OUT_OF_MEMORY", message));
    }
    let making = Making {
        asked,
        seed: request.seed.unwrap_or_else(rand::random),
        count: usize::try_from(request.count).unwrap_or_default().max(1),
        format: request.format(),
        reject_near_copies: request.reject_near_copies as f32,
        deadline,
        generator,
        arms,
        context,
        shop,
    };
    let (sender, receiver) = mpsc::channel(WAITING);
    tokio::spawn(making.send(sender));
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}

/// What is wrong whatever makes the pictures.
fn check(violations: &mut Violations, request: &GenerateImageRequest) {
    let pixels = MOST_PIXELS as i32;
    for (field, value, least, most) in [
        ("count", request.count, 0, MAX_IMAGES),
        ("width", request.width, 0, pixels),
        ("height", request.height, 0, pixels),
        ("steps", request.steps.unwrap_or(1), 1, MAX_STEPS),
    ] {
        if !(least..=most).contains(&value) {
            violations.add(field, format!("is {value}; it must be {least} to {most}"));
        }
    }
    if !(request.reject_near_copies.is_finite() && request.reject_near_copies >= 0.0) {
        violations.add("reject_near_copies", format!("is {}; it must be 0 or more", request.reject_near_copies));
    }
    if let Some(guidance) = request.guidance.filter(|guidance| !(0.0..=MAX_GUIDANCE).contains(guidance)) {
        violations.add("guidance", format!("is {guidance}; it must be 0 to {MAX_GUIDANCE}"));
    }
    check::text(violations, "negative_prompt", &request.negative_prompt, MAX_PROMPT_CHARS);
    check::enumeration::<ImageFormat>(violations, "format", request.format, "PNG, JPEG or WEBP");
    let mut words = |field: &str, text: &str, most: usize| {
        if text.trim().is_empty() {
            violations.add(field, "must not be empty");
        }
        check::text(violations, field, text, most);
    };
    match &request.condition {
        None => violations.add("condition", "is required: `category`, `item_id`, `prompt` or `attributes`"),
        Some(Condition::Category(category)) => words("category", category, 1_000),
        Some(Condition::Prompt(prompt)) => words("prompt", prompt, MAX_PROMPT_CHARS),
        Some(Condition::ItemId(id)) => check::id(violations, "item_id", id),
        Some(Condition::Attributes(attributes)) if attributes.fields.is_empty() => {
            violations.add("attributes", "must not be empty");
        }
        Some(Condition::Attributes(attributes)) => check::attributes(violations, "attributes", attributes),
    }
}

impl Making {
    /// Makes and sends all of them, a few at a time, until nobody listens.
    async fn send(self, to: mpsc::Sender<Result<GeneratedImage, Status>>) {
        let making = Arc::new(self);
        let (mut sent, mut tried) = (0, 0);
        while sent < making.count {
            let together = making.generator.together();
            let step = (making.count - sent).min(together).min(making.most() - tried);
            if step == 0 {
                let _ = to.send(Err(making.too_near(sent))).await;
                return;
            }
            let seeds: Vec<u64> = (tried..tried + step).map(|index| making.seed.wrapping_add(index as u64)).collect();
            tried += step;
            let made = tokio::select! {
                made = making.generator.make(&making.asked.subject, &seeds, Some(making.deadline)) => made,
                // What has not begun never will.
                () = to.closed() => return,
            };
            let files = match made {
                Ok(made) => {
                    let kept = seeds.into_iter().zip(made).filter(|(_, made)| !making.is_copy(made));
                    let (making, kept) = (Arc::clone(&making), kept.collect::<Vec<_>>());
                    let write = move || {
                        if sent == 0 {
                            making.log();
                        }
                        (sent..).zip(kept).map(|(index, made)| making.image(index, made)).collect()
                    };
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

    /// Logs that somebody is about to be shown pictures.
    fn log(&self) {
        let (answer, served_by) = (rand::random(), &[self.generator.served_by()]);
        let shown = Shown { answer, served_by, items: Vec::new(), first_position: 1 };
        self.arms.log(&self.shop, shown, Some(&self.context));
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

    /// The answer for a picture.
    fn image(&self, index: usize, (seed, made): (u64, Made)) -> Result<GeneratedImage, Status> {
        let (opened, size) = (self.generator.opened(), self.asked.size);
        let named = &self.asked.named;
        let note = format!("Made by models/{}/versions/{}: {named}, seed {seed}", opened.model, opened.version);
        let (own, realism, nearest) = (made.size == size, made.realism, made.nearest);
        let picture = file::picture(made, size).map_err(internal)?;
        let file = file::write(&picture, self.format, &note).map_err(internal)?;
        Ok(GeneratedImage {
            index: index as i32,
            data: file.data.into(),
            content_type: file.content_type.to_owned(),
            width: size.0 as i32,
            height: size.1 as i32,
            seed,
            discriminator_score: realism.map(f64::from),
            nearest_training_distance: nearest.map(f64::from),
            served_by: Some(self.generator.served_by()),
            resized_by: if own { String::new() } else { file::RESIZED_BY.to_owned() },
            experiments: self.arms.told(),
        })
    }
}
