//! The devices that the kernels of a pipeline run on, as its configuration asks for them.

use std::sync::Once;
use std::time::Duration;

use thalweg_kernels::placement::Device;
use thalweg_kernels::{Backend, NoSuchBackend};

pub use thalweg_kernels::placement::Devices;

use crate::config::{self, Config};
use crate::error::{Error, Result};
use crate::time::SharedClock;

impl From<config::Device> for Device {
    fn from(device: config::Device) -> Device {
        match device {
            config::Device::Auto => Device::Auto,
            config::Device::Cpu => Device::Cpu,
            config::Device::Gpu => Device::Gpu,
        }
    }
}

/// The devices of a pipeline, measured by `clock`.
///
/// # Errors
/// [`Kind::Config`](crate::error::Kind::Config) if the backend is unknown, missing on this processor, or not the one that
/// the process runs on already.
pub(crate) fn open(config: &Config, clock: &SharedClock) -> Result<Devices> {
    if let Some(name) = config.backend.as_deref().filter(|name| *name != "auto") {
        force(name)?;
    }
    static LOGGED: Once = Once::new();
    LOGGED.call_once(|| tracing::info!(backend = %Backend::active(), "the CPU's kernels have chosen their instructions"));
    let clock = SharedClock::clone(clock);
    let devices = Devices::new(config.device.into(), move || Duration::from_nanos(clock.monotonic()));
    Ok(match config.latency_target {
        Some(target) => devices.latency(target),
        None => devices,
    })
}

/// The devices of a plan that is only checked: nothing is looked for and nothing decided.
pub(crate) fn unused() -> Devices {
    Devices::new(Device::Cpu, || Duration::ZERO)
}

/// Makes the backend of that name the one of the process.
fn force(name: &str) -> Result<()> {
    let backend: Backend = name.parse().map_err(|error: NoSuchBackend| Error::config(format!("`backend`: {error}")))?;
    backend.force().map_err(|active| {
        Error::config(format!(
            "`backend` is `{name}`, but the kernels of this process run on {active} already: set it before the first run, or set THALWEG_BACKEND"
        ))
    })
}

/// In words, where a kernel without a twin on the GPU runs.
pub(crate) fn cpu_only() -> String {
    format!("{} (no GPU kernel)", Backend::active())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use thalweg_kernels::Backend;

    use super::open;
    use crate::config::{Config, Device};
    use crate::time::SystemClock;

    #[test]
    fn a_backend_is_checked_by_name() {
        let clock = SystemClock::shared();
        let with = |backend: &str| open(&Config { backend: Some(backend.to_owned()), ..Config::default() }, &clock);
        let error = with("avx1024").unwrap_err().to_string();
        assert!(error.starts_with("`backend`: there is no backend `avx1024` on this processor; it has auto, scalar"), "{error}");
        let active = Backend::active();
        assert!(with(&active.to_string()).is_ok() && with("auto").is_ok());
        let other = Backend::available().find(|backend| *backend != active);
        if let Some(other) = other {
            assert!(with(&other.to_string()).unwrap_err().to_string().contains("already"));
        }
        let devices = open(&Config { device: Device::Cpu, ..Config::default() }, &clock).unwrap();
        assert_eq!(devices.device().to_string(), "cpu");
    }
}
