//! Matrices that the threads of a team write at the same time, each its own part.

use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::Range;

/// A matrix `[rows, columns]`, by rows.
pub(super) struct Shared<T> {
    cells: Vec<UnsafeCell<T>>,
    columns: usize,
}

// SAFETY: what threads may do with it at the same time is asked of the callers of the functions below.
unsafe impl<T: Send + Sync> Sync for Shared<T> {}

impl<T: Copy + Default> Shared<T> {
    /// No rows yet.
    pub(super) fn new(columns: usize) -> Self {
        Self { cells: Vec::new(), columns }
    }

    /// Whole rows.
    pub(super) fn of(numbers: Vec<T>, columns: usize) -> Self {
        Self { cells: numbers.into_iter().map(UnsafeCell::new).collect(), columns }
    }

    /// Makes room for so many rows. What they hold is what was there before, or the default.
    pub(super) fn make_room(&mut self, rows: usize) {
        if self.cells.len() < rows * self.columns {
            self.cells.resize_with(rows * self.columns, UnsafeCell::default);
        }
    }

    /// Columns, and so the distance from one row to the next.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// The first rows.
    pub(super) fn into_rows(self, rows: usize) -> Vec<T> {
        self.cells.into_iter().take(rows * self.columns).map(UnsafeCell::into_inner).collect()
    }

    /// Rows to read.
    ///
    /// # Safety
    /// No thread writes them meanwhile.
    pub(super) unsafe fn rows(&self, rows: Range<usize>) -> &[T] {
        let cells = &self.cells[rows.start * self.columns..rows.end * self.columns];
        // SAFETY: a cell has the layout of what it holds; nobody writes, as the caller says.
        unsafe { std::slice::from_raw_parts(cells.as_ptr().cast(), cells.len()) }
    }

    /// A row to write.
    ///
    /// # Safety
    /// No other thread uses it meanwhile, and no other part of this thread.
    #[expect(clippy::mut_from_ref, reason = "the cells allow it, and the caller answers for it")]
    pub(super) unsafe fn row_mut(&self, row: usize) -> &mut [T] {
        let cells = &self.cells[row * self.columns..(row + 1) * self.columns];
        // SAFETY: a cell may be written through a shared reference; nobody else uses it, as the caller says.
        unsafe { std::slice::from_raw_parts_mut(cells.as_ptr().cast_mut().cast(), cells.len()) }
    }

    /// A part to write.
    ///
    /// # Safety
    /// No other thread uses it meanwhile, and no other part of this thread.
    pub(super) unsafe fn part(&self, rows: Range<usize>, columns: Range<usize>) -> Part<'_, T> {
        assert!(rows.end * self.columns <= self.cells.len() && columns.end <= self.columns);
        let first = self.cells.as_ptr().wrapping_add(rows.start * self.columns + columns.start);
        let (stride, rows, columns) = (self.columns, rows.len(), columns.len());
        Part { first: first.cast_mut().cast(), stride, rows, columns, whole: PhantomData }
    }
}

/// Rows and columns of a [`Shared`] that one thread writes.
pub(super) struct Part<'a, T> {
    first: *mut T,
    stride: usize,
    rows: usize,
    columns: usize,
    whole: PhantomData<&'a mut T>,
}

impl<T> Part<'_, T> {
    /// Number of rows.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// A row: good for [`Self::columns`] elements.
    #[inline(always)]
    pub(super) fn row(&mut self, row: usize) -> *mut T {
        assert!(row < self.rows);
        self.first.wrapping_add(row * self.stride)
    }
}
