//! Parquet files: read as if their rows were lines of JSON, and written from events. The columns have the names of the
//! JSON fields; lists are `LIST`s and objects groups, as engines write them.

mod events;
mod rows;

use std::path::Path;

pub use events::EventFile;
pub use rows::lines;

/// Whether a file is to be taken for Parquet: by its name.
pub fn is_parquet(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"))
}
