//! The Open Inference Protocol: text encoders by themselves, for clients that know it and not Vitrine.

use std::sync::atomic::Ordering;

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use tonic::{Request, Response, Status};
use vitrine::inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
    ModelReadyResponse, ServerLiveRequest, ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse,
    ServerReadyRequest, ServerReadyResponse, grpc_inference_service_server::GrpcInferenceService,
    model_infer_request::InferInputTensor, model_infer_response::InferOutputTensor,
    model_metadata_response::TensorMetadata,
};

use super::{App, deadline::deadline, encoder_status};
use crate::{
    encoder::{EncoderError, PinnedEncoder},
    error::{invalid, not_found},
    model::Loaded as _,
};

const INPUT: &str = "text";
const OUTPUT: &str = "embedding";
const PLATFORM: &str = "vitrine";
/// Encoders read a few hundred tokens: a longer text is a mistake.
const MAX_TEXT_BYTES: usize = 100_000;

#[tonic::async_trait]
impl GrpcInferenceService for App {
    async fn server_live(&self, _: Request<ServerLiveRequest>) -> Result<Response<ServerLiveResponse>, Status> {
        Ok(Response::new(ServerLiveResponse { live: true }))
    }

    async fn server_ready(&self, _: Request<ServerReadyRequest>) -> Result<Response<ServerReadyResponse>, Status> {
        Ok(Response::new(ServerReadyResponse { ready: self.ready.load(Ordering::Relaxed) }))
    }

    async fn model_ready(&self, request: Request<ModelReadyRequest>) -> Result<Response<ModelReadyResponse>, Status> {
        let request = request.into_inner();
        let ready = self.encoder_of(&request.name, &request.version).is_ok();
        Ok(Response::new(ModelReadyResponse { ready }))
    }

    async fn server_metadata(
        &self,
        _: Request<ServerMetadataRequest>,
    ) -> Result<Response<ServerMetadataResponse>, Status> {
        let (name, version) = (PLATFORM.to_owned(), env!("CARGO_PKG_VERSION").to_owned());
        Ok(Response::new(ServerMetadataResponse { name, version, extensions: Vec::new() }))
    }

    async fn model_metadata(
        &self,
        request: Request<ModelMetadataRequest>,
    ) -> Result<Response<ModelMetadataResponse>, Status> {
        let request = request.into_inner();
        let encoder = self.encoder_of(&request.name, &request.version)?;
        let tensor = |name: &str, datatype: &str, shape| TensorMetadata {
            name: name.to_owned(),
            datatype: datatype.to_owned(),
            shape,
        };
        Ok(Response::new(ModelMetadataResponse {
            name: encoder.opened().model.clone(),
            versions: vec![encoder.opened().version.to_string()],
            platform: PLATFORM.to_owned(),
            inputs: vec![tensor(INPUT, "BYTES", vec![-1])],
            outputs: vec![tensor(OUTPUT, "FP32", vec![-1, encoder.dimensions() as i64])],
        }))
    }

    async fn model_infer(&self, request: Request<ModelInferRequest>) -> Result<Response<ModelInferResponse>, Status> {
        let deadline = deadline(request.metadata(), self.config.limits.default_timeout);
        let request = request.into_inner();
        let encoder = self.encoder_of(&request.model_name, &request.model_version)?;
        if let Some((place, output)) = request.outputs.iter().enumerate().find(|(_, output)| output.name != OUTPUT) {
            let description = format!("is `{}`; the model's output is `{OUTPUT}`", output.name);
            return Err(invalid(format!("outputs[{place}].name"), description));
        }
        let texts = texts(request.inputs, request.raw_input_contents, self.config.text_encoder.max_queue_rows)?;
        let rows = texts.len();
        let vectors = encoder.embed_texts(texts, Some(deadline)).await.map_err(encoder_status)?;
        let mut raw = BytesMut::with_capacity(rows * encoder.dimensions() * size_of::<f32>());
        vectors.iter().flatten().for_each(|&value| raw.put_f32_le(value));
        let output = InferOutputTensor {
            name: OUTPUT.to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![rows as i64, encoder.dimensions() as i64],
            ..InferOutputTensor::default()
        };
        Ok(Response::new(ModelInferResponse {
            model_name: encoder.opened().model.clone(),
            model_version: encoder.opened().version.to_string(),
            id: request.id,
            outputs: vec![output],
            raw_output_contents: vec![raw.freeze()],
            ..ModelInferResponse::default()
        }))
    }
}

impl App {
    fn encoder_of(&self, model: &str, version: &str) -> Result<PinnedEncoder, Status> {
        let configured = &self.config.text_encoder.model;
        if model != configured {
            return Err(not_found("model", model, &format!("this server runs `{configured}`")));
        }
        let selector = Some(version).filter(|version| !version.is_empty());
        let resolved = self.encoders.resolve(selector).map_err(EncoderError::from);
        resolved.map_err(|error| not_found("model version", version, &error.to_string()))
    }
}

