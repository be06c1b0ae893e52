//! What there is to try: one list, printed for people and run by `--check`.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;

use super::{
    CATALOG,
    fashion::{self, Fashion},
    prepare::Sample,
};
use crate::{programs, server::Server};

/// A command worth trying.
pub struct Try {
    about: &'static str,
    words: Vec<String>,
    expect: Expect,
}

/// What a sensible answer has.
enum Expect {
    /// These words, in small letters.
    Words(&'static [&'static str]),
    /// So many lines at least.
    Lines(usize),
    /// Another text than the answer to the command so many places before.
    AnotherThan(usize),
}

impl Try {
    fn new<const N: usize>(about: &'static str, words: [&str; N], expect: Expect) -> Self {
        Self { about, words: words.map(str::to_owned).to_vec(), expect }
    }

    fn line(&self) -> String {
        let words = self.words.iter().map(|word| programs::quoted(word));
        format!("vitrine {}", words.collect::<Vec<_>>().join(" "))
    }
}

/// The commands, in an order that tells a story.
pub fn tries(sample: &Sample, fashion: Option<&Fashion>, pictures: &Path) -> Vec<Try> {
    let Sample { user, item, cat_food } = sample;
    // Somebody new every time, so that the first answer knows nothing of them.
    let guest = format!("guest-{}", Timestamp::now().as_second());
    let advertised = format!("id = \"{cat_food}\"");
    let mut tries = vec![
        Try::new("Search by words and meaning", ["search", "milk"], Expect::Words(&["milk"])),
        Try::new("A typing error", ["search", "choclate ice crem"], Expect::Words(&["ice cream"])),
        Try::new(
            "A filter, and counts by brand",
            ["search", "cheese", "--filter", "price < 3 AND categories: \"Grocery\"", "--facet", "brand"],
            Expect::Words(&["cheese", "brand"]),
        ),
        Try::new(
            "What a household may want next, by what it bought and by a network that read it",
            ["recommend", "--user", user],
            Expect::Words(&["sequence-recommendation"]),
        ),
        Try::new(
            "What is bought with the shop's best seller",
            ["recommend", "--bought-together", item],
            Expect::Lines(3),
        ),
        Try::new("What resembles a cat food", ["recommend", "--similar-to", cat_food], Expect::Lines(3)),
        Try::new("Somebody nobody knows", ["recommend", "--user", &guest], Expect::Lines(3)),
        Try::new(
            "They buy cat food",
            ["feedback", "--user", &guest, "--type", "purchase", "--item", cat_food],
            Expect::Lines(1),
        ),
        Try::new("And the shop takes notice", ["recommend", "--user", &guest], Expect::AnotherThan(2)),
        Try::new(
            "Somebody pays for clicks on cat food",
            ["controls", "put", "cat-week", "advertise", &advertised, "0.40USD", "--daily-budget", "50USD"],
            Expect::Words(&["advertise"]),
        ),
        Try::new(
            "And it is shown; as nobody else bids, a click costs the least that the shop takes",
            ["recommend", "--ads", "home", "--floor", "0.05USD", "--user", user],
            Expect::Words(&["cat-week", "a click"]),
        ),
        Try::new(
            "New pictures of dresses, by a network; they come together on sheet.png",
            ["generate-image", "--category", "dress", "--count", "8", "--out", &pictures.display().to_string()],
            Expect::Lines(9),
        ),
    ];
    tries.extend(fashion.map(by_picture).into_iter().flatten());
    tries
}

/// What there is to try with pictures of clothes.
fn by_picture(fashion: &Fashion) -> [Try; 3] {
    let picture = |class| fashion.query(class).display().to_string();
    let (sneaker, dress) = (picture("sneaker"), picture("dress"));
    [
        Try::new(
            "Search by a picture that no item has",
            ["search", "-c", fashion::CATALOG, "--image", &sneaker],
            Expect::Words(&["sneaker"]),
        ),
        Try::new(
            "By words and, a little, by a picture",
            ["search", "-c", fashion::CATALOG, "coat", "--image", &dress, "--image-weight", "0.3"],
            Expect::Words(&["coat", "image-embedding"]),
        ),
        Try::new(
            "What looks like the shop's first pair of boots",
            ["recommend", "-c", fashion::CATALOG, "--similar-to", "ankle-boot-0", "--by", "picture"],
            Expect::Words(&["ankle boot"]),
        ),
    ]
}

