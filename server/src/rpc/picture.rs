//! Checks a picture that a client sent, without decoding it: its format, and that it is not absurdly large.

use std::io::Cursor;

use image::{ImageFormat, ImageReader};

const MAX_BYTES: usize = 10 << 20;
const MAX_PIXELS: u64 = 50_000_000;

/// Says what is wrong with a picture's bytes.
pub fn check(data: &[u8]) -> Result<(), String> {
    if data.is_empty() {
        return Err("is required".into());
    }
    if data.len() > MAX_BYTES {
        return Err(format!("has {} bytes; at most {MAX_BYTES} are allowed", data.len()));
    }
    let reader = ImageReader::new(Cursor::new(data)).with_guessed_format().map_err(|error| error.to_string())?;
    if !matches!(reader.format(), Some(ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) {
        return Err("is no PNG, JPEG or WebP file".into());
    }
    let (width, height) = reader.into_dimensions().map_err(|error| format!("cannot be read as a picture: {error}"))?;
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(format!("is {width}×{height}; at most {MAX_PIXELS} pixels are allowed"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image::RgbImage::new(width, height).write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn a_picture_passes_and_anything_else_does_not() {
        assert_eq!(check(&png(2, 3)), Ok(()));
        for rubbish in [&b""[..], b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a\0\0\0\0", &[0xff; 100]] {
            assert!(check(rubbish).is_err());
        }
    }

    #[test]
    fn a_header_that_claims_too_many_pixels_is_refused_undecoded() {
        let mut bomb = png(1, 1);
        bomb[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
        // The header's checksum is right, as an attacker would make it.
        let crc = crc32(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&crc.to_be_bytes());
        assert!(check(&bomb).unwrap_err().contains("65536×65536"));
    }

    /// CRC-32 as PNG's specification, annex D, has it.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 })
        })
    }
}
