//! What each command does.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::ExitCode,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use vitrine_registry::{
    Label, ModelName, PublishRequest, Registry, RegistryError, Version,
    gc::GcOptions,
    pull::{self, Progress, PullError, PullOptions, PullRequest, recipe},
    remote::{LeftOut, StoredModel},
};

use crate::{
    Cli, Command, Expected, GcArgs, LabelArgs, PublishArgs, PullArgs, RejectArgs,
    output::{self, EXIT_PROBLEM, Table, bytes},
    place::{Place, chosen},
};

pub fn run(cli: &Cli) -> Result<ExitCode> {
    let json = cli.common.json;
    let place = Place::of(&cli.common)?;
    match &cli.command {
        Command::Pull(args) => pull(&place, args, json),
        Command::Publish(args) => publish(&place.made()?, args, json),
        Command::Verify { model, version } => verify(&place, model.as_ref(), *version, json),
        Command::List { model } => list(place.models(model.as_ref())?, json),
        Command::Label(args) => label(&place.registry()?, args, json),
        Command::Reject(args) => reject(&place.registry()?, args, json),
        Command::Gc(args) => gc(&place, args, json),
    }
}

fn pull(place: &Place, args: &PullArgs, json: bool) -> Result<ExitCode> {
    let mut request = if args.from.is_empty() { recipe::request(&args.name)? } else { named_sources(args)? };
    if let Some(model) = &args.model {
        request.model = model.clone();
    }
    if !args.labels.is_empty() {
        request.labels.clone_from(&args.labels);
    }
    let mut options = PullOptions::new(args.cache.clone().unwrap_or_else(PullOptions::default_cache));
    options.hugging_face.clone_from(&args.hf_endpoint);
    let progress = if args.quiet { Progress::silent() } else { Progress::on_stderr() };
    let registry = &place.made()?;
    // What is there is not published again.
    place.fetch()?;
    let pulled = pull::pull(registry, &request, &options, &progress)?;
    let version = &pulled.version;
    if json {
        let failed = &pulled.failed;
        output::print_json(&json!({
            "model": version.model, "version": version.version, "path": version.path, "unchanged": pulled.unchanged,
            "source": version.manifest.source, "failed": failed, "labels": registry.current_labels(&version.model)?,
        }))?;
    } else if pulled.unchanged {
        println!("\"{}\" version {} has these files already; nothing to do", version.model, version.version);
    } else {
        let source = version.manifest.source.as_deref().unwrap_or("its source");
        let size = bytes(version.manifest.size_bytes());
        println!("published \"{}\" version {} from {source}, {size}", version.model, version.version);
    }
    Ok(ExitCode::SUCCESS)
}

fn named_sources(args: &PullArgs) -> Result<PullRequest> {
    Ok(PullRequest {
        model: args.name.parse()?,
        kind: args.kind.clone(),
        task: args.task.clone().context("--from needs --task")?,
        licence: args.licence.clone(),
        sources: args.from.clone(),
        files: args.files.iter().cloned().collect(),
        sha256: args.sha256.iter().cloned().collect(),
        bundled: BTreeMap::new(),
        labels: args.labels.clone(),
    })
}

fn publish(registry: &Registry, args: &PublishArgs, json: bool) -> Result<ExitCode> {
    let mut request = PublishRequest::from_folder(&args.model, &args.kind, &args.task, &args.folder)?;
    request.parent = args.parent;
    request.metrics = args.metrics.iter().cloned().collect();
    request.licence.clone_from(&args.licence);
    request.golden_tolerance = args.golden_tolerance;
    request.memory_bytes = args.memory;
    let published = registry.publish(&request)?;
    for label in &args.labels {
        let current = registry.current_labels(&args.model)?.get(label);
        registry.set_label(&args.model, label, published.version, current)?;
    }
    if json {
        let (version, path) = (published.version, &published.path);
        output::print_json(&json!({"model": args.model, "version": version, "path": path}))?;
    } else {
        let size = bytes(published.manifest.size_bytes());
        println!("published \"{}\" version {}, {size}", args.model, published.version);
    }
    Ok(ExitCode::SUCCESS)
}

