//! The tables of the retail data, and the catalogue's files made from them.

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    fs::{self, File},
    io::{BufWriter, Write},
    path::Path,
};

use anyhow::{Context as _, Result};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

use super::{
    columns::Table,
    lines::{Attributes, Event, EventItem, Item, Price},
    prepare::{Cut, Sample},
    source::Source,
    titles::{Raw, Titles},
};

const SMALL_PRODUCTS: usize = 4000;
const SMALL_HOUSEHOLDS: usize = 150;

/// The tables, by columns.
pub struct Retail {
    products: Products,
    sales: Sales,
}

struct Products {
    id: Vec<i64>,
    manufacturer: Vec<Option<i64>>,
    department: Vec<Option<String>>,
    brand: Vec<Option<String>>,
    category: Vec<Option<String>>,
    product_type: Vec<Option<String>>,
    size: Vec<Option<String>>,
}

struct Sales {
    household: Vec<i64>,
    basket: Vec<i64>,
    product: Vec<i64>,
    quantity: Vec<i64>,
    value: Vec<f64>,
    time_ms: Vec<i64>,
}

/// What was written, and ids worth trying in it.
pub struct Written {
    pub items: usize,
    pub events: usize,
    pub sample: Sample,
}

/// What the sales say of a product.
#[derive(Default)]
struct Sold {
    lines: usize,
    first_ms: Option<i64>,
    unit_prices: Vec<f64>,
}

impl Products {
    fn read(source: &Source) -> Result<Self> {
        let table = Table::open(&source.products)?;
        Ok(Self {
            id: whole(table.integers("product_id")?, "product_id")?,
            manufacturer: table.integers("manufacturer_id")?,
            department: table.texts("department")?,
            brand: table.texts("brand")?,
            category: table.texts("product_category")?,
            product_type: table.texts("product_type")?,
            size: table.texts("package_size")?,
        })
    }

    /// What the source says of a product.
    fn raw(&self, row: usize) -> Raw<'_> {
        Raw {
            department: text(&self.department, row).unwrap_or_default(),
            category: text(&self.category, row),
            product_type: text(&self.product_type, row),
            size: text(&self.size, row),
        }
    }
}

fn text(column: &[Option<String>], row: usize) -> Option<&str> {
    column.get(row)?.as_deref()
}

/// The names of all products, each once.
#[cfg(feature = "bench")]
pub fn product_names(source: &Source) -> Result<std::collections::BTreeSet<String>> {
    let (products, titles) = (Products::read(source)?, Titles::new());
    Ok((0..products.id.len()).map(|row| titles.names(&products.raw(row)).title).collect())
}

impl Retail {
    pub fn read(source: &Source) -> Result<Self> {
        let products = Products::read(source)?;
        let table = Table::open(&source.transactions)?;
        let sales = Sales {
            household: whole(table.integers("household_id")?, "household_id")?,
            basket: whole(table.integers("basket_id")?, "basket_id")?,
            product: whole(table.integers("product_id")?, "product_id")?,
            quantity: whole(table.integers("quantity")?, "quantity")?,
            value: whole(table.numbers("sales_value")?, "sales_value")?,
            time_ms: whole(table.times("transaction_timestamp")?, "transaction_timestamp")?,
        };
        Ok(Self { products, sales })
    }

    pub fn write(&self, items: &Path, events: &Path, cut: Cut) -> Result<Written> {
        let mut sold = self.sold();
        let (products, households) = match cut {
            Cut::Full => (None, None),
            Cut::Small => (Some(most_bought(&sold)), Some(self.some_households())),
        };
        let wanted = |id: i64| products.as_ref().is_none_or(|products| products.contains(&id));
        let item_count = self.write_items(items, &mut sold, wanted)?;
        let row_wanted = |row: usize| {
            let household = self.sales.household.get(row);
            let household = households.as_ref().is_none_or(|some| household.is_some_and(|id| some.contains(id)));
            household && self.sales.product.get(row).is_some_and(|product| wanted(*product))
        };
        let event_count = self.write_events(events, row_wanted)?;
        let sample = self.sample(&sold, row_wanted)?;
        Ok(Written { items: item_count, events: event_count, sample })
    }

