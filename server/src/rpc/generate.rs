//! `GenerateImage`: checks the request; until a model serves the task, the answer is `NOT_FOUND` naming it.

use tonic::{Request, Response, Status};
use vitrine::v1::{GenerateImageRequest, ImageFormat, generate_image_request::Condition};

use super::{App, ImageStream, context};
use crate::{
    check,
    error::{Violations, no_model, not_found},
};

const MAX_IMAGES: i32 = 64;
const MAX_PIXELS: i32 = 1_024;

/// Makes pictures.
pub fn generate(app: &App, request: Request<GenerateImageRequest>) -> Result<Response<ImageStream>, Status> {
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
    if let Some(Condition::ItemId(id)) = &request.condition {
        let table = shop.catalog().items.read();
        if table.doc(id).and_then(|doc| table.item(doc)).is_none() {
            return Err(not_found("item", id, "check the id, or import the item first"));
        }
    }
    Err(no_model("image-generation", "publish a version of such a model to the registry"))
}
