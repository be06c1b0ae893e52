//! Pictures of classes, for networks that see or make them: read from folders or from the files of MNIST, and split.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use candle_core::{Device, Tensor};
use clap::Args;
use image::{DynamicImage, GrayImage};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use vitrine_models::{decode_picture, pixels};
use vitrine_registry::Sha256;

use crate::text_file;

/// Where pictures come from.
#[derive(Clone, Debug, Args)]
pub struct PictureFiles {
    /// A folder with `train` and `validation`, each with a folder of JPEG, PNG or WebP pictures for every class; or with the four files of
    /// MNIST, as `train-images-idx3-ubyte.gz`
    #[arg(long, value_name = "FOLDER")]
    pub pictures: PathBuf,
    /// Names of the classes that MNIST's files have numbers for
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    pub class_names: Vec<String>,
}

/// Pictures of one size with their classes.
#[derive(Clone, Debug)]
pub struct Labelled {
    pub(crate) side: usize,
    pub(crate) channels: usize,
    /// Line after line, picture after picture, the channels of a point together.
    pub(crate) numbers: Vec<u8>,
    /// The class of each, counted from 0.
    pub(crate) labels: Vec<u32>,
}

/// Pictures to learn from, to stop by and to be tested by.
#[derive(Debug)]
pub struct Pictures {
    /// What the data is called.
    pub(crate) name: String,
    /// Names of the classes.
    pub classes: Vec<String>,
    /// To learn from.
    pub learning: Labelled,
    /// A tenth of what is there to learn from: it tells when to stop.
    pub validation: Labelled,
    /// The folder `validation`, or MNIST's pictures for tests.
    pub test: Labelled,
}

/// Every so many-th picture tells when to stop.
const HELD_OUT: usize = 10;

/// MNIST's files: <http://yann.lecun.com/exdb/mnist>, "file formats".
const IDX_PICTURES: u32 = 0x803;
const IDX_LABELS: u32 = 0x801;

impl Pictures {
    /// Reads them, makes them squares of a size (what is longer is cut off on both sides), and grey or coloured.
    ///
    /// # Errors
    /// The folder is neither, a picture does not decode, or a class is not there: each with its file.
    pub fn read(files: &PictureFiles, side: usize, channels: usize) -> Result<Self> {
        let folder = &files.pictures;
        let (all, test, classes) = if idx_path(folder, "train-images-idx3-ubyte").is_some() {
            read_idx(folder, &files.class_names, side, channels)?
        } else {
            read_folders(folder, side, channels)?
        };
        let name = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        for (class, name) in classes.iter().enumerate() {
            ensure!(all.labels.contains(&(class as u32)), "{}: no picture of `{name}` to learn from", folder.display());
        }
        ensure!(!test.is_empty(), "{}: no pictures to be tested by", folder.display());
        let mut places: Vec<usize> = (0..all.labels.len()).collect();
        places.shuffle(&mut StdRng::seed_from_u64(0));
        let (mut validation, mut learning) = places.split_at(places.len() / HELD_OUT);
        if validation.is_empty() {
            (validation, learning) = (&places, &places);
        }
        Ok(Self {
            name: name.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            learning: all.part(learning),
            validation: all.part(validation),
            test,
            classes,
        })
    }

    /// Tells other data apart.
    pub fn fingerprint(&self) -> String {
        let mut bytes = self.classes.join("\n").into_bytes();
        for part in [&self.learning, &self.validation, &self.test] {
            bytes.extend(&part.numbers);
            bytes.extend(part.labels.iter().flat_map(|label| label.to_le_bytes()));
        }
        Sha256::of_bytes(&bytes).to_string()
    }
}

