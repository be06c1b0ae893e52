//! `vitrine-trainer evaluate off-policy`: what a ranker would have earned, from clicks on what another policy showed and how likely that
//! was to show it.
//!
//! The estimators are those of "Doubly Robust Policy Evaluation and Learning" (Dudík et al. 2011, <https://arxiv.org/abs/1103.4601>) and "The
//! Self-Normalized Estimator for Counterfactual Learning" (Swaminathan & Joachims 2015).

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use serde::Serialize;
use serde_json::json;
use vitrine_models::{ClickModel, DeviceSpec};

use crate::clicks::{ClickFiles, Clicks, numbers};
use crate::metrics::{Mean, mean};
use crate::print::{figure, print_table};
use crate::text_file::{self, Table};

/// Impressions that are weighed together.
const BATCH: usize = 500;

/// What to measure.
#[derive(Debug, Args)]
pub struct OffPolicy {
    /// The folder of a network for clicks, learnt from other impressions than these
    folder: PathBuf,
    #[command(flatten)]
    files: ClickFiles,
    /// The column that says how likely the policy that showed an item was to show it
    #[arg(long, value_name = "COLUMN", default_value = "propensity")]
    propensity: String,
    /// The ranker shows an item with a chance that grows with its odds to this power; 0: all alike
    #[arg(long, value_name = "POWER", default_value_t = 1.0)]
    sharpness: f64,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// What was seen, and what would have been: clicks for each impression.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Values {
    /// Of the policy that showed the items.
    pub logged: Mean,
    /// Inverse propensity scoring.
    pub ips: Mean,
    /// The same over the sum of its weights: less variance, and some bias.
    pub snips: Mean,
    /// Doubly robust: what the network foretells, corrected by what was seen.
    pub dr: Mean,
    /// As many impressions of the ranker's own would tell as much as these.
    pub effective: f64,
    /// Impressions.
    pub impressions: usize,
}

/// One impression.
struct Impression {
    clicked: f64,
    propensity: f64,
    /// Which of the items was shown.
    shown: usize,
    /// The network's chance of a click on each item.
    chances: Vec<f32>,
}

impl OffPolicy {
    pub fn run(&self) -> Result<()> {
        ensure!(
            self.sharpness.is_finite() && self.sharpness >= 0.0,
            "--sharpness is {}; it must be at least 0",
            self.sharpness
        );
        let values = values(&self.impressions()?, self.sharpness);
        if self.json {
            println!("{}", json!(values));
            return Ok(());
        }
        let lines =
            [("what was shown", values.logged), ("IPS", values.ips), ("SNIPS", values.snips), ("DR", values.dr)];
        let rows = lines.map(|(name, mean)| vec![name.to_owned(), figure(mean)]).to_vec();
        print_table(&["", "clicks an impression"].map(str::to_owned), rows);
        println!(
            "{} impressions, worth {:.0} of the ranker's own; ± is half a 95 % interval",
            values.impressions, values.effective
        );
        Ok(())
    }

    fn impressions(&self) -> Result<Vec<Impression>> {
        let model = ClickModel::load(&self.folder, &DeviceSpec::Cpu)?;
        let table = text_file::table(&self.files.interactions)?;
        match &self.files.items {
            Some(items) => self.of_items(&model, &table, items),
            None => self.of_groups(&model, &table),
        }
    }

    /// A line for each impression, which could have been of any of the items.
    fn of_items(&self, model: &ClickModel, table: &Table, items: &Path) -> Result<Vec<Impression>> {
        let items: Vec<String> = text_file::rows(items, ["item_id"])?.into_iter().map(|(_, [item])| item).collect();
        let (label, propensities) = (numbers(table, &self.files.label)?, numbers(table, &self.propensity)?);
        let item = table.column("item_id")?;
        let mut impressions = Vec::with_capacity(table.rows.len());
        for first in (0..table.rows.len()).step_by(BATCH) {
            let part = first..(first + BATCH).min(table.rows.len());
            let rows = table.rows[part.clone()].iter().flat_map(|(line, cells)| {
                items.iter().map(|id| {
                    let mut cells = cells.clone();
                    cells[item].clone_from(id);
                    (*line, cells)
                })
            });
            let chances = self.chances(model, table, rows)?;
            for (place, chances) in part.zip(chances.chunks(items.len())) {
                let (line, cells) = &table.rows[place];
                let shown = items.iter().position(|item_id| *item_id == cells[item]);
                let shown =
                    shown.with_context(|| format!("{}: {} is none of the items", table.at(*line), cells[item]))?;
                impressions.push(Impression {
                    clicked: self.clicked(label[place]),
                    propensity: self.propensity(table, place, propensities[place])?,
                    shown,
                    chances: chances.to_vec(),
                });
            }
        }
        Ok(impressions)
    }