    fn sold(&self) -> HashMap<i64, Sold> {
        let mut all: HashMap<i64, Sold> = HashMap::new();
        for sale in self.sales.rows() {
            let sold = all.entry(sale.product).or_default();
            sold.lines += 1;
            sold.first_ms = Some(sold.first_ms.map_or(sale.time_ms, |first| first.min(sale.time_ms)));
            sold.unit_prices.extend(sale.unit_price());
        }
        all
    }

    /// Spread evenly over all households, by id.
    fn some_households(&self) -> HashSet<i64> {
        let mut all: Vec<i64> = self.sales.household.clone();
        all.sort_unstable();
        all.dedup();
        let step = (all.len() / SMALL_HOUSEHOLDS).max(1);
        all.into_iter().step_by(step).take(SMALL_HOUSEHOLDS).collect()
    }

    fn write_items(&self, path: &Path, sold: &mut HashMap<i64, Sold>, wanted: impl Fn(i64) -> bool) -> Result<usize> {
        let titles = Titles::new();
        let products = &self.products;
        let bar = rows("items", products.id.len());
        let mut written = 0;
        write_lines(path, |out| {
            for (row, &id) in products.id.iter().enumerate().filter(|(_, id)| wanted(**id)) {
                let raw = products.raw(row);
                let names = titles.names(&raw);
                let (created, price) = match sold.get_mut(&id) {
                    Some(sold) => (sold.first_ms, median(&mut sold.unit_prices)),
                    None => (None, None),
                };
                let item = Item {
                    id: id.to_string(),
                    title: &names.title,
                    categories: [&names.path],
                    brand: match text(&products.brand, row) {
                        Some("Private") => "Private label",
                        _ => "National brand",
                    },
                    price: price.filter(|price| *price >= 0.005).map(Price::new),
                    attributes: Attributes {
                        department: names.path.split(" > ").next().unwrap_or_default(),
                        size: names.size.as_deref(),
                        manufacturer_id: products.manufacturer.get(row).copied().flatten(),
                        raw_department: raw.department,
                        raw_category: raw.category,
                        raw_type: raw.product_type,
                        raw_size: raw.size,
                    },
                    created: created.map(Timestamp::from_millisecond).transpose()?,
                };
                serde_json::to_writer(&mut *out, &item)?;
                out.write_all(b"\n")?;
                written += 1;
                bar.inc(1);
            }
            Ok(())
        })?;
        bar.finish_and_clear();
        Ok(written)
    }

    fn write_events(&self, path: &Path, wanted: impl Fn(usize) -> bool) -> Result<usize> {
        let bar = rows("events", self.sales.product.len());
        let mut written = 0;
        write_lines(path, |out| {
            for (row, sale) in self.sales.rows().enumerate() {
                if row % 10_000 == 0 {
                    bar.set_position(row as u64);
                }
                if !wanted(row) {
                    continue;
                }
                let item = EventItem {
                    id: sale.product.to_string(),
                    quantity: Some(sale.quantity).filter(|quantity| *quantity > 0),
                    price: sale.unit_price().map(|price| format!("{price:.2}")),
                };
                let event = Event {
                    id: format!("cj-{row}"),
                    kind: "purchase",
                    user_id: sale.household.to_string(),
                    items: [item],
                    time: Timestamp::from_millisecond(sale.time_ms)?,
                    order_id: sale.basket.to_string(),
                    value: Price::new(sale.value),
                };
                serde_json::to_writer(&mut *out, &event)?;
                out.write_all(b"\n")?;
                written += 1;
            }
            Ok(())
        })?;
        bar.finish_and_clear();
        Ok(written)
    }

