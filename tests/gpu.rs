//! Windows over the GPU: the CPU's answers, whatever becomes of the device. On whatever adapter there is, software ones
//! included; without an adapter the tests show as ignored.

#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, RecordBatchIterator};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Float64Type};
use arrow::error::ArrowError;
use proptest::prelude::*;
use support::{open_with, property, software};
use thalweg::operator::detect::LeftDiscord;
use thalweg::sink::Memory;
use thalweg::window::{RollingSpec, WindowSpec};
use thalweg::{
    Detection, Metrics, Query, Stream, count, event_time, hopping, max, mean, millis, min, rolling_range, rolling_rows, std, sum, tumbling,
};
use thalweg_kernels::gpu::{Engine, Options};
use thalweg_kernels::placement::{Cost, Device, Devices, Transfer};

#[path = "../kernels/tests/support/mod.rs"]
mod support;

fn main() {
    let tests: &[(&str, fn())] = &[
        ("windows_are_those_of_the_cpu", windows_are_those_of_the_cpu),
        ("a_device_lost_in_mid_stream_changes_no_answer", a_device_lost_in_mid_stream_changes_no_answer),
        ("a_refused_allocation_changes_no_answer", a_refused_allocation_changes_no_answer),
        ("a_pipeline_asks_by_its_configuration", a_pipeline_asks_by_its_configuration),
        ("left_discords_go_to_a_gpu_that_is_asked_for", left_discords_go_to_a_gpu_that_is_asked_for),
        ("rolling_windows_go_to_a_gpu_that_is_asked_for", rolling_windows_go_to_a_gpu_that_is_asked_for),
    ];
    support::run(tests);
}

type Row = (i64, Option<i64>, Option<f64>, Option<i64>);

