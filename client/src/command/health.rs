//! `vitrine health`.

use std::time::{Duration, Instant};

use anyhow::Result;
use clap::Args;
use vitrine_client::{Code, Error, Health as Answer};

use crate::{
    arguments::{Global, duration},
    exit,
    output::line,
};

/// How often a server is asked while it is waited for.
const POLL: Duration = Duration::from_millis(250);

/// Ask whether the server is ready; the exit code says it too.
#[derive(Debug, Args)]
pub struct Health {
    /// Wait until it is ready, so long at most
    #[arg(long, value_parser = duration, value_name = "TIME")]
    wait: Option<Duration>,
    /// One service, as `vitrine.v1.StorefrontService` [default: the server as a whole]
    #[arg(long, default_value = "", value_name = "NAME", hide_default_value = true)]
    service: String,
}

impl Health {
    pub async fn run(self, global: &Global) -> Result<u8> {
        let started = Instant::now();
        loop {
            let answer = self.ask(global).await;
            let again = match &answer {
                Ok(answer) => !answer.serving,
                Err(error) => matches!(error.code(), Code::Unavailable | Code::DeadlineExceeded),
            };
            if again && self.wait.is_some_and(|wait| started.elapsed() < wait) {
                tokio::time::sleep(POLL).await;
                continue;
            }
            return tell(global, answer?);
        }
    }

    async fn ask(&self, global: &Global) -> Result<Answer, Error> {
        vitrine_client::Client::connect(global.options()).await?.health(&self.service).await
    }
}

fn tell(global: &Global, answer: Answer) -> Result<u8> {
    let output = global.output();
    let status = if answer.serving { "SERVING" } else { "NOT_SERVING" };
    let millis = answer.round_trip.as_secs_f64() * 1e3;
    if output.json {
        output.value(&serde_json::json!({ "status": status, "round_trip_ms": millis }))?;
    } else if answer.serving {
        line(format!("{} is serving (answered in {millis:.1} ms)", global.server))?;
    } else {
        line(format!("{} is up, but not ready", global.server))?;
    }
    Ok(if answer.serving { exit::OK } else { exit::UNAVAILABLE })
}
