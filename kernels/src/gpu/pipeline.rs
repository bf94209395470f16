//! Compiled shaders, one pair per kind of table, compiled when a table first asks and kept.

use std::collections::HashMap;
use std::num::NonZeroU64;
use std::sync::{Arc, Mutex, PoisonError};

use super::device::Device;
use super::error::Error;
use super::layout::{Kind, Layout};

/// Threads of a workgroup, and rows of a thread where accumulators are private; as in the shaders.
pub(super) const THREADS: u32 = 256;
const ROWS_PER_THREAD: u32 = 16;

const GLOBAL: &str = include_str!(concat!(env!("OUT_DIR"), "/global.wgsl"));
const PRIVATE: &str = include_str!(concat!(env!("OUT_DIR"), "/private.wgsl"));
const PRIVATE_SUBGROUP: &str = include_str!(concat!(env!("OUT_DIR"), "/private_subgroup.wgsl"));

/// Bytes of the `Batch` of the shaders.
pub(super) const HEADER_BYTES: u64 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    kind: Kind,
    sum: bool,
    order: bool,
    private: bool,
}

/// The passes over a batch.
#[derive(Debug)]
pub(super) struct Passes {
    accumulate: wgpu::ComputePipeline,
    refine: Option<wgpu::ComputePipeline>,
    rows_per_group: u32,
}

impl Passes {
    /// Records the passes over a batch of `rows`.
    pub(super) fn record(&self, encoder: &mut wgpu::CommandEncoder, binds: &wgpu::BindGroup, rows: usize) {
        let workgroups = (rows as u32).div_ceil(self.rows_per_group);
        let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        pass.set_bind_group(0, binds, &[]);
        for pipeline in std::iter::once(&self.accumulate).chain(&self.refine) {
            pass.set_pipeline(pipeline);
            pass.dispatch_workgroups(workgroups, 1, 1);
        }
    }
}

#[derive(Debug)]
pub(super) struct Pipelines {
    pub(super) binds: wgpu::BindGroupLayout,
    layout: wgpu::PipelineLayout,
    global: wgpu::ShaderModule,
    private: wgpu::ShaderModule,
    compiled: Mutex<HashMap<Key, Arc<Passes>>>,
}

impl Pipelines {
    pub(super) fn new(device: &Device) -> Self {
        let module = |label, source: &'static str| {
            let source = wgpu::ShaderSource::Wgsl(source.into());
            device.device.create_shader_module(wgpu::ShaderModuleDescriptor { label: Some(label), source })
        };
        let storage = |read_only| wgpu::BufferBindingType::Storage { read_only };
        let types = [storage(false), wgpu::BufferBindingType::Uniform, storage(true), storage(true), storage(true)];
        let entries: Vec<_> = (0..).zip(types).map(|(binding, ty)| entry(binding, ty)).collect();
        let descriptor = wgpu::BindGroupLayoutDescriptor { label: Some("aggregate"), entries: &entries };
        let binds = device.device.create_bind_group_layout(&descriptor);
        let layout = device.device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("aggregate"),
            bind_group_layouts: &[Some(&binds)],
            immediate_size: 0,
        });
        let global = module("aggregate, global", GLOBAL);
        let private = module("aggregate, private", if device.subgroups { PRIVATE_SUBGROUP } else { PRIVATE });
        Self { binds, layout, global, private, compiled: Mutex::default() }
    }

    /// The passes for tables of this layout, compiled if they are not yet.
    pub(super) fn passes(&self, device: &Device, layout: Layout, private: bool) -> Result<Arc<Passes>, Error> {
        let key = Key { kind: layout.kind, sum: layout.sum, order: layout.order, private };
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(passes) = compiled.get(&key) {
            return Ok(Arc::clone(passes));
        }
        let passes = Arc::new(Passes {
            accumulate: self.compile(device, key, "accumulate"),
            refine: key.order.then(|| self.compile(device, key, "refine")),
            rows_per_group: THREADS * if private { ROWS_PER_THREAD } else { 1 },
        });
        device.check()?;
        compiled.insert(key, Arc::clone(&passes));
        Ok(passes)
    }

    fn compile(&self, device: &Device, key: Key, entry: &str) -> wgpu::ComputePipeline {
        let constants = [("KIND", f64::from(key.kind as u32)), ("SUM", f64::from(key.sum)), ("ORDER", f64::from(key.order))];
        device.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: Some(entry),
            layout: Some(&self.layout),
            module: if key.private { &self.private } else { &self.global },
            entry_point: Some(entry),
            compilation_options: wgpu::PipelineCompilationOptions { constants: &constants, ..Default::default() },
            cache: None,
        })
    }
}

fn entry(binding: u32, ty: wgpu::BufferBindingType) -> wgpu::BindGroupLayoutEntry {
    let least = if ty == wgpu::BufferBindingType::Uniform { HEADER_BYTES } else { 4 };
    wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty,
            has_dynamic_offset: false,
            min_binding_size: NonZeroU64::new(if binding == 3 { 8 } else { least }),
        },
        count: None,
    }
}
