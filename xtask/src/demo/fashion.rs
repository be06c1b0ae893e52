//! The catalogue `fashion`: pictures of clothes from Fashion-MNIST, to be found by pictures. The data has no words: titles are made of
//! the classes.

use std::{
    fs::{self, File},
    io::{BufWriter, Read as _, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use flate2::read::GzDecoder;
use image::GrayImage;
use serde::Serialize;

use crate::{
    fashion_mnist::{self, CLASSES},
    programs::{self, Interrupted},
    server::Server,
};

/// The catalogue's name.
pub const CATALOG: &str = "fashion";
/// What an import that is whole leaves behind. To be renamed when the files would become other ones.
const MARKER: &str = "imported-1";

/// Where pictures of each class belong in a shop.
const DEPARTMENTS: [&str; 10] =
    ["Tops", "Bottoms", "Tops", "Dresses", "Outerwear", "Shoes", "Tops", "Shoes", "Accessories", "Shoes"];

/// The catalogue's files.
pub struct Fashion {
    folder: PathBuf,
    data: PathBuf,
}

/// Pictures and the numbers of their classes, as they stand in the data.
pub struct Pictures {
    side: u32,
    numbers: Vec<u8>,
    /// By picture.
    pub classes: Vec<u8>,
}

/// A line of the items' import.
#[derive(Serialize)]
struct Item {
    id: String,
    title: String,
    categories: [String; 1],
    image: String,
}

impl Fashion {
    /// Makes the files of a catalogue with so many items in `folder`, unless they are there. None, and why is said, where the pictures
    /// cannot be had: the other catalogue does without them. `data` is the server's, in which an import leaves its mark.
    pub fn make(folder: &Path, data: &Path, items: usize) -> Result<Option<Self>> {
        let fashion = Self { folder: folder.to_owned(), data: data.to_owned() };
        if fashion.items().exists() {
            return Ok(Some(fashion));
        }
        let source = match fashion_mnist::folder() {
            Ok(source) => source,
            Err(error) => {
                println!("There will be no catalogue `{CATALOG}`: {error:#}");
                return Ok(None);
            }
        };
        programs::say("Preparing pictures");
        fashion.write(&Pictures::read(&source, "train")?, &Pictures::read(&source, "t10k")?, items)?;
        Ok(Some(fashion))
    }

    /// Writes pictures, one that is searched by for each class, and, last, the items.
    fn write(&self, goods: &Pictures, others: &Pictures, items: usize) -> Result<()> {
        let place = || self.folder.display().to_string();
        fs::create_dir_all(self.folder.join("pictures")).with_context(place)?;
        for (number, class) in (0..).zip(CLASSES) {
            let at = others.classes.iter().position(|other| *other == number).with_context(place)?;
            others.save(at, &self.query(class))?;
        }
        let partial = self.folder.join("items.partial");
        let mut lines = BufWriter::new(File::create(&partial).with_context(place)?);
        for (at, class) in goods.classes.iter().enumerate().take(items) {
            let item = item(at, *class);
            goods.save(at, &self.folder.join(&item.image))?;
            serde_json::to_writer(&mut lines, &item)?;
            lines.write_all(b"\n")?;
        }
        lines.flush()?;
        fs::rename(partial, self.items()).with_context(place)
    }

    /// The items, a JSON object a line; `image` names their pictures.
    pub fn items(&self) -> PathBuf {
        self.folder.join("items.jsonl")
    }

    /// A picture of that class which no item has.
    pub fn query(&self, class: &str) -> PathBuf {
        self.folder.join(format!("some-{class}.png"))
    }

    /// Imports the items with their pictures, unless they are there.
    pub fn import(&self, server: &Server, interrupted: &Interrupted) -> Result<()> {
        let marker = self.data.join(format!("{CATALOG}-{MARKER}"));
        if marker.exists() {
            programs::say("The catalogue of clothes has its items already");
            return Ok(());
        }
        programs::say("Importing clothes and their pictures");
        let mut import = server.client()?;
        import.args(["items", "import", "--catalog", CATALOG, "--create", "--pictures"]).arg(self.items());
        programs::run(import, Some(interrupted))?;
        fs::write(&marker, "").with_context(|| marker.display().to_string())
    }
}

impl Pictures {
    /// The pictures to learn from (`train`), or those for tests (`t10k`).
    pub fn read(folder: &Path, part: &str) -> Result<Self> {
        let (pictures, labels) = (format!("{part}-images-idx3-ubyte.gz"), format!("{part}-labels-idx1-ubyte.gz"));
        let ([side, width], numbers) = idx(&folder.join(&pictures))?;
        let ([], classes) = idx(&folder.join(&labels))?;
        let known = classes.iter().all(|class| usize::from(*class) < CLASSES.len());
        let whole = numbers.len() == classes.len() * (side * width) as usize;
        ensure!(known && whole && side == width, "{pictures} and {labels} in {} do not fit", folder.display());
        Ok(Self { side, numbers, classes })
    }

    /// One of them.
    pub fn picture(&self, at: usize) -> Result<GrayImage> {
        let size = (self.side * self.side) as usize;
        let numbers = self.numbers.get(at * size..(at + 1) * size).context("there is no such picture")?;
        GrayImage::from_raw(self.side, self.side, numbers.to_vec()).context("there is no such picture")
    }

    fn save(&self, at: usize, path: &Path) -> Result<()> {
        self.picture(at)?.save(path).with_context(|| path.display().to_string())
    }
}

/// What is said of a picture.
fn item(at: usize, class: u8) -> Item {
    let (class, department) = (CLASSES[usize::from(class)], DEPARTMENTS[usize::from(class)]);
    let name = class.replace("ankle-boot", "ankle boot");
    Item {
        id: format!("{class}-{at}"),
        title: format!("{}{} no. {at}", name[..1].to_uppercase(), &name[1..]),
        categories: [format!("{department} > {class}")],
        image: format!("pictures/{at}.png"),
    }
}

/// A file of MNIST (<http://yann.lecun.com/exdb/mnist>, "file formats"): the lengths of its dimensions but the first, and its numbers.
fn idx<const N: usize>(path: &Path) -> Result<([u32; N], Vec<u8>)> {
    let place = || path.display().to_string();
    let mut bytes = Vec::new();
    GzDecoder::new(File::open(path).with_context(place)?).read_to_end(&mut bytes).with_context(place)?;
    let header = bytes.get(..8 + 4 * N).with_context(place)?;
    ensure!(header[..4] == [0, 0, 8, N as u8 + 1], "{} begins otherwise than such a file", path.display());
    let length = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|byte| header[8 + 4 * at + byte]));
    Ok((std::array::from_fn(length), bytes.split_off(8 + 4 * N)))
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn write(path: &Path, header: &[u8], numbers: &[u8]) {
        let mut file = GzEncoder::new(File::create(path).unwrap(), Compression::fast());
        file.write_all(&[header, numbers].concat()).unwrap();
        file.finish().unwrap();
    }

    #[test]
    fn items_name_their_pictures_and_damaged_data_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let classes: Vec<u8> = (0..12).map(|at| at % 10).collect();
        let pictures = dir.path().join("train-images-idx3-ubyte.gz");
        write(&pictures, &[0, 0, 8, 3, 0, 0, 0, 12, 0, 0, 0, 2, 0, 0, 0, 2], &[9; 48]);
        write(&dir.path().join("train-labels-idx1-ubyte.gz"), &[0, 0, 8, 1, 0, 0, 0, 12], &classes);
        let read = Pictures::read(dir.path(), "train").unwrap();
        let fashion = Fashion { folder: dir.path().join("made"), data: dir.path().to_owned() };
        fashion.write(&read, &read, 11).unwrap();
        let lines = fs::read_to_string(fashion.items()).unwrap();
        let last: serde_json::Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        assert_eq!((lines.lines().count(), &last["title"]), (11, &"T-shirt no. 10".into()));
        assert_eq!(last["categories"], serde_json::json!(["Tops > t-shirt"]));
        let image = image::open(fashion.folder.join(last["image"].as_str().unwrap())).unwrap();
        assert_eq!(image.into_luma8().into_raw(), [9; 4]);
        assert!(CLASSES.iter().all(|class| fashion.query(class).exists()));

        write(&pictures, &[0, 0, 8, 3, 0, 0, 0, 12, 0, 0, 0, 2, 0, 0, 0, 2], &[9; 44]);
        assert!(Pictures::read(dir.path(), "train").is_err());
        write(&pictures, &[0, 0, 8, 1], &[]);
        assert!(Pictures::read(dir.path(), "train").is_err());
    }
}
