//! Typed client for Vitrine.
//!
//! - [`Client`]: one method for each call of the API, with a deadline on every call and retries where they are safe;
//! - [`import`]: long uploads of items, with their pictures, and of events, that go on where a broken connection left them;
//! - [`json`]: items, events, controls and answers as JSON, the way files and `--json` have them;
//! - [`parquet`]: the same from Parquet files;
//! - [`load`]: load for measuring, as the command `vitrine bench` makes it;
//! - [`Error`]: what went wrong, and what to do about it.
//!
//! Requests and answers are the generated types of [`vitrine::v1`]. The command `vitrine` is built on this library.
//!
//! ```no_run
//! use vitrine::v1::{RequestContext, SearchRequest, search_request::Query};
//! use vitrine_client::{Client, Options};
//!
//! # async fn example() -> Result<(), vitrine_client::Error> {
//! let client = Client::connect(Options::default()).await?;
//! let context = RequestContext { catalog: "catalogs/grocery".into(), ..Default::default() };
//! let query = Some(Query::Text("oat milk".into()));
//! let answer = client.search(SearchRequest { context: Some(context), query, ..Default::default() }).await?;
//! for result in answer.results {
//!     println!("{:.3} {}", result.score, result.item.unwrap_or_default().title);
//! }
//! # Ok(())
//! # }
//! ```

mod calls;
mod connection;
mod error;
pub mod import;
pub mod json;
pub mod load;
mod options;
pub mod parquet;
mod retry;
mod stream;

pub use calls::Health;
pub use connection::Client;
pub use error::{CallError, Error, Violation, code_name};
pub use options::{Backoff, Options};
pub use stream::Answers;
/// The gRPC status codes, so that callers need no dependency on tonic to tell failures apart.
pub use tonic::Code;
