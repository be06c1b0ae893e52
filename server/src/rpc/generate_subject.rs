//! What the pictures of a `GenerateImage` are to be of: a class for a network that was taught classes, words for one that reads them. What the
//! other one takes is refused by name.

use prost_types::{Struct, Value, value::Kind as Of};
use tonic::Status;
use vitrine::v1::{GenerateImageRequest, Item, generate_image_request::Condition};
use vitrine_models::{CganConfig, DiffusionStart, DiffusionWish};

use crate::{
    catalog::Catalog,
    error::{Violations, invalid, not_found},
    generator::{Generator, Kind, Subject},
};

const STEPS: i32 = 25;
const GUIDANCE: f64 = 7.5;

/// What is asked for.
pub(super) struct Asked {
    pub subject: Subject,
    /// The same as notes in files say it.
    pub named: String,
    /// Width and height in pixels.
    pub size: (u32, u32),
}

/// What the generator is to make; the request has been checked, but for what depends on the generator.
pub(super) fn subject(
    generator: &Generator,
    request: &GenerateImageRequest,
    catalog: &Catalog,
) -> Result<Asked, Status> {
    let size = size(generator.side(), request.width, request.height);
    let item = match &request.condition {
        Some(Condition::ItemId(id)) => {
            let table = catalog.items.read();
            let item = table.doc(id).and_then(|doc| table.item(doc)).cloned();
            Some(item.ok_or_else(|| not_found("item", id, "check the id, or import the item first"))?)
        }
        _ => None,
    };
    match generator.kind() {
        Kind::Cgan { config, .. } => {
            let class = class(config, request, item.as_deref())?;
            let named = format!("class {}", config.classes[class as usize]);
            Ok(Asked { subject: Subject::Class(class), named, size })
        }
        Kind::Diffusion { start, .. } => words(start, request, item.as_deref(), size),
    }
}

/// The size that is asked for: the network's own, or, where one length is given, a square.
fn size(side: usize, width: i32, height: i32) -> (u32, u32) {
    let own = side as u32;
    let given = |length: i32| u32::try_from(length).ok().filter(|length| *length > 0);
    let (width, height) = (given(width), given(height));
    (width.or(height).unwrap_or(own), height.or(width).unwrap_or(own))
}

/// The number of the class.
fn class(config: &CganConfig, request: &GenerateImageRequest, item: Option<&Item>) -> Result<u32, Status> {
    let mut violations = Violations::default();
    let named = [
        ("prompt", matches!(request.condition, Some(Condition::Prompt(_)))),
        ("negative_prompt", !request.negative_prompt.is_empty()),
        ("steps", request.steps.is_some()),
        ("guidance", request.guidance.is_some()),
    ];
    for (field, _) in named.into_iter().filter(|(_, named)| *named) {
        violations.add(
            field,
            "is for models of the kind stable-diffusion; this one is a cgan, which makes what it was taught",
        );
    }
    violations.into_result()?;
    let number = |name: &str| number(&config.classes, name);
    let (field, class) = match (&request.condition, item) {
        (Some(Condition::Category(category)), _) => ("category".to_owned(), number(category)),
        (Some(Condition::Attributes(attributes)), _) => {
            // Whichever is named that is none: a picture that leaves it out is not what was asked for.
            let other = attributes.fields.keys().find(|key| *key != "category");
            let category = attributes.fields.get("category").and_then(text_of);
            let field = format!("attributes.{}", other.map_or("category", String::as_str));
            (field, if other.is_none() { category.and_then(|name| number(&name)) } else { None })
        }
        (_, Some(item)) => ("item_id".to_owned(), names_of(item).into_iter().find_map(number)),
        (_, None) => ("condition".to_owned(), None),
    };
    class.ok_or_else(|| {
        let classes = config.classes.join(", ");
        let wrong = match &request.condition {
            Some(Condition::Attributes(_)) if field != "attributes.category" => {
                "is nothing that the model was trained on; it knows `category`"
            }
            _ => "is of no category that the model was trained on",
        };
        invalid(field, format!("{wrong}: {classes}"))
    })
}

/// The class of that name, however it is written.
fn number(classes: &[String], name: &str) -> Option<u32> {
    let wanted = name.trim().to_lowercase();
    (0..).zip(classes).find(|(_, class)| class.to_lowercase() == wanted).map(|(number, _)| number)
}

/// The item's categories, and behind them the last part of each, as of `Clothes > Dress`.
fn names_of(item: &Item) -> Vec<&str> {
    let parts = item.categories.iter().map(|category| last_part(category));
    item.categories.iter().map(String::as_str).chain(parts).collect()
}

fn last_part(category: &str) -> &str {
    category.rsplit('>').next().unwrap_or(category).trim()
}

