//! From folders of pictures to versions in a registry, by the command: a network that sees, and one that makes.

#![cfg(test)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use image::{Rgb, RgbImage};
use serde_json::{Value, json};
use tempfile::TempDir;
use vitrine_registry::{ModelName, Registry, Version};

struct Shop {
    dir: TempDir,
}

impl Shop {
    /// Pictures that are red above or blue below, as bright as chance has it.
    fn new() -> Self {
        let shop = Self { dir: tempfile::tempdir().unwrap() };
        for (part, count) in [("train", 40_u32), ("validation", 10)] {
            for (class, channel) in [("hat", 0), ("shoe", 2)] {
                let folder = shop.path(&format!("photos/{part}/{class}"));
                fs::create_dir_all(&folder).unwrap();
                for at in 0..count {
                    let mut colour = [at, at * 3, at * 7].map(|number| (number % 40) as u8);
                    colour[channel] = (150 + at * 11 % 100) as u8;
                    let picture = RgbImage::from_fn(8, 8, |_, y| {
                        let is_lit = (y < 4) == (class == "hat");
                        Rgb(if is_lit { colour } else { [(at % 9) as u8; 3] })
                    });
                    picture.save(folder.join(format!("{at}.png"))).unwrap();
                }
            }
        }
        let size = "side = 8\nchannels = 3\n";
        shop.write(
            "cnn.toml",
            &format!("{size}widths = [8]\n[learning]\nbatch = 16\nepochs = 5\nlearning_rate = 0.01\n"),
        );
        let gan = "noise = 8\naverage = 0.8\njudged = 32\nclassified = 64\nclassifier_epochs = 2\n";
        let layers = "[layers]\nkind = \"dense\"\nwidths = [32]\n";
        let learning = "[learning]\nbatch = 8\nepochs = 80\npatience = 80\nlearning_rate = 0.002\n";
        shop.write("gan.toml", &format!("{size}{gan}{layers}{learning}"));
        shop
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn run(&self, arguments: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_vitrine-trainer"));
        command.args(arguments.split(' ')).current_dir(self.dir.path()).output().unwrap()
    }

    /// The last line that a command prints.
    #[track_caller]
    fn fine(&self, arguments: &str) -> Value {
        let output = self.run(arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        serde_json::from_str(text.lines().last().unwrap()).unwrap()
    }

    #[track_caller]
    fn refused(&self, arguments: &str, wanted: &str) {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(wanted), "{wanted}: {error}");
    }

    #[track_caller]
    fn published(&self, folder: &str, model: &str) -> (String, String) {
        self.fine(&format!("publish {folder} --registry registry --model {model} --json"));
        let registry = Registry::open(self.path("registry")).unwrap();
        let name: ModelName = model.parse().unwrap();
        let version = registry.version(&name, Version::FIRST).unwrap();
        assert!(version.verify().unwrap().is_empty());
        (version.manifest.kind, version.manifest.task)
    }
}

#[test]
fn what_sees_and_what_makes_pictures_become_versions() {
    let shop = Shop::new();
    let seen = shop.fine("train cnn --pictures photos --config cnn.toml --out seen --json");
    let accuracy = seen["report"]["test"]["accuracy"]["value"].as_f64().unwrap();
    assert!(accuracy > 0.9, "{seen}");
    let measured = shop.fine("evaluate pictures seen --pictures photos --json");
    assert_eq!(measured, json!({ "test": seen["report"]["test"], "pixels": seen["pixels"] }), "measured by itself");
    assert_eq!(shop.published("seen", "pictures"), ("cnn".to_owned(), "image-embedding".to_owned()));

    let made = shop.fine("train cgan --pictures photos --judge seen --config gan.toml --out made --json");
    assert!(made["made"]["consistency"].as_f64().unwrap() > 0.8, "{made}");
    assert!(made["classifier_accuracy"].as_f64().unwrap() >= 0.5, "{made}");
    assert!(shop.path("made/sheet.png").exists());
    let measured = shop.fine("evaluate generator made --pictures photos --judge seen --json");
    assert_eq!(measured["made"], made["made"], "measured by itself");
    assert_eq!(shop.published("made", "new-pictures"), ("cgan".to_owned(), "image-generation".to_owned()));
}

#[test]
fn what_cannot_be_learnt_from_is_said_and_leaves_nothing() {
    let shop = Shop::new();
    let train = "train cnn --pictures photos --config cnn.toml --out seen";
    shop.write("photos/train/hat/broken.jpg", "no picture");
    shop.refused(train, "broken.jpg");
    fs::remove_file(shop.path("photos/train/hat/broken.jpg")).unwrap();
    fs::rename(shop.path("photos/validation/shoe"), shop.path("photos/validation/boot")).unwrap();
    shop.refused(train, "boot");
    shop.refused(&train.replace("photos", "nowhere"), "nowhere");
    shop.refused("train efficientnet-lite --pictures photos --config cnn.toml --out seen --weights none", "boot");
    shop.refused("train cgan --pictures photos --judge nowhere --out made", "config.json");
    fs::rename(shop.path("photos/validation/boot"), shop.path("photos/validation/shoe")).unwrap();
    shop.refused(&format!("{train} --device cuda:9"), "cuda:9");
    shop.refused("evaluate pictures nowhere --pictures photos", "config.json");
    assert!(!shop.path("seen").exists() && !shop.path("made").exists());
}