    fn sample(&self, sold: &HashMap<i64, Sold>, wanted: impl Fn(usize) -> bool) -> Result<Sample> {
        let mut lines: HashMap<i64, usize> = HashMap::new();
        for (_, household) in self.sales.household.iter().enumerate().filter(|(row, _)| wanted(*row)) {
            *lines.entry(*household).or_default() += 1;
        }
        let user = lines.into_iter().max_by_key(|(household, lines)| (*lines, -household));
        let products = self.products.id.iter().copied().enumerate();
        let most = |in_category: Option<&str>| {
            let fits = |row: usize| {
                let category = self.products.category.get(row).and_then(Option::as_deref);
                in_category.is_none_or(|wanted| category == Some(wanted))
            };
            let candidates = products.clone().filter(|(row, _)| fits(*row)).map(|(_, id)| id);
            let lines = |id: &i64| sold.get(id).map_or(0, |sold| sold.lines);
            candidates.max_by_key(|id| (lines(id), -id)).map(|id| id.to_string())
        };
        Ok(Sample {
            user: user.context("the data has no sales")?.0.to_string(),
            item: most(None).context("the data has no products")?,
            cat_food: most(Some("CAT FOOD")).context("the data has no cat food")?,
        })
    }
}

/// One line of a receipt.
struct Sale {
    household: i64,
    basket: i64,
    product: i64,
    quantity: i64,
    value: f64,
    time_ms: i64,
}

impl Sale {
    /// What one of it cost. Nothing for a line without quantity or value.
    fn unit_price(&self) -> Option<f64> {
        (self.quantity > 0 && self.value > 0.0).then(|| self.value / self.quantity as f64)
    }
}

impl Sales {
    fn rows(&self) -> impl Iterator<Item = Sale> {
        let ids = self.household.iter().zip(&self.basket).zip(&self.product);
        let amounts = self.quantity.iter().zip(&self.value).zip(&self.time_ms);
        ids.zip(amounts).map(|(((&household, &basket), &product), ((&quantity, &value), &time_ms))| Sale {
            household,
            basket,
            product,
            quantity,
            value,
            time_ms,
        })
    }
}

fn most_bought(sold: &HashMap<i64, Sold>) -> HashSet<i64> {
    let mut products: Vec<(usize, i64)> = sold.iter().map(|(id, sold)| (sold.lines, *id)).collect();
    products.sort_unstable_by_key(|&(lines, id)| (Reverse(lines), id));
    products.into_iter().take(SMALL_PRODUCTS).map(|(_, id)| id).collect()
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

fn whole<T>(column: Vec<Option<T>>, name: &str) -> Result<Vec<T>> {
    column.into_iter().collect::<Option<_>>().with_context(|| format!("column \"{name}\" has empty places"))
}

/// Writes a file that is there only when it is whole.
fn write_lines(path: &Path, write: impl FnOnce(&mut BufWriter<File>) -> Result<()>) -> Result<()> {
    let partial = path.with_extension("partial");
    let place = || partial.display().to_string();
    let mut out = BufWriter::with_capacity(1 << 20, File::create(&partial).with_context(place)?);
    write(&mut out).with_context(place)?;
    out.flush().with_context(place)?;
    fs::rename(&partial, path).with_context(place)
}

fn rows(what: &'static str, total: usize) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:28} {bar:30} {human_pos:>11} of {human_len:11}");
    let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(total as u64).with_style(style).with_message(what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sale(quantity: i64, value: f64) -> Sale {
        Sale { household: 1, basket: 2, product: 3, quantity, value, time_ms: 0 }
    }

    #[test]
    fn a_line_without_quantity_has_no_unit_price() {
        assert_eq!(sale(2, 3.0).unit_price(), Some(1.5));
        assert_eq!(sale(0, 3.0).unit_price(), None);
        assert_eq!(sale(1, 0.0).unit_price(), None);
    }

    #[test]
    fn the_median_is_a_price_that_was_paid() {
        assert_eq!(median(&mut [3.0, 1.0]), Some(1.0));
        assert_eq!(median(&mut [3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&mut []), None);
    }

    #[test]
    fn the_small_cut_is_the_same_every_time() {
        let mut sold = HashMap::new();
        for id in 0..5000 {
            sold.insert(id, Sold { lines: usize::from(id % 2 == 0), ..Sold::default() });
        }
        let small = most_bought(&sold);
        assert_eq!(small.len(), SMALL_PRODUCTS);
        assert!((0..5000).step_by(2).all(|id| small.contains(&id)));
        assert!(small.contains(&1) && !small.contains(&4999));
    }
}
