//! Versions that are known by name: where they are, and the checksums of their files. The list is `recipes.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{PullError, PullRequest, Source};
use crate::{
    checksum::Sha256,
    manifest::FilePath,
    name::{Label, ModelName},
};

const RECIPES: &str = include_str!("recipes.toml");
/// Recorded rows by recipe: what the original computes, so that every load checks weights and code against it.
const GOLDEN: [(&str, &[u8]); 1] = [("all-MiniLM-L6-v2", include_bytes!("golden/all-MiniLM-L6-v2.safetensors"))];
const GOLDEN_FILE: &str = "golden.safetensors";

/// A version that is known by name.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What it is, in a line.
    pub about: String,
    model: ModelName,
    task: String,
    licence: String,
    labels: Vec<Label>,
    sources: Vec<String>,
    files: BTreeMap<FilePath, Sha256>,
}

/// All recipes by name.
pub fn all() -> BTreeMap<String, Recipe> {
    // Compiled in, and read by a test: it cannot be malformed here.
    toml::from_str(RECIPES).unwrap_or_default()
}

/// The request to pull what is known under this name.
///
/// ```
/// let request = vitrine_registry::pull::recipe::request("all-MiniLM-L6-v2")?;
/// assert_eq!(request.model.as_str(), "minilm");
/// # Ok::<(), vitrine_registry::pull::PullError>(())
/// ```
pub fn request(name: &str) -> Result<PullRequest, PullError> {
    let mut recipes = all();
    let Some(recipe) = recipes.remove(name) else {
        return Err(PullError::UnknownRecipe { name: name.to_owned(), known: recipes.into_keys().collect() });
    };
    let golden = GOLDEN.into_iter().filter(|(recipe, _)| *recipe == name);
    let bundled = golden.filter_map(|(_, content)| Some((GOLDEN_FILE.parse().ok()?, content))).collect();
    let sources = recipe.sources.iter().filter_map(|source| source.parse::<Source>().ok()).collect();
    Ok(PullRequest {
        model: recipe.model,
        kind: None,
        task: recipe.task,
        licence: Some(recipe.licence),
        sources,
        files: recipe.files.keys().cloned().collect(),
        sha256: recipe.files,
        bundled,
        labels: recipe.labels,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_can_be_followed() {
        let recipes: BTreeMap<String, Recipe> = toml::from_str(RECIPES).unwrap();
        assert!(recipes.contains_key("all-MiniLM-L6-v2"));
        for (name, recipe) in recipes {
            let request = request(&name).unwrap();
            assert_eq!(request.sources.len(), recipe.sources.len(), "{name}: a source cannot be read");
            assert!(request.files.iter().any(FilePath::is_safetensors), "{name} has no weights");
            assert!(request.bundled.contains_key(&GOLDEN_FILE.parse().unwrap()), "{name} has no recorded rows");
            assert!(request.files.iter().all(|file| request.sha256.contains_key(file)), "{name}");
        }
    }

    #[test]
    fn an_unknown_recipe_says_what_there_is() {
        let error = request("minilm").unwrap_err().to_string();
        assert!(error.contains("all-MiniLM-L6-v2"), "{error}");
    }
}
