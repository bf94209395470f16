//! Kernels over vectors: generic code here, one small file per instruction set, and the only `unsafe` of the crate.
//!
//! A kernel is a value that implements [`Kernel`]; [`launch`] compiles its `run` once per instruction set.

pub(crate) mod aggregate;
pub(crate) mod anomaly;
pub(crate) mod arg;
pub(crate) mod co_moments;
pub(crate) mod column;
pub(crate) mod dictionary;
pub(crate) mod first_last;
pub(crate) mod histogram;
mod lanes;
pub(crate) mod moments;
pub(crate) mod partition;
pub(crate) mod prefetch;
pub(crate) mod rolling;
pub(crate) mod runs;
pub(crate) mod scatter;
pub(crate) mod selection;
pub(crate) mod sketch;
pub(crate) mod smooth;
pub(crate) mod sort;
mod vector;
pub(crate) mod window;

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod x86_64;

use crate::backend::Task;
use vector::Vector;

/// An instruction set that this processor has. Comes from detection alone, so holding one proves it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(Isa);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Isa {
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// Keeps the type inhabited nowhere else: no value of it can be made.
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    None(std::convert::Infallible),
}

impl Isa {
    /// Those with kernels of their own, the fastest first.
    const ALL: &[Self] = &[
        #[cfg(target_arch = "x86_64")]
        Self::Avx512,
        #[cfg(target_arch = "x86_64")]
        Self::Avx2,
        #[cfg(target_arch = "aarch64")]
        Self::Neon,
    ];

    /// Whether this processor has all that [`launch`] compiles for.
    fn is_here(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                Self::Avx2.is_here()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512cd")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                is_x86_feature_detected!("avx2")
                    && is_x86_feature_detected!("bmi1")
                    && is_x86_feature_detected!("bmi2")
                    && is_x86_feature_detected!("popcnt")
            }
            #[cfg(target_arch = "aarch64")]
            Self::Neon => std::arch::is_aarch64_feature_detected!("neon"),
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            Self::None(never) => match never {},
        }
    }
}

impl Level {
    /// The best instruction set here, if there is one with kernels of its own.
    pub fn detect() -> Option<Self> {
        Self::available().next()
    }

    /// Every instruction set here that has kernels of its own, the fastest first.
    pub fn available() -> impl Iterator<Item = Self> {
        Isa::ALL.iter().copied().filter(|isa| isa.is_here()).map(Self)
    }

    /// The level to compile for what goes row by row through cells of a few floats. Registers of eight are of no use there, and
    /// with 32 of them compilers shuffle the floats of a cell between halves: by 10 to 30% slower than AVX2, measured with moments
    /// and joint moments on Zen 4 and on Xeons.
    pub(crate) fn row_by_row(self) -> Self {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            // AVX-512 is only taken to be here where AVX2 is.
            Isa::Avx512 => Self(Isa::Avx2),
            other => Self(other),
        }
    }

    /// Its name: `avx512`, `avx2`, `neon`.
    pub fn name(self) -> &'static str {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => "avx2",
            #[cfg(target_arch = "aarch64")]
            Isa::Neon => "neon",
            #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
            Isa::None(never) => match never {},
        }
    }
}

/// A kernel with its arguments. `run` must be `#[inline(always)]`, so that it is compiled for the instruction set.
pub(crate) trait Kernel {
    type Output;
    fn run<V: Vector>(self, v: V) -> Self::Output;
}

/// A [`Task`] as a kernel.
pub(crate) struct Reading<T>(pub T);

impl<T: Task> Kernel for Reading<T> {
    type Output = T::Output;

    #[inline(always)]
    fn run<V: Vector>(self, v: V) -> T::Output {
        self.0.run(v)
    }
}

/// Runs a kernel on an instruction set.
#[inline]
pub(crate) fn launch<K: Kernel>(level: Level, kernel: K) -> K::Output {
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,bmi1,bmi2,popcnt")]
    fn avx2<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(x86_64::Avx2(()))
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512cd,avx512dq,avx512vl,avx2,bmi1,bmi2,popcnt")]
    fn avx512<K: Kernel>(kernel: K) -> K::Output {
        kernel.run(x86_64::Avx512(()))
    }
    match level.0 {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a level exists only where detection found its features.
        Isa::Avx512 => unsafe { avx512(kernel) },
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a level exists only where detection found its features.
        Isa::Avx2 => unsafe { avx2(kernel) },
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => kernel.run(aarch64::Neon(())),
        #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
        Isa::None(never) => match never {},
    }
}