/// Says what to try.
pub fn print(tries: &[Try], url: &str) {
    println!("\nTry, in another terminal (`vitrine` is target/debug/vitrine):\n");
    println!("  export VITRINE_SERVER={url} VITRINE_CATALOG={CATALOG}");
    for command in tries {
        println!("\n  # {}", command.about);
        println!("  {}", command.line());
    }
    println!();
}

/// A busy machine takes so long to make the vectors of what was imported.
const INDEXED_WITHIN: Duration = Duration::from_mins(2);

/// Runs every command, again while items lack their vectors, prints what came back, and checks that it makes sense.
pub fn check(tries: &[Try], server: &Server) -> Result<()> {
    let mut answers: Vec<String> = Vec::new();
    for command in tries {
        println!("\n# {}\n{}", command.about, programs::bold(&format!("$ {}", command.line())));
        let begun = Instant::now();
        let answer = loop {
            let mut client = server.client()?;
            client.env("VITRINE_CATALOG", CATALOG).args(&command.words);
            let answer = programs::output(client)?;
            if !answer.contains("index_incomplete") || begun.elapsed() > INDEXED_WITHIN {
                break answer;
            }
            thread::sleep(Duration::from_millis(500));
        };
        println!("{}", answer.trim_end());
        let before = |places| answers.len().checked_sub(places).and_then(|index| answers.get(index));
        judge(&command.expect, &answer, before)
            .with_context(|| format!("the answer to `{}` makes no sense", command.line()))?;
        answers.push(answer);
    }
    println!();
    Ok(())
}

fn judge<'a>(expect: &Expect, answer: &str, before: impl Fn(usize) -> Option<&'a String>) -> Result<()> {
    match expect {
        Expect::Words(words) => {
            let answer = answer.to_lowercase();
            if let Some(missing) = words.iter().find(|word| !answer.contains(**word)) {
                bail!("it does not mention \"{missing}\"");
            }
        }
        Expect::Lines(wanted) => {
            let lines = answer.lines().filter(|line| !line.trim().is_empty()).count();
            if lines < *wanted {
                bail!("it has {lines} of {wanted} lines");
            }
        }
        Expect::AnotherThan(places) => {
            if before(*places).is_some_and(|before| before == answer) {
                bail!("it is the same as before");
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Sample {
        Sample { user: "1111".to_owned(), item: "1029743".to_owned(), cat_food: "7".to_owned() }
    }

    #[test]
    fn the_story_is_about_the_ids_of_the_data() {
        let tries = tries(&sample(), None, Path::new("pictures"));
        let lines: Vec<String> = tries.iter().map(Try::line).collect();
        assert_eq!(lines[0], "vitrine search milk");
        assert!(lines.contains(&"vitrine recommend --bought-together 1029743".to_owned()), "{lines:?}");
        for (place, one) in tries.iter().enumerate() {
            if let Expect::AnotherThan(places) = one.expect {
                assert_eq!(lines[place - places], lines[place], "the same question before and after");
            }
        }
    }

    #[test]
    fn answers_without_sense_are_told() {
        let before = "1 milk".to_owned();
        let earlier = |_| Some(&before);
        assert!(judge(&Expect::Words(&["milk"]), "Whole Milk", earlier).is_ok());
        assert!(judge(&Expect::Words(&["milk", "brand"]), "Whole Milk", earlier).is_err());
        assert!(judge(&Expect::Lines(2), "one\n\n", earlier).is_err());
        assert!(judge(&Expect::AnotherThan(1), "1 milk", earlier).is_err());
        assert!(judge(&Expect::AnotherThan(1), "2 cat food", earlier).is_ok());
    }
}
