//! `vitrine catalogs`.

use anyhow::Result;
use clap::Subcommand;
use vitrine::v1::{Catalog, CreateCatalogRequest, GetCatalogRequest, ListCatalogsRequest};

use crate::{
    arguments::{Global, resource},
    exit,
    output::{Column, Output, grouped, json_line, line},
};

/// What to do with catalogs.
#[derive(Debug, Subcommand)]
pub enum Catalogs {
    /// List the catalogs: items, events, and how far the indexes are
    List,
    /// Show one catalog
    Get {
        /// The catalog, as `grocery` [default: --catalog]
        name: Option<String>,
    },
    /// Make an empty catalog
    Create {
        /// Its name: 1 to 63 characters of a-z, 0-9 and `-`, starting with a letter
        name: String,
    },
}

impl Catalogs {
    pub async fn run(self, global: &Global) -> Result<u8> {
        let output = global.output();
        match self {
            Self::List => {
                let client = global.connect().await?;
                let mut request = ListCatalogsRequest { page_size: 1000, ..Default::default() };
                let mut catalogs = Vec::new();
                loop {
                    let page = client.list_catalogs(request.clone()).await?;
                    catalogs.extend(page.catalogs);
                    if page.next_page_token.is_empty() {
                        break;
                    }
                    request.page_token = page.next_page_token;
                }
                if output.json {
                    catalogs.iter().try_for_each(json_line)?;
                } else {
                    print(output, &catalogs)?;
                }
            }
            Self::Get { name } => {
                let name = name.map_or_else(|| global.catalog(), |name| Ok(resource("catalogs", &name)))?;
                let catalog = global.connect().await?.get_catalog(GetCatalogRequest { name }).await?;
                if output.json {
                    output.object(&catalog)?;
                } else {
                    print(output, &[catalog])?;
                }
            }
            Self::Create { name } => {
                let request = CreateCatalogRequest { name: resource("catalogs", &name) };
                let catalog = global.connect().await?.create_catalog(request).await?;
                if output.json {
                    output.object(&catalog)?;
                } else {
                    print(output, &[catalog])?;
                }
            }
        }
        Ok(exit::OK)
    }
}

fn print(output: Output, catalogs: &[Catalog]) -> Result<()> {
    if catalogs.is_empty() {
        line("no catalogs")?;
        return Ok(());
    }
    let columns = [
        Column::Id("catalog"),
        Column::Number("items"),
        Column::Number("events"),
        Column::Number("pictures"),
        Column::Text("words"),
        Column::Text("vectors"),
    ];
    let rows = catalogs.iter().map(|catalog| {
        let words = catalog.lexical_index.as_ref().map(|index| match index.lag {
            0 => grouped(index.indexed_items),
            lag => format!("{}, {} changes behind", grouped(index.indexed_items), grouped(lag)),
        });
        let vectors = catalog.vector_indexes.iter().map(|index| {
            let by = format!("{} by {} {}", index.task, index.model, index.version);
            let mut text = format!("{by}: {}", grouped(index.indexed_items));
            if index.pending_items > 0 {
                text = format!("{text} of {}", grouped(index.indexed_items + index.pending_items));
            }
            if index.items_per_second > 0.0 {
                text = format!("{text}, {:.0}/s", index.items_per_second);
            }
            format!("{text} ({})", index.algorithm)
        });
        vec![
            catalog.name.trim_start_matches("catalogs/").to_owned(),
            grouped(catalog.item_count),
            grouped(catalog.event_count),
            grouped(catalog.picture_count),
            words.unwrap_or_default(),
            vectors.collect::<Vec<_>>().join("; "),
        ]
    });
    Ok(output.table(&columns, rows)?)
}