impl Labelled {
    pub(crate) fn new(side: usize, channels: usize) -> Self {
        Self { side, channels, numbers: Vec::new(), labels: Vec::new() }
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Numbers of one picture.
    pub(crate) fn size(&self) -> usize {
        self.side * self.side * self.channels
    }

    pub(crate) fn picture(&self, place: usize) -> &[u8] {
        &self.numbers[place * self.size()..(place + 1) * self.size()]
    }

    fn push(&mut self, picture: &DynamicImage, label: u32) {
        self.numbers.extend(pixels(picture, self.side, self.channels));
        self.labels.push(label);
    }

    /// Some of them.
    pub(crate) fn part(&self, places: &[usize]) -> Self {
        let numbers = places.iter().flat_map(|&place| self.picture(place).iter().copied()).collect();
        let labels = places.iter().map(|&place| self.labels[place]).collect();
        Self { numbers, labels, ..Self::new(self.side, self.channels) }
    }

    /// f32 `[pictures, side, side, channels]`, from 0 to 1.
    pub(crate) fn tensor(&self, places: std::ops::Range<usize>) -> Result<Tensor> {
        let numbers = &self.numbers[places.start * self.size()..places.end * self.size()];
        let numbers = numbers.iter().map(|number| f32::from(*number) / 255.0).collect();
        Ok(Tensor::from_vec(numbers, (places.len(), self.side, self.side, self.channels), &Device::Cpu)?)
    }

    /// Begins and ends of so many pictures at a time.
    pub(crate) fn chunks(&self, size: usize) -> impl Iterator<Item = std::ops::Range<usize>> + use<> {
        let all = self.len();
        (0..all).step_by(size).map(move |first| first..(first + size).min(all))
    }
}

fn read_folders(folder: &Path, side: usize, channels: usize) -> Result<(Labelled, Labelled, Vec<String>)> {
    let train = folder.join("train");
    let wanted =
        || format!("{}: there is neither a folder `train` nor the file train-images-idx3-ubyte", folder.display());
    let mut classes = Vec::new();
    for entry in entries(&train).with_context(wanted)? {
        if entry.is_dir() {
            classes.push(entry.file_name().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    ensure!(!classes.is_empty(), "{}: there are no folders of classes", train.display());
    let read = |part: &Path| -> Result<Labelled> {
        let mut pictures = Labelled::new(side, channels);
        for entry in entries(part)? {
            let name = entry.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if !entry.is_dir() {
                continue;
            }
            let class = classes.iter().position(|class| *class == name);
            let class =
                class.with_context(|| format!("{}: no pictures of this class to learn from", entry.display()))?;
            for path in entries(&entry)?.iter().filter(|path| path.is_file()) {
                let place = || path.display().to_string();
                let file = fs::read(path).with_context(place)?;
                pictures.push(&decode_picture(&file).with_context(place)?, class as u32);
            }
        }
        Ok(pictures)
    };
    Ok((read(&train)?, read(&folder.join("validation"))?, classes))
}

/// What is in a folder, in an order that is always the same.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let place = || format!("cannot read the folder {}", folder.display());
    let entries = fs::read_dir(folder).with_context(place)?.map(|entry| entry.map(|entry| entry.path()));
    let mut entries = entries.collect::<std::io::Result<Vec<_>>>().with_context(place)?;
    entries.sort();
    Ok(entries)
}

fn idx_path(folder: &Path, name: &str) -> Option<PathBuf> {
    [folder.join(name), folder.join(format!("{name}.gz"))].into_iter().find(|path| path.is_file())
}

fn read_idx(
    folder: &Path,
    names: &[String],
    side: usize,
    channels: usize,
) -> Result<(Labelled, Labelled, Vec<String>)> {
    let read = |part: &str| -> Result<Labelled> {
        let (pictures_path, shape, pictures) = idx(folder, &format!("{part}-images-idx3-ubyte"), IDX_PICTURES)?;
        let (labels_path, _, labels) = idx(folder, &format!("{part}-labels-idx1-ubyte"), IDX_LABELS)?;
        let [count, height, width] = shape[..] else { bail!("{}: no pictures", pictures_path.display()) };
        ensure!(
            labels.len() == count,
            "{} has {} labels, and {} has {count} pictures",
            labels_path.display(),
            labels.len(),
            pictures_path.display()
        );
        let mut all = Labelled::new(side, channels);
        for (place, (picture, label)) in pictures.chunks_exact((height * width).max(1)).zip(labels).enumerate() {
            let known = names.is_empty() || usize::from(label) < names.len();
            ensure!(
                known,
                "{}: label {label} of picture {place}; there are {} names",
                labels_path.display(),
                names.len()
            );
            let picture = GrayImage::from_raw(width as u32, height as u32, picture.to_vec());
            let picture = picture.with_context(|| pictures_path.display().to_string())?;
            all.push(&picture.into(), label.into());
        }
        Ok(all)
    };
    let (train, test) = (read("train")?, read("t10k")?);
    let classes = train.labels.iter().max().map_or(0, |most| most + 1);
    let names = if names.is_empty() { (0..classes).map(|class| class.to_string()).collect() } else { names.to_vec() };
    let beyond = test.labels.iter().find(|label| **label as usize >= names.len());
    ensure!(beyond.is_none(), "{}: a label to test by is {beyond:?}, which is not learnt", folder.display());
    Ok((train, test, names))
}

/// A file of MNIST: its path, the lengths of its dimensions, and its numbers.
fn idx(folder: &Path, name: &str, wanted: u32) -> Result<(PathBuf, Vec<usize>, Vec<u8>)> {
    let path = idx_path(folder, name).with_context(|| format!("{}: there is no {name}", folder.display()))?;
    let place = || path.display().to_string();
    let mut bytes = Vec::new();
    text_file::open(&path)?.read_to_end(&mut bytes).with_context(place)?;
    let mut rest = &bytes[..];
    let mut next = || -> Result<u32> {
        let (number, after) = rest.split_first_chunk::<4>().with_context(|| format!("{} is cut off", place()))?;
        rest = after;
        Ok(u32::from_be_bytes(*number))
    };
    let magic = next()?;
    ensure!(magic == wanted, "{} begins with {magic:#x}; a file of its name begins with {wanted:#x}", place());
    let shape = (0..wanted & 0xff).map(|_| Ok(next()? as usize)).collect::<Result<Vec<_>>>()?;
    let size = shape.iter().try_fold(1_usize, |size, length| size.checked_mul(*length));
    ensure!(size == Some(rest.len()), "{} has {} numbers; its header says {shape:?}", place(), rest.len());
    let numbers = rest.to_vec();
    Ok((path, shape, numbers))
}

/// Bright dots on one of four sides, for tests.
#[cfg(test)]
pub(crate) fn dots() -> Pictures {
    let part = |count: usize| {
        let mut pictures = Labelled::new(6, 1);
        for at in 0..count {
            // Corners belong to two sides.
            let (class, along) = (at % 4, 1 + at * 5 % 4);
            let (line, column) = [(0, along), (5, along), (along, 0), (along, 5)][class];
            let mut picture = vec![(at * 13 % 60) as u8; 36];
            picture[line * 6 + column] = 255;
            pictures.numbers.extend(picture);
            pictures.labels.push(class as u32);
        }
        pictures
    };
    let classes = ["above", "below", "left", "right"].map(str::to_owned).to_vec();
    Pictures { name: "dots".to_owned(), classes, learning: part(96), validation: part(24), test: part(48) }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Write as _;

    use flate2::write::GzEncoder;

    use super::*;

    fn files(folder: &Path) -> PictureFiles {
        PictureFiles { pictures: folder.to_owned(), class_names: Vec::new() }
    }

    #[track_caller]
    fn refused(files: &PictureFiles, wanted: &str) {
        let error = format!("{:#}", Pictures::read(files, 4, 1).unwrap_err());
        assert!(error.contains(wanted), "{wanted}: {error}");
    }

    #[test]
    fn folders_of_classes_are_read_and_what_does_not_decode_is_named() {
        let dir = tempfile::tempdir().unwrap();
        refused(&files(dir.path()), "neither a folder `train`");
        for part in ["train", "validation"] {
            for (class, grey) in [("hat", 10_u8), ("shoe", 200)] {
                let folder = dir.path().join(part).join(class);
                fs::create_dir_all(&folder).unwrap();
                for number in 0..6 {
                    GrayImage::from_pixel(8, 6, image::Luma([grey]))
                        .save(folder.join(format!("{number}.png")))
                        .unwrap();
                }
            }
        }
        let pictures = Pictures::read(&files(dir.path()), 4, 3).unwrap();
        assert_eq!(pictures.classes, ["hat", "shoe"]);
        assert_eq!([&pictures.learning, &pictures.validation, &pictures.test].map(Labelled::len), [11, 1, 12]);
        for part in [&pictures.learning, &pictures.test] {
            for place in 0..part.len() {
                let grey = if part.labels[place] == 0 { 10 } else { 200 };
                assert!(part.picture(place).iter().all(|number| *number == grey));
            }
        }
        let bad = dir.path().join("train/hat/9.jpg");
        fs::write(&bad, "no picture").unwrap();
        refused(&files(dir.path()), "9.jpg");
        fs::remove_file(bad).unwrap();
        fs::create_dir_all(dir.path().join("validation/sock")).unwrap();
        refused(&files(dir.path()), "sock");
    }

    fn write_idx(folder: &Path, name: &str, magic: u32, shape: &[u32], numbers: &[u8]) {
        let mut bytes = magic.to_be_bytes().to_vec();
        bytes.extend(shape.iter().flat_map(|length| length.to_be_bytes()));
        bytes.extend(numbers);
        let mut file = GzEncoder::new(File::create(folder.join(name)).unwrap(), flate2::Compression::fast());
        file.write_all(&bytes).unwrap();
        file.finish().unwrap();
    }

    #[test]
    fn the_files_of_mnist_are_read_and_what_is_wrong_with_them_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let write =
            |name: &str, magic, shape: &[u32], numbers: &[u8]| write_idx(dir.path(), name, magic, shape, numbers);
        for part in ["train", "t10k"] {
            write(&format!("{part}-images-idx3-ubyte.gz"), IDX_PICTURES, &[3, 2, 2], &[7; 12]);
            write(&format!("{part}-labels-idx1-ubyte.gz"), IDX_LABELS, &[3], &[0, 2, 1]);
        }
        let pictures = Pictures::read(&files(dir.path()), 2, 1).unwrap();
        assert_eq!(pictures.classes, ["0", "1", "2"]);
        assert_eq!((pictures.test.picture(2), &pictures.test.labels[..]), (&[7; 4][..], &[0, 2, 1][..]));
        let named = PictureFiles { class_names: vec!["a".to_owned(), "b".to_owned()], ..files(dir.path()) };
        refused(&named, "label 2 of picture 1");
        write("t10k-labels-idx1-ubyte.gz", IDX_LABELS, &[3], &[0, 9, 1]);
        refused(&files(dir.path()), "not learnt");
        write("t10k-labels-idx1-ubyte.gz", IDX_LABELS, &[2], &[0, 1]);
        refused(&files(dir.path()), "2 labels");
        write("t10k-labels-idx1-ubyte.gz", IDX_LABELS, &[9], &[0, 1]);
        refused(&files(dir.path()), "its header says");
        write("t10k-labels-idx1-ubyte.gz", IDX_PICTURES, &[1], &[0]);
        refused(&files(dir.path()), "begins with 0x803");
        write("train-labels-idx1-ubyte.gz", IDX_LABELS, &[3], &[0, 2, 2]);
        write("t10k-labels-idx1-ubyte.gz", IDX_LABELS, &[3], &[0, 2, 2]);
        refused(&files(dir.path()), "no picture of `1`");
    }
}
