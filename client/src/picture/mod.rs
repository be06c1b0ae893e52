//! Pictures to send: from files, or from addresses that somebody else wrote down. What is too large or no picture goes nowhere.

mod address;
mod fetch;
mod folder;

use std::{
    fs::{self, File},
    io::{self, Read as _},
    net::IpAddr,
    path::Path,
    time::Duration,
};

use bytes::Bytes;
use image::ImageFormat;
use thiserror::Error;

pub use fetch::Fetcher;
pub use folder::Folder;

/// The largest picture that a server takes, in bytes.
const MAX_BYTES: u64 = 10 << 20;

/// Why a picture cannot be had.
#[derive(Debug, Error)]
pub enum PictureError {
    /// Make it smaller.
    #[error("larger than {} MiB", MAX_BYTES >> 20)]
    TooLarge,
    /// Write it as one of them.
    #[error("neither PNG, JPEG nor WebP")]
    NoPicture,
    /// Name a file.
    #[error("no file")]
    NoFile,
    /// Put it into the folder.
    #[error("leads out of the folder of pictures")]
    Outside,
    /// Name the folder.
    #[error("a file, but an import from stdin has no folder: name one with --pictures-from")]
    NoFolder,
    /// Correct the path, or the file's permissions.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Say so, if it is to be fetched.
    #[error("an address is fetched only with --fetch-pictures")]
    NotAsked,
    /// Correct the address.
    #[error("no address: {0}")]
    Malformed(String),
    /// Name another address.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// See whether it is there.
    #[error("the server answers {0}")]
    Status(reqwest::StatusCode),
    /// Have the server say what it is.
    #[error("the server says that it is {0}")]
    Type(String),
    /// Try later.
    #[error("not there within {0:?}")]
    Slow(Duration),
    /// See whether the server is there.
    #[error("{0}")]
    Unreachable(String),
    /// Report it.
    #[error("the program failed on it")]
    Panicked,
}

/// Why an address is not followed, whoever named it.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Refused {
    /// Only these two are spoken.
    #[error("{0} is neither http nor https")]
    Scheme(String),
    /// They would be sent to whoever owns the address.
    #[error("it has a user name or password in it")]
    Credentials,
    /// Who wrote the import could look around behind the firewall.
    #[error("{host} is {kind} ({address}): such are fetched from only with --allow-private-addresses")]
    Private {
        /// As the address has it.
        host: String,
        /// Where it leads.
        address: IpAddr,
        /// As `a private address`.
        kind: &'static str,
    },
    /// Name where it ends.
    #[error("it redirects more than {0} times")]
    Redirects(usize),
}

/// Reads a picture from a file.
pub fn read(path: &Path) -> Result<Bytes, PictureError> {
    // Before it is opened: a pipe would be waited for.
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(PictureError::NoFile);
    }
    if metadata.len() > MAX_BYTES {
        return Err(PictureError::TooLarge);
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
    checked(bytes.into())
}

/// The bytes, if they are a picture by their size and beginning.
fn checked(bytes: Bytes) -> Result<Bytes, PictureError> {
    if bytes.len() as u64 > MAX_BYTES {
        return Err(PictureError::TooLarge);
    }
    match image::guess_format(&bytes) {
        Ok(ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP) => Ok(bytes),
        _ => Err(PictureError::NoPicture),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\nand so on";

    #[test]
    fn a_file_is_read_if_it_begins_as_a_picture() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, bytes: &[u8]| {
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        assert_eq!(read(&file("a.txt", PNG)).unwrap(), PNG);
        assert_eq!(read(&file("b", b"\xff\xd8\xff\xe0")).unwrap().len(), 4);
        assert_eq!(read(&file("c", b"RIFF\x10\0\0\0WEBPVP8 ")).unwrap().len(), 16);
        assert!(matches!(read(&file("d.png", b"GIF89a")), Err(PictureError::NoPicture)));
        assert!(matches!(read(&file("e.png", b"")), Err(PictureError::NoPicture)));
        assert!(matches!(read(folder.path()), Err(PictureError::NoFile)));
        assert!(matches!(read(&folder.path().join("f")), Err(PictureError::Io(_))));
    }

    #[test]
    fn a_picture_of_ten_mib_is_the_largest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("large.png");
        fs::write(&path, PNG).unwrap();
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(MAX_BYTES).unwrap();
        assert_eq!(read(&path).unwrap().len() as u64, MAX_BYTES);
        file.set_len(MAX_BYTES + 1).unwrap();
        assert_eq!(read(&path).unwrap_err().to_string(), "larger than 10 MiB");
    }
}
