//! The sizes of one convolution, and where its windows lie.

use candle_core::{Result, Shape};

use super::Windows;

/// So many numbers are laid out together: half of what a core's second cache holds.
const BLOCK: usize = 1 << 16;

/// But so many windows at least: a large kernel comes from the third cache for each block.
const FEWEST_WINDOWS: usize = 128;

/// The sizes of one convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plan {
    pub(super) pictures: usize,
    pub(super) height: usize,
    pub(super) width: usize,
    pub(super) channels: usize,
    /// Windows from top to bottom.
    pub(super) down: usize,
    /// Windows from left to right.
    pub(super) across: usize,
    pub(super) outputs: usize,
    /// Each channel has its own window and its own output.
    pub(super) depthwise: bool,
    pub(super) windows: Windows,
}

impl Plan {
    pub(super) fn new(pictures: [usize; 4], outputs: usize, depthwise: bool, windows: Windows) -> Result<Self> {
        let [pictures, height, width, channels] = pictures;
        let (Some(down), Some(across)) = (windows.over(height), windows.over(width)) else {
            candle_core::bail!("windows of {} over pictures of {height} × {width}", windows.side);
        };
        Ok(Self { pictures, height, width, channels, down, across, outputs, depthwise, windows })
    }

    /// Numbers of one picture.
    pub(super) fn picture(&self) -> usize {
        self.height * self.width * self.channels
    }

    /// Numbers that one window sees.
    pub(super) fn seen(&self) -> usize {
        self.windows.side * self.windows.side * self.channels
    }

    /// Outputs of one line of windows.
    pub(super) fn line(&self) -> usize {
        self.across * self.outputs
    }

    /// Lines of windows of all pictures.
    pub(super) fn lines(&self) -> usize {
        self.pictures * self.down
    }

    /// Lines of windows that are laid out together.
    pub(super) fn block(&self) -> usize {
        let rows = (BLOCK / self.seen().max(1)).max(FEWEST_WINDOWS);
        rows.div_ceil(self.across.max(1))
    }

    /// Whether a window is one point: then the pictures are their own layout.
    pub(super) fn is_plain(&self) -> bool {
        self.windows == Windows::around(1, 1)
    }

    pub(super) fn inputs(&self) -> usize {
        self.pictures * self.picture()
    }

    pub(super) fn outputs(&self) -> usize {
        self.lines() * self.line()
    }

    pub(super) fn weights(&self) -> usize {
        self.kernel_shape().elem_count()
    }

    pub(super) fn input_shape(&self) -> Shape {
        Shape::from((self.pictures, self.height, self.width, self.channels))
    }

    pub(super) fn output_shape(&self) -> Shape {
        Shape::from((self.pictures, self.down, self.across, self.outputs))
    }

    pub(super) fn kernel_shape(&self) -> Shape {
        let Self { windows: Windows { side, .. }, outputs, .. } = *self;
        Shape::from(if self.depthwise { (side * side, outputs) } else { (self.seen(), outputs) })
    }

    /// For the line of a window that lies in a picture, at so many windows from the top: its line of the picture.
    pub(super) fn picture_line(&self, down: usize, line: usize) -> Option<usize> {
        (down * self.windows.stride + line).checked_sub(self.windows.padding[0]).filter(|line| *line < self.height)
    }

    /// For a window at so many windows from the left: where it begins in the picture, and which of its columns are in the picture.
    pub(super) fn columns(&self, across: usize) -> (usize, std::ops::Range<usize>) {
        let (begin, before) = (across * self.windows.stride, self.windows.padding[0]);
        let first = before.saturating_sub(begin).min(self.windows.side);
        let last = (self.width + before).saturating_sub(begin).clamp(first, self.windows.side);
        ((begin + first).saturating_sub(before), first..last)
    }
}
