//! An experiment as its file in the registry has it: the JSON of its message.

use std::sync::LazyLock;

use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, SerializeOptions};
use vitrine::v1::Experiment;

/// Absent when the program was built wrongly.
static EXPERIMENT: LazyLock<Option<MessageDescriptor>> =
    LazyLock::new(|| DescriptorPool::decode(vitrine::DESCRIPTORS).ok()?.get_message_by_name("vitrine.v1.Experiment"));

/// The file's text.
pub fn to_text(experiment: &Experiment) -> Result<Vec<u8>, String> {
    let descriptor = EXPERIMENT.clone().ok_or("the API description built into this program is damaged")?;
    let bytes = experiment.encode_to_vec();
    let message = DynamicMessage::decode(descriptor, bytes.as_slice()).map_err(|error| error.to_string())?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    let value = message.serialize_with_options(serde_json::value::Serializer, &options);
    let mut text =
        serde_json::to_vec_pretty(&value.map_err(|error| error.to_string())?).map_err(|error| error.to_string())?;
    text.push(b'\n');
    Ok(text)
}

/// The experiment in a file.
pub fn from_text(text: &[u8]) -> Result<Experiment, String> {
    let descriptor = EXPERIMENT.clone().ok_or("the API description built into this program is damaged")?;
    let mut reader = serde_json::Deserializer::from_slice(text);
    let message = DynamicMessage::deserialize(descriptor, &mut reader).map_err(|error| error.to_string())?;
    Experiment::decode(message.encode_to_vec().as_slice()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use vitrine::v1::{Arm, ArmParameters, Diversity};

    use super::*;

    #[test]
    fn a_file_gives_back_what_was_written() {
        let parameters = ArmParameters {
            diversity: Some(Diversity { mmr_lambda: Some(0.25), ..Diversity::default() }),
            ..ArmParameters::default()
        };
        let models = [("text-embedding".to_owned(), "canary".to_owned())].into();
        let arm =
            Arm { name: "canary".into(), weight: 0.1 + 0.2, models, parameters: Some(parameters), ..Arm::default() };
        let experiment =
            Experiment { name: "experiments/x".into(), arms: vec![arm], revision: 7, ..Experiment::default() };
        let text = to_text(&experiment).unwrap();
        assert_eq!(from_text(&text).unwrap(), experiment);
        assert!(String::from_utf8(text).unwrap().contains("\"text-embedding\": \"canary\""));
        assert!(from_text(b"{\"nmae\": 1}").is_err() && from_text(b"").is_err());
    }
}