fn records(rows: &[Row]) -> RecordBatch {
    let columns: [(&str, ArrayRef); 4] = [
        ("ts", Arc::new(rows.iter().map(|row| Some(row.0)).collect::<Int64Array>())),
        ("key", Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>())),
        ("value", Arc::new(rows.iter().map(|row| row.2).collect::<Float64Array>())),
        ("whole", Arc::new(rows.iter().map(|row| row.3).collect::<Int64Array>())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

fn windows(stream: &Stream, spec: &WindowSpec) -> Stream {
    let aggregates = [
        count().alias("n"),
        sum("value"),
        min("value"),
        max("value"),
        mean("value"),
        sum("whole"),
        min("whole"),
        max("whole"),
        mean("whole"),
    ];
    stream.event_time(event_time("ts").max_delay(millis(20))).window(spec.clone()).by(["key"]).agg(aggregates)
}

/// The results of `stream` on `devices`, in one batch, and the counters.
fn run(stream: &Stream, devices: Devices) -> (RecordBatch, Metrics) {
    let memory = Memory::new();
    let collected = memory.collected();
    let metrics = Query::new().devices(devices).sink(stream, memory).run().unwrap();
    (concat_batches(&stream.schema().unwrap(), &collected.batches()).unwrap(), metrics)
}

fn devices(device: Device) -> Devices {
    let start = Instant::now();
    Devices::new(device, move || start.elapsed())
}

fn open(memory: u64) -> Engine {
    open_with(&Options { memory, batch_rows: 1 << 14, ..software() })
}

/// A choice that falls on the GPU from some hundred rows on.
fn eager(engine: Engine) -> Devices {
    let transfer = Transfer { bytes_per_row: 12, bytes_per_group: 52, upload: 1e12, download: 1e12 };
    let cpu = Cost { launch: Duration::ZERO, rows_per_second: 1e6, transfer: Transfer::NONE };
    let gpu = Cost { launch: Duration::from_micros(100), rows_per_second: 1e9, transfer };
    devices(Device::Auto).on(engine).costs(cpu, gpu)
}

/// Equal, but for the rounding of sums of floats.
fn assert_same(got: &RecordBatch, expected: &RecordBatch, magnitudes: f64) {
    assert_eq!((got.num_rows(), got.schema()), (expected.num_rows(), expected.schema()));
    for (index, field) in expected.schema().fields().iter().enumerate() {
        let (got, expected) = (got.column(index), expected.column(index));
        if *field.data_type() != DataType::Float64 {
            assert_eq!(got, expected, "{field}");
            continue;
        }
        let pairs = got.as_primitive::<Float64Type>().iter().zip(expected.as_primitive::<Float64Type>());
        for (got, expected) in pairs {
            let near = got
                .zip(expected)
                .map_or(got.is_none() && expected.is_none(), |(got, expected)| (got - expected).abs() <= 1e-12 * magnitudes);
            assert!(near, "{field}: {got:?} is not {expected:?}");
        }
    }
}

fn magnitudes(rows: &[Row]) -> f64 {
    rows.iter().filter_map(|row| row.2).map(f64::abs).sum()
}

fn any_rows() -> impl Strategy<Value = Vec<Row>> {
    let value = prop::option::weighted(0.8, prop_oneof![-1e6..1e6_f64, -1e-6..1e-6_f64]);
    let whole = prop::option::weighted(0.8, any::<i32>().prop_map(i64::from));
    let row = (-40..60_i64, prop::option::weighted(0.9, -3..90_i64), value, whole);
    prop::collection::vec(row, 1..1500).prop_map(|mut rows| {
        rows.iter_mut().zip(0..).for_each(|(row, number)| row.0 += number);
        rows
    })
}

fn windows_are_those_of_the_cpu() {
    let engine = open(256 << 20);
    let specs = [tumbling(millis(100)), hopping(millis(100), millis(30)), tumbling(millis(2000))];
    let cases = (any_rows(), prop::sample::select(specs.to_vec()), 1usize..400);
    let result = property(40).run(&cases, |(rows, spec, batch)| {
        let stream = windows(&Stream::from_arrow(rows.chunks(batch).map(records)), &spec);
        let (expected, on_cpu) = run(&stream, devices(Device::Cpu));
        let (got, on_gpu) = run(&stream, devices(Device::Gpu).on(engine.clone()));
        assert_same(&got, &expected, magnitudes(&rows));
        assert_eq!((on_gpu.rows_out, on_gpu.late_rows), (on_cpu.rows_out, on_cpu.late_rows));
        assert_eq!((on_gpu.kernel_rows_gpu, on_gpu.kernel_rows_cpu), (on_cpu.kernel_rows_cpu, 0));
        assert_eq!(on_cpu.kernel_rows_gpu, 0);
        let (got, chosen) = run(&stream, eager(engine.clone()));
        assert_same(&got, &expected, magnitudes(&rows));
        assert_eq!(chosen.kernel_rows_gpu + chosen.kernel_rows_cpu, on_cpu.kernel_rows_cpu);
        Ok(())
    });
    result.unwrap();
}

/// Rows of ten windows, in batches.
fn ordinary() -> (Vec<Row>, Vec<RecordBatch>) {
    let rows: Vec<Row> = (0..20_000_i64).map(|row| (row / 20, Some(row * 7919 % 500), Some(row as f64 * 0.1), Some(row))).collect();
    let batches = rows.chunks(700).map(records).collect();
    (rows, batches)
}

/// The warnings of a run.
fn warnings_of<T>(run: impl FnOnce() -> T) -> (T, Vec<String>) {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let until_then = tracing_subscriber::util::SubscriberInitExt::set_default(subscriber);
    let value = run();
    drop(until_then);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    (value, text.lines().filter(|line| line.contains("WARN") && !line.contains("software")).map(str::to_owned).collect())
}

fn a_device_lost_in_mid_stream_changes_no_answer() {
    let (rows, batches) = ordinary();
    let schema = batches[0].schema();
    let spec = hopping(millis(100), millis(50));
    let (expected, on_cpu) = run(&windows(&Stream::from_arrow(batches.clone()), &spec), devices(Device::Cpu));
    for eagerly in [true, false] {
        for lost_at in [0, 1, 13, 28] {
            let engine = open(256 << 20);
            let on_device = if eagerly { eager(engine.clone()) } else { devices(Device::Gpu).on(engine.clone()) };
            let losing = batches.clone().into_iter().enumerate().map(move |(number, batch)| {
                if number == lost_at {
                    engine.lose();
                }
                Ok::<_, ArrowError>(batch)
            });
            let stream = Stream::from_reader(Box::new(RecordBatchIterator::new(losing, Arc::clone(&schema))));
            let ((got, metrics), warnings) = warnings_of(|| run(&windows(&stream, &spec), on_device));
            assert_same(&got, &expected, magnitudes(&rows));
            // After the last batch an eager pipeline may have nothing left to send.
            let may_be_done = eagerly && lost_at == 28;
            assert!(warnings.len() == 1 || (warnings.is_empty() && may_be_done), "eagerly {eagerly}, {lost_at}: {warnings:?}");
            assert!(warnings.iter().all(|warning| warning.contains("the CPU takes all rows: device")), "{warnings:?}");
            // What was sent before the loss counts as sent, though the CPU computes it again.
            assert!(metrics.kernel_rows_cpu > 0 || lost_at == 28, "{metrics:?}");
            assert!(metrics.kernel_rows_gpu > 0 || lost_at <= 1, "{metrics:?}");
            assert_eq!(metrics.kernel_rows_gpu + metrics.kernel_rows_cpu, on_cpu.kernel_rows_cpu, "every value counts once");
        }
    }
}

fn a_refused_allocation_changes_no_answer() {
    let (rows, batches) = ordinary();
    let stream = windows(&Stream::from_arrow(batches), &tumbling(millis(100)));
    let (expected, on_cpu) = run(&stream, devices(Device::Cpu));
    // Room for the uploads and for few tables.
    let staging = open(1 << 30).memory_in_use();
    for spare in [100, 60_000, 150_000] {
        let on_device = devices(Device::Gpu).on(open(staging + spare));
        let ((got, metrics), warnings) = warnings_of(|| run(&stream, on_device));
        assert_same(&got, &expected, magnitudes(&rows));
        assert_eq!(warnings.len(), 1, "one warning: {warnings:?}");
        assert!(warnings[0].contains("budget"), "{warnings:?}");
        assert!(metrics.kernel_rows_cpu > 0, "{metrics:?}");
        assert_eq!(metrics.kernel_rows_gpu + metrics.kernel_rows_cpu, on_cpu.kernel_rows_cpu, "every value counts once");
    }
}

fn a_pipeline_asks_by_its_configuration() {
    let (rows, batches) = ordinary();
    let stream = windows(&Stream::from_arrow(batches), &tumbling(millis(100)));
    let (expected, _) = run(&stream, devices(Device::Cpu));
    let mut config = thalweg::Config::default();
    config.device = thalweg::config::Device::Gpu;
    let explained = stream.explain_with(&config).unwrap();
    assert!(explained.contains(" on gpu/") && explained.contains("asked for"), "{explained}");
    let table = stream.batches(config.clone()).unwrap().into_table().unwrap();
    assert!(table.metrics().kernel_rows_gpu > 0 && table.metrics().kernel_rows_cpu == 0);
    assert_same(&concat_batches(&stream.schema().unwrap(), table.batches()).unwrap(), &expected, magnitudes(&rows));
    assert!(table.metrics().prometheus().contains("thalweg_kernel_rows_gpu"));
}

/// Scores within the bound of the GPU's, never there under `auto`, and the processor's from where the device is lost.
fn left_discords_go_to_a_gpu_that_is_asked_for() {
    let value = |row: i64| (row as f64 / 3.0).sin() + (row * 7919 % 101) as f64 / 500.0;
    let rows: Vec<Row> = (0..1200).map(|row| (row, Some(row % 2), (row % 50 != 7).then(|| value(row)), Some(row))).collect();
    let batches: Vec<RecordBatch> = rows.chunks(300).map(records).collect();
    let detected = |stream: &Stream| stream.detect(Detection::new(LeftDiscord { length: 12, history: 100 }).on(["value"]).by(["key"]));
    let stream = detected(&Stream::from_arrow(batches.clone()));
    let (expected, on_cpu) = run(&stream, devices(Device::Cpu));
    assert_eq!((on_cpu.kernel_rows_cpu, on_cpu.kernel_rows_gpu), (1200, 0));
    for (device, lost_at) in [(Device::Gpu, 9), (Device::Gpu, 2), (Device::Auto, 9)] {
        let engine = open(256 << 20);
        let on_device = devices(device).on(engine.clone());
        let losing = batches.clone().into_iter().enumerate().map(move |(number, batch)| {
            if number == lost_at {
                engine.lose();
            }
            Ok::<_, ArrowError>(batch)
        });
        let reader = RecordBatchIterator::new(losing, batches[0].schema());
        let ((got, metrics), warnings) = warnings_of(|| run(&detected(&Stream::from_reader(Box::new(reader))), on_device));
        let scores = |records: &RecordBatch| records.column_by_name("score").unwrap().as_primitive::<Float64Type>().clone();
        for (got, expected) in scores(&got).iter().zip(&scores(&expected)) {
            let close = got.zip(expected).map_or(got.is_none() && expected.is_none(), |(got, expected)| (got - expected).abs() <= 2e-5);
            assert!(close, "{device}: {got:?} is not {expected:?}");
        }
        assert_eq!(warnings.len(), usize::from(lost_at < 4), "{warnings:?}");
        assert_eq!(metrics.kernel_rows_gpu + metrics.kernel_rows_cpu, 1200);
        assert_eq!(metrics.kernel_rows_gpu > 0, device == Device::Gpu && lost_at > 1);
        assert_eq!(metrics.kernel_rows_cpu > 0, device != Device::Gpu || lost_at < 4);
    }
    let mut config = thalweg::Config::default();
    for (device, placed) in [(thalweg::config::Device::Gpu, " on gpu/"), (thalweg::config::Device::Auto, "are to be asked for)")] {
        config.device = device;
        let explained = stream.explain_with(&config).unwrap();
        assert!(explained.contains(placed), "{explained}");
    }
}

/// Results of every aggregate, never there under `auto`, and the processor's from where the device is lost.
fn rolling_windows_go_to_a_gpu_that_is_asked_for() {
    let value = |row: i64| (row * 7919 % 101) as f64 - 50.0;
    let rows: Vec<Row> = (0..1200).map(|row| (row, Some(row % 7), (row % 50 != 7).then(|| value(row)), Some(row * 31 % 17))).collect();
    let batches: Vec<RecordBatch> = rows.chunks(300).map(records).collect();
    let rolled = |stream: &Stream, spec: RollingSpec| {
        let aggregates =
            [count().alias("n"), sum("value"), mean("value"), min("value"), max("value"), std("value"), sum("whole"), max("whole")];
        stream.event_time(event_time("ts").max_delay(millis(20))).window(spec).by(["key"]).agg(aggregates)
    };
    for spec in [rolling_rows(9), rolling_range(millis(120))] {
        let (expected, on_cpu) = run(&rolled(&Stream::from_arrow(batches.clone()), spec), devices(Device::Cpu));
        assert!(on_cpu.kernel_rows_cpu > 0 && on_cpu.kernel_rows_gpu == 0);
        for (device, lost_at) in [(Device::Gpu, 9), (Device::Gpu, 2), (Device::Auto, 9)] {
            let engine = open(256 << 20);
            let on_device = devices(device).on(engine.clone());
            let losing = batches.clone().into_iter().enumerate().map(move |(number, batch)| {
                if number == lost_at {
                    engine.lose();
                }
                Ok::<_, ArrowError>(batch)
            });
            let reader = RecordBatchIterator::new(losing, batches[0].schema());
            let ((got, metrics), warnings) = warnings_of(|| run(&rolled(&Stream::from_reader(Box::new(reader)), spec), on_device));
            assert_same(&got, &expected, magnitudes(&rows));
            assert_eq!(warnings.len(), usize::from(lost_at < 4), "{warnings:?}");
            assert_eq!(metrics.kernel_rows_gpu + metrics.kernel_rows_cpu, on_cpu.kernel_rows_cpu);
            assert_eq!(metrics.kernel_rows_gpu > 0, device == Device::Gpu);
            assert_eq!(metrics.kernel_rows_cpu > 0, device != Device::Gpu || lost_at < 4);
        }
    }
}
