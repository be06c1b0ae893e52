//! How fast a catalog records: `cargo run -p vitrine-server --example log_speed -- [directory]`.
//!
//! Events acknowledged a second from 1, 8 and 64 concurrent callers, single and in batches of 100; against one `fsync`
//! an event; items a second in batches of 1,000; and how long the catalog then takes to open.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use vitrine::v1::{Event, EventItem, EventType, Item};
use vitrine_server::catalog::{Catalog, CatalogOptions, catalogs::Catalogs};
use vitrine_server::log::Change;

/// How long each measurement takes.
const TIME: Duration = Duration::from_secs(3);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let dir = std::env::args().nth(1).map_or_else(|| std::env::temp_dir().join("vitrine-log-speed"), PathBuf::from);
    let catalogs = Catalogs::open(&dir, CatalogOptions::default())?;
    let id = format!("speed-{}", std::process::id()).parse()?;
    let catalog = catalogs.create(&id)?;
    println!("one fsync an event: {:.0}/s", synced(&dir)?);
    let begun = Instant::now();
    for batch in 0..100 {
        catalog.append((0..1_000).map(|n| item(batch * 1_000 + n)).collect()).await?;
    }
    println!("items in batches of 1000: {:.0}/s", 100_000.0 / begun.elapsed().as_secs_f64());
    for (callers, batch) in [(1, 1), (8, 1), (64, 1), (1, 100), (8, 100), (64, 100)] {
        let rate = events(&catalog, callers, batch).await?;
        println!("events from {callers} callers in batches of {batch}: {rate:.0}/s");
    }
    let (items, events) = (catalog.item_count(), catalog.event_count());
    drop(catalog);
    drop(catalogs);
    let begun = Instant::now();
    let catalogs = Catalogs::open(&dir, CatalogOptions::default())?;
    println!("opened {items} items and {events} events with a checkpoint: {:?}", begun.elapsed());
    drop(catalogs);
    let catalog_dir = dir.join("catalogs").join(id.as_str());
    std::fs::remove_file(catalog_dir.join("behaviour.checkpoint"))?;
    let begun = Instant::now();
    let catalogs = Catalogs::open(&dir, CatalogOptions::default())?;
    println!("without one: {:?}", begun.elapsed());
    drop(catalogs);
    std::fs::remove_dir_all(catalog_dir)?;
    Ok(())
}

/// Events a second acknowledged to `callers`, each sending `batch` a call.
async fn events(catalog: &Arc<Catalog>, callers: usize, batch: usize) -> anyhow::Result<f64> {
    let before = catalog.event_count();
    let begun = Instant::now();
    let callers: Vec<_> = (0..callers)
        .map(|caller| {
            let catalog = Arc::clone(catalog);
            tokio::spawn(async move {
                for call in 0.. {
                    if begun.elapsed() > TIME {
                        break;
                    }
                    let id = |n| format!("{before}-{caller}-{call}-{n}");
                    catalog.append((0..batch).map(|n| event(&id(n), caller * 7_919 + call * 31 + n)).collect()).await?;
                }
                anyhow::Ok(())
            })
        })
        .collect();
    for caller in callers {
        caller.await??;
    }
    Ok((catalog.event_count() - before) as f64 / begun.elapsed().as_secs_f64())
}

/// Writes a second of an event's size to a plain file, each synced.
fn synced(dir: &std::path::Path) -> anyhow::Result<f64> {
    let mut file = tempfile::tempfile_in(dir)?;
    let (begun, mut written) = (Instant::now(), 0_u32);
    while begun.elapsed() < TIME {
        file.write_all(&[7; 120])?;
        file.sync_data()?;
        written += 1;
    }
    Ok(f64::from(written) / begun.elapsed().as_secs_f64())
}

fn event(id: &str, n: usize) -> Change {
    let items =
        vec![EventItem { id: format!("item-{}", n % 100_000), quantity: 1, price: "1.99".into(), served: None }];
    Change::Event(Event {
        event_id: id.into(),
        r#type: EventType::Purchase.into(),
        user_id: format!("user-{}", n % 2_500),
        order_id: format!("order-{}", n / 10),
        items,
        ..Event::default()
    })
}

fn item(n: usize) -> Change {
    Change::UpsertItem(Item {
        id: format!("item-{n}"),
        title: format!("Whole milk number {n}"),
        description: "Fresh, from the farm next door. ".repeat(5),
        categories: vec![format!("Grocery > Dairy > {}", n % 300)],
        brand: format!("Brand {}", n % 1_000),
        ..Item::default()
    })
}
