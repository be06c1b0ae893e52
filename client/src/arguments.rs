//! The command line: what is global, and how its values are read.

use std::{io::IsTerminal as _, time::Duration};

use anyhow::Result;
use clap::{Args, Parser, ValueEnum};
use jiff::{SpanRelativeTo, Timestamp, civil::Date};
use vitrine::v1::Money;
use vitrine_client::{Client, Options};

use crate::{command::Command, exit, exit::Usage, output::Output};

/// Searches, recommends, records and keeps the goods of a shop on a Vitrine server.
#[derive(Debug, Parser)]
#[command(name = "vitrine", version, after_help = exit::HELP, max_term_width = 120)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every subcommand takes.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Where the server listens
    #[arg(long, global = true, env = "VITRINE_SERVER", default_value = "http://127.0.0.1:7700", value_name = "URL")]
    pub server: String,
    /// The catalog, as `grocery`
    #[arg(long, short, global = true, env = "VITRINE_CATALOG", value_name = "NAME")]
    pub catalog: Option<String>,
    /// Maximum time a call may take, its retries included
    #[arg(long, global = true, default_value = "10s", value_parser = duration, value_name = "TIME")]
    pub timeout: Duration,
    /// How often a call that failed for a passing reason is sent again, where that is safe
    #[arg(long, global = true, default_value_t = 3, value_name = "N")]
    pub retries: u32,
    /// Print JSON instead of tables
    #[arg(long, global = true)]
    pub json: bool,
    /// When to colour the output
    #[arg(long, global = true, value_enum, default_value_t = Colour::Auto, value_name = "WHEN")]
    pub color: Colour,
}

/// When to colour the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Colour {
    /// On a terminal, unless `NO_COLOR` is set
    Auto,
    Always,
    Never,
}

impl Global {
    /// Connects to the server.
    pub async fn connect(&self) -> Result<Client> {
        Ok(Client::connect(self.options()).await?)
    }

    pub fn options(&self) -> Options {
        Options { server: self.server.clone(), timeout: self.timeout, retries: self.retries, ..Options::default() }
    }

    /// The catalog's resource name.
    pub fn catalog(&self) -> Result<String> {
        match self.catalog.as_deref() {
            None | Some("") => Err(Usage("name the catalog with --catalog or VITRINE_CATALOG".to_owned()).into()),
            Some(name) => Ok(resource("catalogs", name)),
        }
    }

    pub fn output(&self) -> Output {
        let terminal = std::io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let colour = match self.color {
            Colour::Auto => terminal && !no_color,
            Colour::Always => true,
            Colour::Never => false,
        };
        Output { json: self.json, terminal, colour }
    }
}

/// `grocery` and `catalogs/grocery` both name `catalogs/grocery`.
pub fn resource(collection: &str, name: &str) -> String {
    if name.starts_with(&format!("{collection}/")) { name.to_owned() } else { format!("{collection}/{name}") }
}

/// Reads `90s`, `1h 30m` or `7d`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let span: jiff::Span =
        text.parse().map_err(|_| format!("`{text}` is no time span; write it as 500ms, 90s or 7d"))?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).map_err(|error| error.to_string())?;
    Duration::try_from(duration).map_err(|_| format!("`{text}` is negative"))
}

/// Reads an amount and its currency, as `0.40EUR` or `0.40 EUR`. Whether it is one that is taken, the server says.
pub fn money(text: &str) -> Result<Money, String> {
    let (amount, currency) = text.split_at(text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len()));
    let (amount, currency) = (amount.trim().to_owned(), currency.to_ascii_uppercase());
    if amount.is_empty() || currency.is_empty() {
        return Err(format!("`{text}` is no amount of money; write it as 0.40EUR"));
    }
    Ok(Money { amount, currency })
}

/// Reads `2026-02-01T10:00:00Z`, or `2026-02-01` as its first moment in UTC.
pub fn time(text: &str) -> Result<prost_types::Timestamp, String> {
    let moment = text.parse::<Timestamp>().or_else(|error| {
        let date: Date = text.parse().map_err(|_| error)?;
        Ok::<_, jiff::Error>(date.to_zoned(jiff::tz::TimeZone::UTC)?.timestamp())
    });
    let moment = moment.map_err(|_| format!("`{text}` is no time; write it as 2026-02-01 or 2026-02-01T10:00:00Z"))?;
    Ok(prost_types::Timestamp { seconds: moment.as_second(), nanos: moment.subsec_nanosecond() })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_catalog_is_named_short_or_in_full() {
        assert_eq!(resource("catalogs", "grocery"), "catalogs/grocery");
        assert_eq!(resource("catalogs", "catalogs/grocery"), "catalogs/grocery");
    }

    #[test]
    fn time_spans_are_read_in_the_usual_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("7d"), Ok(Duration::from_hours(7 * 24)));
        assert!(duration("soon").unwrap_err().contains("write it as"));
        assert!(duration("-5s").unwrap_err().contains("negative"));
    }

    #[test]
    fn a_date_means_its_first_moment() {
        assert_eq!(time("1970-01-02").unwrap().seconds, 86_400);
        assert_eq!(time("1970-01-01T00:00:01.5Z").unwrap().nanos, 500_000_000);
        assert!(time("tomorrow").is_err());
    }
}
