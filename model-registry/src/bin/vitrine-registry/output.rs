//! Tables and JSON on standard output, errors on standard error, and the exit codes.

use std::{
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use anyhow::Result;
use comfy_table::{Attribute, Cell, presets};
use indicatif::BinaryBytes;
use serde_json::{Value, json};
use thiserror::Error;
use vitrine_registry::{Label, ModelName};

use crate::commands::exit_code;

pub const EXIT_FAILED: u8 = 1;
pub const EXIT_NOT_THERE: u8 = 3;
pub const EXIT_LABEL_MOVED: u8 = 4;
pub const EXIT_PROBLEM: u8 = 5;

/// Something asked for that only the command misses.
#[derive(Debug, Error)]
pub enum NotThere {
    #[error("model \"{0}\" has no label \"{1}\"")]
    Label(ModelName, Label),
}

/// A table with aligned columns; the head is bold on a terminal.
pub struct Table(comfy_table::Table);

impl Table {
    pub fn new<const N: usize>(head: [&str; N]) -> Self {
        let bold = io::stdout().is_terminal();
        let cell = |text| if bold { Cell::new(text).add_attribute(Attribute::Bold) } else { Cell::new(text) };
        let mut table = comfy_table::Table::new();
        table.load_preset(presets::NOTHING).set_header(head.map(cell));
        Self(table)
    }

    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.add_row(cells);
    }

    pub fn print(&self) {
        println!("{}", self.0.trim_fmt());
    }
}

/// A size as a person reads it.
pub fn bytes(size: u64) -> String {
    BinaryBytes(size).to_string()
}

pub fn print_json(value: &Value) -> Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, value)?;
    writeln!(out)?;
    Ok(())
}

/// Says what went wrong; as JSON on standard output if that was asked for.
pub fn failure(error: &anyhow::Error, as_json: bool) -> ExitCode {
    let code = exit_code(error);
    if as_json {
        // Nowhere is left to say that this failed too.
        let _ = print_json(&json!({"error": format!("{error:#}"), "exit_code": code}));
    } else {
        eprintln!("error: {error:#}");
    }
    ExitCode::from(code)
}
