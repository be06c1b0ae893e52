//! Stage by stage, what diffusers computes. `tests/tiny_diffusion.py` made the pipelines, of random weights, and recorded what comes out.

use std::process::Command;

use candle_core::DType;

use super::*;

/// One that is as Stable Diffusion 1 is, and one as 2.
fn recorded() -> [PathBuf; 2] {
    ["tiny-diffusion", "tiny-diffusion-2"]
        .map(|name| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name))
}

fn loaded(dir: &Path) -> Diffusion {
    Diffusion::load(dir, &DeviceSpec::Cpu).unwrap()
}

/// The largest difference, in parts of the largest number, is no more than `most`.
fn assert_equal(stage: &str, ours: &Tensor, theirs: &Tensor, most: f32) {
    assert_eq!(ours.dims(), theirs.dims(), "{stage}");
    let largest = |numbers: &Tensor| numbers.abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    let difference = largest(&(ours - theirs).unwrap()) / largest(theirs).max(1.0);
    eprintln!("{stage}: {difference:e}");
    assert!(difference <= most, "{stage}: {difference:e}");
}

/// Holds every stage against what is recorded in `dir`.
fn equals_diffusers(dir: &Path) {
    let mut network = loaded(dir);
    let golden = candle_core::safetensors::load(dir.join("golden.safetensors"), &Device::Cpu).unwrap();
    let ids = |name: &str| golden[name].to_dtype(DType::U32).unwrap().to_vec1::<u32>().unwrap();
    let (prompt, negative) = (ids("prompt_ids"), ids("negative_ids"));
    let text = "A Blue dress, it's 100% linen; caf\u{e9} \u{4e2d}";
    assert_eq!(network.start.tokens(text).unwrap(), PromptTokens { ids: prompt.clone(), left_out: 0 });
    assert_eq!(network.start.tokens("blurred photo").unwrap().ids, negative);

    let meanings = [network.meaning(&negative).unwrap(), network.meaning(&prompt).unwrap()];
    assert_equal("text encoder", &Tensor::cat(&meanings, 0).unwrap(), &golden["text_hidden"], 1e-5);

    let run = golden["steps_guidance"].to_vec1::<f32>().unwrap();
    let timesteps = golden["timesteps"].to_vec1::<i64>().unwrap();
    let ours = network.ddim.timesteps(run[0] as usize);
    assert!(ours.iter().map(|&step| step as i64).eq(timesteps.iter().copied()), "{ours:?} for {timesteps:?}");

    let (_, _, height, width) = golden["latents"].dims4().unwrap();
    let mut picture = Denoising {
        prompt,
        negative,
        steps: run[0] as u32,
        done: 0,
        guidance: run[1],
        size: [height, width],
        latents: golden["latents"].flatten_all().unwrap().to_vec1().unwrap(),
    };
    let latents = network.latents(&picture).unwrap();
    let foretold = network.foretell(&picture, ours[0], &latents).unwrap();
    // Candle approximates GELU in here.
    assert_equal("one prediction with guidance", &foretold, &golden["guided"], 1e-3);

    while picture.done < picture.steps {
        picture.latents = network.step(&picture).unwrap();
        picture.done += 1;
    }
    assert_equal("all steps", &network.latents(&picture).unwrap(), &golden["denoised"], 1e-3);

    let pixels = |network: &Diffusion, picture: &Denoising| {
        Tensor::from_vec(network.finish(picture).unwrap(), golden["picture"].shape(), &Device::Cpu).unwrap()
    };
    let theirs = golden["denoised"].flatten_all().unwrap().to_vec1().unwrap();
    let given = Denoising { latents: theirs, ..picture.clone() };
    assert_equal("decoding", &pixels(&network, &given), &golden["picture"], 1e-5);
    assert_equal("from noise to pixels", &pixels(&network, &picture), &golden["picture"], 1e-3);

    let check = network.check_golden(dir, 1e-3).unwrap();
    assert!(matches!(check, GoldenCheck::Matched { rows: 1, .. }), "{check:?}");
}

#[test]
fn every_stage_equals_that_of_diffusers() {
    for dir in recorded() {
        equals_diffusers(&dir);
    }
}

/// Where diffusers is at hand: `VITRINE_TEST_DIFFUSERS` names a Python that has it.
#[test]
fn every_stage_equals_that_of_diffusers_for_weights_never_seen_before() {
    let Some(python) = std::env::var_os("VITRINE_TEST_DIFFUSERS") else {
        eprintln!("VITRINE_TEST_DIFFUSERS names no Python with diffusers: only what is recorded is compared");
        return;
    };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tiny_diffusion.py");
    for like in ["--like-1", "--like-2"] {
        let dir = tempfile::tempdir().unwrap();
        let made = Command::new(&python).arg(&script).arg(dir.path()).arg("8").arg(like).output().unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        equals_diffusers(dir.path());
    }
}

