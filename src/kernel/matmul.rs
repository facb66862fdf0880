//! Matrix products on slices, single-threaded, through the crate `gemm`.

use super::parallel::Hole;
use std::mem::MaybeUninit;

/// A matrix inside a slice: `rows` x `columns`, element (i, j) at `i * row_stride + j * column_stride`.
#[derive(Clone, Copy)]
pub struct Matrix<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    pub columns: usize,
    pub row_stride: usize,
    pub column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A row-major matrix that fills `data`.
    pub fn new(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Matrix {
            data,
            rows,
            columns,
            row_stride: columns,
            column_stride: 1,
        }
    }

    /// A row-major matrix whose rows are `row_stride` apart.
    pub fn strided(data: &'a [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        Matrix {
            data,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// The transpose.
    pub fn t(self) -> Self {
        Matrix {
            data: self.data,
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
        }
    }

    fn covers(&self) -> bool {
        self.rows == 0
            || self.columns == 0
            || (self.rows - 1) * self.row_stride + (self.columns - 1) * self.column_stride
                < self.data.len()
    }
}

/// `out = scale * a b` into memory that need not hold numbers before; `out` has rows `out_stride` apart, and
/// only what belongs to the product is written.
///
/// # Panics
/// If the shapes don't fit each other or the slices.
pub fn matmul_into(
    out: &mut [MaybeUninit<f32>],
    out_stride: usize,
    scale: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    let len = out.len();
    // SAFETY: `out` is borrowed mutably and of this length; without `accumulate` it is not read.
    unsafe { product(out.as_mut_ptr().cast(), len, out_stride, false, scale, a, b) }
}

/// `scale * a b` fills `out`, row after row.
///
/// # Panics
/// If the shapes don't fit each other or the slices.
pub fn matmul_fill<'o>(out: Hole<'o>, scale: f32, a: Matrix<'_>, b: Matrix<'_>) -> &'o mut [f32] {
    assert_eq!(
        out.len(),
        a.rows * b.columns,
        "the product fills its memory"
    );
    matmul_into(out, b.columns, scale, a, b);
    // SAFETY: rows of the product's width follow each other without a gap, so each value was written.
    unsafe { out.assume_init_mut() }
}

/// `out = scale * a b`, or `out += scale * a b` if `accumulate`; `out` has rows `out_stride` apart.
///
/// # Panics
/// If the shapes don't fit each other or the slices.
pub fn matmul(
    out: &mut [f32],
    out_stride: usize,
    accumulate: bool,
    scale: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    let len = out.len();
    // SAFETY: `out` is borrowed mutably, of this length, and holds numbers.
    unsafe { product(out.as_mut_ptr(), len, out_stride, accumulate, scale, a, b) }
}

/// The product into the `len` values at `out`, which are read if `accumulate`.
///
/// # Safety
/// `out` is the start of `len` writable values that overlap neither operand, and hold numbers if
/// `accumulate`.
unsafe fn product(
    out: *mut f32,
    len: usize,
    out_stride: usize,
    accumulate: bool,
    scale: f32,
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    assert_eq!(a.columns, b.rows, "inner dimensions");
    assert!(a.covers() && b.covers(), "operands cover their matrices");
    let empty = a.rows == 0 || b.columns == 0;
    assert!(
        empty || (a.rows - 1) * out_stride + b.columns <= len && out_stride >= b.columns,
        "output covers its matrix"
    );
    // SAFETY: the assertions above keep every access inside the three slices, and the caller vouches for
    // `out`.
    unsafe {
        gemm::gemm(
            a.rows,
            b.columns,
            a.columns,
            out,
            1,
            out_stride as isize,
            accumulate,
            a.data.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_definition() {
        for (m, n, k) in [(1, 1, 1), (3, 5, 7), (37, 37, 32), (64, 1, 9), (2, 70, 33)] {
            let a: Vec<f32> = (0..m * k).map(|i| (i % 13) as f32 - 6.0).collect();
            let b: Vec<f32> = (0..n * k).map(|i| (i % 7) as f32 - 3.0).collect();
            let mut out = vec![1.0; m * n];
            // b is stored [n, k]: use its transpose.
            let b_t = Matrix::new(&b, n, k).t();
            matmul(&mut out, n, true, 0.5, Matrix::new(&a, m, k), b_t);
            for i in 0..m {
                for j in 0..n {
                    let product: f32 = (0..k).map(|l| a[i * k + l] * b[j * k + l]).sum();
                    assert_eq!(out[i * n + j], 1.0 + 0.5 * product);
                }
            }
        }
    }

    /// Whatever lies in the memory before, NaN included, is not read.
    #[test]
    fn fresh_memory_is_not_read() {
        for m in [1, 2, 3, 7, 16, 17, 48, 65, 130] {
            for n in [1, 2, 5, 16, 31, 64, 97] {
                for k in [1, 2, 8, 33, 64, 300] {
                    let (a, b) = (vec![0.5f32; m * k], vec![2.0f32; k * n]);
                    let expected = k as f32;
                    let check = |what: &str, a: Matrix<'_>, b: Matrix<'_>| {
                        let mut memory = vec![f32::NAN; m * n + 3];
                        let mut hole: Vec<MaybeUninit<f32>> =
                            memory.drain(..).map(MaybeUninit::new).collect();
                        let filled = matmul_fill(&mut hole[..m * n], 1.0, a, b);
                        assert!(filled.iter().all(|v| *v == expected), "{what} {m} {n} {k}");
                    };
                    check("plain", Matrix::new(&a, m, k), Matrix::new(&b, k, n));
                    check("left", Matrix::new(&a, k, m).t(), Matrix::new(&b, k, n));
                    check("right", Matrix::new(&a, m, k), Matrix::new(&b, n, k).t());
                }
            }
        }
    }
}
