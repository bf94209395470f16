//! Compiled shaders, compiled when a table first asks for its kind of them, and kept.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::Mutex;

use super::device::Device;
use super::error::Error;
use super::layout::{Kind, Layout};
use super::lock;

/// Threads of a workgroup, and rows of a thread where accumulators are private; as in the shaders.
pub(super) const THREADS: u32 = 256;
const ROWS_PER_THREAD: u32 = 16;

const COMBINE: &str = include_str!(concat!(env!("OUT_DIR"), "/combine.wgsl"));
const GLOBAL: &str = include_str!(concat!(env!("OUT_DIR"), "/global.wgsl"));
const PRIVATE: &str = include_str!(concat!(env!("OUT_DIR"), "/private.wgsl"));
const PRIVATE_SUBGROUP: &str = include_str!(concat!(env!("OUT_DIR"), "/private_subgroup.wgsl"));

/// Bytes of the `Batch` and `Tables` of the shaders.
pub(super) const HEADER_BYTES: u64 = 32;

/// A shader: where its words lie, or that it combines tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Module {
    Combine,
    Global,
    Private,
}

/// A pipeline: the shader, its entry point, and the constants that it is compiled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    module: Module,
    entry: &'static str,
    kind: Kind,
    sum: bool,
    order: bool,
}

/// The passes over a batch.
#[derive(Debug)]
pub(super) struct Passes {
    accumulate: wgpu::ComputePipeline,
    refine: Option<wgpu::ComputePipeline>,
    rows_per_workgroup: u32,
}

impl Passes {
    /// Records the passes over a batch of `rows`.
    pub(super) fn record(&self, encoder: &mut wgpu::CommandEncoder, binds: &wgpu::BindGroup, rows: usize) {
        let workgroups = (rows as u32).div_ceil(self.rows_per_workgroup);
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_bind_group(0, binds, &[]);
        for pipeline in std::iter::once(&self.accumulate).chain(&self.refine) {
            pass.set_pipeline(pipeline);
            pass.dispatch_workgroups(workgroups, 1, 1);
        }
    }
}

/// What pipelines of one set of bindings share.
#[derive(Debug)]
pub(super) struct Bindings {
    binds: wgpu::BindGroupLayout,
    pipelines: wgpu::PipelineLayout,
}

#[derive(Debug)]
pub(super) struct Pipelines {
    aggregate: Bindings,
    combine: Bindings,
    modules: [wgpu::ShaderModule; 3],
    compiled: Mutex<HashMap<Key, wgpu::ComputePipeline>>,
}

