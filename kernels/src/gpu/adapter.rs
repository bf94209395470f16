//! Which adapters there are, and which one an engine may use.

use std::fmt;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::error::{Error, Fault};

/// What an engine may use.
#[derive(Clone, Debug)]
pub struct Options {
    /// Whether a software adapter will do. They are slower than the SIMD kernels: for tests only.
    pub software: bool,
    /// Only adapters whose name contains this, whatever the case.
    pub name: Option<String>,
    /// Bytes of device and staging memory that the engine may hold. The default is 1 GiB.
    pub memory: u64,
    /// Rows of one upload. Longer batches are split; two uploads are in flight. The default is 256 Ki, 6 MiB on either
    /// side: far above what a launch costs, and still in the processor's cache from the first look to the copy.
    pub batch_rows: usize,
    /// Whether to use subgroup operations where the adapter has them.
    pub subgroups: bool,
    /// Words of workgroup storage for private accumulators, at most [`Options::PRIVATE_WORDS`]; 0 sends every row to the
    /// table itself.
    pub private_words: u32,
    /// A lower limit than the adapter's for the bytes of a table or of a column in an upload.
    pub binding_limit: Option<u64>,
}

impl Options {
    /// The workgroup storage that every WebGPU adapter has, 16 KiB.
    pub const PRIVATE_WORDS: u32 = 4096;
}

impl Default for Options {
    fn default() -> Self {
        Self {
            software: false,
            name: None,
            memory: 1 << 30,
            batch_rows: 1 << 18,
            subgroups: true,
            private_words: Self::PRIVATE_WORDS,
            binding_limit: None,
        }
    }
}

/// What kind of device an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdapterKind {
    /// A card with memory of its own.
    Discrete,
    /// Shares the processor's memory.
    Integrated,
    /// A device of a virtual machine.
    Virtual,
    /// The processor itself, such as llvmpipe or WARP.
    Software,
    /// The driver does not say.
    Other,
}

/// An adapter, its features and limits, for a list of devices.
#[derive(Clone, Debug)]
pub struct AdapterInfo {
    /// Its name, such as `llvmpipe (LLVM 15.0.6, 256 bits)`.
    pub name: String,
    /// What it is.
    pub kind: AdapterKind,
    /// The interface it is reached by: `vulkan`, `metal`, `dx12`.
    pub backend: String,
    /// Driver and its version.
    pub driver: String,
    /// Least and greatest lanes of a subgroup, where subgroup operations are available.
    pub subgroups: Option<(u32, u32)>,
    /// 64-bit integers in shaders.
    pub int64: bool,
    /// 64-bit atomic operations.
    pub int64_atomics: bool,
    /// 64-bit floats in shaders.
    pub float64: bool,
    /// Bytes of a storage binding at most: the limit of a table.
    pub max_binding: u64,
    /// Bytes of a buffer at most.
    pub max_buffer: u64,
    /// Bytes of workgroup storage.
    pub workgroup_storage: u32,
}

impl AdapterInfo {
    fn of(adapter: &wgpu::Adapter) -> Self {
        let (info, features, limits) = (adapter.get_info(), adapter.features(), adapter.limits());
        let kind = match info.device_type {
            wgpu::DeviceType::DiscreteGpu => AdapterKind::Discrete,
            wgpu::DeviceType::IntegratedGpu => AdapterKind::Integrated,
            wgpu::DeviceType::VirtualGpu => AdapterKind::Virtual,
            wgpu::DeviceType::Cpu => AdapterKind::Software,
            wgpu::DeviceType::Other => AdapterKind::Other,
        };
        Self {
            name: info.name,
            kind,
            backend: info.backend.to_string(),
            driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
            subgroups: features.contains(wgpu::Features::SUBGROUP).then_some((info.subgroup_min_size, info.subgroup_max_size)),
            int64: features.contains(wgpu::Features::SHADER_INT64),
            int64_atomics: features.contains(wgpu::Features::SHADER_INT64_ATOMIC_ALL_OPS),
            float64: features.contains(wgpu::Features::SHADER_F64),
            max_binding: limits.max_storage_buffer_binding_size,
            max_buffer: limits.max_buffer_size,
            workgroup_storage: limits.max_compute_workgroup_storage_size,
        }
    }

