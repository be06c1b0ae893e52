//! `cargo xtask gpu-build`: programs that run on NVIDIA's GPUs, made on a machine with neither GPU nor driver nor CUDA.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use clap::Args;

use super::{CUDARC_CUDA_VERSION, toolkit::Toolkit};
use crate::programs::{self, Interrupted, say};

/// The one that the compiler comes for.
const TARGET: &str = "x86_64-unknown-linux-gnu";
/// A folder of its own, so that the settings below leave all other builds alone.
const TARGET_DIR: &str = "target/cuda";
/// Where the programs are gathered.
pub const PROGRAMS_DIR: &str = "target/cuda/bin";
/// What is built, and what `gpu-check` runs.
const PROGRAMS: [&str; 5] = ["vitrine-server", "vitrine", "vitrine-registry", "vitrine-trainer", "xtask"];
const EXAMPLES: [&str; 2] = ["encoder_speed", "device_parity"];
/// Variables that would lead to another CUDA, or put aside the flags for the target.
const IN_THE_WAY: [&str; 6] =
    ["CUDA_PATH", "CUDA_ROOT", "CUDA_TOOLKIT_ROOT_DIR", "CUDNN_LIB", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"];

#[derive(Args)]
pub struct GpuBuild {
    /// Which GPUs: 80 is A100, 86 A10 and RTX 30, 89 L4 and RTX 40, 90 H100 and H200 and no others
    #[arg(long, default_value = "90", value_parser = ["80", "86", "89", "90"])]
    arch: String,
}

pub fn run(build: &GpuBuild) -> Result<()> {
    if (env::consts::ARCH, env::consts::OS) != ("x86_64", "linux") {
        bail!("CUDA's compiler comes for x86_64 Linux; this is {} {}", env::consts::ARCH, env::consts::OS);
    }
    let interrupted = Interrupted::watch()?;
    let toolkit = Toolkit::get(&interrupted)?;
    say(&format!("Building the programs for compute capability {}", build.arch));
    programs::run(cargo(&toolkit, &build.arch), Some(&interrupted))?;

    let built = Path::new(TARGET_DIR).join(TARGET).join("release");
    let bin = Path::new(PROGRAMS_DIR);
    fs::create_dir_all(bin).with_context(|| format!("cannot make {PROGRAMS_DIR}"))?;
    let examples = EXAMPLES.map(|name| built.join("examples").join(name));
    for program in PROGRAMS.map(|name| built.join(name)).into_iter().chain(examples) {
        gather(&program, bin)?;
    }
    println!("The programs are in {PROGRAMS_DIR}. On a machine with a GPU: {PROGRAMS_DIR}/xtask gpu-check");
    Ok(())
}

fn cargo(toolkit: &Toolkit, arch: &str) -> Command {
    let mut build = programs::cargo();
    build.args(["build", "--release", "--target", TARGET, "--target-dir", TARGET_DIR]);
    build.args(["--features", "vitrine-server/cuda,vitrine-trainer/cuda,vitrine-models/cuda"]);
    for package in
        ["vitrine-server", "vitrine-trainer", "vitrine-models", "vitrine-client", "vitrine-registry", "xtask"]
    {
        build.args(["--package", package]);
    }
    for program in PROGRAMS {
        build.args(["--bin", program]);
    }
    for example in EXAMPLES {
        build.args(["--example", example]);
    }
    for name in IN_THE_WAY {
        build.env_remove(name);
    }
    build.envs(settings(toolkit, arch));
    build
}

/// What the build scripts of candle and cudarc are told.
fn settings(toolkit: &Toolkit, arch: &str) -> [(&'static str, OsString); 6] {
    let (version, number) = CUDARC_CUDA_VERSION;
    [
        // Where the linker looks for libraries.
        ("CUDA_HOME", toolkit.home.clone().into()),
        ("NVCC", toolkit.nvcc().into()),
        // Which bindings cudarc takes; otherwise it asks an nvcc on the path.
        (version, number.into()),
        // The GPU that kernels are compiled for; otherwise the one of this machine is asked.
        ("CUDA_COMPUTE_CAP", arch.into()),
        // candle has CUDA's libraries linked (cudarc's feature `dynamic-linking`): without them a program would not even start.
        // With this cudarc opens them when they are first used, so that one program runs with a GPU and without. The
        // feature itself cannot be set beside candle's: cudarc's build script refuses both. As a flag of the target, which is
        // why `--target` is named, it does not reach build scripts.
        ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS", r#"--cfg feature="dynamic-loading""#.into()),
        // To be carried to another machine.
        ("CARGO_PROFILE_RELEASE_STRIP", "symbols".into()),
    ]
}

/// Copies a program to the others, unless it would not start without CUDA.
fn gather(program: &Path, bin: &Path) -> Result<()> {
    let mut readelf = Command::new("readelf");
    readelf.arg("--dynamic").arg(program);
    if let Some(library) = needed_of_cuda(&programs::output(readelf)?) {
        bail!("{} would not start where there is no {library}", program.display());
    }
    let to: PathBuf = bin.join(program.file_name().unwrap_or_default());
    let bytes = fs::copy(program, &to).with_context(|| format!("cannot copy {}", program.display()))?;
    println!("{:>7.1} MB  {}", bytes as f64 / 1e6, to.display());
    Ok(())
}

/// The first of CUDA's libraries that a program needs to start, by what `readelf` says of it.
fn needed_of_cuda(dynamic: &str) -> Option<&str> {
    let needed = dynamic.lines().filter(|line| line.contains("(NEEDED)"));
    let mut names = needed.filter_map(|line| line.split_once('[')?.1.split(']').next());
    names.find(|name| name.starts_with("libcu") || name.starts_with("libnv"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command() -> Command {
        cargo(&Toolkit { home: PathBuf::from("/cuda") }, "89")
    }

    #[test]
    fn the_build_keeps_to_its_folder_and_makes_all_that_is_gathered() {
        let line = programs::shown(&command());
        assert!(line.contains("--target x86_64-unknown-linux-gnu --target-dir target/cuda"), "{line}");
        assert!(PROGRAMS.iter().all(|name| line.contains(&format!("--bin {name}"))), "{line}");
        assert!(EXAMPLES.iter().all(|name| line.contains(&format!("--example {name}"))), "{line}");
        assert!(Path::new(PROGRAMS_DIR).starts_with(TARGET_DIR));
    }

    #[test]
    fn the_build_scripts_are_told_of_this_cuda_and_of_no_other() {
        let command = command();
        let set = |name: &str| {
            let found = command.get_envs().find(|(key, _)| *key == name);
            found.map(|(_, value)| value.map(|value| value.to_string_lossy().into_owned()))
        };
        let is = |value: &str| Some(Some(value.to_owned()));
        assert_eq!(set("CUDA_HOME"), is("/cuda"));
        assert_eq!(set("NVCC"), is("/cuda/bin/nvcc"));
        assert_eq!(set("CUDA_COMPUTE_CAP"), is("89"));
        assert_eq!(set("CUDARC_CUDA_VERSION"), is("13000"));
        assert_eq!(set("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUSTFLAGS"), is(r#"--cfg feature="dynamic-loading""#));
        assert_eq!([set("CUDA_PATH"), set("RUSTFLAGS")], [Some(None), Some(None)], "taken away");
    }

    #[test]
    fn a_program_that_needs_cuda_to_start_is_told() {
        let line = |name| format!(" 0x0000000000000001 (NEEDED)             Shared library: [{name}]\n");
        let fine = line("libstdc++.so.6") + &line("libc.so.6") + " 0x1d (RUNPATH)  Library runpath: [/cuda/libcu]\n";
        assert_eq!(needed_of_cuda(&fine), None);
        assert_eq!(needed_of_cuda(&(fine + &line("libcublas.so.13"))), Some("libcublas.so.13"));
    }
}
