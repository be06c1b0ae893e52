//! Figures and tables on the screen.

use comfy_table::{CellAlignment, Table, presets};

use crate::metrics::Mean;

/// A mean as `0.8412 ± 0.0031`.
pub fn figure(mean: Mean) -> String {
    format!("{:.4} ± {:.4}", mean.value, mean.margin)
}

/// The first column is aligned left, the others right.
pub fn print_table(header: &[String], rows: Vec<Vec<String>>) {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header).add_rows(rows);
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 2));
        column.set_cell_alignment(if index == 0 { CellAlignment::Left } else { CellAlignment::Right });
    }
    println!("{}", table.trim_fmt());
}
