//! `vitrine-trainer golden`: runs a text encoder on some texts, and writes its answers beside its weights.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use vitrine_models::{DeviceSpec, TextEncoder, write_golden};

/// Short and long, in several scripts, and none: rows of every length that queries and items have.
const TEXTS: [&str; 8] = [
    "",
    "milk",
    "waterproof trail shoe",
    "牛奶巧克力 250 克",
    "children's raincoat, yellow, size 104 🌧",
    "Assorted cheese, 8 oz. Dairy > Cheese > Specialty. Private label, sold by weight; keep refrigerated after opening.",
    "Light shoe for mountain paths. The upper is woven in one piece and dries within an hour; the sole grips on wet rock and \
     on loose gravel, and can be replaced. Weighs 310 grams in size 42. Not for crampons.",
    "An album of photographs from forty years of travel along the coast, printed on heavy matt paper, bound in linen, with a \
     ribbon and a slipcase. The pictures are arranged by the hour at which they were taken and not by place, so that harbours \
     of the north stand beside markets of the south; a register at the end names every place, the date, and the film. The \
     preface tells how the photographer carried two cameras, one for colour and one for black and white, and why most of the \
     pictures were made from the deck of a ferry.",
];

/// What to record.
#[derive(Debug, Args)]
pub struct Golden {
    /// The folder with the encoder's files, as it is to be published
    folder: PathBuf,
    /// A file with one text a line [default: eight texts, from none to long]
    #[arg(long, value_name = "FILE")]
    texts: Option<PathBuf>,
    /// Print one JSON value instead of text
    #[arg(long)]
    json: bool,
}

impl Golden {
    /// Runs the encoder, and writes its answers.
    ///
    /// # Errors
    /// The folder holds no encoder, or cannot be written.
    pub fn run(&self) -> Result<()> {
        let given = self.texts.as_deref().map(lines).transpose()?;
        let texts: Vec<&str> = match &given {
            Some(text) => text.lines().collect(),
            None => TEXTS.to_vec(),
        };
        let encoder = TextEncoder::load(&self.folder, &DeviceSpec::Cpu)?;
        let path = write_golden(&self.folder, &encoder, &texts)?;
        if self.json {
            println!("{}", serde_json::json!({"path": path, "rows": texts.len()}));
        } else {
            println!("recorded {} rows in {}", texts.len(), path.display());
        }
        Ok(())
    }
}

fn lines(path: &Path) -> Result<String> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(!text.is_empty(), "{} holds no text", path.display());
    Ok(text)
}
