//! How answers are printed: JSON for programs, tables with colour on a terminal, plain aligned columns into a pipe.

use std::io::{self, Write as _};

use anyhow::Result;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Row, Table, TableComponent, presets};
use jiff::tz::TimeZone;
use prost_types::Timestamp;
use vitrine::v1::{Degraded, Item, ServedArm, ServedBy, StageScore};
use vitrine_client::json::{self, Json};

/// Where and how to print.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// JSON instead of tables.
    pub json: bool,
    /// Whether stdout is a terminal.
    pub terminal: bool,
    /// Whether to use colour.
    pub colour: bool,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Column<'a> {
    /// What identifies the row.
    Id(&'a str),
    /// Words.
    Text(&'a str),
    /// Figures, aligned to the right.
    Number(&'a str),
}

impl Output {
    /// Prints a line of lesser weight.
    pub fn note(self, text: impl AsRef<str>) -> io::Result<()> {
        let text = text.as_ref();
        if self.colour { line(format!("\x1b[2m{text}\x1b[0m")) } else { line(text) }
    }

    /// Prints a line that should be seen.
    pub fn warning(self, text: impl AsRef<str>) -> io::Result<()> {
        let text = text.as_ref();
        if self.colour { line(format!("\x1b[33m{text}\x1b[0m")) } else { line(text) }
    }

    /// Prints a line that must not be overlooked.
    pub fn alarm(self, text: impl AsRef<str>) -> io::Result<()> {
        let text = text.as_ref();
        if self.colour { line(format!("\x1b[1;97;41m {text} \x1b[0m")) } else { line(format!("!!! {text}")) }
    }

    /// Prints a message as one JSON object: indented for eyes, on one line for a pipe.
    pub fn object(self, message: &impl Json) -> Result<()> {
        self.value(&json::to_value(message)?)
    }

    /// Prints a JSON value as [`object`](Self::object) does.
    pub fn value(self, value: &serde_json::Value) -> Result<()> {
        Ok(line(if self.terminal { format!("{value:#}") } else { value.to_string() })?)
    }

    /// One thing: a line for each of its fields.
    pub fn fields(self, fields: impl IntoIterator<Item = (impl Into<String>, String)>) -> io::Result<()> {
        let rows = fields.into_iter().map(|(field, value)| vec![field.into(), value]);
        self.table(&[Column::Id("field"), Column::Text("value")], rows)
    }

    /// Prints a table.
    pub fn table(self, columns: &[Column<'_>], rows: impl IntoIterator<Item = Vec<String>>) -> io::Result<()> {
        let mut table = self.empty_table();
        table.set_header(columns.iter().map(|column| self.header(*column)).collect::<Vec<_>>());
        for row in rows {
            let cells = columns.iter().zip(row).map(|(column, text)| self.cell(*column, &text));
            table.add_row(Row::from(cells.collect::<Vec<_>>()));
        }
        for column in table.column_iter_mut() {
            column.set_padding((0, 1));
        }
        line(table.trim_fmt())
    }

    fn empty_table(self) -> Table {
        let mut table = Table::new();
        table.load_preset(presets::NOTHING);
        if self.terminal {
            table.set_content_arrangement(ContentArrangement::Dynamic);
            table.set_style(TableComponent::HeaderLines, '─');
            table.set_style(TableComponent::MiddleHeaderIntersections, '─');
        }
        if self.colour {
            table.enforce_styling();
        }
        table
    }

    fn header(self, column: Column<'_>) -> Cell {
        let (Column::Id(name) | Column::Text(name) | Column::Number(name)) = column;
        let cell = align(Cell::new(printable(name)), column);
        if self.colour { cell.add_attribute(Attribute::Bold) } else { cell }
    }

    fn cell(self, column: Column<'_>, text: &str) -> Cell {
        let cell = align(Cell::new(printable(text)), column);
        if self.colour && matches!(column, Column::Id(_)) { cell.fg(Color::Cyan) } else { cell }
    }
}

fn align(cell: Cell, column: Column<'_>) -> Cell {
    if matches!(column, Column::Number(_)) { cell.set_alignment(CellAlignment::Right) } else { cell }
}

/// Prints one line.
pub fn line(text: impl AsRef<str>) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{}", text.as_ref())
}

/// Prints a message as one line of JSON Lines.
pub fn json_line(message: &impl Json) -> Result<()> {
    Ok(line(json::to_value(message)?.to_string())?)
}

/// The columns that [`item_row`] fills.
pub const ITEM_COLUMNS: [Column<'static>; 6] = [
    Column::Number("#"),
    Column::Number("score"),
    Column::Id("id"),
    Column::Text("title"),
    Column::Text("brand"),
    Column::Number("price"),
];

/// One ranked item.
pub fn item_row(rank: i32, score: f64, item: &Item) -> Vec<String> {
    let score = format!("{score:.4}");
    vec![rank.to_string(), score, item.id.clone(), item.title.clone(), item.brand.clone(), price(item)]
}

/// Another item of the group of the row above: it has no place of its own.
pub fn variant_row(score: f64, item: &Item) -> Vec<String> {
    let (score, title) = (format!("{score:.4}"), format!("  {}", item.title));
    vec![String::new(), score, item.id.clone(), title, item.brand.clone(), price(item)]
}

/// The first of the item's categories, or nothing.
pub fn category(item: &Item) -> String {
    item.categories.first().cloned().unwrap_or_default()
}

/// The item's price, or nothing.
pub fn price(item: &Item) -> String {
    item.price.as_ref().map(|price| format!("{} {}", price.amount, price.currency)).unwrap_or_default()
}

/// The stages after the candidate sources of a recommendation, in the order of the pipeline.
const STAGES: [&str; 8] =
    ["lexical", "semantic", "picture", "fused", "personalized", "boosted", "diversified", "pinned"];

/// The stages that appear in an answer, in the order of the pipeline.
pub fn stage_names<'a>(results: impl Iterator<Item = &'a Vec<StageScore>>) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for stage in results.flatten() {
        if !names.contains(&stage.stage) {
            names.push(stage.stage.clone());
        }
    }
    let place = |name: &String| STAGES.iter().position(|known| known == name);
    names.sort_by_key(|name| place(name).unwrap_or(0));
    names
}

