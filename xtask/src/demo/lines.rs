//! The lines of `items.jsonl` and `events.jsonl`.

use jiff::Timestamp;
use serde::Serialize;

const CURRENCY: &str = "USD";

#[derive(Serialize)]
pub struct Price {
    pub amount: String,
    pub currency: &'static str,
}

#[derive(Serialize)]
pub struct Item<'a> {
    pub id: String,
    pub title: &'a str,
    pub categories: [&'a str; 1],
    pub brand: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    pub attributes: Attributes<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
}

#[derive(Serialize)]
pub struct Attributes<'a> {
    pub department: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub manufacturer_id: Option<i64>,
    pub raw_department: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_category: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub raw_size: Option<&'a str>,
}

#[derive(Serialize)]
pub struct Event {
    #[serde(rename = "event_id")]
    pub id: String,
    #[serde(rename = "type")]
    pub kind: &'static str,
    pub user_id: String,
    pub items: [EventItem; 1],
    pub time: Timestamp,
    pub order_id: String,
    pub value: Price,
}

#[derive(Serialize)]
pub struct EventItem {
    pub id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantity: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<String>,
}

impl Price {
    pub fn new(amount: f64) -> Self {
        Self { amount: format!("{amount:.2}"), currency: CURRENCY }
    }
}