    /// A line for each item that could have been shown, as `prepare-clicks --off-policy` writes them.
    fn of_groups(&self, model: &ClickModel, table: &Table) -> Result<Vec<Impression>> {
        let impression =
            numbers(table, "impression").context("without --items the file must say what could be shown")?;
        let shown = numbers(table, "shown")?;
        let (label, propensities) = (numbers(table, &self.files.label)?, numbers(table, &self.propensity)?);
        let mut groups = Vec::new();
        for group in impression.chunk_by(|one, other| one.total_cmp(other).is_eq()) {
            let first = groups.last().map_or(0, |last: &Range<usize>| last.end);
            groups.push(first..first + group.len());
        }
        let mut impressions = Vec::with_capacity(groups.len());
        for part in groups.chunks(BATCH) {
            let (first, end) = (part[0].start, part[part.len() - 1].end);
            let chances = self.chances(model, table, table.rows[first..end].iter().cloned())?;
            for group in part {
                let at = || {
                    format!("{}: none of the impression's items is the one shown", table.at(table.rows[group.start].0))
                };
                let row = group.clone().find(|row| shown[*row] > 0.0).with_context(at)?;
                impressions.push(Impression {
                    clicked: self.clicked(label[row]),
                    propensity: self.propensity(table, row, propensities[row])?,
                    shown: row - group.start,
                    chances: chances[group.start - first..group.end - first].to_vec(),
                });
            }
        }
        Ok(impressions)
    }

    /// What the network foretells of rows, in their order.
    fn chances(
        &self,
        model: &ClickModel,
        table: &Table,
        rows: impl Iterator<Item = (usize, Vec<String>)>,
    ) -> Result<Vec<f32>> {
        let time = table.column("timestamp")?;
        let rows = (0_u32..).zip(rows).map(|(place, (line, mut cells))| {
            // Examples are read in order of time.
            cells[time] = place.to_string();
            (line, cells)
        });
        // What is known of items by their ids is joined to each row.
        Ok(model.chances(&Clicks::by(table.with_rows(rows.collect()), &self.files, model.fields())?.encoded)?)
    }

    fn clicked(&self, label: f64) -> f64 {
        f64::from(u8::from(label >= self.files.at_least))
    }

    fn propensity(&self, table: &Table, row: usize, propensity: f64) -> Result<f64> {
        ensure!(
            propensity > 0.0 && propensity <= 1.0,
            "{}: {} is {propensity}; it must be above 0 and up to 1",
            table.at(table.rows[row].0),
            self.propensity
        );
        Ok(propensity)
    }
}

