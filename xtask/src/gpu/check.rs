//! `cargo xtask gpu-check`: on a machine with a GPU, whether what `gpu-build` made computes what the CPU does, and how quickly.
//! The machine needs no Rust: it takes the programs from a folder.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};

use super::build::PROGRAMS_DIR;
use crate::programs::{self, Interrupted, bold, say};

/// Where the encoder's version is put when none is given.
const REGISTRY: &str = "target/bench/registry";
const DEVICE: &str = "cuda:0";
/// Callers who search at the same time.
const CALLERS: &str = "1,8,64";

#[derive(Args)]
pub struct GpuCheck {
    /// Folders of versions, one of each kind. Absent: all-MiniLM-L6-v2, pulled if it is not there
    versions: Vec<PathBuf>,
    /// Where the programs of `gpu-build` are [default: where this one is, or target/cuda/bin]
    #[arg(long, value_name = "DIR")]
    bin_dir: Option<PathBuf>,
    /// What is checked [default: everything]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PART")]
    only: Vec<Part>,
    /// In which numbers parity and the encoder's speed are looked at
    #[arg(long, value_delimiter = ',', default_value = "f32,f16,bf16", value_parser = ["f32", "f16", "bf16"])]
    precision: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Embeddings against the CPU's
    Parity,
    /// The encoder's forward pass, by rows × tokens
    Encoder,
    /// Searches by several callers, which run the encoder together
    Batcher,
    /// Versions that take turns while searches go on
    Swap,
}

struct Step {
    name: String,
    command: Command,
}

pub fn run(check: &GpuCheck) -> Result<()> {
    let gpus = gpus()?;
    println!("{}", bold(&gpus));
    let bin = match &check.bin_dir {
        Some(dir) => dir.clone(),
        None => programs_dir(&env::current_exe().context("cannot tell where this program is")?),
    };
    if !bin.join("device_parity").exists() {
        bail!("the programs are not in {}; build them with `cargo xtask gpu-build`", bin.display());
    }
    let bin = std::path::absolute(bin)?;
    let interrupted = Interrupted::watch()?;
    let versions = if check.versions.is_empty() { vec![pull(&bin, &interrupted)?] } else { check.versions.clone() };
    let started = Instant::now();
    for step in steps(check, &bin, &versions) {
        println!("\n{}: {}", bold(&format!("== {}", step.name)), programs::shown(&step.command));
        programs::run(step.command, Some(&interrupted))
            .with_context(|| format!("the check \"{}\" failed", step.name))?;
    }
    println!("\n{gpus}\ngpu-check: ok ({:.0} s)", started.elapsed().as_secs_f64());
    Ok(())
}

