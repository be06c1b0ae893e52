//! A made picture as a file: resized, in the format that was asked for, and with a note of what made it.

use image::{
    DynamicImage, ExtendedColorType, GrayImage, ImageEncoder, ImageError, RgbImage,
    codecs::{jpeg::JpegEncoder, webp::WebPEncoder},
    imageops::FilterType,
};
use vitrine::v1::ImageFormat;

use super::Made;

/// Of JPEG files.
const QUALITY: u8 = 90;

/// Who made it, as the note says.
const SOFTWARE: &str = concat!("Vitrine ", env!("CARGO_PKG_VERSION"));

/// How pictures of another size than the network's are made: the name of the filter.
pub const RESIZED_BY: &str = "lanczos3";

/// A file.
#[derive(Clone, Debug, PartialEq)]
pub struct File {
    /// Its bytes.
    pub data: Vec<u8>,
    /// As `image/png`.
    pub content_type: &'static str,
}

/// Makes a picture of that size, width and height, of what was made, which has 1 channel or 3.
///
/// # Errors
/// There are not as many pixels as its size says, which is a fault of ours.
pub fn picture(made: Made, size: (u32, u32)) -> Result<DynamicImage, String> {
    let Made { pixels, size: own, channels, .. } = made;
    let picture = match channels {
        1 => GrayImage::from_raw(own.0, own.1, pixels).map(DynamicImage::from),
        3 => RgbImage::from_raw(own.0, own.1, pixels).map(DynamicImage::from),
        _ => None,
    };
    let picture = picture.ok_or_else(|| format!("these are not the pixels of {} × {} × {channels}", own.0, own.1))?;
    if size == own {
        return Ok(picture);
    }
    Ok(picture.resize_exact(size.0, size.1, FilterType::Lanczos3))
}

/// Writes a picture. `note` says what made it: PNG has it as text, the others as Exif's description.
///
/// # Errors
/// The picture is larger than the format allows.
pub fn write(picture: &DynamicImage, format: ImageFormat, note: &str) -> Result<File, String> {
    let mut data = Vec::new();
    let content_type = match format {
        ImageFormat::Unspecified | ImageFormat::Png => {
            png(picture, note, &mut data).map_err(|error| error.to_string())?;
            "image/png"
        }
        ImageFormat::Jpeg => {
            encode(picture, JpegEncoder::new_with_quality(&mut data, QUALITY), note)
                .map_err(|error| error.to_string())?;
            "image/jpeg"
        }
        ImageFormat::Webp => {
            encode(picture, WebPEncoder::new_lossless(&mut data), note).map_err(|error| error.to_string())?;
            "image/webp"
        }
    };
    Ok(File { data, content_type })
}

fn png(picture: &DynamicImage, note: &str, to: &mut Vec<u8>) -> Result<(), png::EncodingError> {
    let mut encoder = png::Encoder::new(to, picture.width(), picture.height());
    encoder.set_color(if picture.color().has_color() { png::ColorType::Rgb } else { png::ColorType::Grayscale });
    encoder.set_depth(png::BitDepth::Eight);
    encoder.add_text_chunk("Software".to_owned(), SOFTWARE.to_owned())?;
    encoder.add_itxt_chunk("Description".to_owned(), note.to_owned())?;
    encoder.write_header()?.write_image_data(picture.as_bytes())
}

fn encode(picture: &DynamicImage, mut encoder: impl ImageEncoder, note: &str) -> Result<(), ImageError> {
    encoder.set_exif_metadata(exif(note)).map_err(ImageError::Unsupported)?;
    let color: ExtendedColorType = picture.color().into();
    encoder.write_image(picture.as_bytes(), picture.width(), picture.height(), color)
}

/// Exif 2.32: a TIFF header and one directory, with the image's description and the software.
fn exif(note: &str) -> Vec<u8> {
    const ASCII: u16 = 2;
    let entries = [(0x010e_u16, note), (0x0131, SOFTWARE)];
    let mut bytes = b"II\x2a\0\x08\0\0\0".to_vec();
    bytes.extend((entries.len() as u16).to_le_bytes());
    // Behind the directory: its length, the entries of twelve bytes, and that there is no next one.
    let mut at = bytes.len() + 12 * entries.len() + 4;
    for (tag, text) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(ASCII.to_le_bytes());
        bytes.extend((text.len() as u32 + 1).to_le_bytes());
        bytes.extend((at as u32).to_le_bytes());
        at += padded(text).count();
    }
    bytes.extend([0; 4]);
    for (_, text) in entries {
        bytes.extend(padded(text));
    }
    bytes
}

/// A text and the 0 that ends it, of an even length: what comes next begins at an even place.
fn padded(text: &str) -> impl Iterator<Item = u8> {
    text.bytes().chain(std::iter::repeat_n(0, 2 - text.len() % 2))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{ImageDecoder as _, ImageReader};

    use super::*;

    const NOTE: &str = "made by models/fashion-cgan/versions/1, class Dress, seed 7";

    fn made(pixels: Vec<u8>, channels: usize) -> Made {
        Made { pixels, size: (4, 4), channels, realism: None, nearest: None }
    }

    fn dots(channels: usize, size: (u32, u32)) -> DynamicImage {
        picture(made((0..16 * channels).map(|at| (at * 5) as u8).collect(), channels), size).unwrap()
    }

    #[test]
    fn every_format_comes_back_as_the_same_picture_with_its_note() {
        for channels in [1, 3] {
            for format in [ImageFormat::Unspecified, ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Webp] {
                let before = dots(channels, (4, 4));
                let file = write(&before, format, NOTE).unwrap();
                let reader = ImageReader::new(Cursor::new(&file.data)).with_guessed_format().unwrap();
                assert_eq!(reader.format().unwrap().to_mime_type(), file.content_type);
                let mut decoder = reader.into_decoder().unwrap();
                let exif = decoder.exif_metadata().unwrap();
                let after = DynamicImage::from_decoder(decoder).unwrap();
                if format != ImageFormat::Jpeg {
                    assert_eq!(after.to_rgb8(), before.to_rgb8(), "{format:?}");
                }
                let noted = |bytes: &[u8]| bytes.windows(NOTE.len()).any(|part| part == NOTE.as_bytes());
                assert!(noted(&file.data), "{format:?}");
                assert_eq!(exif.is_some(), file.content_type != "image/png");
            }
        }
    }

    #[test]
    fn a_picture_is_resized_and_pixels_of_another_size_are_none() {
        assert_eq!(dots(3, (9, 5)).into_rgb8().dimensions(), (9, 5));
        assert!(picture(made(vec![0; 15], 1), (4, 4)).unwrap_err().contains("4 × 4"));
        assert!(picture(made(vec![0; 32], 2), (4, 4)).is_err());
    }
}
