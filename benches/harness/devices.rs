//! What kernels can run on here: the processor's backends, the graphics adapters, and from how many rows on a GPU pays.

use std::time::{Duration, Instant};

use thalweg_kernels::gpu::{AdapterInfo, AdapterKind, Engine, Number, Options, adapters};
use thalweg_kernels::placement::{Cost, Estimate, Work};
use thalweg_kernels::{Backend, Want};

use crate::Result;
use crate::report::rate;

const GROUPS: [usize; 3] = [100, 10_000, 1_000_000];

/// A kernel that has a twin on the GPU.
struct Kernel {
    name: &'static str,
    want: Want,
}

const ROWS: [u64; 4] = [1 << 14, 1 << 17, 1 << 20, 1 << 23];

const KERNELS: [Kernel; 2] =
    [Kernel { name: "count/sum/min/max", want: Want::ALL }, Kernel { name: "count/sum", want: Want { sum: true, order: false } }];

/// Lists the devices and prints what they cost, measured now.
pub fn print() -> Result<()> {
    println!("backends of this processor, the first in use:");
    let active = Backend::active();
    println!("  {active}");
    Backend::available().filter(|backend| *backend != active).for_each(|backend| println!("  {backend}"));
    let adapters = adapters();
    println!("\nadapters that Vulkan, Metal or DirectX 12 know:");
    adapters.iter().for_each(|adapter| println!("  {adapter}"));
    if adapters.is_empty() {
        println!("  none: install the device's Vulkan driver and check that this user may open it\n");
        cpu_alone();
    }
    adapters.iter().try_for_each(measure)
}

/// Prints what kernels cost on the processor.
fn cpu_alone() {
    for kernel in &KERNELS {
        for groups in GROUPS {
            println!("{} of f64, {groups} groups: {}", kernel.name, millions(cpu_cost(kernel, groups).rows_per_second));
        }
    }
}

/// The time since this was made: what kernels are measured by.
fn clock() -> impl Fn() -> Duration {
    let start = Instant::now();
    move || start.elapsed()
}

fn cpu_cost(kernel: &Kernel, groups: usize) -> Cost {
    let values: Vec<f64> = (0..4096).map(|row| f64::from(row % 1009) * 0.37 - 30.0).collect();
    Backend::active().calibrate(&values, groups, kernel.want, clock())
}

fn millions(per_second: f64) -> String {
    format!("{} M rows/s", rate(per_second / 1e6))
}

/// Prints what kernels cost on an adapter, and from where on that is less than on the processor.
fn measure(adapter: &AdapterInfo) -> Result<()> {
    println!("\n{}, beside {}:", adapter.name, Backend::active());
    if adapter.kind == AdapterKind::Software {
        println!("  (a software adapter: never chosen by itself, and no measure of a GPU)");
    }
    let engine = Engine::open(&Options { software: true, name: Some(adapter.name.clone()), ..Options::default() })?;
    for kernel in &KERNELS {
        for groups in GROUPS {
            row::<f64>(&engine, kernel, groups, "f64")?;
        }
    }
    row::<i64>(&engine, &KERNELS[0], GROUPS[1], "i64")
}

fn row<T: Number>(engine: &Engine, kernel: &Kernel, groups: usize, of: &str) -> Result<()> {
    println!("  {} of {of}, {groups} groups", kernel.name);
    let gpu = match engine.calibrate::<T>(groups, kernel.want, clock()) {
        Ok(cost) => cost,
        Err(error) => {
            println!("    not on this adapter: {error}");
            return Ok(());
        }
    };
    let cpu = cpu_cost(kernel, groups);
    let break_even = Estimate::from(gpu).break_even(&cpu.into(), groups as u64, 1.0);
    let Cost { launch, rows_per_second, transfer } = gpu;
    println!(
        "    launch {}, {} B/row up{}, {} B/group back{}, passes {}; cpu {}",
        time(launch),
        transfer.bytes_per_row,
        speed(transfer.upload),
        transfer.bytes_per_group,
        speed(transfer.download),
        millions(rows_per_second),
        millions(cpu.rows_per_second)
    );
    for rows in ROWS {
        let work = Work { rows, groups: groups as u64 };
        let (on_gpu, share) = (gpu.of(work), transfer.of(work).as_secs_f64() / gpu.of(work).as_secs_f64());
        println!("    {rows:>9} rows: gpu {}, {:.0}% of it transfer; cpu {}", time(on_gpu), share * 100.0, time(cpu.of(work)));
    }
    match break_even {
        Some(rows) => println!("    break-even at {rows} rows between two reads"),
        None => println!("    no break-even: the cpu is faster at any number of rows"),
    }
    Ok(())
}

/// Nothing where the bytes are too few to be seen beside a launch.
fn speed(per_second: f64) -> String {
    // Above what any memory gives, it is the noise of the launch that was measured.
    if per_second < 4e12 { format!(" at {} GB/s", rate(per_second / 1e9)) } else { String::new() }
}

fn time(time: Duration) -> String {
    let micros = time.as_secs_f64() * 1e6;
    if micros < 1e3 { format!("{} µs", rate(micros)) } else { format!("{} ms", rate(micros / 1e3)) }
}
