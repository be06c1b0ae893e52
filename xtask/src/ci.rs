//! `cargo ci`: every check, one after the other; stops at the first that fails and names it.

use std::{
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;

use crate::{gpu::stand_in, programs};

/// How much is checked.
#[derive(Args)]
pub struct Ci {
    /// Also let versions come and go at random under load, for five minutes or `VITRINE_SOAK_SECONDS`
    #[arg(long)]
    soak: bool,
}

/// Where the demonstration of the checks keeps its data.
const DEMO_DIR: &str = "target/ci-demo";
/// Where the stand-in for CUDA's compiler is.
const STAND_IN_DIR: &str = "target/ci-cuda";
/// A port of its own, so that a running demonstration is not in the way.
const DEMO_LISTEN: &str = "127.0.0.1:7799";

struct Step {
    name: &'static str,
    command: Command,
}

pub fn run(ci: &Ci) -> Result<()> {
    let started = Instant::now();
    let mut durations = Vec::new();
    let nvcc = stand_in::write(Path::new(STAND_IN_DIR))?;
    for step in steps(ci, &nvcc)? {
        println!("\n{}: {}", programs::bold(&format!("== {}", step.name)), programs::shown(&step.command));
        let step_started = Instant::now();
        programs::run(step.command, None).with_context(|| format!("the check \"{}\" failed", step.name))?;
        durations.push((step.name, step_started.elapsed()));
        println!("== {}: {}", step.name, seconds(step_started.elapsed()));
    }
    println!();
    for (name, duration) in durations {
        println!("{name:<12} {:>8}", seconds(duration));
    }
    println!("ci: ok ({})", seconds(started.elapsed()));
    Ok(())
}

/// The build comes with the tests' features, so that building, testing and the demonstration share their work.
fn steps(ci: &Ci, nvcc: &Path) -> Result<Vec<Step>> {
    let step = |name, words: &[&str]| {
        let mut command = programs::cargo();
        command.args(words);
        Step { name, command }
    };
    let mut docs = step("docs", &["doc", "--workspace", "--no-deps"]);
    docs.command.env("RUSTDOCFLAGS", "-D warnings");
    let tests: &[&str] = if has_nextest() {
        &["nextest", "run", "--workspace"]
    } else {
        &["test", "--workspace", "--lib", "--bins", "--tests"]
    };
    let mut demo = Command::new(std::env::current_exe().context("cannot tell where this program is")?);
    demo.args(["demo", "--check", "--small", "--no-build", "--data-dir", DEMO_DIR, "--listen", DEMO_LISTEN]);
    let mut cuda = step("cuda", &["clippy", "-p", "vitrine-models", "--features", "cuda", "--", "-D", "warnings"]);
    stand_in::settle(&mut cuda.command, nvcc);
    let soak = &["test", "--workspace", "--test", "versions_come_and_go", "--", "--ignored", "--nocapture"];
    let soak = ci.soak.then(|| step("soak", soak));
    let checks = [
        step("format", &["fmt", "--all", "--check"]),
        step("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]),
        step("build", &["build", "--workspace", "--all-targets"]),
        step("tests", tests),
        step("doc tests", &["test", "--doc", "--workspace"]),
        docs,
        cuda,
    ];
    Ok(checks.into_iter().chain(soak).chain([Step { name: "demo", command: demo }]).collect())
}

fn has_nextest() -> bool {
    let mut command = programs::cargo();
    command.args(["nextest", "--version"]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn seconds(duration: Duration) -> String {
    let whole = duration.as_secs();
    if whole < 60 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {:02} s", whole / 60, whole % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demonstration_comes_last_and_keeps_to_the_build_folder() {
        let steps = steps(&Ci { soak: true }, Path::new("/nvcc")).unwrap();
        assert_eq!(steps.last().map(|step| step.name), Some("demo"));
        assert!(Path::new(DEMO_DIR).starts_with("target"));
    }

    #[test]
    fn the_code_for_cuda_is_checked_with_the_stand_in() {
        let steps = steps(&Ci { soak: false }, Path::new("/nvcc")).unwrap();
        let step = steps.iter().find(|step| step.name == "cuda").unwrap();
        let nvcc = step.command.get_envs().find(|(name, _)| *name == "NVCC").and_then(|(_, path)| path);
        assert_eq!(nvcc, Some("/nvcc".as_ref()));
        assert!(programs::shown(&step.command).contains("-p vitrine-models --features cuda"));
    }

    #[test]
    fn durations_are_readable() {
        assert_eq!(seconds(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 05 s");
    }
}