fn values(impressions: &[Impression], sharpness: f64) -> Values {
    let weighed = impressions.iter().map(|impression| {
        let Impression { clicked, propensity, shown, ref chances } = *impression;
        let odds = chances.iter().map(|chance| f64::from(chance / (1.0 - chance).max(f32::EPSILON)).powf(sharpness));
        let odds: Vec<f64> = odds.collect();
        let all: f64 = odds.iter().sum();
        let weight = odds[shown] / all / propensity;
        let foretold: f64 = odds.iter().zip(chances).map(|(odds, chance)| odds / all * f64::from(*chance)).sum();
        (weight, clicked, foretold + weight * (clicked - f64::from(chances[shown])))
    });
    let weighed: Vec<(f64, f64, f64)> = weighed.collect();
    let count = weighed.len().max(1) as f64;
    let weights: f64 = weighed.iter().map(|(weight, ..)| weight).sum();
    let squares: f64 = weighed.iter().map(|(weight, ..)| weight * weight).sum();
    let normalized =
        weighed.iter().map(|(weight, clicked, _)| weight * clicked).sum::<f64>() / weights.max(f64::MIN_POSITIVE);
    // By the delta method: the value is a ratio of two means.
    let apart = weighed.iter().map(|(weight, clicked, _)| (weight * (clicked - normalized)).powi(2)).sum::<f64>();
    let snips = Mean { value: normalized, margin: 1.96 * apart.sqrt() / weights.max(f64::MIN_POSITIVE) };
    Values {
        logged: mean(weighed.iter().map(|(_, clicked, _)| *clicked)),
        ips: mean(weighed.iter().map(|(weight, clicked, _)| weight * clicked)),
        snips,
        dr: mean(weighed.iter().map(|(.., robust)| *robust)),
        effective: weights * weights / squares.max(f64::MIN_POSITIVE),
        impressions: count as usize,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::fs;
    use std::path::Path;

    use super::*;
    use crate::{ClickConfig, ClickKind, Learning, train_clicks};

    /// Items shown at random to users, each of whom clicks on one of them only.
    fn files(dir: &Path, name: &str, propensity: &str) -> ClickFiles {
        let mut text =
            "user_id:token\titem_id:token\tlabel:float\ttimestamp:float\tpropensity:float\tlikes:token\n".to_owned();
        for at in 0..600 {
            let (likes, item) = (at * 7 % 3, at * 5 % 4);
            writeln!(text, "u{}\ti{item}\t{}\t{at}\t{propensity}\tl{likes}", at % 9, u8::from(likes == item)).unwrap();
        }
        let (interactions, items) = (dir.join(name), dir.join("x.item"));
        fs::write(&interactions, text).unwrap();
        fs::write(&items, "item_id:token\ni0\ni1\ni2\ni3\n").unwrap();
        ClickFiles { interactions, users: None, items: Some(items), label: "label".to_owned(), at_least: 1.0 }
    }

    #[test]
    fn a_ranker_that_knows_what_is_liked_is_worth_more_than_chance() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path(), "x.inter", "0.25");
        let learning = Learning { batch: 32, learning_rate: 0.02, epochs: 30, ..Learning::default() };
        let columns = vec!["item_id".to_owned(), "likes".to_owned()];
        let config = ClickConfig {
            columns,
            width: 8,
            layers: vec![16],
            deviation: 0.1,
            dropout: 0.0,
            learning,
            ..ClickConfig::default()
        };
        let clicks = Clicks::read(&files, &config.look(), None).unwrap();
        train_clicks(&config, ClickKind::Deepfm, &clicks, None, &dir.path().join("ranker")).unwrap();
        let measured = |files: ClickFiles, sharpness| {
            let folder = dir.path().join("ranker");
            OffPolicy { folder, files, propensity: "propensity".to_owned(), sharpness, json: false }
        };
        let of = |sharpness| values(&measured(files.clone(), sharpness).impressions().unwrap(), sharpness);
        let sharp = of(3.0);
        assert!((sharp.logged.value - 0.25).abs() < 0.03, "{sharp:?}");
        for mean in [sharp.ips, sharp.snips, sharp.dr] {
            assert!(mean.value > 0.6 && (mean.value - sharp.ips.value).abs() < 0.05, "{sharp:?}");
        }
        let alike = of(0.0);
        assert!(
            (alike.ips.value - alike.logged.value).abs() < 1e-9 && (alike.effective - 600.0).abs() < 1e-6,
            "{alike:?}"
        );
        let error = measured(self::files(dir.path(), "y.inter", "1.5"), 1.0).impressions().err().unwrap().to_string();
        assert!(error.contains("y.inter:2: propensity is 1.5"), "{error}");

        // The same, with a line for each item that could have been shown.
        let text = fs::read_to_string(&files.interactions).unwrap();
        let (header, lines) = text.split_once('\n').unwrap();
        let mut grouped = format!("{header}\timpression:float\tshown:float\n");
        for (impression, line) in lines.lines().enumerate() {
            let cells: Vec<&str> = line.split('\t').collect();
            for item in ["i0", "i1", "i2", "i3"] {
                let (label, shown) = if item == cells[1] { (cells[2], 1) } else { ("0", 0) };
                let cells = [cells[0], item, label, cells[3], cells[4], cells[5]].join("\t");
                writeln!(grouped, "{cells}\t{impression}\t{shown}").unwrap();
            }
        }
        let interactions = dir.path().join("grouped.inter");
        let of_groups = |text: &str| {
            fs::write(&interactions, text).unwrap();
            measured(ClickFiles { interactions: interactions.clone(), items: None, ..files.clone() }, 3.0).impressions()
        };
        let same = values(&of_groups(&grouped).unwrap(), 3.0);
        assert!((same.dr.value - sharp.dr.value).abs() < 1e-6 && same.impressions == 600, "{same:?}, {sharp:?}");
        let none = grouped.replacen("\t0\t1\n", "\t0\t0\n", 1);
        let error = of_groups(&none).err().unwrap().to_string();
        assert!(error.contains("grouped.inter:2: none of the impression's items is the one shown"), "{error}");
    }
}
