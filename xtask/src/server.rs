//! A running server: started in a process group of its own, waited for, and stopped whatever happens.

use std::{
    fs::{self, File},
    net::{SocketAddr, TcpListener},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::programs::{self, Interrupted};

/// How long the server may take until it answers.
const START: Duration = Duration::from_mins(2);
/// How long it may take to finish its work when it is told to stop.
const STOP: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(100);
/// How much of the log is shown when the server fails.
const TOLD_LINES: usize = 20;

/// How a server is started.
#[derive(Clone, Copy)]
pub struct Start<'a> {
    pub listen: SocketAddr,
    pub registry: &'a Path,
    /// Where its catalogs are.
    pub data: &'a Path,
    /// Where its log goes.
    pub log: &'a Path,
    /// Values of its configuration, as `text_encoder.keep_previous=1s`.
    pub settings: &'a [String],
}

pub struct Server {
    child: Child,
    listen: SocketAddr,
    log: PathBuf,
}

impl Server {
    /// Starts the server and waits until it answers.
    pub fn start(start: Start<'_>, interrupted: &Interrupted) -> Result<Self> {
        let Start { listen, registry, data, log: path, settings } = start;
        // Another server on this port would answer in ours' place.
        drop(TcpListener::bind(listen).with_context(|| format!("{listen} is in use; choose another with --listen"))?);
        let log = File::create(path).with_context(|| path.display().to_string())?;
        let mut command = Command::new(programs::ours("vitrine-server")?);
        command.arg("--listen").arg(listen.to_string()).arg("--data-dir").arg(data).arg("--registry").arg(registry);
        for setting in settings {
            command.args(["--set", setting]);
        }
        command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        // Ctrl-C reaches us alone: the server is told when it is time.
        command.process_group(0);
        println!("{}", programs::shown(&command));
        let child = command.spawn().context("cannot start vitrine-server")?;
        let mut server = Self { child, listen, log: path.to_owned() };
        server.wait_until_it_answers(interrupted)?;
        Ok(server)
    }

    /// Of its process.
    #[cfg(feature = "bench")]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("http://{}", self.listen)
    }

    /// The command `vitrine`, asking this server.
    pub fn client(&self) -> Result<Command> {
        let mut command = Command::new(programs::ours("vitrine")?);
        command.env("VITRINE_SERVER", self.url());
        Ok(command)
    }

    /// Waits until the server ends, or stops it when a signal arrives.
    pub fn serve(mut self, interrupted: &Interrupted) -> Result<()> {
        while !interrupted.is_set() {
            self.check_alive()?;
            thread::sleep(POLL);
        }
        println!("\nStopping the server");
        self.stop()
    }

    /// Stops the server and waits for its end.
    pub fn stop(mut self) -> Result<()> {
        let status = programs::end(&mut self.child, STOP)?;
        if !status.success() {
            bail!("vitrine-server ended with {status}:\n{}", self.last_words());
        }
        Ok(())
    }

    fn wait_until_it_answers(&mut self, interrupted: &Interrupted) -> Result<()> {
        let started = Instant::now();
        loop {
            self.check_alive()?;
            let mut health = self.client()?;
            health.args(["health", "--wait", "2s"]).stdout(Stdio::null()).stderr(Stdio::null());
            match programs::run(health, Some(interrupted)) {
                Ok(()) => return self.check_alive(),
                Err(error) if interrupted.is_set() => return Err(error),
                Err(_) if started.elapsed() < START => {}
                Err(error) => return Err(error.context(format!("the server does not answer:\n{}", self.last_words()))),
            }
        }
    }

    fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.child.try_wait()? {
            bail!("vitrine-server ended with {status}:\n{}", self.last_words());
        }
        Ok(())
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.len().saturating_sub(TOLD_LINES);
        lines.into_iter().skip(tail).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // On the way out because of an error: that one is told.
            let _ = programs::end(&mut self.child, STOP);
        }
    }
}