fn wish(network: &Diffusion) -> DiffusionWish {
    let tokens = |text| network.start.tokens(text).unwrap().ids;
    let (prompt, negative) = (tokens("a blue dress"), tokens(""));
    DiffusionWish { prompt, negative, seed: 7, steps: 2, guidance: 7.5, size: [16, 32] }
}

#[test]
fn the_same_seed_makes_the_same_picture_and_everything_asked_for_counts() {
    let mut network = loaded(&recorded()[0]);
    let mut made = |wish: &DiffusionWish| network.make(network.start().begin(wish)).unwrap();
    let asked = wish(&loaded(&recorded()[0]));
    let first = made(&asked);
    assert_eq!(first.len(), 16 * 32 * 3);
    assert!(first.iter().all(|pixel| (0.0..=1.0).contains(pixel)));
    assert_eq!(made(&asked), first);
    for other in [
        DiffusionWish { seed: 8, ..asked.clone() },
        DiffusionWish { steps: 3, ..asked.clone() },
        DiffusionWish { guidance: 2.0, ..asked.clone() },
        DiffusionWish { guidance: 0.0, ..asked.clone() },
        DiffusionWish { prompt: asked.negative.clone(), ..asked.clone() },
        DiffusionWish { negative: asked.prompt.clone(), ..asked.clone() },
    ] {
        assert_ne!(made(&other), first, "{other:?}");
    }
    let unguided = DiffusionWish { guidance: 1.0, ..asked.clone() };
    let other = DiffusionWish { negative: asked.prompt.clone(), ..unguided.clone() };
    assert_eq!(made(&unguided), made(&other), "without guidance there is nothing that is not to be seen");
}

#[test]
fn long_prompts_lose_their_end_and_say_how_much() {
    let start = loaded(&recorded()[0]).start();
    assert_eq!((start.most_tokens(), start.row_tokens(), start.side(), start.unit()), (75, 77, 16, 8));
    let long = start.tokens(&"1 ".repeat(80)).unwrap();
    assert_eq!((long.ids.len(), long.left_out), (77, 5));
    assert!(start.takes(64) && !start.takes(0) && !start.takes(65));
    assert!(start.memory([1024, 1024]) > 15 * start.memory([512, 512]));
}

#[test]
fn steps_that_cannot_be_taken_are_an_error() {
    let mut network = loaded(&recorded()[0]);
    let begun = network.start.begin(&wish(&network));
    for bad in [
        Denoising { done: 2, ..begun.clone() },
        Denoising { steps: 0, ..begun.clone() },
        Denoising { steps: 2_000, ..begun.clone() },
        Denoising { latents: vec![0.0], ..begun.clone() },
        Denoising { prompt: vec![9_999; 77], ..begun.clone() },
        Denoising { prompt: vec![0; 78], ..begun.clone() },
        Denoising { latents: vec![f32::NAN; begun.latents.len()], ..begun.clone() },
    ] {
        assert!(network.step(&bad).is_err());
    }
}

#[test]
fn a_folder_that_lacks_or_contradicts_something_names_the_file() {
    let copied = || {
        let dir = tempfile::tempdir().unwrap();
        let copy = Command::new("cp").arg("-r").arg(recorded()[0].join(".")).arg(dir.path()).status();
        assert!(copy.unwrap().success());
        dir
    };
    for file in [
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/merges.txt",
        "tokenizer/vocab.json",
        "unet/diffusion_pytorch_model.safetensors",
        "vae/config.json",
    ] {
        let dir = copied();
        std::fs::remove_file(dir.path().join(file)).unwrap();
        let error = Diffusion::load(dir.path(), &DeviceSpec::Cpu).err().unwrap().to_string();
        assert!(error.contains(file), "{error}");
    }
    for (file, from, to) in [
        ("text_encoder/config.json", "\"hidden_size\": 16", "\"hidden_size\": 17"),
        ("text_encoder/config.json", "\"vocab_size\": ", "\"vocab_size\": 1"),
        ("unet/config.json", "\"cross_attention_dim\": 16", "\"cross_attention_dim\": 32"),
        ("vae/config.json", "\"latent_channels\": 4", "\"latent_channels\": 8"),
    ] {
        let dir = copied();
        let text = std::fs::read_to_string(dir.path().join(file)).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(dir.path().join(file), text.replace(from, to)).unwrap();
        let error = Diffusion::load(dir.path(), &DeviceSpec::Cpu).err().unwrap().to_string();
        assert!(error.contains(file.split('/').next().unwrap()), "{error}");
    }
    let dir = copied();
    let unet = dir.path().join("unet/diffusion_pytorch_model.safetensors");
    std::fs::rename(&unet, unet.with_extension("fp16.safetensors")).unwrap();
    Diffusion::load(dir.path(), &DeviceSpec::Cpu).unwrap();
}