    /// Why the options leave it out, if they do.
    fn refused(&self, options: &Options) -> Option<&'static str> {
        let named = |name: &String| self.name.to_lowercase().contains(&name.to_lowercase());
        if self.kind == AdapterKind::Software && !options.software {
            return Some("is a software adapter");
        }
        options.name.as_ref().is_some_and(|name| !named(name)).then_some("has another name than asked for")
    }

    /// The order of preference: what is faster for streams first.
    fn rank(&self) -> usize {
        let order = [AdapterKind::Discrete, AdapterKind::Integrated, AdapterKind::Virtual, AdapterKind::Other, AdapterKind::Software];
        order.iter().position(|kind| *kind == self.kind).unwrap_or(order.len())
    }
}

impl fmt::Display for AdapterInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, kind, backend, driver, max_binding, max_buffer, workgroup_storage, .. } = self;
        write!(f, "{name} ({backend}, {kind:?}; {driver}): ")?;
        match self.subgroups {
            Some((least, most)) if least == most => write!(f, "subgroups of {least}, ")?,
            Some((least, most)) => write!(f, "subgroups of {least} to {most}, ")?,
            None => f.write_str("no subgroups, ")?,
        }
        for (has, what) in [(self.int64, "i64, "), (self.int64_atomics, "i64 atomics, "), (self.float64, "f64, ")] {
            f.write_str(if has { what } else { "" })?;
        }
        write!(f, "binding {} MiB, buffer {} MiB, workgroup {} KiB", max_binding >> 20, max_buffer >> 20, workgroup_storage >> 10)
    }
}

/// Every adapter that wgpu finds through Vulkan, Metal or DirectX 12, software ones included.
pub fn adapters() -> Vec<AdapterInfo> {
    found().iter().map(AdapterInfo::of).collect()
}

/// The adapter that the options allow and that is likely fastest.
pub(super) fn choose(options: &Options) -> Result<(wgpu::Adapter, AdapterInfo), Error> {
    let mut seen = Vec::new();
    let mut fit = Vec::new();
    for adapter in found() {
        let info = AdapterInfo::of(&adapter);
        match info.refused(options) {
            Some(why) => seen.push(format!("{} {why}", info.name)),
            None => fit.push((adapter, info)),
        }
    }
    fit.into_iter().min_by_key(|(_, info)| info.rank()).ok_or_else(|| {
        let hint = "install the device's Vulkan driver (Metal and DirectX 12 come with the system) and check that this user may open it";
        let message = match seen.as_slice() {
            [] => format!("no GPU adapter found: {hint}"),
            seen => format!("no GPU adapter fits: {}; {hint}, or allow it in the options", seen.join(", ")),
        };
        Error::new(Fault::Unavailable, message)
    })
}

/// Whether there can be an adapter of hardware. Drivers take a tenth of a second to load, a software one too, which is a lot at the
/// start of a small program; where the system has no device for any of them they need not be asked.
pub(super) fn may_have_hardware() -> bool {
    /// What the drivers of AMD, Intel and Nvidia, of Windows' subsystem for Linux, Mali and Adreno open.
    const NODES: [&str; 5] = ["/dev/dri", "/dev/nvidiactl", "/dev/dxg", "/dev/mali0", "/dev/kgsl-3d0"];
    cfg!(not(target_os = "linux")) || NODES.iter().any(|node| std::path::Path::new(node).exists())
}

fn found() -> Vec<wgpu::Adapter> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    ready(wgpu::Instance::new(descriptor).enumerate_adapters(wgpu::Backends::all()))
}

/// The value of a future of wgpu's, which off the web are ready at once.
pub(super) fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            return value;
        }
        std::thread::yield_now();
    }
}
