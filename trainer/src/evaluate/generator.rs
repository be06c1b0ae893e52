//! `vitrine-trainer evaluate generator`: how good the pictures are that a generator makes.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use candle_core::Tensor;
use clap::Args;
use rand::rngs::StdRng;
use rand::{SeedableRng as _, seq::SliceRandom as _};
use serde_json::json;
use vitrine_models::{CganConfig, DeviceSpec, PictureGenerator, PictureModel, Wish};

use crate::gan_metrics::{self, Features, GanScores};
use crate::judge::check_judge;
use crate::picture_metrics::look;
use crate::pictures::{Labelled, PictureFiles, Pictures};
use crate::print::print_table;

/// Pictures that are made together.
const BATCH: usize = 128;

/// What to measure.
#[derive(Debug, Args)]
pub struct EvaluateGenerator {
    /// The folder that was learnt into, or that of a version
    folder: PathBuf,
    #[command(flatten)]
    files: PictureFiles,
    /// The folder of a network that knows the classes: what it sees tells how good pictures are
    #[arg(long, value_name = "FOLDER")]
    judge: PathBuf,
    /// End with a line of JSON
    #[arg(long)]
    json: bool,
}

impl EvaluateGenerator {
    pub fn run(&self) -> Result<()> {
        let model = PictureGenerator::load(&self.folder, &DeviceSpec::Cpu)?;
        let judge = PictureModel::load(&self.judge, &DeviceSpec::Cpu)?;
        let config = model.config();
        check_judge(&judge, [config.side, config.side, config.channels], &config.classes)?;
        let pictures = Pictures::read(&self.files, config.side, config.channels)?;
        let (known, there) = (&config.classes, &pictures.classes);
        ensure!(known == there, "the generator makes {known:?}; there are {there:?}");
        let made = made(config, pictures.test.len(), 0, |wishes| Ok(model.make(wishes)?))?;
        let scores = score_made(&made, &judge, &pictures)?;
        print_made(&scores);
        if self.json {
            println!("{}", json!({ "made": scores }));
        }
        Ok(())
    }
}

/// Makes pictures, the classes in turn, each with a seed of its own.
pub fn made(
    config: &CganConfig,
    count: usize,
    first_seed: u64,
    make: impl Fn(&[Wish]) -> Result<Tensor>,
) -> Result<Labelled> {
    let mut made = Labelled::new(config.side, config.channels);
    let wish = |at: usize| Wish { class: (at % config.classes.len()) as u32, seed: first_seed + at as u64 };
    let wishes: Vec<Wish> = (0..count).map(wish).collect();
    for wishes in wishes.chunks(BATCH) {
        let numbers = make(wishes)?.flatten_all()?.to_vec1::<f32>()?;
        made.numbers.extend(numbers.into_iter().map(|number| (number * 255.0).round() as u8));
        made.labels.extend(wishes.iter().map(|wish| wish.class));
    }
    Ok(made)
}

/// Holds what was made against what is real.
pub fn score_made(made: &Labelled, judge: &PictureModel, pictures: &Pictures) -> Result<GanScores> {
    let Pictures { learning, test, classes, .. } = pictures;
    let seen_learnt = look(judge, learning)?;
    let mut places: Vec<usize> = (0..learning.len()).collect();
    places.shuffle(&mut StdRng::seed_from_u64(0));
    places.truncate(test.len());
    let some: Vec<_> = places.iter().map(|&place| seen_learnt[place].clone()).collect();
    let labels: Vec<u32> = places.iter().map(|&place| learning.labels[place]).collect();
    gan_metrics::score(
        (&look(judge, made)?, &made.labels),
        &Features::new(&look(judge, test)?, &test.labels)?,
        &Features::new(&seen_learnt, &learning.labels)?,
        &Features::new(&some, &labels)?,
        classes.len() as u32,
    )
}

/// Prints scores of made pictures beside those of real ones.
pub fn print_made(made: &GanScores) {
    let rows = [
        ("Fréchet distance to test pictures", made.frechet, made.frechet_floor),
        ("neighbourhoods covered, of the class with fewest", made.least_coverage(), made.least_coverage_of_real()),
        ("median distance to the nearest learnt", made.nearest, made.nearest_of_real),
        ("nearer than all but 1 % of real ones", made.near_copies, 0.01),
    ];
    let rows = rows.map(|(what, made, real)| vec![what.to_owned(), format!("{made:.4}"), format!("{real:.4}")]);
    print_table(&["", "made", "real"].map(str::to_owned), rows.to_vec());
    println!("{:.1} % are taken for what was asked for", 100.0 * made.consistency);
}