impl Pipelines {
    pub(super) fn new(device: &Device) -> Self {
        let private = if device.subgroups { PRIVATE_SUBGROUP } else { PRIVATE };
        let modules = [("combine", COMBINE), ("aggregate, global", GLOBAL), ("aggregate, private", private)].map(|(label, source)| {
            let source = wgpu::ShaderSource::Wgsl(source.into());
            device.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some(label), source })
        });
        // The table, the arguments; then slots, values and validity, or the table to combine.
        let (aggregate, combine) = (Bindings::new(device, 4, &[4, 8, 4]), Bindings::new(device, 4, &[4]));
        Self { aggregate, combine, modules, compiled: Mutex::default() }
    }

    /// The passes for tables of this layout.
    pub(super) fn passes(&self, device: &Device, layout: Layout, private: bool) -> Result<Passes, Error> {
        let module = if private { Module::Private } else { Module::Global };
        let rows_per_workgroup = THREADS * if private { ROWS_PER_THREAD } else { 1 };
        let accumulate = self.compiled(device, module, "accumulate", layout)?;
        let refine = layout.order.then(|| self.compiled(device, module, "refine", layout)).transpose()?;
        Ok(Passes { accumulate, refine, rows_per_workgroup })
    }

    /// What `Passes::record` takes.
    pub(super) fn bind<'a>(&self, device: &Device, bindings: impl Iterator<Item = wgpu::BindingResource<'a>>) -> wgpu::BindGroup {
        self.aggregate.bind(device, bindings)
    }

    /// Records the combination of tables of `groups` groups: into, arguments and from.
    pub(super) fn record_combine<'a>(
        &self,
        device: &Device,
        encoder: &mut wgpu::CommandEncoder,
        layout: Layout,
        bindings: impl Iterator<Item = wgpu::BindingResource<'a>>,
        groups: u32,
    ) -> Result<(), Error> {
        let pipeline = self.compiled(device, Module::Combine, "combine", layout)?;
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_bind_group(0, &self.combine.bind(device, bindings), &[]);
        pass.set_pipeline(&pipeline);
        // A dimension of workgroups is short of what groups there may be.
        let (workgroups, row) = (groups.div_ceil(THREADS), device.max_threads / THREADS);
        pass.dispatch_workgroups(workgroups.min(row), workgroups.div_ceil(row), 1);
        Ok(())
    }

    fn compiled(&self, device: &Device, module: Module, entry: &'static str, layout: Layout) -> Result<wgpu::ComputePipeline, Error> {
        let key = Key { module, entry, kind: layout.kind, sum: layout.sum, order: layout.order };
        let mut compiled = lock(&self.compiled);
        if let Some(pipeline) = compiled.get(&key) {
            return Ok(pipeline.clone());
        }
        let pipeline = self.compile(device, key);
        device.check()?;
        compiled.insert(key, pipeline.clone());
        Ok(pipeline)
    }

    fn compile(&self, device: &Device, key: Key) -> wgpu::ComputePipeline {
        let constants = [("KIND", f64::from(key.kind as u32)), ("SUM", f64::from(key.sum)), ("ORDER", f64::from(key.order))];
        let bindings = if key.module == Module::Combine { &self.combine } else { &self.aggregate };
        bindings.compile(device, &self.modules[key.module as usize], key.entry, &constants)
    }
}

impl Bindings {
    /// An array to write, with elements of `written` bytes, arguments, and read-only arrays with elements of so many bytes.
    pub(super) fn new(device: &Device, written: u64, elements: &[u64]) -> Self {
        use wgpu::BufferBindingType::{Storage, Uniform};
        let arrays = elements.iter().map(|bytes| (Storage { read_only: true }, *bytes));
        let types = [(Storage { read_only: false }, written), (Uniform, HEADER_BYTES)].into_iter().chain(arrays);
        let entry = |(binding, (ty, least))| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: NonZeroU64::new(least) },
            count: None,
        };
        let entries: Vec<_> = (0..).zip(types).map(entry).collect();
        let descriptor = wgpu::BindGroupLayoutDescriptor { label: Some("thalweg"), entries: &entries };
        let binds = device.device.create_bind_group_layout(&descriptor);
        let pipelines = device.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("thalweg"),
            bind_group_layouts: &[Some(&binds)],
            immediate_size: 0,
        });
        Self { binds, pipelines }
    }

    /// The pipeline of an entry point with its constants.
    pub(super) fn compile(
        &self,
        device: &Device,
        module: &wgpu::ShaderModule,
        entry: &str,
        constants: &[(&str, f64)],
    ) -> wgpu::ComputePipeline {
        device.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry),
            layout: Some(&self.pipelines),
            module,
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions { constants, ..Default::default() },
            cache: None,
        })
    }

    pub(super) fn bind<'a>(&self, device: &Device, bindings: impl Iterator<Item = wgpu::BindingResource<'a>>) -> wgpu::BindGroup {
        let entries: Vec<_> = (0..).zip(bindings).map(|(binding, resource)| wgpu::BindGroupEntry { binding, resource }).collect();
        let descriptor = wgpu::BindGroupDescriptor { label: Some("thalweg"), layout: &self.binds, entries: &entries };
        device.device.create_bind_group(&descriptor)
    }
}
