//! `vitrine generate-image`.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::{ArgGroup, Args, ValueEnum};
use image::DynamicImage;
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
#[command(group(ArgGroup::new("condition").args(["category", "item"]).required(true)))]
pub struct GenerateImage {
    /// Of this category, one the model was trained on
    #[arg(long, value_name = "NAME")]
    category: Option<String>,
    /// Of this item, by its id
    #[arg(long, value_name = "ID")]
    item: Option<String>,
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
                    format!("{:.3}", image.discriminator_score),
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
            condition: self.category.clone().map(Condition::Category).or(self.item.clone().map(Condition::ItemId)),
            seed: self.seed,
            count: self.count,
            width: self.width,
            height: self.height,
            format: format.into(),
            reject_near_copies: self.reject_near_copies,
        }
    }

    fn extension(&self) -> &'static str {
        match self.format {
            Format::Png => "png",
            Format::Jpeg => "jpg",
            Format::Webp => "webp",
        }
    }
}
