//! The image type: 8-bit RGB.

/// An 8-bit RGB image, channels interleaved, rows from the top. Never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Rgb8 {
    width: usize,
    height: usize,
    data: Vec<u8>,
}

impl Rgb8 {
    /// The image whose bytes are `data` (`width * height * 3` of them); `None` if the numbers do not
    /// fit or a side is zero.
    pub fn from_raw(width: usize, height: usize, data: Vec<u8>) -> Option<Rgb8> {
        let bytes = width.checked_mul(height)?.checked_mul(3)?;
        (bytes > 0 && bytes == data.len()).then_some(Rgb8 {
            width,
            height,
            data,
        })
    }

    /// An image of one colour. Sides of zero count as one.
    pub fn filled(width: usize, height: usize, color: [u8; 3]) -> Rgb8 {
        let (width, height) = (width.max(1), height.max(1));
        let data = color.repeat(width * height);
        Rgb8 {
            width,
            height,
            data,
        }
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// All bytes, `[height, width, 3]`.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// All bytes, `[height, width, 3]`.
    pub fn data_mut(&mut self) -> &mut [u8] {
        &mut self.data
    }

    /// The bytes of row `y`.
    pub fn row(&self, y: usize) -> &[u8] {
        &self.data[y * self.width * 3..(y + 1) * self.width * 3]
    }

    /// The bytes of row `y`.
    pub fn row_mut(&mut self, y: usize) -> &mut [u8] {
        &mut self.data[y * self.width * 3..(y + 1) * self.width * 3]
    }

    /// Pixels, from the top left, row by row.
    pub fn pixels(&self) -> impl ExactSizeIterator<Item = &[u8; 3]> {
        self.data.as_chunks::<3>().0.iter()
    }

    /// Pixels, from the top left, row by row.
    pub fn pixels_mut(&mut self) -> impl ExactSizeIterator<Item = &mut [u8; 3]> {
        self.data.as_chunks_mut::<3>().0.iter_mut()
    }

    /// The pixel in column `x` of row `y`.
    pub fn pixel(&self, x: usize, y: usize) -> [u8; 3] {
        let row = self.row(y);
        [row[x * 3], row[x * 3 + 1], row[x * 3 + 2]]
    }

    /// The whole image as a rectangle.
    pub fn bounds(&self) -> Rect {
        Rect {
            left: 0,
            top: 0,
            width: self.width,
            height: self.height,
        }
    }
}

impl std::fmt::Debug for Rgb8 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Rgb8({} x {})", self.width, self.height)
    }
}

/// A rectangle of pixels inside an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rect {
    /// First column.
    pub left: usize,
    /// First row.
    pub top: usize,
    /// Columns.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

impl Rect {
    /// The part of this rectangle that lies in an image of `width` x `height`, at least one pixel.
    pub(in crate::data) fn clamped(self, width: usize, height: usize) -> Rect {
        let left = self.left.min(width - 1);
        let top = self.top.min(height - 1);
        Rect {
            left,
            top,
            width: self.width.clamp(1, width - left),
            height: self.height.clamp(1, height - top),
        }
    }
}
