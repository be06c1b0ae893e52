//! Running other programs: cargo, pip, and our own commands. A program that fails is named with its command line; one that is
//! running when a signal arrives is ended.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use signal_hook::consts::{SIGINT, SIGTERM};

/// A model that is kept with the sources.
#[derive(Clone, Copy)]
pub struct Starter {
    pub model: &'static str,
    task: &'static str,
    kind: &'static str,
    /// What it has beside what every version has.
    files: &'static [&'static str],
}

/// Makes pictures of clothes.
pub const GENERATOR: Starter = Starter { model: "fashion-cgan", task: "image-generation", kind: "cgan", files: &[] };

/// Embeds pictures of clothes.
pub const IMAGE_ENCODER: Starter = Starter { model: "fashion-cnn", task: "image-embedding", kind: "cnn", files: &[] };

/// Says what a grocer's customers buy next.
pub const SEQUENCER: Starter =
    Starter { model: "grocery-sasrec", task: "sequence-recommendation", kind: "sasrec", files: &["items.json"] };

/// How often a running program is looked at.
const POLL: Duration = Duration::from_millis(20);

/// Whether a signal asked us to end. Clones see the same.
#[derive(Debug, Clone)]
pub struct Interrupted(Arc<AtomicBool>);

impl Interrupted {
    /// From now on SIGINT and SIGTERM are noted instead of ending us.
    pub fn watch() -> Result<Self> {
        let flag = Arc::new(AtomicBool::new(false));
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&flag)).context("cannot listen for signals")?;
        }
        Ok(Self(flag))
    }

    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The program of the workspace that was built beside this one.
pub fn ours(name: &str) -> Result<PathBuf> {
    beside(name, "--bins")
}

/// The example of the workspace that was built beside this program.
#[cfg(feature = "bench")]
pub fn example(name: &str) -> Result<PathBuf> {
    beside(&format!("examples/{name}"), &format!("--example {name}"))
}

fn beside(name: &str, what: &str) -> Result<PathBuf> {
    let here = std::env::current_exe().context("cannot tell where this program is")?;
    let path = here.with_file_name(name).with_extension(std::env::consts::EXE_EXTENSION);
    if !path.exists() {
        let build = [&["cargo build --workspace"], PROFILE, &[what]].concat().join(" ");
        bail!("{} is not built; run `{build}`", path.display());
    }
    Ok(path)
}

/// Puts a model that is kept with the sources into a registry, unless it is there.
pub fn pull_starter(starter: Starter, registry: &Path) -> Result<Command> {
    let Starter { model, task, kind, files } = starter;
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../model-registry/starter/models");
    let mut pull = Command::new(ours("vitrine-registry")?);
    pull.args(["pull", model, "--task", task, "--kind", kind, "--label", "stable", "--from"]);
    pull.arg(format!("file:{}", models.join(model).join("1").display())).arg("--registry").arg(registry);
    for file in ["config.json", "model.safetensors", "golden.safetensors", "training.json"].iter().chain(files) {
        pull.args(["--file", file]);
    }
    Ok(pull)
}

/// Puts the text encoder all-MiniLM-L6-v2 into a registry, unless it is there.
pub fn pull_encoder(registry: &Path) -> Result<Command> {
    let mut pull = Command::new(ours("vitrine-registry")?);
    pull.args(["pull", "all-MiniLM-L6-v2", "--registry"]).arg(registry);
    Ok(pull)
}

/// How this program was built, and so those beside it are.
const PROFILE: &[&str] = if cfg!(debug_assertions) { &[] } else { &["--release"] };

/// The cargo that runs us, as a shell would call it. What it tells us of our own package is not for its children: the build scripts that
/// read the same of theirs (`ring`'s) would run again, and all that depends on them would be built again.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    for (name, _) in std::env::vars_os() {
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|ours| name.to_string_lossy().starts_with(ours)) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Builds every program of the workspace, beside this one.
pub fn build() -> Result<()> {
    say("Building the programs");
    run(building(&["--bins"]), None)
}

/// Builds one program or example.
#[cfg(feature = "bench")]
pub fn build_one(what: &str, name: &str) -> Result<()> {
    run(building(&["--quiet", what, name]), None)
}

/// With the features of the whole workspace, as everything else is built.
fn building(what: &[&str]) -> Command {
    let mut build = cargo();
    build.args(["build", "--workspace"]).args(PROFILE).args(what);
    build
}

/// The command line as a person would type it.
pub fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let program = program.rsplit(['/', '\\']).next().unwrap_or(&program).to_owned();
    let words = command.get_args().map(|word| quoted(&word.to_string_lossy()));
    std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
}

/// A word of a command line, in quotes if the shell would take it for something else.
pub fn quoted(word: &str) -> String {
    let plain = !word.is_empty() && word.chars().all(|c| c.is_alphanumeric() || "-_./:=@,".contains(c));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

/// Prints what is done next.
pub fn say(text: &str) {
    println!("{}", bold(text));
}

/// Text that stands out on a terminal.
pub fn bold(text: &str) -> String {
    if io::stdout().is_terminal() { format!("\x1b[1m{text}\x1b[0m") } else { text.to_owned() }
}

/// Runs a program to its end on our own terminal.
pub fn run(mut command: Command, interrupted: Option<&Interrupted>) -> Result<()> {
    let line = shown(&command);
    let child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
    let status = wait(child, interrupted).with_context(|| format!("`{line}`"))?;
    if !status.success() {
        bail!("`{line}` failed with {status}");
    }
    Ok(())
}

/// Runs a program to its end and returns what it printed on standard output.
pub fn output(mut command: Command) -> Result<String> {
    let line = shown(&command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start `{line}`"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`{line}` failed with {}:\n{text}{said}", output.status);
    }
    Ok(text)
}

fn wait(mut child: Child, interrupted: Option<&Interrupted>) -> Result<ExitStatus> {
    let Some(interrupted) = interrupted else { return Ok(child.wait()?) };
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if interrupted.is_set() {
            end(&mut child, Duration::from_secs(5))?;
            bail!("interrupted");
        }
        thread::sleep(POLL);
    }
}

/// Asks a program to end, and ends it if it takes longer than `patience`.
pub fn end(child: &mut Child, patience: Duration) -> Result<ExitStatus> {
    // The standard library can only kill; the shell's own `kill` is everywhere.
    let asked = Command::new("sh").args(["-c", "kill -TERM \"$0\""]).arg(child.id().to_string()).status();
    let deadline = Instant::now() + patience;
    while asked.as_ref().is_ok_and(ExitStatus::success) && Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        thread::sleep(POLL);
    }
    child.kill().context("cannot end the program")?;
    Ok(child.wait()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_line_is_shown_as_it_is_typed() {
        let mut command = Command::new("/somewhere/vitrine");
        command.args(["search", "whole milk", "--filter", "price < 5", "it's", ""]);
        assert_eq!(shown(&command), r"vitrine search 'whole milk' --filter 'price < 5' 'it'\''s' ''");
    }

    #[test]
    fn a_program_that_fails_is_named() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo why >&2; exit 3"]);
        let error = format!("{:#}", output(command).unwrap_err());
        assert!(error.contains("sh -c") && error.contains("why"), "{error}");
    }

    #[test]
    fn a_program_ends_when_asked() {
        let mut child = Command::new("sleep").arg("600").spawn().unwrap();
        assert!(!end(&mut child, Duration::from_secs(30)).unwrap().success());
    }
}
