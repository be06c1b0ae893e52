//! Pictures side by side in one, to be looked at together; and shown in a terminal that can.

use std::io::{self, IsTerminal as _};

use image::{DynamicImage, RgbImage, imageops};

/// Between pictures, in pixels.
const MARGIN: u32 = 2;

/// As wide as a terminal's picture may be, in characters.
const MOST_COLUMNS: u32 = 80;

/// All pictures in lines of equal length, about as many lines as columns.
pub fn contact_sheet(pictures: &[DynamicImage]) -> DynamicImage {
    let most = |length: fn(&DynamicImage) -> u32| pictures.iter().map(length).max().unwrap_or(0) + MARGIN;
    let (width, height) = (most(DynamicImage::width), most(DynamicImage::height));
    let columns = ((pictures.len() as f64).sqrt().ceil() as u32).max(1);
    let lines = (pictures.len() as u32).div_ceil(columns);
    let mut sheet = DynamicImage::from(RgbImage::new(columns * width + MARGIN, lines * height + MARGIN));
    for (at, picture) in (0..).zip(pictures) {
        let (x, y) = (at % columns * width + MARGIN, at / columns * height + MARGIN);
        imageops::replace(&mut sheet, &DynamicImage::from(picture.to_rgb8()), x.into(), y.into());
    }
    sheet
}

/// Shows a picture in the terminal, by its own means (kitty, iTerm, sixel) or in half blocks; nothing where there is no terminal.
///
/// # Errors
/// The terminal cannot be written to.
pub fn show(picture: &DynamicImage) -> viuer::ViuResult<()> {
    if !(io::stdout().is_terminal() && io::stdin().is_terminal()) {
        return Ok(());
    }
    // Two pixels stand for a character at most: small pictures stay small.
    let width = Some(picture.width().min(MOST_COLUMNS));
    viuer::print(picture, &viuer::Config { absolute_offset: false, width, ..viuer::Config::default() }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_picture_has_its_place() {
        let pictures: Vec<DynamicImage> =
            (1..=5).map(|shade| DynamicImage::from(RgbImage::from_pixel(4, 6, image::Rgb([shade * 50; 3])))).collect();
        let sheet = contact_sheet(&pictures).into_rgb8();
        assert_eq!(sheet.dimensions(), (3 * 6 + 2, 2 * 8 + 2));
        let at = |column: u32, line: u32| sheet.get_pixel(column * 6 + 3, line * 8 + 3).0[0];
        assert_eq!([at(0, 0), at(1, 0), at(2, 0), at(0, 1), at(1, 1), at(2, 1)], [50, 100, 150, 200, 250, 0]);
    }
}
