//! Messages as JSON: protobuf's canonical mapping, with the field names of the `.proto` files.
//!
//! 64-bit integers are strings there, and times are RFC 3339. The lines of event files, which shops write by
//! hand, are a little more forgiving: see [`parse_event`].

mod lines;
mod reader;

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, MessageDescriptor, SerializeOptions};
use serde::Deserializer;
use serde_json::Value;
use thiserror::Error;
use vitrine::v1;

pub use lines::{
    control_line, event_attributes, event_line, event_type, item_line, parse_control, parse_event, parse_item,
    short_name,
};
pub use reader::{Line, LineReader, MAX_LINE_BYTES};

/// Why a text is not the JSON of a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JsonError {
    /// Correct the text as the message says.
    #[error("{0}")]
    Malformed(String),
    /// Correct the value of the named field.
    #[error("{field}: {problem}")]
    Field {
        /// Its path, as `price.amount`.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The program was built wrongly: build it again.
    #[error("the API description built into this program is damaged: {0}")]
    Schema(String),
}

/// A message of the API that can be written as JSON.
pub trait Json: Message + Default {
    /// The message's full name, as `vitrine.v1.Item`.
    const NAME: &'static str;
}

macro_rules! json_messages {
    ($($message:ident),* $(,)?) => {
        $(impl Json for v1::$message {
            const NAME: &'static str = concat!("vitrine.v1.", stringify!($message));
        })*
    };
}

json_messages!(
    ArmParameters,
    Catalog,
    Campaign,
    Control,
    EraseUserResponse,
    Event,
    EventResult,
    Experiment,
    ExperimentReport,
    Exposure,
    FeedbackResponse,
    GeneratedImage,
    Item,
    Model,
    ModelVersion,
    Picture,
    RecommendRequest,
    RecommendResponse,
    SearchRequest,
    SearchResponse,
    WatchVersionsResponse,
);

static POOL: LazyLock<Result<DescriptorPool, String>> =
    LazyLock::new(|| DescriptorPool::decode(vitrine::DESCRIPTORS).map_err(|error| error.to_string()));

const WRITE: SerializeOptions = SerializeOptions::new().use_proto_field_name(true);
const READ: DeserializeOptions = DeserializeOptions::new();

fn descriptor<M: Json>() -> Result<MessageDescriptor, JsonError> {
    let pool = POOL.as_ref().map_err(|error| JsonError::Schema(error.clone()))?;
    pool.get_message_by_name(M::NAME).ok_or_else(|| JsonError::Schema(format!("it has no {}", M::NAME)))
}

/// The message as JSON. Fields that have their default value are left out.
pub fn to_value<M: Json>(message: &M) -> Result<Value, JsonError> {
    let dynamic = DynamicMessage::decode(descriptor::<M>()?, message.encode_to_vec().as_slice())
        .map_err(|error| JsonError::Schema(error.to_string()))?;
    dynamic
        .serialize_with_options(serde_json::value::Serializer, &WRITE)
        .map_err(|error| JsonError::Malformed(error.to_string()))
}

/// The message in the JSON. Unknown fields are errors.
pub fn from_value<M: Json>(value: Value) -> Result<M, JsonError> {
    read(value)
}

fn read<'de, M: Json>(deserializer: impl Deserializer<'de>) -> Result<M, JsonError> {
    let descriptor = descriptor::<M>()?;
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(deserializer, &mut track);
    let message = DynamicMessage::deserialize_with_options(descriptor, tracked, &READ);
    let message = message.map_err(|error| {
        let problem = plain(&error.to_string());
        match track.path().to_string() {
            path if path == "." || path.is_empty() => JsonError::Malformed(problem),
            field => JsonError::Field { field, problem },
        }
    })?;
    M::decode(message.encode_to_vec().as_slice()).map_err(|error| JsonError::Schema(error.to_string()))
}

/// The deserializer's words in ours.
fn plain(problem: &str) -> String {
    problem.replace("unrecognized field name", "there is no field")
}
