//! Rolling windows: mean and deviation beside engines that have them, least and greatest.

use std::cell::RefCell;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch};
use arrow::ipc::writer::FileWriter;
use thalweg_kernels::gpu::Engine;
use thalweg_kernels::{Backend, Extent, Frame, MomentColumns, OrderColumns, RollingMoments, RollingOrder, RollingRows};

use super::{BATCH, backends, gpu, slots, values};
use crate::answer::Answer;
use crate::contest::{Contender, Contest, Run, Work};
use crate::data_file::DataFile;
use crate::peer::{Peer, Question};
use crate::report::Report;
use crate::rolling::{ROWS, answer};
use crate::{Common, Result};

const KEYS: u32 = 10_000;

const EXTENT: Extent = Extent::Rows(ROWS as u32);

/// The engines beside the kernel: script in `benches/peers`.
const PEERS: [&str; 3] = ["polars_windows.py", "duckdb_windows.py", "chdb_windows.py"];

pub fn measure(common: &Common, report: &mut Report) -> Result<()> {
    let name = format!("rolling mean and std of the last {ROWS} rows by slot, {KEYS} slots");
    if common.wants(&name) {
        let contest = moments(common, &name)?.reading(12, report.machine.read_gb_per_s);
        let fastest = contest
            .entries
            .iter()
            .filter(|entry| !is_ours(&entry.name) && !entry.name.starts_with("gpu"))
            .max_by(|a, b| a.median.total_cmp(&b.median));
        let fastest = fastest.map(|entry| entry.name.clone());
        report.add(match fastest {
            Some(fastest) => contest.goal("simd", &fastest, 5.0),
            None => contest,
        });
    }
    let name = format!("rolling min and max of the last {ROWS} rows by slot, {KEYS} slots");
    if common.wants(&name) {
        let (slots, values) = (slots(common.rows, KEYS), values(common.rows));
        let expected = order(Backend::Scalar, &slots, &values);
        let run = |backend: Backend| {
            let (slots, values) = (&slots, &values);
            move || Run::time(|| Ok(order(backend, slots, values)))
        };
        let ours = vectors().map(|backend| Contender::new(backend.to_string(), expected, run(backend)));
        let there = gpu::contenders(expected, |engine| order_there(engine, &slots, &values));
        let contenders = ours.chain(there).collect();
        let contest = Contest::hold(&name, Work::rows(common.rows), common, contenders)?;
        report.add(contest.reading(12, report.machine.read_gb_per_s));
    }
    Ok(())
}

fn is_ours(name: &str) -> bool {
    vectors().any(|backend| backend.to_string() == name)
}

/// The scalar twin computes every window from scratch: no measure of anything.
fn vectors() -> impl Iterator<Item = Backend> {
    backends().filter(|backend| *backend != Backend::Scalar)
}

fn moments(common: &Common, name: &str) -> Result<Contest> {
    let (slots, values) = (slots(common.rows, KEYS), values(common.rows));
    let expected = answer(KEYS as usize, slots.iter().zip(&values).map(|(&slot, &value)| (slot as usize, value)));
    let file = DataFile::new("rolling.arrow")?;
    write(file.path(), &slots, &values)?;
    let peers = PEERS.map(|script| Peer::start(script, &common.python, file.path()).map(RefCell::new));
    let mut contenders: Vec<Contender<'_>> = Vec::new();
    for backend in vectors() {
        let (slots, values) = (&slots, &values);
        contenders.push(Contender::new(backend.to_string(), expected, move || Run::time(|| Ok(rolling(backend, slots, values)))));
    }
    contenders.extend(gpu::contenders(expected, |engine| rolling_there(engine, &slots, &values)));
    for peer in peers.iter().flatten() {
        let question = Question { query: "rolling", key: "slot", size: ROWS as i64, ..Question::default() };
        let name = peer.borrow().name.clone();
        contenders.push(Contender::new(name, expected, move || peer.borrow_mut().ask(&question)));
    }
    let mut contest = Contest::hold(name, Work::rows(values.len()), common, contenders)?;
    contest.notes.extend(peers.into_iter().filter_map(std::result::Result::err));
    Ok(contest)
}

