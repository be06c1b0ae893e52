//! The sizes of both networks, from the `config.json` of `unet/` and `vae/`. What such a file may ask for, and these networks do not do, is
//! refused here, and not left out in silence.

use std::path::Path;

use candle_transformers::models::stable_diffusion::unet_2d::{BlockConfig, UNet2DConditionModelConfig};
use candle_transformers::models::stable_diffusion::vae::AutoEncoderKLConfig;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{ModelError, files};

/// Groups of a normalisation: candle's blocks have as many whatever is asked for.
const GROUPS: usize = 32;

/// One number for all blocks, or one for each.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Each {
    Same(usize),
    Own(Vec<usize>),
}

impl Each {
    fn of(&self, block: usize) -> usize {
        match self {
            Self::Same(number) => *number,
            Self::Own(numbers) => numbers.get(block).copied().unwrap_or_default(),
        }
    }
}

/// What is read of `unet/config.json`.
#[derive(Clone, Debug, Deserialize)]
struct UnetFile {
    in_channels: usize,
    out_channels: usize,
    sample_size: usize,
    block_out_channels: Vec<usize>,
    down_block_types: Vec<String>,
    up_block_types: Vec<String>,
    layers_per_block: usize,
    cross_attention_dim: usize,
    /// The number of heads, whatever the name says: <https://github.com/huggingface/diffusers/issues/2011>.
    attention_head_dim: Option<Each>,
    num_attention_heads: Option<Each>,
    transformer_layers_per_block: Option<Each>,
    #[serde(default)]
    center_input_sample: bool,
    flip_sin_to_cos: Option<bool>,
    #[serde(default)]
    freq_shift: f64,
    downsample_padding: Option<usize>,
    mid_block_scale_factor: Option<f64>,
    norm_eps: Option<f64>,
    #[serde(default)]
    use_linear_projection: bool,
}

/// The network that foretells the noise.
pub(super) struct UnetConfig {
    pub network: UNet2DConditionModelConfig,
    /// Of latents.
    pub channels: usize,
    /// Height and width of latents, where nothing else is asked for.
    pub side: usize,
}

impl UnetConfig {
    /// How often there is a number for each two latents at once: for each head, with the prompt and without, as a score and as a weight.
    pub fn pairs(&self) -> usize {
        let crossing = self.network.blocks.iter().enumerate().filter(|(_, block)| block.use_cross_attn.is_some());
        // Each block has a quarter of the latents of that before it.
        crossing.map(|(at, block)| (4 * block.attention_head_dim) >> (4 * at)).max().unwrap_or_default()
    }
}

/// What is read of `vae/config.json`.
#[derive(Clone, Debug, Deserialize)]
struct VaeFile {
    block_out_channels: Vec<usize>,
    layers_per_block: usize,
    latent_channels: usize,
    scaling_factor: Option<f64>,
    use_quant_conv: Option<bool>,
    use_post_quant_conv: Option<bool>,
}

/// The network that makes pixels of latents.
pub(super) struct VaeConfig {
    pub network: AutoEncoderKLConfig,
    /// Latents are so many times smaller for the other network.
    pub scaling: f64,
}

impl VaeConfig {
    /// Pixels of a latent's side.
    pub fn factor(&self) -> usize {
        1 << (self.network.block_out_channels.len() - 1)
    }
}

