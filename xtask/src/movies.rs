//! `cargo xtask movies`: the films of the Movie Search Ranking Dataset as items, to score searches by its judged queries.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::Args;
use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};

#[derive(Args)]
pub struct Movies {
    /// `movies-corpus.jsonl.gz`, as elasticsearch-labs has it.
    corpus: PathBuf,
    /// Where the items go.
    items: PathBuf,
}

/// A film as the data set has it; 0 and empty stand for unknown.
#[derive(Deserialize)]
struct Film {
    id: String,
    title: String,
    overview: String,
    tags: Vec<String>,
    genres: Vec<String>,
    director: String,
    actors: Vec<String>,
    characters: Vec<String>,
    year: i32,
    rating: f64,
    popularity: f64,
    url: String,
}

/// A line of an item import.
#[derive(Debug, PartialEq, Serialize)]
struct Item {
    id: String,
    title: String,
    description: String,
    categories: Vec<String>,
    tags: Vec<String>,
    image: String,
    attributes: Attributes,
}

#[derive(Debug, PartialEq, Serialize)]
struct Attributes {
    #[serde(skip_serializing_if = "String::is_empty")]
    director: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    actors: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    characters: Vec<String>,
    /// As a text, for it is searched: people look for "joker 2019".
    #[serde(skip_serializing_if = "Option::is_none")]
    year: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rating: Option<f64>,
    popularity: f64,
}

impl From<Film> for Item {
    fn from(film: Film) -> Self {
        Self {
            id: film.id,
            title: film.title,
            description: film.overview,
            categories: film.genres,
            tags: film.tags,
            image: film.url,
            attributes: Attributes {
                director: film.director,
                actors: film.actors,
                characters: film.characters,
                year: (film.year > 0).then(|| film.year.to_string()),
                rating: (film.rating > 0.0).then_some(film.rating),
                popularity: film.popularity,
            },
        }
    }
}

pub fn run(movies: &Movies) -> Result<()> {
    let films = write_items(&movies.corpus, usize::MAX, &movies.items)?;
    println!("{films} films in {}", movies.items.display());
    Ok(())
}

/// Writes the first `most` films of the corpus as items, and says how many they are.
pub fn write_items(corpus: &Path, most: usize, items: &Path) -> Result<usize> {
    let from = corpus.display();
    let file = File::open(corpus).with_context(|| format!("cannot open {from}"))?;
    let out = File::create(items).with_context(|| format!("cannot make {}", items.display()))?;
    let mut out = BufWriter::new(out);
    let mut films = 0;
    for (number, line) in (1..).zip(BufReader::new(MultiGzDecoder::new(file)).lines()).take(most) {
        let line = line.with_context(|| format!("{from}:{number}"))?;
        let film: Film = serde_json::from_str(&line).with_context(|| format!("{from}:{number}"))?;
        serde_json::to_writer(&mut out, &Item::from(film))?;
        writeln!(out)?;
        films += 1;
    }
    out.flush()?;
    Ok(films)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_of_a_film_is_left_out() {
        let line = r#"{"id":"7","title":"Jaws","overview":"A shark.","tags":[],"genres":["Thriller"],"director":"",
            "actors":["Roy Scheider"],"characters":[],"year":0,"votes":0,"rating":0,"popularity":1.5,"budget":0,"url":""}"#;
        let item = Item::from(serde_json::from_str::<Film>(line).unwrap());
        let attributes = serde_json::to_value(&item.attributes).unwrap();
        assert_eq!(attributes, serde_json::json!({"actors": ["Roy Scheider"], "popularity": 1.5}));
        assert_eq!((item.description.as_str(), item.categories), ("A shark.", vec!["Thriller".to_owned()]));
    }
}
