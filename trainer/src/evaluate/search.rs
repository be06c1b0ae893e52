//! `vitrine-trainer evaluate search`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::time::Instant;
use vitrine::v1::{Degraded, RequestContext, SearchMode, SearchRequest, search_request::Query as Text};

use super::{Target, warn_of_degraded};
use crate::{
    concurrent,
    judgments::{self, Part, Query},
    metrics::{Mean, Scores, mean, score},
    print::{figure, print_table},
};

/// Score searches by judged queries.
///
/// Every query is searched in the whole catalog and the ranking that comes back is scored as it is: a document that
/// nobody judged counts as not relevant. The column `judged` says how many of the first k were judged at all.
#[derive(Debug, Args)]
pub struct Search {
    #[command(flatten)]
    target: Target,
    /// Tab-separated with the columns `query_id`, `query`, `doc_id` and `grade`; may be gzipped
    #[arg(long, value_name = "FILE")]
    judgments: PathBuf,
    /// Which searches (repeatable)
    #[arg(long, value_enum, default_values_t = [Mode::Lexical, Mode::Semantic, Mode::Hybrid])]
    mode: Vec<Mode>,
    /// How many results count
    #[arg(long, default_value_t = 10, value_name = "K", value_parser = clap::value_parser!(u16).range(1..=100))]
    k: u16,
    /// Only this part of the queries, as 1/2 and 2/2: tune on the one and report the other
    ///
    /// The parts do not overlap, and a query is always in the same one, whatever else the file holds.
    #[arg(long, default_value_t, value_name = "PART/PARTS")]
    part: Part,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Lexical,
    Semantic,
    Hybrid,
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Lexical => "lexical",
            Self::Semantic => "semantic",
            Self::Hybrid => "hybrid",
        }
    }
}

impl From<Mode> for SearchMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Lexical => Self::Lexical,
            Mode::Semantic => Self::Semantic,
            Mode::Hybrid => Self::Hybrid,
        }
    }
}

/// One line of the table.
#[derive(Debug, Serialize)]
struct Line {
    mode: &'static str,
    ndcg: Mean,
    recall: Mean,
    mrr: Mean,
    judged: Mean,
    milliseconds: f64,
}

impl Search {
    pub async fn run(self) -> Result<()> {
        let k = usize::from(self.k);
        let mut queries = judgments::read(&self.judgments)?;
        queries.retain(|query| self.part.holds(query));
        let judged = queries.len();
        queries.retain(|query| score(&[], &query.grades, k).is_some());
        let unusable = judged - queries.len();
        ensure!(!queries.is_empty(), "{} has no query with a relevant document", self.judgments.display());
        let queries = Arc::new(queries);
        let client = self.target.connect().await?;
        self.target.settle(&client).await?;

        let mut lines = Vec::new();
        for mode in &self.mode {
            let begun = Instant::now();
            let answers = concurrent::map(Arc::clone(&queries), self.target.concurrency, |queries, index| {
                let (client, request) = (client.clone(), self.request(*mode, &queries[index].text));
                async move {
                    let begun = Instant::now();
                    let answer = client.search(request).await?;
                    let ranking: Vec<String> =
                        answer.results.into_iter().filter_map(|result| Some(result.item?.id)).collect();
                    Ok((ranking, answer.degraded, begun.elapsed()))
                }
            });
            let answers = answers.await?;
            warn_of_degraded(mode.name(), answers.iter().map(|(_, degraded, _)| degraded));
            eprintln!("{}: {} queries in {:.1} s", mode.name(), queries.len(), begun.elapsed().as_secs_f64());
            lines.push(line(mode.name(), &queries, &answers, k));
        }
        self.print(&lines, queries.len(), unusable);
        Ok(())
    }

    fn request(&self, mode: Mode, text: &str) -> SearchRequest {
        SearchRequest {
            context: Some(RequestContext { catalog: self.target.catalog(), ..Default::default() }),
            query: Some(Text::Text(text.to_owned())),
            page_size: i32::from(self.k),
            mode: SearchMode::from(mode).into(),
            ..Default::default()
        }
    }

    fn print(&self, lines: &[Line], queries: usize, unusable: usize) {
        let k = self.k;
        if self.target.json {
            let report = serde_json::json!({
                "catalog": self.target.catalog(), "k": k, "part": self.part.to_string(), "queries": queries,
                "queries_without_relevant_documents": unusable, "modes": lines,
            });
            println!("{report:#}");
            return;
        }
        let header = [
            "mode".into(),
            format!("NDCG@{k}"),
            format!("Recall@{k}"),
            format!("MRR@{k}"),
            "judged".into(),
            "ms".into(),
        ];
        let rows = lines.iter().map(|line| {
            let judged = format!("{:.1} %", line.judged.value * 100.0);
            let milliseconds = format!("{:.1}", line.milliseconds);
            vec![line.mode.to_owned(), figure(line.ndcg), figure(line.recall), figure(line.mrr), judged, milliseconds]
        });
        print_table(&header, rows.collect());
        println!("{queries} queries; ± is half a 95 % interval");
        if unusable > 0 {
            println!("{unusable} queries without a relevant document were left out");
        }
    }
}

type Answer = (Vec<String>, Vec<Degraded>, Duration);

fn line(mode: &'static str, queries: &[Query], answers: &[Answer], k: usize) -> Line {
    let scored = queries.iter().zip(answers);
    let scores: Vec<Scores> = scored.filter_map(|(query, (ranking, ..))| score(ranking, &query.grades, k)).collect();
    let over = |of: fn(&Scores) -> f64| mean(scores.iter().map(of));
    Line {
        mode,
        ndcg: over(|scores| scores.ndcg),
        recall: over(|scores| scores.recall),
        mrr: over(|scores| scores.reciprocal_rank),
        judged: over(|scores| scores.judged),
        milliseconds: mean(answers.iter().map(|(.., time)| time.as_secs_f64() * 1e3)).value,
    }
}