/// The machine's GPUs, for figures need their names.
fn gpus() -> Result<String> {
    let mut ask = Command::new("nvidia-smi");
    ask.args(["--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]);
    let said = programs::output(ask).context("there is no GPU here, or no driver: the check needs one of NVIDIA's")?;
    named(&said).context("there is no GPU here: nvidia-smi lists none")
}

/// One line, by what `nvidia-smi` says.
fn named(said: &str) -> Option<String> {
    let gpus: Vec<String> = said.lines().map(str::trim).filter(|line| !line.is_empty()).map(named_one).collect();
    (!gpus.is_empty()).then(|| gpus.join("; "))
}

fn named_one(line: &str) -> String {
    match *line.split(", ").collect::<Vec<_>>() {
        [name, memory, driver] => format!("{name}, {memory}, driver {driver}"),
        _ => line.to_owned(),
    }
}

/// This program's folder if it was gathered with the others, and otherwise where they were gathered.
fn programs_dir(this: &Path) -> PathBuf {
    let here = this.parent().unwrap_or(Path::new("."));
    if here.join("device_parity").exists() { here.to_owned() } else { PROGRAMS_DIR.into() }
}

fn pull(bin: &Path, interrupted: &Interrupted) -> Result<PathBuf> {
    say("Getting the text encoder all-MiniLM-L6-v2");
    let mut pull = Command::new(bin.join("vitrine-registry"));
    pull.args(["pull", "all-MiniLM-L6-v2", "--registry", REGISTRY]);
    programs::run(pull, Some(interrupted))?;
    Ok(Path::new(REGISTRY).join("models/minilm/1"))
}

fn steps(check: &GpuCheck, bin: &Path, versions: &[PathBuf]) -> Vec<Step> {
    let command = |program: &str, words: &[&str]| {
        let mut command = Command::new(bin.join(program));
        command.args(words);
        command
    };
    let on_version = |program: &str, version: &Path, precision: &str| {
        let mut command = command(program, &["--device", DEVICE, "--precision", precision]);
        command.arg(version);
        command
    };
    let on_server = |words: &[&str]| {
        let device = format!("text_encoder.device={DEVICE}");
        command("xtask", &[&["bench"], words, &["--no-build", "--set", &device]].concat())
    };
    let (mut parity, mut encoder) = (Vec::new(), Vec::new());
    for version in versions {
        for precision in &check.precision {
            let name = |what| format!("{what} in {precision}");
            parity.push(Step { name: name("parity"), command: on_version("device_parity", version, precision) });
            let mut speed = on_version("encoder_speed", version, precision);
            speed.args(["--beyond", "--json"]);
            encoder.push(Step { name: name("encoder"), command: speed });
        }
    }
    let batcher = Step { name: "batcher".to_owned(), command: on_server(&["search", "--callers", CALLERS]) };
    // Few and quick: a GPU is had for minutes.
    let swap = on_server(&["swap", "--swaps", "10", "--every", "10s", "--steady", "30s", "--json"]);
    let swap = Step { name: "swap".to_owned(), command: swap };
    let parts =
        [(Part::Parity, parity), (Part::Encoder, encoder), (Part::Batcher, vec![batcher]), (Part::Swap, vec![swap])];
    let wanted = |part| check.only.is_empty() || check.only.contains(&part);
    parts.into_iter().filter(|(part, _)| wanted(*part)).flat_map(|(_, steps)| steps).collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        check: GpuCheck,
    }

    fn lines(words: &[&str]) -> Vec<String> {
        let check = Cli::parse_from([&["gpu-check"], words].concat()).check;
        let steps = steps(&check, Path::new("/bin"), &["minilm/1".into()]);
        steps.iter().map(|step| format!("{}: {}", step.name, programs::shown(&step.command))).collect()
    }

    #[test]
    fn everything_is_checked_on_the_gpu_and_parity_comes_first() {
        let lines = lines(&[]);
        assert_eq!(lines[0], "parity in f32: device_parity --device cuda:0 --precision f32 minilm/1");
        assert_eq!(
            lines[5],
            "encoder in bf16: encoder_speed --device cuda:0 --precision bf16 minilm/1 --beyond --json"
        );
        assert!(lines[6].starts_with("batcher: xtask bench search"), "{}", lines[6]);
        assert!(lines[7].starts_with("swap: xtask bench swap"), "{}", lines[7]);
        assert_eq!(lines.len(), 8);
        assert!(lines.iter().all(|line| line.contains("cuda:0")), "{lines:?}");
    }

    #[test]
    fn parts_and_precisions_can_be_left_out() {
        let lines = lines(&["--only", "swap,parity", "--precision", "bf16"]);
        assert_eq!(lines.len(), 2);
        assert!(lines[0].starts_with("parity in bf16") && lines[1].starts_with("swap"), "{lines:?}");
        assert!(Cli::try_parse_from(["gpu-check", "--precision", "int8"]).is_err());
    }

    #[test]
    fn the_gpus_are_named_with_their_driver() {
        let said = "NVIDIA A100, 40960 MiB, 580.95\nNVIDIA A100, 40960 MiB, 580.95\n";
        let one = "NVIDIA A100, 40960 MiB, driver 580.95";
        assert_eq!(named(said), Some(format!("{one}; {one}")));
        assert_eq!(named("\n"), None);
    }

    #[test]
    fn programs_are_taken_from_beside_this_one_where_they_were_carried_together() {
        let dir = tempfile::tempdir().unwrap();
        let this = dir.path().join("xtask");
        assert_eq!(programs_dir(&this), Path::new(PROGRAMS_DIR));
        fs::write(dir.path().join("device_parity"), "").unwrap();
        assert_eq!(programs_dir(&this), dir.path());
    }
}
