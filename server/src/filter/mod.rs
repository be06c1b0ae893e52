//! The filter language of the API (a subset of AIP-160), and counting by facets.
//!
//! [`Filter`] is the parsed language; [`Columns`] holds the values of all items by key, and answers which items
//! match a filter, how many have which value ([`Columns::facet`]), and in which order they come ([`Columns::sort`]).
//!
//! What the language has:
//!
//! - conditions `key comparator value`, with `=`, `!=`, `<`, `<=`, `>`, `>=` and `:` ("has");
//! - `AND`, `OR`, `NOT` (or `-`) in capitals, and parentheses. As AIP-160 has it, **`OR` binds tighter than `AND`**:
//!   `a = 1 AND b = 2 OR c = 3` means `a = 1 AND (b = 2 OR c = 3)`;
//! - keys `id`, `title`, `brand`, `categories`, `tags`, `price`, `available`, `created` and `attributes.NAME`; any
//!   other name means the attribute of that name, and a name of other characters is quoted: `attributes."shoe size"`;
//! - values in double or single quotes (`\` escapes the next character), or bare when they have no space or
//!   punctuation; numbers; `true` and `false`; times as `2026-01-31T09:00:00Z` or `2026-01-31`;
//! - `key:*`: the item has any value there.
//!
//! What it leaves out: two conditions side by side without an operator (mostly a value that lacks its quotes), lone
//! words, functions and wildcards. These are errors, never guesses.
//!
//! What conditions mean: texts are equal without regard to case. `categories: "Dairy"` matches the whole path, any
//! path it begins with, or any single step of it; `title: "milk"` matches any title that contains it; for other keys `:`
//! is `=`. With several values (tags, lists) `=` matches if one of them does, `!=` if none does. An item without a
//! value matches no condition on that key, `!=` included; `NOT key = value` matches it.

mod ast;
mod column;
mod columns;
mod facet;
mod order;
mod parse;
#[cfg(test)]
mod tests;

pub use ast::{Comparator, Condition, Expression, Filter, FilterError, Key, Operand};
pub use columns::Columns;
pub use facet::FacetError;
pub use order::{Direction, OrderBy};
