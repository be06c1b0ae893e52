//! `cargo xtask bench serve`: a whole server, searched by meaning over gRPC from this process on the same machine. One caller,
//! many callers, and loads from a tenth of that to all of it that come whether answers do or not; each with queries that the
//! server sees for the first time, so that every one of them runs the encoder, and with queries that it has seen before.
//!
//! Every measurement with new queries begins with a server that has just started: that gives the cold starts besides.

mod curve;
mod figures;
mod load;
mod place;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Result;
use clap::Args;
use vitrine_client::load::Pace;

use self::{
    figures::{Figures, Level, Round},
    load::{Loaded, Searcher},
    place::Place,
};
use super::{
    films::{self, Films},
    plot,
    queries::Queries,
    shop,
};
use crate::programs::{self, Interrupted, say};

/// Callers of the closed loop who each wait for their answer.
const CALLERS: usize = 32;
/// Offered loads, in tenths of what the callers get.
const TENTHS: u32 = 10;
/// After a start: the encoder finds out how to share its work, and the allocator how much it needs.
const WARM_UP: Duration = Duration::from_secs(2);

#[derive(Args)]
pub struct Serve {
    /// Where the Movie Search Ranking Dataset is.
    #[arg(long, value_name = "DIR", default_value = films::FOLDER)]
    movies: PathBuf,
    /// How many films there are.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    items: usize,
    /// How often one caller and many callers are measured.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long each measurement takes.
    #[arg(long, default_value = "5s", value_name = "TIME", value_parser = super::duration)]
    duration: Duration,
    /// A value of the server's configuration, as `search.min_similarity=0.3`; may be repeated.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    settings: Vec<String>,
    /// Without the offered loads: rounds and cold starts only.
    #[arg(long)]
    quick: bool,
    /// Where to draw latency against offered load, as SVG.
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// End with one line of JSON.
    #[arg(long)]
    json: bool,
    /// Use the programs that are built already.
    #[arg(long, hide = true)]
    no_build: bool,
}

pub fn run(serve: &Serve) -> Result<()> {
    let Some(films) = Films::find(&serve.movies) else { return Ok(()) };
    if !serve.no_build {
        programs::build()?;
    }
    let interrupted = Interrupted::watch()?;
    let mut place = Place::make(&films, serve, &interrupted)?;
    let figures = super::measure(&interrupted, measure(serve, &films, &mut place))
        .inspect_err(|_| println!("The server's last words:\n{}", place.last_words()))?;
    figures.print();
    if let Some(path) = &serve.plot {
        plot::save(path, &curve::draw(&figures))?;
    }
    if serve.json {
        println!("{}", serde_json::to_string(&figures.line())?);
    }
    Ok(())
}

async fn measure(serve: &Serve, films: &Films, place: &mut Place) -> Result<Figures> {
    let names = films.queries()?;
    let queries = names.len();
    place.start().await?;
    let client = place.connect().await?;
    place.import(&client).await?;
    say("Waiting for the vectors of all films");
    let bar = super::spinner();
    shop::indexed(&client, place::CATALOG, |done, all| bar.set_message(format!("{done} of {all} films"))).await?;
    bar.finish_and_clear();

    let mut rounds = Vec::new();
    for number in 1..=serve.rounds {
        say(&format!("Round {number} of {}", serve.rounds));
        let (searcher, fresh) = begin(place, &names).await?;
        let before = place.forward().await?;
        let one_new = searcher.new_queries(&fresh, Pace::Callers(1), serve.duration).await?;
        let forward = place.forward().await?.since(before);
        let before = place.forward().await?;
        let one_embedding = searcher.embeddings(&fresh, Pace::Callers(1), serve.duration).await?;
        let embedding_forward = place.forward().await?.since(before);
        let one_seen = searcher.seen_queries(&fresh, Pace::Callers(1), serve.duration).await?;
        let many_new = searcher.new_queries(&fresh, Pace::Callers(CALLERS), serve.duration).await?;
        let many_seen = searcher.seen_queries(&fresh, Pace::Callers(CALLERS), serve.duration).await?;
        let round = Round { one_new, forward, one_embedding, embedding_forward, one_seen, many_new, many_seen };
        round.tell();
        rounds.push(round);
    }
    let (mut new, mut seen) = (Vec::new(), Vec::new());
    if !serve.quick {
        let capacity = |of: fn(&Round) -> &Loaded| figures::median(rounds.iter().map(|round| of(round).rate()));
        let (most_new, most_seen) = (capacity(|round| &round.many_new), capacity(|round| &round.many_seen));
        for tenth in 1..=TENTHS {
            let part = f64::from(tenth) / f64::from(TENTHS);
            let (searcher, fresh) = begin(place, &names).await?;
            let offered = [most_new * part, most_seen * part];
            let loaded = searcher.new_queries(&fresh, Pace::Rate(offered[0]), serve.duration).await?;
            new.push(Level { part, offered: offered[0], loaded });
            let loaded = searcher.seen_queries(&fresh, Pace::Rate(offered[1]), serve.duration).await?;
            seen.push(Level { part, offered: offered[1], loaded });
            println!("{:>3.0} %: new {}; seen {}", part * 100.0, figures::told(&new), figures::told(&seen));
        }
    }
    let (starts, others) = place.stop()?;
    Ok(Figures { items: serve.items, queries, rounds, new, seen, starts, others })
}

/// A server that has just started and is warm, and queries that it does not know.
async fn begin(place: &mut Place, names: &[String]) -> Result<(Searcher, Arc<Queries>)> {
    place.start().await?;
    let searcher = Searcher::new(place.connect().await?, place.process()?);
    let others = names.iter().map(|name| format!("{name} film")).collect();
    searcher.new_queries(&Arc::new(Queries::new(others)), Pace::Callers(CALLERS / 4), WARM_UP).await?;
    Ok((searcher, Arc::new(Queries::new(names.to_vec()))))
}
