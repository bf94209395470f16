//! Where a kernel runs: on the CPU or on a graphics processor, chosen by measured cost.
//!
//! [`Devices`] says what is wanted and knows what there is; an [`Accumulator`] takes the rows of one column and sends
//! them where they cost least. What that is, a [`Chooser`] knows: from a [`Cost`] of each device, measured once and
//! refined while running. A [`Discord`] and
//! [`Rolling`] windows go to a GPU only where one is asked for.
//!
//! ```
//! use std::time::Instant;
//! use thalweg_kernels::placement::{Accumulator, Device, Devices};
//! use thalweg_kernels::{Cell, Want};
//!
//! let start = Instant::now();
//! let devices = Devices::new(Device::Auto, move || start.elapsed());
//! let mut sums = Accumulator::<f64>::new(&devices, Want::ALL);
//! let mut cells = [Cell::EMPTY; 8];
//! sums.accumulate(&mut cells, &[0, 7, 7], &[1.0, 2.5, 4.0], None);
//! sums.settle(&mut cells);
//! assert_eq!(cells[7].float_sum(), 6.5);
//! ```
//!
//! # Rules
//! * [`Device::Auto`] moves a kernel only where it wins by a margin of a quarter, moves it back only where it loses by as
//!   much, looks for a device only once a kernel has rows enough that one could win, and never takes a software adapter.
//! * Rows bound for the device are gathered until they pay for the launch, unless reading them back would take longer than
//!   the latency allowed.
//! * A device that fails loses no row: the CPU computes again what it held, and takes all that follows. The fault is told
//!   once, by [`Devices::take_fault`].

mod accumulator;
mod chooser;
mod cost;
mod devices;
mod discord;
#[cfg(feature = "gpu")]
mod gathered;
#[cfg(feature = "gpu")]
mod offload;
mod rolling;

use std::fmt;
use std::str::FromStr;

#[cfg(feature = "gpu")]
pub use crate::gpu::Number;
pub use accumulator::Accumulator;
pub use chooser::Chooser;
pub use cost::{Cost, Estimate, Transfer, Work};
#[cfg(feature = "gpu")]
pub(crate) use cost::{median, scattered};
pub use devices::{Devices, Usage};
pub use discord::Discord;
#[cfg(feature = "gpu")]
pub(crate) use gathered::Gathered;
pub use rolling::Rolling;

/// Values that an [`Accumulator`] takes: `f64` or `i64`.
#[cfg(not(feature = "gpu"))]
pub trait Number: crate::Value {}

#[cfg(not(feature = "gpu"))]
impl Number for f64 {}

#[cfg(not(feature = "gpu"))]
impl Number for i64 {}

/// The device that is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The one that measures cheaper, never a software adapter.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// The GPU, a software adapter if there is no other; the CPU if there is none at all.
    Gpu,
}

impl Device {
    /// Every device that may be wanted.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Cpu, Self::Gpu];
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        })
    }
}

impl FromStr for Device {
    type Err = NoSuchDevice;

    fn from_str(name: &str) -> Result<Self, NoSuchDevice> {
        Self::ALL.into_iter().find(|device| device.to_string() == name).ok_or_else(|| NoSuchDevice { name: name.to_owned() })
    }
}

/// A name was given that is of no device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoSuchDevice {
    /// The name.
    pub name: String,
}

impl fmt::Display for NoSuchDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "there is no device `{}`; it may be auto, cpu or gpu", self.name)
    }
}

impl std::error::Error for NoSuchDevice {}

#[cfg(test)]
mod tests {
    use super::{Device, NoSuchDevice};

    #[test]
    fn names_become_devices() {
        for device in Device::ALL {
            assert_eq!(device.to_string().parse(), Ok(device));
        }
        assert_eq!("GPU".parse::<Device>(), Err(NoSuchDevice { name: "GPU".into() }));
        assert_eq!(NoSuchDevice { name: "tpu".into() }.to_string(), "there is no device `tpu`; it may be auto, cpu or gpu");
    }
}
