//! From a picture's file to the numbers that a network sees.
//!
//! Files come from anywhere: what their header claims is looked at before anything is decoded.

use std::io::Cursor;

use image::imageops::FilterType;
use image::metadata::Orientation;
use image::{DynamicImage, GenericImageView as _, ImageDecoder, ImageFormat, ImageReader, Rgb, RgbImage};

const MAX_BYTES: usize = 10 << 20;
const MAX_PIXELS: u64 = 50_000_000;

/// What is wrong with a picture's file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PictureError {
    /// There is none.
    #[error("is required")]
    Empty,
    /// Its bytes are too many.
    #[error("has {0} bytes; at most {MAX_BYTES} are allowed")]
    TooLong(usize),
    /// It is of another format.
    #[error("is no PNG, JPEG or WebP file")]
    Format,
    /// Its pixels are too many.
    #[error("is {0}×{1}; at most {MAX_PIXELS} pixels are allowed")]
    TooLarge(u32, u32),
    /// It is damaged.
    #[error("cannot be read as a picture: {0}")]
    Unreadable(String),
}

impl From<image::ImageError> for PictureError {
    fn from(error: image::ImageError) -> Self {
        Self::Unreadable(error.to_string())
    }
}

/// Looks at a file's header, and answers its format.
///
/// # Errors
/// It is not one that [`decode_picture`] would decode, as far as its header tells.
pub fn check_picture(file: &[u8]) -> Result<ImageFormat, PictureError> {
    opened(file).map(|(format, _)| format)
}

/// Decodes PNG, JPEG or WebP: upright as its Exif data says, in 8 bits, grey or red, green and blue. What shines through is white.
///
/// # Errors
/// See [`PictureError`].
pub fn decode_picture(file: &[u8]) -> Result<DynamicImage, PictureError> {
    let (_, mut decoder) = opened(file)?;
    // Damaged Exif data turns nothing.
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut picture = DynamicImage::from_decoder(decoder)?;
    picture.apply_orientation(orientation);
    Ok(match picture {
        picture if picture.color().has_alpha() => on_white(&picture).into(),
        picture if picture.color().has_color() => picture.into_rgb8().into(),
        picture => picture.into_luma8().into(),
    })
}

/// A picture as a network sees it: a square of that side (what is longer is cut off on both sides), grey (1 channel) or coloured (3); line by
/// line, the channels of a point together.
#[must_use]
pub fn pixels(picture: &DynamicImage, side: usize, channels: usize) -> Vec<u8> {
    let length = side as u32;
    let squared = if picture.dimensions() == (length, length) {
        picture.clone()
    } else {
        picture.resize_to_fill(length, length, FilterType::Lanczos3)
    };
    if channels == 1 { squared.into_luma8().into_raw() } else { squared.into_rgb8().into_raw() }
}

fn opened(file: &[u8]) -> Result<(ImageFormat, impl ImageDecoder + '_), PictureError> {
    if file.is_empty() {
        return Err(PictureError::Empty);
    }
    if file.len() > MAX_BYTES {
        return Err(PictureError::TooLong(file.len()));
    }
    let reader = ImageReader::new(Cursor::new(file));
    let reader = reader.with_guessed_format().map_err(|error| PictureError::Unreadable(error.to_string()))?;
    let known = |format: &ImageFormat| matches!(format, ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP);
    let format = reader.format().filter(known).ok_or(PictureError::Format)?;
    let decoder = reader.into_decoder()?;
    let (width, height) = decoder.dimensions();
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        return Err(PictureError::TooLarge(width, height));
    }
    Ok((format, decoder))
}