/// The texts of the one input, at most `limit`.
fn texts(inputs: Vec<InferInputTensor>, raw: Vec<Bytes>, limit: usize) -> Result<Vec<String>, Status> {
    let [input] = <[_; 1]>::try_from(inputs).map_err(|inputs: Vec<_>| {
        invalid("inputs", format!("has {} tensors; the model reads one, `{INPUT}`", inputs.len()))
    })?;
    if input.name != INPUT {
        return Err(invalid("inputs[0].name", format!("is `{}`; the model's input is `{INPUT}`", input.name)));
    }
    if input.datatype != "BYTES" {
        return Err(invalid("inputs[0].datatype", format!("is `{}`; texts are `BYTES`", input.datatype)));
    }
    let rows = match input.shape.as_slice() {
        [rows] | [rows, 1] => usize::try_from(*rows).unwrap_or(0),
        _ => 0,
    };
    if !(1..=limit).contains(&rows) {
        return Err(invalid("inputs[0].shape", format!("is {:?}; it must be [n], n from 1 to {limit}", input.shape)));
    }
    let contents = input.contents.unwrap_or_default().bytes_contents;
    let (field, values) = match <[_; 1]>::try_from(raw) {
        Ok([raw]) if contents.is_empty() => {
            let field = "raw_input_contents[0]";
            let values = split(raw).ok_or_else(|| invalid(field, "is not a sequence of lengths and values"))?;
            (field, values)
        }
        Err(raw) if raw.is_empty() => ("inputs[0].contents.bytes_contents", contents),
        _ => return Err(invalid("raw_input_contents", "must have one value for the one input, and `contents` none")),
    };
    if values.len() != rows {
        return Err(invalid(field, format!("has {} values, the shape says {rows}", values.len())));
    }
    let text = |(row, value): (usize, Bytes)| {
        if value.len() > MAX_TEXT_BYTES {
            return Err(invalid(field, format!("value {row} has {} bytes, the most is {MAX_TEXT_BYTES}", value.len())));
        }
        String::from_utf8(value.into()).map_err(|_| invalid(field, format!("value {row} is not UTF-8")))
    };
    values.into_iter().enumerate().map(text).collect()
}

/// Values of BYTES, each with its length before it.
fn split(mut raw: Bytes) -> Option<Vec<Bytes>> {
    let mut values = Vec::new();
    while raw.has_remaining() {
        let length = raw.try_get_u32_le().ok()? as usize;
        if length > raw.len() {
            return None;
        }
        values.push(raw.split_to(length));
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use vitrine::inference::InferTensorContents;

    use super::*;

    fn input(shape: &[i64], contents: &[&'static str]) -> InferInputTensor {
        let bytes_contents = contents.iter().map(|text| Bytes::from_static(text.as_bytes())).collect();
        InferInputTensor {
            name: INPUT.into(),
            datatype: "BYTES".into(),
            shape: shape.to_vec(),
            contents: Some(InferTensorContents { bytes_contents, ..InferTensorContents::default() }),
            ..InferInputTensor::default()
        }
    }

    fn raw(texts: &[&str]) -> Bytes {
        let mut raw = BytesMut::new();
        for text in texts {
            raw.put_u32_le(text.len() as u32);
            raw.put_slice(text.as_bytes());
        }
        raw.freeze()
    }

    #[test]
    fn texts_come_typed_or_raw() {
        assert_eq!(texts(vec![input(&[2], &["a", ""])], vec![], 9).unwrap(), ["a", ""]);
        assert_eq!(texts(vec![input(&[2, 1], &[])], vec![raw(&["a", "bç"])], 9).unwrap(), ["a", "bç"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        let refused =
            |inputs: Vec<InferInputTensor>, raw: Vec<Bytes>| texts(inputs, raw, 9).unwrap_err().message().to_owned();
        let other = |change: fn(&mut InferInputTensor)| {
            let mut input = input(&[1], &["a"]);
            change(&mut input);
            vec![input]
        };
        for (inputs, raw, field) in [
            (vec![], vec![], "`inputs`"),
            (vec![input(&[1], &["a"]); 2], vec![], "`inputs`"),
            (other(|input| input.name = "x".into()), vec![], "`inputs[0].name`"),
            (other(|input| input.datatype = "FP32".into()), vec![], "`inputs[0].datatype`"),
            (other(|input| input.shape = vec![0]), vec![], "`inputs[0].shape`"),
            (other(|input| input.shape = vec![-1]), vec![], "`inputs[0].shape`"),
            (other(|input| input.shape = vec![10]), vec![], "`inputs[0].shape`"),
            (other(|input| input.shape = vec![1, 2]), vec![], "`inputs[0].shape`"),
            (other(|input| input.shape = vec![2]), vec![], "`inputs[0].contents.bytes_contents`"),
            (vec![input(&[1], &["a"])], vec![raw(&["a"])], "`raw_input_contents`"),
            (vec![input(&[1], &[])], vec![raw(&["a"]), raw(&["b"])], "`raw_input_contents`"),
            (vec![input(&[1], &[])], vec![raw(&["a", "b"])], "`raw_input_contents[0]`"),
            (vec![input(&[1], &[])], vec![Bytes::from_static(&[9, 0, 0, 0, 97])], "`raw_input_contents[0]`"),
            (vec![input(&[1], &[])], vec![Bytes::from_static(&[1, 0])], "`raw_input_contents[0]`"),
            (vec![input(&[1], &[])], vec![Bytes::from_static(&[1, 0, 0, 0, 0xff])], "`raw_input_contents[0]`"),
        ] {
            let message = refused(inputs, raw);
            assert!(message.starts_with(field), "{message}");
        }
    }
}