/// What each of the stages thought of an item: score and place.
pub fn stage_cells<'a>(names: &'a [String], stages: &'a [StageScore]) -> impl Iterator<Item = String> + 'a {
    names.iter().map(|name| {
        let stage = stages.iter().find(|stage| stage.stage == *name);
        stage.map(|stage| format!("{:.4} #{}", stage.score, stage.rank)).unwrap_or_default()
    })
}

/// Prints which of the shop's controls took part in an answer.
pub fn control_notes(output: Output, applied: &[String]) -> io::Result<()> {
    if applied.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = applied.iter().map(|name| last_part(name)).collect();
    output.note(printable(&format!("controls: {}", names.join(", "))))
}

/// Prints which arms of experiments answered.
pub fn experiment_notes(output: Output, arms: &[ServedArm]) -> io::Result<()> {
    if arms.is_empty() {
        return Ok(());
    }
    let said = arms.iter().map(|served| {
        let arm = if served.arm.is_empty() { "both arms" } else { &served.arm };
        let forced = if served.forced { " (forced: not logged)" } else { "" };
        format!("{} by {arm}{forced}", served.experiment)
    });
    output.note(printable(&format!("experiments: {}", said.collect::<Vec<_>>().join(", "))))
}

/// `catalogs/grocery/controls/sale` as `sale`.
pub fn last_part(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

/// Prints what an answer says beside its results.
pub fn answer_notes(
    output: Output,
    mut notes: Vec<String>,
    served_by: &[ServedBy],
    degraded: &[Degraded],
    next_page_token: &str,
) -> Result<()> {
    notes.extend(served_by.iter().map(|by| {
        let label = if by.label.is_empty() { String::new() } else { format!(" ({})", by.label) };
        format!("{} by {} {}{label}", by.task, by.model, by.version)
    }));
    output.note(printable(&notes.join(" · ")))?;
    for part in degraded {
        let reason = part.reason().as_str_name().trim_start_matches("DEGRADED_REASON_").to_ascii_lowercase();
        output.warning(printable(&format!("degraded: {reason}: {}", part.detail)))?;
    }
    if !next_page_token.is_empty() {
        output.note(format!("next page: --page-token {next_page_token}"))?;
    }
    Ok(())
}

/// The text without control characters, which could write over the screen.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The time as the command line reads it: the first moment of a day as the day alone.
pub fn moment(time: &Timestamp) -> String {
    let Ok(moment) = jiff::Timestamp::new(time.seconds, time.nanos) else { return format!("{} s", time.seconds) };
    let day = moment.to_zoned(TimeZone::UTC).date();
    let first = day.to_zoned(TimeZone::UTC).is_ok_and(|midnight| midnight.timestamp() == moment);
    if first { day.to_string() } else { moment.to_string() }
}

/// `92353` as `92,353`.
pub fn grouped(number: impl Into<i128>) -> String {
    let number: i128 = number.into();
    let digits = number.unsigned_abs().to_string();
    let mut grouped = String::from(if number < 0 { "-" } else { "" });
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 item`, `2 items`.
pub fn counted(number: impl Into<i128>, singular: &str) -> String {
    let number = number.into();
    format!("{} {singular}{}", grouped(number), if number == 1 { "" } else { "s" })
}

/// A size in bytes for people.
pub fn size(bytes: i64) -> String {
    indicatif::HumanBytes(bytes.max(0) as u64).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_numbers_are_grouped_by_thousands() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(92_353), "92,353");
        assert_eq!(grouped(-1_470_000), "-1,470,000");
    }

    #[test]
    fn one_is_singular() {
        assert_eq!(counted(1, "item"), "1 item");
        assert_eq!(counted(1_200, "item"), "1,200 items");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a [2Jb ");
    }
}
