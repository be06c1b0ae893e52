//! Pictures that clients send: decoded a few at a time, and made small enough to be kept.

use std::{
    num::NonZero,
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use image::{DynamicImage, codecs::jpeg::JpegEncoder, imageops::FilterType};
use tokio::{sync::Semaphore, task};
use vitrine_models::{PictureError, decode_picture};

/// The longest side of a picture that is kept, in pixels: more than networks look at.
const LONGEST: u32 = 512;
/// Of JPEG files.
const QUALITY: u8 = 90;

/// A picture of many pixels takes much memory while it is decoded: as many at once as there are processors.
static DECODING: LazyLock<Arc<Semaphore>> =
    LazyLock::new(|| Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, NonZero::get))));

/// As many of a caller's pictures are decoded at once as make sense: whoever has more lets others in between.
pub const AT_ONCE: usize = 2;

/// Decodes a file that somebody waits for, when it is its turn, and does with it what else takes a processor.
///
/// # Errors
/// Those of [`decode_picture`].
pub async fn decoded<T: Send + 'static>(
    file: Bytes,
    then: impl FnOnce(DynamicImage) -> T + Send + 'static,
) -> Result<T, PictureError> {
    let permit = Arc::clone(&DECODING).acquire_owned().await;
    let permit = permit.map_err(|error| PictureError::Unreadable(error.to_string()))?;
    decoded_aside(file, move |picture| {
        let _permit = permit;
        then(picture)
    })
    .await
}

/// The same in nobody's turn: for threads of a low priority, which must not hold up those who wait.
///
/// # Errors
/// Those of [`decode_picture`].
pub async fn decoded_aside<T: Send + 'static>(
    file: Bytes,
    then: impl FnOnce(DynamicImage) -> T + Send + 'static,
) -> Result<T, PictureError> {
    // A decoder that panics has met a file that it cannot read.
    let decoded = task::spawn_blocking(move || decode_picture(&file).map(then)).await;
    decoded.unwrap_or_else(|error| Err(PictureError::Unreadable(error.to_string())))
}

/// A picture's file as it is kept: itself, or smaller if it is large.
///
/// # Errors
/// Those of [`decode_picture`].
pub async fn kept(file: Bytes) -> Result<Bytes, PictureError> {
    let smaller = decoded(file.clone(), |picture| {
        if picture.width().max(picture.height()) <= LONGEST {
            return Ok(None);
        }
        let mut data = Vec::new();
        let smaller = picture.resize(LONGEST, LONGEST, FilterType::Lanczos3);
        smaller.write_with_encoder(JpegEncoder::new_with_quality(&mut data, QUALITY)).map(|()| Some(data.into()))
    });
    Ok(smaller.await??.unwrap_or(file))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use image::{ImageFormat, RgbImage};

    use super::*;

    fn png(width: u32, height: u32) -> Bytes {
        let mut bytes = Cursor::new(Vec::new());
        RgbImage::from_pixel(width, height, image::Rgb([9, 99, 199])).write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner().into()
    }

    #[tokio::test]
    async fn small_pictures_are_kept_as_they_are_and_large_ones_smaller() {
        assert_eq!(kept(png(512, 3)).await.unwrap(), png(512, 3));
        let smaller = decode_picture(&kept(png(1_024, 300)).await.unwrap()).unwrap();
        assert_eq!((smaller.width(), smaller.height()), (512, 150));
        assert!(kept(b"rubbish".as_slice().into()).await.is_err());
    }
}
