//! `vitrine generate-image`.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::{ArgGroup, Args, ValueEnum};
use image::DynamicImage;
use prost_types::{ListValue, Struct, Value, value::Kind};
use tokio_stream::StreamExt as _;
use vitrine::v1::{GenerateImageRequest, GeneratedImage, ImageFormat, generate_image_request::Condition};
use vitrine_client::json;

use super::search::Who;
use crate::{
    arguments::Global,
    contact_sheet::{contact_sheet, show},
    exit,
    output::{Column, line, size},
};

/// Make pictures of goods; each is written as soon as it is done. Several come together on sheet.png too, and a terminal shows them.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("condition").args(["category", "item", "prompt", "attributes"]).required(true)))]
pub struct GenerateImage {
    /// Of this category; one the model was trained on, if it was trained on some
    #[arg(long, value_name = "NAME")]
    category: Option<String>,
    /// Of this item, by its id
    #[arg(long, value_name = "ID")]
    item: Option<String>,
    /// Of these words, by a model that reads them
    #[arg(long, value_name = "WORDS")]
    prompt: Option<String>,
    /// Of something that has these, as `colour=blue`; may be repeated, with the same name for several values
    #[arg(long = "attribute", value_parser = attribute, value_name = "NAME=VALUE")]
    attributes: Vec<(String, String)>,
    /// What is not to be seen, by a model that reads words
    #[arg(long, default_value = "", hide_default_value = true, value_name = "WORDS")]
    negative: String,
    /// From noise to picture, by a model that reads words: more take longer [default: the server's, 25]
    #[arg(long, value_name = "N")]
    steps: Option<i32>,
    /// How much the words count, 0 to 30, by a model that reads them [default: the server's, 7.5]
    #[arg(long, value_name = "N")]
    guidance: Option<f64>,
    /// The same seed and model version give the same picture [default: random]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// How many
    #[arg(long, short = 'n', default_value_t = 1, value_name = "N")]
    count: i32,
    /// In pixels; 0: the model's own
    #[arg(long, default_value_t = 0, value_name = "PIXELS")]
    width: i32,
    /// In pixels; 0: the model's own
    #[arg(long, default_value_t = 0, value_name = "PIXELS")]
    height: i32,
    /// Makes others in the place of pictures that come nearer than this to one that the model was trained on: 1 is as near as real ones come
    #[arg(long, default_value_t = 0.0, value_name = "DISTANCE")]
    reject_near_copies: f64,
    /// The file format
    #[arg(long, value_enum, default_value_t = Format::Png)]
    format: Format,
    /// The folder to write to; the files are named image-0.png and so on, and sheet.png
    #[arg(long, short, default_value = ".", value_name = "FOLDER")]
    out: PathBuf,
    #[command(flatten)]
    who: Who,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    Png,
    Jpeg,
    Webp,
}

impl GenerateImage {
    pub async fn run(self, global: &Global) -> Result<u8> {
        let request = self.request(global.catalog()?);
        let mut images = global.connect().await?.generate_image(request).await?;
        fs::create_dir_all(&self.out).with_context(|| format!("cannot make the folder {}", self.out.display()))?;
        let output = global.output();
        let (mut rows, mut pictures) = (Vec::new(), Vec::new());
        while let Some(image) = images.next().await {
            let image = image?;
            let path = self.out.join(format!("image-{}.{}", image.index, self.extension()));
            fs::write(&path, &image.data).with_context(|| format!("cannot write {}", path.display()))?;
            let picture = image::load_from_memory(&image.data);
            pictures.push((image.index, picture.with_context(|| format!("{} is no picture", path.display()))?));
            if output.json {
                let mut value = json::to_value(&GeneratedImage { data: Vec::new().into(), ..image })?;
                value["file"] = path.display().to_string().into();
                line(value.to_string())?;
            } else {
                rows.push(vec![
                    path.display().to_string(),
                    format!("{} × {}", image.width, image.height),
                    size(image.data.len() as i64),
                    image.seed.to_string(),
                    image.discriminator_score.map_or_else(String::new, |score| format!("{score:.3}")),
                    image.nearest_training_distance.map_or_else(String::new, |distance| format!("{distance:.3}")),
                ]);
            }
        }
        pictures.sort_by_key(|(index, _)| *index);
        let pictures: Vec<DynamicImage> = pictures.into_iter().map(|(_, picture)| picture).collect();
        let together = contact_sheet(&pictures);
        if pictures.len() > 1 {
            let path = self.out.join("sheet.png");
            together.save(&path).with_context(|| format!("cannot write {}", path.display()))?;
        }
        if !output.json {
            let columns = [
                Column::Id("file"),
                Column::Text("pixels"),
                Column::Number("size"),
                Column::Number("seed"),
                Column::Number("realism"),
                Column::Number("distance"),
            ];
            output.table(&columns, rows)?;
            show(&together)?;
        }
        Ok(exit::OK)
    }

    fn request(&self, catalog: String) -> GenerateImageRequest {
        let format = match self.format {
            Format::Png => ImageFormat::Png,
            Format::Jpeg => ImageFormat::Jpeg,
            Format::Webp => ImageFormat::Webp,
        };
        GenerateImageRequest {
            context: Some(self.who.context(catalog)),
            condition: self.condition(),
            seed: self.seed,
            count: self.count,
            width: self.width,
            height: self.height,
            format: format.into(),
            reject_near_copies: self.reject_near_copies,
            negative_prompt: self.negative.clone(),
            steps: self.steps,
            guidance: self.guidance,
        }
    }

    fn condition(&self) -> Option<Condition> {
        let one = [
            self.category.clone().map(Condition::Category),
            self.item.clone().map(Condition::ItemId),
            self.prompt.clone().map(Condition::Prompt),
        ];
        one.into_iter().flatten().next().or_else(|| Some(Condition::Attributes(attributes(&self.attributes))))
    }

    fn extension(&self) -> &'static str {
        match self.format {
            Format::Png => "png",
            Format::Jpeg => "jpg",
            Format::Webp => "webp",
        }
    }
}

/// Reads `colour=blue`.
fn attribute(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() && !value.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` is no attribute; write it as colour=blue")),
    }
}

/// A text each, or a list where a name comes again.
fn attributes(named: &[(String, String)]) -> Struct {
    let text = |value: &String| Value { kind: Some(Kind::StringValue(value.clone())) };
    let mut attributes = Struct::default();
    for (name, _) in named {
        let values = named.iter().filter(|(other, _)| other == name).map(|(_, value)| text(value));
        let mut values: Vec<Value> = values.collect();
        let value = match values.len() {
            1 => values.remove(0),
            _ => Value { kind: Some(Kind::ListValue(ListValue { values })) },
        };
        attributes.fields.insert(name.clone(), value);
    }
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_comes_again_has_several_values() {
        let named = ["colour=blue", "fit=slim", "colour=a=b"].map(|text| attribute(text).unwrap());
        let made = attributes(&named);
        let Some(Kind::ListValue(colours)) = &made.fields["colour"].kind else { panic!("{made:?}") };
        assert_eq!((made.fields.len(), colours.values.len()), (2, 2));
        assert_eq!(made.fields["fit"].kind, Some(Kind::StringValue("slim".to_owned())));
        assert!(attribute("blue").is_err() && attribute("=blue").is_err() && attribute("colour=").is_err());
    }
}
