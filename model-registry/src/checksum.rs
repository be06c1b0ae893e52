//! SHA-256 of files, and copying with the checksum taken of the bytes that were written.

use std::{
    fmt, fs,
    io::{self, Read, Write},
    path::Path,
    str::FromStr,
};

use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use thiserror::Error;

const CHUNK: usize = 1 << 20;

/// A SHA-256 checksum; written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256([u8; 32]);

/// Text that is no SHA-256 checksum.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("\"{0}\" is no SHA-256 checksum: it has 64 hexadecimal digits")]
pub struct ChecksumError(String);

impl Sha256 {
    /// The checksum of a file's content.
    pub fn of_file(path: &Path) -> io::Result<Self> {
        Self::of_file_resting(path, &|| ())
    }

    /// The same, and calls `rest` after every millisecond or so.
    pub(crate) fn of_file_resting(path: &Path, rest: &dyn Fn()) -> io::Result<Self> {
        copy(&mut fs::File::open(path)?, &mut Resting(rest)).map(|(sum, _)| sum)
    }

    /// The checksum of these bytes.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(sha2::Sha256::digest(bytes).into())
    }
}

/// Where bytes go that nobody wants, with a rest after each chunk.
struct Resting<'a>(&'a dyn Fn());

impl Write for Resting<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.0)();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Copies everything and returns the checksum and the number of the bytes that went through.
pub fn copy(from: &mut impl Read, to: &mut impl Write) -> io::Result<(Sha256, u64)> {
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut total = 0;
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let bytes = buffer.get(..read).unwrap_or_default();
        hasher.update(bytes);
        to.write_all(bytes)?;
        total += read as u64;
    }
    Ok((Sha256(hasher.finalize().into()), total))
}

impl FromStr for Sha256 {
    type Err = ChecksumError;

    fn from_str(text: &str) -> Result<Self, ChecksumError> {
        let refused = || ChecksumError(text.to_owned());
        if text.len() != 64 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(refused());
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = str::from_utf8(pair).map_err(|_| refused())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| refused())?;
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Sha256 {
    type Error = ChecksumError;

    fn try_from(text: String) -> Result<Self, ChecksumError> {
        text.parse()
    }
}

impl From<Sha256> for String {
    fn from(sum: Sha256) -> Self {
        sum.to_string()
    }
}

impl fmt::Display for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Sha256 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sha256({self})")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_checksum_of_nothing_is_the_published_one() {
        let text = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Sha256::of_bytes(b"").to_string(), text);
    }

    #[test]
    fn anything_but_64_hexadecimal_digits_is_refused() {
        for text in ["", "e3b0", &"g".repeat(64), &"+1".repeat(32), &"0".repeat(65)] {
            assert!(text.parse::<Sha256>().is_err(), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn copying_keeps_bytes_and_sums_them(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let mut written = Vec::new();
            let (sum, size) = copy(&mut bytes.as_slice(), &mut written).unwrap();
            prop_assert_eq!(sum, Sha256::of_bytes(&bytes));
            prop_assert_eq!(sum.to_string().parse::<Sha256>(), Ok(sum));
            prop_assert_eq!(size, bytes.len() as u64);
            prop_assert_eq!(written, bytes);
        }
    }
}
