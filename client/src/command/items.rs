//! `vitrine items`.

use anyhow::Result;
use clap::Subcommand;
use vitrine::v1::{DeleteItemRequest, GetItemRequest, Item, ListItemsRequest};
use vitrine_client::json;

use super::{item_import::ItemImport, item_picture::ItemPicture};
use crate::{
    arguments::Global,
    exit,
    output::{Column, Output, category, grouped, json_line, price},
};

/// How an item is written.
const ITEM_LINE: &str = r#"An item, on one line:
  {"id": "B07", "title": "Trail shoe", "brand": "Acme", "categories": ["Shoes > Running"],
   "price": {"amount": "89.90", "currency": "EUR"}, "attributes": {"colour": ["blue", "white"]}}
Only `id` and `title` are required."#;

/// What to do with items.
#[derive(Debug, Subcommand)]
pub enum Items {
    /// Add or replace items from a file, one JSON object a line
    #[command(after_help = ITEM_LINE)]
    Import(ItemImport),
    /// Show one item
    Get {
        /// The item's id
        id: String,
    },
    /// Remove an item
    Delete {
        /// The item's id
        id: String,
        /// No error if there is none
        #[arg(long)]
        allow_missing: bool,
    },
    /// Give an item its picture, show it, or take it away
    #[command(subcommand)]
    Picture(ItemPicture),
    /// List items by id
    List {
        /// Only items that match, as: brand = "X" AND price < 5
        #[arg(long, short, default_value = "", value_name = "FILTER", hide_default_value = true)]
        filter: String,
        /// How many at most; 0: all
        #[arg(long, short = 'n', default_value_t = 50, value_name = "N")]
        limit: usize,
    },
}

impl Items {
    pub async fn run(self, global: &Global) -> Result<u8> {
        match self {
            Self::Import(import) => import.run(global).await,
            Self::Get { id } => get(global, &id).await,
            Self::Delete { id, allow_missing } => {
                let name = format!("{}/items/{id}", global.catalog()?);
                global.connect().await?.delete_item(DeleteItemRequest { name, allow_missing }).await?;
                Ok(exit::OK)
            }
            Self::Picture(picture) => picture.run(global).await,
            Self::List { filter, limit } => list(global, &filter, limit).await,
        }
    }
}

async fn get(global: &Global, id: &str) -> Result<u8> {
    let name = format!("{}/items/{id}", global.catalog()?);
    let item = global.connect().await?.get_item(GetItemRequest { name }).await?;
    let output = global.output();
    if output.json {
        output.object(&item)?;
    } else {
        print(output, &item)?;
    }
    Ok(exit::OK)
}

fn print(output: Output, item: &Item) -> Result<()> {
    let mut rows = vec![("id", item.id.clone()), ("title", item.title.clone()), ("brand", item.brand.clone())];
    rows.extend(item.categories.iter().map(|path| ("category", path.clone())));
    rows.push(("price", price(item)));
    rows.push(("tags", item.tags.join(", ")));
    rows.push(("image", item.image.clone()));
    rows.push(("available", if item.available() || item.available.is_none() { "yes" } else { "no" }.to_owned()));
    rows.push(("description", item.description.clone()));
    let value = json::to_value(item)?;
    rows.push(("created", value["created"].as_str().unwrap_or_default().to_owned()));
    let attributes = value["attributes"].as_object().cloned().unwrap_or_default();
    let mut rows: Vec<(String, String)> =
        rows.into_iter().filter(|(_, text)| !text.is_empty()).map(|(key, text)| (key.to_owned(), text)).collect();
    rows.extend(attributes.into_iter().map(|(key, value)| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        (format!("attributes.{key}"), text)
    }));
    Ok(output.fields(rows)?)
}

async fn list(global: &Global, filter: &str, limit: usize) -> Result<u8> {
    let parent = global.catalog()?;
    let client = global.connect().await?;
    let output = global.output();
    let limit = if limit == 0 { usize::MAX } else { limit };
    let mut request = ListItemsRequest { parent, filter: filter.to_owned(), ..Default::default() };
    let mut items = Vec::new();
    let mut count = 0;
    loop {
        request.page_size = (limit - count).min(1000) as i32;
        let page = client.list_items(request.clone()).await?;
        count += page.items.len();
        if output.json {
            page.items.iter().try_for_each(json_line)?;
        } else {
            items.extend(page.items);
        }
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() || count >= limit {
            if !output.json {
                print_list(output, &items)?;
                output.note(format!("{} of {} items", grouped(count as i64), grouped(page.total_size)))?;
            }
            return Ok(exit::OK);
        }
    }
}

fn print_list(output: Output, items: &[Item]) -> Result<()> {
    let columns = [
        Column::Id("id"),
        Column::Text("title"),
        Column::Text("brand"),
        Column::Number("price"),
        Column::Text("category"),
    ];
    let rows = items
        .iter()
        .map(|item| vec![item.id.clone(), item.title.clone(), item.brand.clone(), price(item), category(item)]);
    Ok(output.table(&columns, rows)?)
}