/// The value that a field has to have, if it is there.
type Only = (&'static str, &'static [&'static str]);

const UNET: [Only; 20] = [
    ("act_fn", &["\"silu\""]),
    ("addition_embed_type", &[]),
    ("attention_type", &["\"default\""]),
    ("class_embed_type", &[]),
    ("conv_in_kernel", &["3"]),
    ("conv_out_kernel", &["3"]),
    ("cross_attention_norm", &[]),
    ("dual_cross_attention", &["false"]),
    ("encoder_hid_dim", &[]),
    ("mid_block_only_cross_attention", &["false"]),
    ("mid_block_type", &["\"UNetMidBlock2DCrossAttn\""]),
    ("norm_num_groups", &["32"]),
    ("num_class_embeds", &[]),
    ("only_cross_attention", &["false"]),
    ("resnet_out_scale_factor", &["1.0", "1"]),
    ("resnet_skip_time_act", &["false"]),
    ("resnet_time_scale_shift", &["\"default\""]),
    ("reverse_transformer_layers_per_block", &[]),
    ("time_cond_proj_dim", &[]),
    ("time_embedding_type", &["\"positional\""]),
];

const VAE: [Only; 8] = [
    ("act_fn", &["\"silu\""]),
    ("in_channels", &["3"]),
    ("latents_mean", &[]),
    ("latents_std", &[]),
    ("mid_block_add_attention", &["true"]),
    ("norm_num_groups", &["32"]),
    ("out_channels", &["3"]),
    ("shift_factor", &[]),
];

/// Reads a `config.json` in which each of these fields, if it is there and not null, has one of these values.
fn read<T: DeserializeOwned>(path: &Path, only: &[Only]) -> Result<T, ModelError> {
    let file: Value = files::json(path, "; it describes the network")?;
    for (name, values) in only {
        let said = file.get(name).filter(|said| !said.is_null()).map(Value::to_string);
        if let Some(said) = said.filter(|said| !values.contains(&said.as_str())) {
            return Err(unsupported(path, format!("`{name}` {said}")));
        }
    }
    serde_json::from_value(file).map_err(|error| ModelError::format(path, error))
}

fn unsupported(path: &Path, what: String) -> ModelError {
    ModelError::Unsupported { path: path.to_owned(), what, supported: "the networks of Stable Diffusion 1 and 2" }
}

/// # Errors
/// The file cannot be read, or asks for another network.
pub(super) fn unet(path: &Path) -> Result<UnetConfig, ModelError> {
    let file: UnetFile = read(path, &UNET)?;
    let blocks = file.block_out_channels.len();
    if [file.down_block_types.len(), file.up_block_types.len()] != [blocks; 2] || file.layers_per_block == 0 {
        return Err(ModelError::format(path, "its lists of blocks are not equally long, or a block has no layers"));
    }
    let crosses = |kind: &String| match kind.as_str() {
        "CrossAttnDownBlock2D" | "CrossAttnUpBlock2D" => Ok(true),
        "DownBlock2D" | "UpBlock2D" => Ok(false),
        other => Err(unsupported(path, format!("the block `{other}`"))),
    };
    let down = file.down_block_types.iter().map(crosses).collect::<Result<Vec<_>, _>>()?;
    let up = file.up_block_types.iter().rev().map(crosses).collect::<Result<Vec<_>, _>>()?;
    if down != up {
        return Err(unsupported(path, "blocks upwards that are not those downwards in reverse".to_owned()));
    }
    let heads = file.num_attention_heads.or(file.attention_head_dim).unwrap_or(Each::Same(8));
    let layers = file.transformer_layers_per_block.unwrap_or(Each::Same(1));
    let block = |(at, (&out_channels, crosses)): (usize, (&usize, bool))| BlockConfig {
        out_channels,
        use_cross_attn: crosses.then(|| layers.of(at)),
        attention_head_dim: heads.of(at),
    };
    let network = UNet2DConditionModelConfig {
        center_input_sample: file.center_input_sample,
        flip_sin_to_cos: file.flip_sin_to_cos.unwrap_or(true),
        freq_shift: file.freq_shift,
        blocks: file.block_out_channels.iter().zip(down).enumerate().map(block).collect(),
        layers_per_block: file.layers_per_block,
        downsample_padding: file.downsample_padding.unwrap_or(1),
        mid_block_scale_factor: file.mid_block_scale_factor.unwrap_or(1.0),
        norm_num_groups: GROUPS,
        norm_eps: file.norm_eps.unwrap_or(1e-5),
        cross_attention_dim: file.cross_attention_dim,
        // One head after the other would take a part of the memory, but candle's does not run.
        sliced_attention_size: None,
        use_linear_projection: file.use_linear_projection,
    };
    let whole = |block: &BlockConfig| {
        let (channels, heads) = (block.out_channels, block.attention_head_dim);
        channels > 0 && channels.is_multiple_of(GROUPS) && heads > 0 && channels.is_multiple_of(heads)
    };
    if network.blocks.is_empty() || !network.blocks.iter().all(whole) {
        let what = "channels that cannot be parted into its heads, and into groups of 32".to_owned();
        return Err(unsupported(path, what));
    }
    if file.in_channels != file.out_channels || file.in_channels == 0 || file.sample_size == 0 {
        let what = format!("{} channels in and {} out", file.in_channels, file.out_channels);
        return Err(unsupported(path, what));
    }
    Ok(UnetConfig { network, channels: file.in_channels, side: file.sample_size })
}

/// # Errors
/// The file cannot be read, or asks for another network.
pub(super) fn vae(path: &Path) -> Result<VaeConfig, ModelError> {
    let file: VaeFile = read(path, &VAE)?;
    let channels = &file.block_out_channels;
    if channels.is_empty() || channels.len() > 8 || channels.iter().any(|&width| width == 0 || width % GROUPS != 0) {
        return Err(unsupported(path, format!("blocks of {channels:?} channels")));
    }
    let network = AutoEncoderKLConfig {
        block_out_channels: file.block_out_channels,
        layers_per_block: file.layers_per_block,
        latent_channels: file.latent_channels,
        norm_num_groups: GROUPS,
        use_quant_conv: file.use_quant_conv.unwrap_or(true),
        use_post_quant_conv: file.use_post_quant_conv.unwrap_or(true),
    };
    Ok(VaeConfig { network, scaling: file.scaling_factor.unwrap_or(0.18215) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What `stable-diffusion-v1-5/unet/config.json` says.
    fn first() -> Value {
        json!({
            "_class_name": "UNet2DConditionModel", "act_fn": "silu", "attention_head_dim": 8,
            "block_out_channels": [320, 640, 1280, 1280], "center_input_sample": false, "cross_attention_dim": 768,
            "down_block_types": ["CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"],
            "downsample_padding": 1, "flip_sin_to_cos": true, "freq_shift": 0, "in_channels": 4, "layers_per_block": 2,
            "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 32, "out_channels": 4, "sample_size": 64,
            "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"],
        })
    }

    fn read_as(file: &Value) -> Result<UnetConfig, ModelError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.json");
        std::fs::write(&path, file.to_string()).unwrap();
        unet(&path)
    }

    #[test]
    fn heads_and_layers_are_those_of_each_block() {
        let read = read_as(&first()).unwrap();
        assert_eq!((read.channels, read.side, read.pairs()), (4, 64, 32));
        let blocks = read.network.blocks.iter();
        let blocks: Vec<_> = blocks.map(|block| (block.use_cross_attn, block.attention_head_dim)).collect();
        assert_eq!(blocks, [(Some(1), 8), (Some(1), 8), (Some(1), 8), (None, 8)]);
        let mut second = first();
        second["attention_head_dim"] = json!([5, 10, 20, 20]);
        second["use_linear_projection"] = json!(true);
        let network = read_as(&second).unwrap().network;
        assert!(network.use_linear_projection);
        let heads: Vec<_> = network.blocks.iter().map(|block| block.attention_head_dim).collect();
        assert_eq!(heads, [5, 10, 20, 20]);
    }

    #[test]
    fn what_other_networks_ask_for_is_refused_by_name() {
        for (name, value) in [
            ("addition_embed_type", json!("text_time")),
            ("norm_num_groups", json!(16)),
            ("attention_head_dim", json!(0)),
            ("attention_head_dim", json!(7)),
            ("attention_head_dim", json!([5, 10])),
            ("block_out_channels", json!([320, 640, 1280])),
            ("block_out_channels", json!([])),
            ("down_block_types", json!(["DownBlock2D", "DownBlock2D", "DownBlock2D", "DownBlock2D"])),
            ("down_block_types", json!(["KDownBlock2D", "DownBlock2D", "DownBlock2D", "DownBlock2D"])),
            ("in_channels", json!(9)),
            ("layers_per_block", json!(0)),
        ] {
            let mut file = first();
            file[name] = value.clone();
            assert!(read_as(&file).is_err(), "{name} {value}");
        }
    }
}
