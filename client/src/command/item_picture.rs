//! `vitrine items picture`.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use vitrine::v1::{DeletePictureRequest, GetPictureRequest, Picture, PutPictureRequest};
use vitrine_client::json;

use crate::{
    arguments::Global,
    contact_sheet::show,
    exit,
    output::{Column, line, size},
    picture,
};

/// What to do with the picture of an item.
#[derive(Debug, Subcommand)]
pub enum ItemPicture {
    /// Give an item its picture, in place of the one it has
    Put {
        /// The item's id
        id: String,
        /// PNG, JPEG or WebP; at most 10 MiB
        file: PathBuf,
    },
    /// Write an item's picture to a file; a terminal shows it
    Get {
        /// The item's id
        id: String,
        /// The file to write [default: ID.png, .jpg or .webp]
        #[arg(long, short, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Take an item's picture away
    Delete {
        /// The item's id
        id: String,
        /// No error if it has none
        #[arg(long)]
        allow_missing: bool,
    },
}

impl ItemPicture {
    pub async fn run(self, global: &Global) -> Result<u8> {
        let catalog = global.catalog()?;
        let name = |id: &str| format!("{catalog}/items/{id}");
        match self {
            Self::Put { id, file } => {
                let data = picture::read(&file).with_context(|| file.display().to_string())?;
                global.connect().await?.put_picture(PutPictureRequest { name: name(&id), data }).await?;
            }
            Self::Get { id, out } => {
                let picture = global.connect().await?.get_picture(GetPictureRequest { name: name(&id) }).await?;
                let out = out.unwrap_or_else(|| format!("{id}.{}", extension(&picture.content_type)).into());
                save(global, picture, &out)?;
            }
            Self::Delete { id, allow_missing } => {
                let request = DeletePictureRequest { name: name(&id), allow_missing };
                global.connect().await?.delete_picture(request).await?;
            }
        }
        Ok(exit::OK)
    }
}

fn save(global: &Global, picture: Picture, path: &std::path::Path) -> Result<()> {
    fs::write(path, &picture.data).with_context(|| format!("cannot write {}", path.display()))?;
    let output = global.output();
    if output.json {
        let mut value = json::to_value(&Picture { data: Vec::new().into(), ..picture })?;
        value["file"] = path.display().to_string().into();
        return Ok(line(value.to_string())?);
    }
    let shown = image::load_from_memory(&picture.data).with_context(|| format!("{} is no picture", path.display()))?;
    let columns = [Column::Id("file"), Column::Text("pixels"), Column::Number("size"), Column::Text("type")];
    let pixels = format!("{} × {}", shown.width(), shown.height());
    let row = vec![path.display().to_string(), pixels, size(picture.data.len() as i64), picture.content_type];
    output.table(&columns, [row])?;
    Ok(show(&shown)?)
}

fn extension(content_type: &str) -> &'static str {
    match content_type {
        "image/jpeg" => "jpg",
        "image/webp" => "webp",
        _ => "png",
    }
}