/// Words, and how a picture is made of them.
fn words(
    start: &DiffusionStart,
    request: &GenerateImageRequest,
    item: Option<&Item>,
    size: (u32, u32),
) -> Result<Asked, Status> {
    let (field, prompt) = match (&request.condition, item) {
        (Some(Condition::Category(category)), _) => ("category", category.trim().to_owned()),
        (Some(Condition::Prompt(prompt)), _) => ("prompt", prompt.trim().to_owned()),
        (Some(Condition::Attributes(attributes)), _) => ("attributes", words_of(attributes)),
        (_, Some(item)) => ("item_id", words_of_item(item)),
        (_, None) => ("condition", String::new()),
    };
    let (steps, guidance) = (request.steps.unwrap_or(STEPS), request.guidance.unwrap_or(GUIDANCE));
    let mut violations = Violations::default();
    let mut tokens = |field: &str, text: &str| match start.tokens(text) {
        // What somebody wrote is made as it is, or not at all; of an item the beginning is enough.
        Ok(tokens) if tokens.left_out > 0 && field != "item_id" => {
            let most = start.most_tokens();
            violations.add(field, format!("has {} tokens; the model reads {most}", most + tokens.left_out));
            tokens.ids
        }
        Ok(tokens) => tokens.ids,
        Err(error) => {
            violations.add(field, error.to_string());
            Vec::new()
        }
    };
    let (shown, negative) = (tokens(field, &prompt), tokens("negative_prompt", &request.negative_prompt));
    if guidance <= 1.0 && !request.negative_prompt.is_empty() {
        violations
            .add("negative_prompt", format!("counts for nothing with a guidance of {guidance}; it must be above 1"));
    }
    if steps as usize > start.most_steps() {
        violations.add("steps", format!("is {steps}; the model was trained with {}", start.most_steps()));
    }
    for (field, given) in [("width", request.width), ("height", request.height)] {
        if given != 0 && !start.takes(given as usize) {
            violations.add(field, format!("is {given}; it must be a multiple of {}", start.unit()));
        }
    }
    violations.into_result()?;
    let named = format!("prompt {prompt:?}, {steps} steps, guidance {guidance}");
    let wish = DiffusionWish {
        prompt: shown,
        negative,
        seed: 0,
        steps: steps as u32,
        guidance: guidance as f32,
        size: [size.1, size.0].map(|pixels| pixels as usize),
    };
    Ok(Asked { subject: Subject::Words(wish), named, size })
}

/// Its title, its categories without those above them, and its attributes.
fn words_of_item(item: &Item) -> String {
    let mut parts = vec![item.title.trim().to_owned()];
    parts.extend(item.categories.iter().map(|category| last_part(category).to_owned()));
    parts.extend(item.attributes.as_ref().map(words_of));
    parts.retain(|part| !part.is_empty());
    parts.join(", ")
}

/// As `category: dress, colour: blue and white`, by name.
fn words_of(attributes: &Struct) -> String {
    let part = |(name, value): (&String, &Value)| text_of(value).map(|text| format!("{name}: {text}"));
    attributes.fields.iter().filter_map(part).collect::<Vec<_>>().join(", ")
}

fn text_of(value: &Value) -> Option<String> {
    match value.kind.as_ref()? {
        Of::StringValue(text) => Some(text.trim().to_owned()),
        Of::NumberValue(number) => Some(number.to_string()),
        Of::BoolValue(yes) => Some(if *yes { "yes" } else { "no" }.to_owned()),
        Of::ListValue(list) => Some(list.values.iter().filter_map(text_of).collect::<Vec<_>>().join(" and ")),
        Of::NullValue(_) | Of::StructValue(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use prost_types::ListValue;

    use super::*;

    fn attributes() -> Struct {
        let text = |text: &str| Value { kind: Some(Of::StringValue(text.to_owned())) };
        let list = ListValue { values: vec![text("blue"), text(" white ")] };
        let fields = [
            ("washable", Value { kind: Some(Of::BoolValue(true)) }),
            ("weight_g", Value { kind: Some(Of::NumberValue(310.0)) }),
            ("colour", Value { kind: Some(Of::ListValue(list)) }),
        ];
        Struct { fields: fields.map(|(name, value)| (name.to_owned(), value)).into_iter().collect() }
    }

    #[test]
    fn one_length_makes_a_square_and_none_the_networks_own() {
        assert_eq!(size(28, 0, 0), (28, 28));
        assert_eq!(size(28, 100, 0), (100, 100));
        assert_eq!(size(28, 0, 64), (64, 64));
        assert_eq!(size(28, 100, 64), (100, 64));
    }

    #[test]
    fn an_item_becomes_words() {
        let item = Item {
            title: "A long dress ".to_owned(),
            categories: vec!["Clothes > Dress".to_owned()],
            attributes: Some(attributes()),
            ..Item::default()
        };
        let words = words_of_item(&item);
        assert_eq!(words, "A long dress, Dress, colour: blue and white, washable: yes, weight_g: 310");
        assert_eq!(names_of(&item), ["Clothes > Dress", "Dress"]);
    }
}