fn rolling(backend: Backend, slots: &[u32], values: &[f64]) -> Answer {
    let mut windows = RollingMoments::new(EXTENT, Frame::Including);
    windows.reserve_slots(KEYS as usize);
    let (mut means, mut deviations) = (vec![0.0; BATCH], vec![0.0; BATCH]);
    let mut answer = Answer::of_rows(values.len() as u64);
    for (slots, values) in slots.chunks(BATCH).zip(values.chunks(BATCH)) {
        let (means, deviations) = (&mut means[..values.len()], &mut deviations[..values.len()]);
        let columns = MomentColumns { means: Some(means), deviations: Some(deviations), ..MomentColumns::default() };
        backend.rolling_moments(&mut windows, &RollingRows { slots, values, validity: None, times: &[] }, columns);
        answer.mean += means.iter().sum::<f64>();
        // Of a key's first row there is no deviation.
        answer.std += deviations.iter().filter(|deviation| !deviation.is_nan()).sum::<f64>();
    }
    answer
}

fn order(backend: Backend, slots: &[u32], values: &[f64]) -> Answer {
    let mut windows = RollingOrder::new(EXTENT, Frame::Including);
    windows.reserve_slots(KEYS as usize);
    let (mut mins, mut maxs) = (vec![0.0; BATCH], vec![0.0; BATCH]);
    let mut answer = Answer::of_rows(values.len() as u64);
    for (slots, values) in slots.chunks(BATCH).zip(values.chunks(BATCH)) {
        let (mins, maxs) = (&mut mins[..values.len()], &mut maxs[..values.len()]);
        let columns = OrderColumns { mins: Some(mins), maxs: Some(maxs), any: None };
        backend.rolling_order(&mut windows, &RollingRows { slots, values, validity: None, times: &[] }, columns);
        answer.min += mins.iter().sum::<f64>();
        answer.max += maxs.iter().sum::<f64>();
    }
    answer
}

/// Rows that a graphics processor is sent at a time, as what a key's windows held goes up with them.
const GATHERED: usize = 1 << 20;

fn rolling_there(engine: &Engine, slots: &[u32], values: &[f64]) -> Result<Answer> {
    let mut windows = RollingMoments::new(EXTENT, Frame::Including);
    windows.reserve_slots(KEYS as usize);
    let (mut means, mut deviations) = (vec![0.0; GATHERED], vec![0.0; GATHERED]);
    let mut answer = Answer::of_rows(values.len() as u64);
    for (slots, values) in slots.chunks(GATHERED).zip(values.chunks(GATHERED)) {
        let (means, deviations) = (&mut means[..values.len()], &mut deviations[..values.len()]);
        let mut columns = MomentColumns { means: Some(means), deviations: Some(deviations), ..MomentColumns::default() };
        engine.rolling_moments(&mut windows, &RollingRows { slots, values, validity: None, times: &[] }, &mut columns)?;
        answer.mean += means.iter().sum::<f64>();
        answer.std += deviations.iter().filter(|deviation| !deviation.is_nan()).sum::<f64>();
    }
    Ok(answer)
}

fn order_there(engine: &Engine, slots: &[u32], values: &[f64]) -> Result<Answer> {
    let mut windows = RollingOrder::new(EXTENT, Frame::Including);
    windows.reserve_slots(KEYS as usize);
    let (mut mins, mut maxs) = (vec![0.0; GATHERED], vec![0.0; GATHERED]);
    let mut answer = Answer::of_rows(values.len() as u64);
    for (slots, values) in slots.chunks(GATHERED).zip(values.chunks(GATHERED)) {
        let (mins, maxs) = (&mut mins[..values.len()], &mut maxs[..values.len()]);
        let mut columns = OrderColumns { mins: Some(mins), maxs: Some(maxs), any: None };
        engine.rolling_order(&mut windows, &RollingRows { slots, values, validity: None, times: &[] }, &mut columns)?;
        answer.min += mins.iter().sum::<f64>();
        answer.max += maxs.iter().sum::<f64>();
    }
    Ok(answer)
}

/// The columns as an Arrow file, for the peers.
fn write(path: &Path, slots: &[u32], values: &[f64]) -> Result<()> {
    const CHUNK: usize = 1 << 20;
    let records = |slots: &[u32], values: &[f64]| {
        let slots: Int32Array = slots.iter().map(|&slot| Some(slot as i32)).collect();
        RecordBatch::try_from_iter([("slot", Arc::new(slots) as ArrayRef), ("value", Arc::new(Float64Array::from(values.to_vec())))])
    };
    let mut writer = FileWriter::try_new(File::create(path)?, &records(&[], &[])?.schema())?;
    for (slots, values) in slots.chunks(CHUNK).zip(values.chunks(CHUNK)) {
        writer.write(&records(slots, values)?)?;
    }
    Ok(writer.finish()?)
}