fn verify(place: &Place, model: Option<&ModelName>, version: Option<Version>, json: bool) -> Result<ExitCode> {
    let left_out = place.fetch()?;
    let registry = &place.registry()?;
    let mut checked = Vec::new();
    let mut told = BTreeSet::new();
    for LeftOut { model: of, version: left, reason } in left_out {
        // Labels that cannot be read concern every version.
        if model.is_none_or(|model| *model == of) && (version.is_none() || left.is_none() || version == left) {
            told.extend(left.map(|left| (of.clone(), left)));
            checked.push((of, left, vec![reason]));
        }
    }
    let models = match chosen(registry, model) {
        // All there is of it is damaged, and not here.
        Err(RegistryError::UnknownModel(_)) if !checked.is_empty() => Vec::new(),
        models => models?,
    };
    for model in models {
        let versions = match version {
            Some(version) => vec![version],
            None => registry.versions(&model)?.numbers().collect(),
        };
        for version in versions.into_iter().filter(|version| !told.contains(&(model.clone(), *version))) {
            let problems = match registry.version(&model, version) {
                Ok(found) => found.verify()?.iter().map(ToString::to_string).collect(),
                Err(RegistryError::Unusable { reason, .. }) => vec![reason],
                Err(error) => return Err(error.into()),
            };
            checked.push((model.clone(), Some(version), problems));
        }
    }
    let sound = checked.iter().all(|(_, _, problems)| problems.is_empty());
    if json {
        let versions = checked.iter().map(|(model, version, problems)| {
            json!({"model": model, "version": version, "ok": problems.is_empty(), "problems": problems})
        });
        output::print_json(&json!({"ok": sound, "versions": versions.collect::<Vec<_>>()}))?;
    } else {
        for (model, version, problems) in &checked {
            let what = version.map_or_else(|| "labels".to_owned(), |version| format!("version {version}"));
            println!("\"{model}\" {what}: {}", if problems.is_empty() { "ok" } else { "damaged" });
            for problem in problems {
                println!("  {problem}");
            }
        }
    }
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::from(EXIT_PROBLEM) })
}

