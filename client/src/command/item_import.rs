//! `vitrine items import`: items from a file, and their pictures from beside it or from the web.

use std::{
    path::{Path, PathBuf},
    pin::pin,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use clap::Args;
use futures_util::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use vitrine::v1::Item;
use vitrine_client::{
    Client,
    import::{ImportOptions, PicturedItem},
    json,
};

use super::import::{Import, Telling};
use crate::{
    arguments::Global,
    picture::{Fetcher, Folder, PictureError},
};

/// How many pictures are read or fetched at the same time.
const AT_ONCE: usize = 8;

/// How much of an `image`, and of what is wrong with it, is told: in characters.
const TOLD_CHARS: usize = 200;

/// Which items, and whether their pictures come along.
#[derive(Debug, Args)]
pub struct ItemImport {
    #[command(flatten)]
    import: Import,
    /// Send the picture along that an item's `image` names: a file in the folder of FILE, or an address with --fetch-pictures.
    /// An item whose picture cannot be had is imported without it, and told
    #[arg(long)]
    pictures: bool,
    /// With --pictures: the folder that the files are in [default: the one of FILE]
    #[arg(long, requires = "pictures", value_name = "FOLDER")]
    pictures_from: Option<PathBuf>,
    /// With --pictures: fetch those at http and https addresses
    #[arg(long, requires = "pictures")]
    fetch_pictures: bool,
    /// With --fetch-pictures: also from this machine and from private networks. Not for files of somebody else
    #[arg(long, requires = "fetch_pictures")]
    allow_private_addresses: bool,
}

impl ItemImport {
    pub async fn run(self, global: &Global) -> Result<u8> {
        let pictures = if self.pictures { Some(Arc::new(self.sources()?)) } else { None };
        let send = async |client: &Client,
                          options: ImportOptions,
                          rows: ReceiverStream<(i64, Item)>,
                          telling: &mut Telling| {
            let Some(pictures) = pictures else {
                return client.import_items(options, rows, |update| telling.update(&update)).await;
            };
            let reporter = telling.reporter();
            let with_picture = |(position, item): (i64, Item)| {
                let (pictures, reporter) = (Arc::clone(&pictures), reporter.clone());
                async move {
                    let mut row = PicturedItem::from(item);
                    if !row.item.image.is_empty() && !reporter.imported_before(position) {
                        match pictures.get(row.item.image.clone()).await {
                            Ok(picture) => row.picture = picture,
                            Err(error) => reporter.without_picture(position, &told(&row.item.image, &error)),
                        }
                    }
                    (position, row)
                }
            };
            let rows = pin!(rows.map(with_picture).buffered(AT_ONCE));
            client.import_items(options, rows, |update| telling.update(&update)).await
        };
        self.import.run(global, "item", json::parse_item, send).await
    }

    fn sources(&self) -> Result<Sources> {
        let folder = match (&self.pictures_from, self.import.file.parent()) {
            (Some(folder), _) => Some(folder.as_path()),
            (None, _) if self.import.file == Path::new("-") => None,
            (None, folder) => folder,
        };
        let open = |path: &Path| Folder::open(path).with_context(|| format!("cannot read {}", path.display()));
        let fetcher = self.fetch_pictures.then(|| Fetcher::new(self.allow_private_addresses)).transpose();
        Ok(Sources {
            folder: folder.map(open).transpose()?,
            fetcher: fetcher.context("cannot fetch pictures")?.map(Arc::new),
        })
    }
}

/// Where pictures come from.
struct Sources {
    folder: Option<Folder>,
    fetcher: Option<Arc<Fetcher>>,
}

impl Sources {
    /// The picture that an item's `image` names, by a task of its own: its time does not run out because the server is slow.
    async fn get(&self, image: String) -> Result<Bytes, PictureError> {
        let task = if image.contains("://") {
            let fetcher = Arc::clone(self.fetcher.as_ref().ok_or(PictureError::NotAsked)?);
            tokio::spawn(async move { fetcher.fetch(&image).await })
        } else {
            let folder = self.folder.clone().ok_or(PictureError::NoFolder)?;
            tokio::task::spawn_blocking(move || folder.read(&image))
        };
        task.await.unwrap_or(Err(PictureError::Panicked))
    }
}

/// What is told of a picture that cannot be had. Both parts may have been written by somebody else, at any length.
fn told(image: &str, error: &PictureError) -> String {
    format!("{}: {}", beginning(image), beginning(&error.to_string()))
}

fn beginning(text: &str) -> String {
    let more = if text.chars().nth(TOLD_CHARS).is_some() { "…" } else { "" };
    text.chars().take(TOLD_CHARS).chain(more.chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_long_is_told_by_its_beginning() {
        assert_eq!(told("a.png", &PictureError::TooLarge), "a.png: larger than 10 MiB");
        let ellipsis = |letter: &str| format!("{}…", letter.repeat(TOLD_CHARS));
        let long = told(&"ü".repeat(10_000), &PictureError::Unreachable("x".repeat(10_000)));
        assert_eq!(long, format!("{}: {}", ellipsis("ü"), ellipsis("x")));
        assert_eq!(beginning(&"ü".repeat(TOLD_CHARS)), "ü".repeat(TOLD_CHARS));
    }
}