fn on_white(picture: &DynamicImage) -> RgbImage {
    let picture = picture.to_rgba8();
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let [red, green, blue, alpha] = picture.get_pixel(x, y).0.map(u32::from);
        let over = |part: u32| ((part * alpha + 255 * (255 - alpha) + 127) / 255) as u8;
        Rgb([red, green, blue].map(over))
    })
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, ImageEncoder as _, Luma, Rgba, RgbaImage, codecs::jpeg::JpegEncoder};

    use super::*;

    fn file(picture: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        picture.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    fn png(width: u32, height: u32) -> Vec<u8> {
        file(&RgbImage::new(width, height).into(), ImageFormat::Png)
    }

    #[test]
    fn a_picture_passes_and_anything_else_does_not() {
        assert_eq!(check_picture(&png(2, 3)), Ok(ImageFormat::Png));
        for rubbish in [&b""[..], b"hello", b"\x89PNG\r\n\x1a\n", b"GIF89a\0\0\0\0", &[0xff; 100]] {
            assert!(check_picture(rubbish).is_err());
        }
        let whole = png(40, 30);
        assert!(matches!(decode_picture(&whole[..whole.len() / 2]), Err(PictureError::Unreadable(_))));
        assert_eq!(check_picture(&vec![0; MAX_BYTES + 1]), Err(PictureError::TooLong(MAX_BYTES + 1)));
    }

    #[test]
    fn a_header_that_claims_too_many_pixels_is_refused_undecoded() {
        let mut bomb = png(1, 1);
        bomb[16..24].copy_from_slice(&[0, 1, 0, 0, 0, 1, 0, 0]);
        // The header's checksum is right, as an attacker would make it.
        let crc = crc32(&bomb[12..29]);
        bomb[29..33].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(check_picture(&bomb), Err(PictureError::TooLarge(65_536, 65_536)));
        assert_eq!(decode_picture(&bomb), Err(PictureError::TooLarge(65_536, 65_536)));
    }

    /// CRC-32 as PNG's specification, annex D, has it.
    fn crc32(bytes: &[u8]) -> u32 {
        !bytes.iter().fold(!0, |crc, &byte| {
            (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 })
        })
    }

    #[test]
    fn exif_turns_a_picture_upright() {
        // Dark above, bright below.
        let picture = GrayImage::from_fn(16, 16, |_, y| Luma([if y < 8 { 0 } else { 255 }]));
        let mut bytes = Vec::new();
        let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 95);
        // One entry: orientation 6, to be turned by 90° to the right.
        let exif = b"II\x2a\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        encoder.set_exif_metadata(exif.to_vec()).unwrap();
        encoder.encode_image(&picture).unwrap();
        let upright = pixels(&decode_picture(&bytes).unwrap(), 2, 1);
        // What was above is on the right.
        assert!(upright[0] > 200 && upright[2] > 200 && upright[1] < 50 && upright[3] < 50, "{upright:?}");
    }

    #[test]
    fn what_shines_through_is_white_and_grey_stays_grey() {
        let mut picture = RgbaImage::from_pixel(2, 1, Rgba([0, 0, 0, 0]));
        picture.put_pixel(1, 0, Rgba([200, 100, 0, 128]));
        for format in [ImageFormat::Png, ImageFormat::WebP] {
            let decoded = decode_picture(&file(&picture.clone().into(), format)).unwrap();
            assert_eq!(decoded.as_rgb8().unwrap().as_raw(), &[255, 255, 255, 227, 177, 127], "{format:?}");
        }
        let grey = decode_picture(&file(&GrayImage::from_pixel(3, 2, Luma([7])).into(), ImageFormat::Png)).unwrap();
        assert_eq!(grey.as_luma8().map(|grey| grey.as_raw().clone()), Some(vec![7; 6]));
        assert_eq!(pixels(&grey, 1, 3), [7, 7, 7]);
    }

    #[test]
    fn inks_become_colours() {
        // 8×8, all cyan: made with Pillow, `Image.new("CMYK", (8, 8), (255, 0, 0, 0)).save(…)`.
        let decoded = decode_picture(include_bytes!("../golden/cyan.jpg")).unwrap();
        let [red, green, blue] = decoded.as_rgb8().unwrap().get_pixel(4, 4).0;
        assert!(red < 30 && green > 150 && blue > 200, "{red} {green} {blue}");
    }
}
