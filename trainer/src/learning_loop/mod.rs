//! `vitrine-trainer loop`: learns from what happens in a shop, tries what it learnt on a few people, and lets it answer if it proves itself.
//!
//! - [`config`]: `loop.toml`. [`state`]: where the loop is, on disk.
//! - [`decide`]: what to do next, a pure function; [`verdict`]: what an experiment says.
//! - [`learn`]: from events to a published version. [`act`]: everything else that is done.
//! - [`gauges`] writes metrics.

mod act;
mod config;
mod decide;
#[cfg(test)]
mod decide_tests;
mod gauges;
mod learn;
mod state;
mod verdict;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use clap::Args;

use self::act::World;
use self::config::LoopConfig;
use self::decide::{Next, next};
use self::state::{Phase, State};

/// What keeps two loops apart.
const LOCK: &str = "loop.lock";

/// Learn, try and promote versions of a sequence model, again and again, from what happens in a shop that a server runs.
///
/// It may be killed at any time, and goes on where it was.
#[derive(Debug, Args)]
pub struct Loop {
    /// Where everything is, what is learnt, and how a candidate has to prove itself, as TOML
    #[arg(long, value_name = "FILE.toml")]
    config: PathBuf,
    /// Do what can be done now, and end: for cron
    #[arg(long)]
    once: bool,
    /// Write metrics there after each step, as a node exporter collects them from text files
    #[arg(long, value_name = "FILE.prom")]
    metrics: Option<PathBuf>,
}

impl Loop {
    /// Runs it.
    ///
    /// # Errors
    /// The configuration is not as it should be, another loop works in the same folder, or, with `once`, something could not be done.
    pub async fn run(self) -> Result<()> {
        let config = Arc::new(LoopConfig::read(&self.config)?);
        fs::create_dir_all(&config.folder).with_context(|| format!("cannot make {}", config.folder.display()))?;
        let _lock = lock(&config.folder)?;
        loop {
            let done = self.work(&config).await;
            if self.once {
                return done;
            }
            if let Err(error) = done {
                tracing::error!(error = format!("{error:#}"), "tried again later");
            }
            tokio::time::sleep(Duration::try_from(config.poll).unwrap_or_default()).await;
        }
    }

    /// Goes on until there is nothing to do before something happens.
    async fn work(&self, config: &Arc<LoopConfig>) -> Result<()> {
        let world = World::reach(Arc::clone(config)).await?;
        let mut state = State::load(&config.folder)?;
        // Nothing is done that cannot be remembered.
        state.save(&config.folder)?;
        loop {
            let seen = world.see(&state).await?;
            if let Some(path) = &self.metrics {
                gauges::write(path, config, &state, &seen)?;
            }
            forget(config, &state)?;
            let next = next(config, &state, &seen);
            tell(&state, &next);
            if matches!(next, Next::Wait(_)) {
                return Ok(());
            }
            let before = state.clone();
            world.perform(next, &seen, &mut state).await?;
            if state != before {
                state.save(&config.folder)?;
            }
        }
    }
}

fn tell(state: &State, next: &Next) {
    let trial = state.trial();
    let (version, experiment) = (trial.map(|trial| trial.version.get()), trial.map(|trial| trial.experiment.as_str()));
    tracing::info!(round = state.round, phase = state.phase.name(), version, experiment, "{next}");
}

/// Removes what rounds before left, and what this one exported, once it has learnt from it: it is of people, and they may ask to be forgotten.
fn forget(config: &LoopConfig, state: &State) -> Result<()> {
    let is_learning = matches!(state.phase, Phase::Learning { .. });
    for entry in fs::read_dir(&config.folder).context("cannot list the loop's folder")? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let Some(round) = name.strip_prefix("round-").and_then(|round| round.parse::<u32>().ok()) else { continue };
        let place = || format!("cannot remove {}", path.display());
        if round < state.round {
            fs::remove_dir_all(&path).with_context(place)?;
        } else if !is_learning {
            learn::forget(&path).with_context(place)?;
        }
    }
    Ok(())
}

fn lock(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => bail!("another loop works in {}", folder.display()),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}
