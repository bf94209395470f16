//! Which instruction set the kernels run on.
//!
//! The choice is made once, from what the processor reports, and holds for the process. It can be made by hand in
//! two ways: [`Backend::force`] before the first kernel runs, or by calling a kernel as a method of a [`Backend`]
//! value, which is how the tests hold every backend against the scalar twin.

use std::fmt;
use std::sync::OnceLock;

use crate::simd::Level;

static ACTIVE: OnceLock<Backend> = OnceLock::new();

/// A way to run the kernels. Answers do not depend on it, except that float sums may differ within their stated error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// The reference: one row at a time, portable, short.
    Scalar,
    /// Vector instructions of the given level, and the scheduling (blocks, private copies, prefetch) that goes with them.
    Simd(Level),
}

impl Backend {
    /// The fastest backend that this processor has.
    pub fn best() -> Self {
        Level::detect().map_or(Self::Scalar, Self::Simd)
    }

    /// Every backend that this processor has, the reference first.
    pub fn available() -> impl Iterator<Item = Self> {
        std::iter::once(Self::Scalar).chain(Level::detect().map(Self::Simd))
    }

    /// The backend of this process: the forced one, else the best one.
    #[inline]
    pub fn active() -> Self {
        *ACTIVE.get_or_init(Self::best)
    }

    /// Makes `self` the backend of this process.
    ///
    /// # Errors
    /// The backend in use, if one was already chosen (by this call or by a first kernel) and is another.
    pub fn force(self) -> Result<(), Self> {
        let active = *ACTIVE.get_or_init(|| self);
        if active == self { Ok(()) } else { Err(active) }
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scalar => f.write_str("scalar"),
            Self::Simd(level) => write!(f, "simd/{}", level.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Backend;

    #[test]
    fn the_reference_is_always_there_and_the_best_is_among_the_available() {
        let all: Vec<_> = Backend::available().collect();
        assert_eq!(all[0], Backend::Scalar);
        assert!(all.contains(&Backend::best()));
    }

    #[test]
    fn forcing_a_second_backend_names_the_first() {
        let active = Backend::active();
        assert_eq!(active.force(), Ok(()));
        for other in Backend::available().filter(|b| *b != active) {
            assert_eq!(other.force(), Err(active));
        }
    }

    #[test]
    fn names_are_fit_for_a_plan() {
        assert_eq!(Backend::Scalar.to_string(), "scalar");
        if let Backend::Simd(_) = Backend::best() {
            assert!(Backend::best().to_string().starts_with("simd/"));
        }
    }
}
