//! Sketches as bytes in a column: what is taken, and why the rest is not.

use thalweg_kernels::{DdImage, HllImage, ImageError};

use crate::error::{Error, Result};

/// Registers of a group of many distinct values, as a power of two: a standard error of 1.6%.
pub(super) const LG_REGISTERS: u32 = 12;

/// What a column of sketches holds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Sketch {
    /// Distinct values.
    Distinct,
    /// Quantiles within a relative error.
    Quantiles(f64),
}

impl Sketch {
    /// Looks at the bytes of one.
    ///
    /// # Errors
    /// As [`distinct`] and [`quantiles`].
    pub fn check(self, image: &[u8]) -> Result<()> {
        match self {
            Sketch::Distinct => distinct(image).map(|_| ()),
            Sketch::Quantiles(error) => quantiles(image, error).map(|_| ()),
        }
    }
}

/// A sketch of distinct values that can be merged.
///
/// # Errors
/// [`Kind::Decode`](crate::error::Kind::Decode) if it is none; [`Kind::Schema`](crate::error::Kind::Schema) if it has too few registers.
pub(super) fn distinct(image: &[u8]) -> Result<HllImage<'_>> {
    let image = HllImage::new(image).map_err(|error| Error::decode(error.to_string()))?;
    match image.lg_k() < LG_REGISTERS {
        true => Err(other_precision(ImageError::Coarser { lg_k: image.lg_k() })),
        false => Ok(image),
    }
}

/// Why a sketch of distinct values cannot be merged.
pub(super) fn other_precision(error: ImageError) -> Error {
    match error {
        ImageError::Coarser { lg_k } => Error::schema(format!(
            "the sketch has 2^{lg_k} registers, and its values cannot be told for the 2^{LG_REGISTERS} of the merge; make it with lg_k {LG_REGISTERS} or more"
        )),
        other => Error::decode(other.to_string()),
    }
}

/// A sketch of quantiles that can be merged with those within the relative error `error`.
///
/// # Errors
/// [`Kind::Decode`](crate::error::Kind::Decode) if it is none; [`Kind::Schema`](crate::error::Kind::Schema) if it is of another error.
pub(super) fn quantiles(image: &[u8], error: f64) -> Result<DdImage> {
    let image = DdImage::new(image).map_err(|error| Error::decode(error.to_string()))?;
    match image.alpha() == error {
        true => Ok(image),
        false => Err(Error::schema(format!(
            "the sketch is within {} of its quantiles, the merge within {error}, and only sketches of one error merge; ask for `error` {}",
            image.alpha(),
            image.alpha()
        ))),
    }
}
