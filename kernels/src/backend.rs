//! Which instruction set the kernels run on.
//!
//! The choice is made once, from what the processor reports, and holds for the process. It can be made by hand in
//! two ways: [`Backend::force`] before the first kernel runs, or by calling a kernel as a method of a [`Backend`]
//! value, which is how the tests hold every backend against the scalar twin. A name, such as one from a configuration,
//! becomes a backend by [`str::parse`].

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::scalar::text::Bytewise;
use crate::simd::{self, Level};
use crate::text::Text;

static ACTIVE: OnceLock<Backend> = OnceLock::new();

/// Work that reads text: see [`Backend::run`].
pub trait Task {
    /// What comes of it.
    type Output;
    /// Does it. Must be `#[inline(always)]`, as must all that it hands `text` on to.
    fn run<T: Text>(self, text: T) -> Self::Output;
}

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
        std::iter::once(Self::Scalar).chain(Level::available().map(Self::Simd))
    }

    /// The backend of this process: the forced one, else the best one.
    #[inline]
    pub fn active() -> Self {
        *ACTIVE.get_or_init(Self::best)
    }

    /// Does work in code compiled for this backend's instruction set.
    #[inline]
    pub fn run<T: Task>(self, task: T) -> T::Output {
        match self {
            Self::Scalar => task.run(Bytewise),
            Self::Simd(level) => simd::launch(level, simd::Reading(task)),
        }
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

/// `auto`, `scalar`, `simd` (the fastest level) or the name of a level, with or without `simd/` before it.
impl FromStr for Backend {
    type Err = NoSuchBackend;

    fn from_str(name: &str) -> Result<Self, NoSuchBackend> {
        let level = |name: &str| Level::available().find(|level| level.name() == name);
        let found = match name {
            "auto" => Some(Self::best()),
            "scalar" => Some(Self::Scalar),
            "simd" => Level::detect().map(Self::Simd),
            _ => level(name.strip_prefix("simd/").unwrap_or(name)).map(Self::Simd),
        };
        found.ok_or_else(|| NoSuchBackend { name: name.to_owned() })
    }
}

/// A name was given that is of no backend, or of one that this processor has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchBackend {
    /// The name.
    pub name: String,
}

impl fmt::Display for NoSuchBackend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no backend `{}` on this processor; it has auto, scalar", self.name)?;
        if Level::detect().is_some() {
            f.write_str(", simd")?;
        }
        Level::available().try_for_each(|level| write!(f, ", {}", level.name()))
    }
}

impl std::error::Error for NoSuchBackend {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::{Backend, NoSuchBackend};
    use crate::Level;

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

    #[test]
    fn names_become_backends() {
        for backend in Backend::available() {
            assert_eq!(backend.to_string().parse(), Ok(backend));
        }
        assert_eq!("scalar".parse(), Ok(Backend::Scalar));
        assert_eq!("auto".parse(), Ok(Backend::best()));
        assert_eq!("simd".parse().ok(), Level::detect().map(Backend::Simd));
        for level in Level::available() {
            assert_eq!(level.name().parse(), Ok(Backend::Simd(level)));
        }
    }

    #[test]
    fn a_name_that_is_none_gets_the_ones_there_are() {
        let error = "avx1024".parse::<Backend>().unwrap_err();
        assert_eq!(error, NoSuchBackend { name: "avx1024".into() });
        let told = error.to_string();
        assert!(told.starts_with("there is no backend `avx1024` on this processor; it has auto, scalar"), "{told}");
        assert!(Level::available().all(|level| told.contains(level.name())), "{told}");
        let absent = if cfg!(target_arch = "x86_64") { "neon" } else { "avx2" };
        assert!(absent.parse::<Backend>().is_err());
        assert!("SIMD".parse::<Backend>().is_err());
    }
}