fn list(found: Vec<StoredModel>, json: bool) -> Result<ExitCode> {
    let mut table = Table::new(["MODEL", "VERSION", "LABELS", "KIND", "TASK", "SIZE", "PUBLISHED", "REJECTED"]);
    let mut models = Vec::new();
    let mut unusable = Vec::new();
    for StoredModel { model, labels, versions } in found {
        for found in versions.usable.iter().rev() {
            let manifest = &found.manifest;
            let named = labels.named.iter().filter(|(_, version)| **version == found.version);
            let named: Vec<&str> = named.map(|(label, _)| Label::as_str(label)).collect();
            table.row([
                model.to_string(),
                found.version.to_string(),
                named.join(", "),
                manifest.kind.clone(),
                manifest.task.clone(),
                bytes(manifest.size_bytes()),
                manifest.created.strftime("%Y-%m-%d %H:%M").to_string(),
                labels.rejected.get(&found.version).cloned().unwrap_or_default(),
            ]);
        }
        let bad = versions.unusable.iter();
        unusable.extend(bad.map(|v| format!("\"{model}\" version {} cannot be used: {}", v.version, v.reason)));
        let usable = versions.usable.iter().map(|v| json!({"version": v.version, "manifest": v.manifest}));
        let bad = versions.unusable.iter().map(|v| json!({"version": v.version, "reason": v.reason}));
        models.push(json!({
            "model": model, "labels": labels, "versions": usable.collect::<Vec<_>>(), "unusable": bad.collect::<Vec<_>>(),
        }));
    }
    if json {
        output::print_json(&json!({ "models": models }))?;
    } else {
        table.print();
        for line in &unusable {
            eprintln!("{line}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn label(registry: &Registry, args: &LabelArgs, json: bool) -> Result<ExitCode> {
    let before = registry.current_labels(&args.model)?;
    if let Some(label) = &args.label {
        let current = before.get(label);
        let Expected(expected) = args.expect.unwrap_or(Expected(current));
        match (args.version, args.remove, current) {
            (Some(version), _, _) => {
                registry.set_label(&args.model, label, version, expected)?;
            }
            (None, true, Some(current)) => {
                registry.remove_label(&args.model, label, expected.unwrap_or(current))?;
            }
            (None, false, Some(_)) => ensure!(args.expect.is_none(), "--expect needs a version or --remove"),
            (None, _, None) => return Err(output::NotThere::Label(args.model.clone(), label.clone()).into()),
        }
    }
    let labels = registry.current_labels(&args.model)?;
    if json {
        output::print_json(&json!({"model": args.model, "labels": labels}))?;
    } else {
        let mut table = Table::new(["LABEL", "VERSION", "BEFORE"]);
        let shown = labels.named.iter().filter(|(label, _)| args.label.as_ref().is_none_or(|wanted| wanted == *label));
        for (label, version) in shown {
            let before = labels.previous.get(label).map_or_else(String::new, Version::to_string);
            table.row([label.to_string(), version.to_string(), before]);
        }
        table.print();
    }
    Ok(ExitCode::SUCCESS)
}

fn reject(registry: &Registry, args: &RejectArgs, json: bool) -> Result<ExitCode> {
    let RejectArgs { model, version, reason, .. } = args;
    match reason {
        Some(reason) => registry.reject(model, *version, reason)?,
        None => registry.take_rejection_back(model, *version)?,
    }
    if json {
        output::print_json(&json!({"model": model, "labels": registry.current_labels(model)?}))?;
    } else {
        let done = if reason.is_some() { "is rejected" } else { "is not rejected" };
        println!("\"{model}\" version {version} {done}");
    }
    Ok(ExitCode::SUCCESS)
}

fn gc(place: &Place, args: &GcArgs, json: bool) -> Result<ExitCode> {
    let keep = args.keep.iter().copied().collect();
    let options = GcOptions { keep_newest: args.keep_newest, keep, dry_run: args.dry_run };
    let mut collected = Vec::new();
    let registry = place.registry()?;
    for StoredModel { model, .. } in place.models(args.model.as_ref())? {
        let removed = registry.gc(&model, &options)?;
        collected.push((model, removed));
    }
    if json {
        let removed = collected.iter().map(|(model, removed)| json!({"model": model, "removed": removed}));
        output::print_json(&json!({"dry_run": args.dry_run, "models": removed.collect::<Vec<_>>()}))?;
    } else {
        let verb = if args.dry_run { "would remove" } else { "removed" };
        for (model, removed) in &collected {
            let versions: Vec<String> = removed.versions.iter().map(ToString::to_string).collect();
            let versions = if versions.is_empty() { "nothing".to_owned() } else { versions.join(", ") };
            println!("\"{model}\": {verb} {versions} ({})", bytes(removed.bytes));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The exit code that tells a script what to do about an error.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    let registry = error.downcast_ref::<RegistryError>().or_else(|| match error.downcast_ref::<PullError>()? {
        PullError::Registry(error) => Some(error),
        _ => None,
    });
    match registry {
        Some(RegistryError::Missing(_) | RegistryError::UnknownModel(_) | RegistryError::UnknownVersion { .. }) => {
            output::EXIT_NOT_THERE
        }
        Some(RegistryError::LabelMoved { .. }) => output::EXIT_LABEL_MOVED,
        Some(RegistryError::Unusable { .. } | RegistryError::Refused(_)) => EXIT_PROBLEM,
        _ if error.is::<output::NotThere>()
            || matches!(error.downcast_ref(), Some(PullError::UnknownRecipe { .. })) =>
        {
            output::EXIT_NOT_THERE
        }
        _ => output::EXIT_FAILED,
    }
}
