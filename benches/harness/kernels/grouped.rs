//! Count, sum, minimum and maximum per slot, beside the same loop in C.

use std::cell::RefCell;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufWriter, Write};

use thalweg_kernels::gpu::Engine;
use thalweg_kernels::{Backend, Cell, Want, resize_table};

use super::{BATCH, answer, backends, expected, gpu, slots, values};
use crate::answer::Answer;
use crate::contest::{Contender, Contest, Run, Work};
use crate::data_file::DataFile;
use crate::peer::{Peer, Question};
use crate::report::Report;
use crate::{Common, Result};

const GROUPS: [u32; 4] = [8, 100, 10_000, 1_000_000];

/// The number of groups for which there is a promise.
const PROMISED: u32 = 10_000;

pub fn measure(common: &Common, report: &mut Report) -> Result<()> {
    let name = |groups: u32| format!("count/sum/min/max by slot, {groups} groups");
    let wanted: Vec<u32> = GROUPS.into_iter().filter(|groups| common.wants(&name(*groups))).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let values = values(common.rows);
    for groups in wanted {
        let contest = contest(common, &name(groups), groups, &values)?.reading(12, report.machine.read_gb_per_s);
        report.add(if groups == PROMISED { contest.goal("simd", "plain loop", 0.8) } else { contest });
    }
    Ok(())
}

fn contest(common: &Common, name: &str, groups: u32, values: &[f64]) -> Result<Contest> {
    let slots = slots(values.len(), groups);
    let expected = expected(groups as usize, &slots, values);
    let file = DataFile::new("rows.bin")?;
    write(&file, &slots, values)?;
    let (rows, count) = (values.len().to_string(), groups.to_string());
    let peer = Peer::compile("dense_loop.c", &[file.path().as_os_str(), OsStr::new(&rows), OsStr::new(&count)]).map(RefCell::new);
    let run = |backend: Backend| {
        // As the engine makes them: on huge pages where they are many.
        let mut cells = Vec::new();
        resize_table(&mut cells, groups as usize, Cell::EMPTY);
        let (slots, values) = (&slots, values);
        move || Run::time(|| Ok(accumulate(backend, &mut cells, slots, values)))
    };
    let mut contenders: Vec<Contender<'_>> =
        backends().map(|backend| Contender::new(backend.to_string(), expected, run(backend))).collect();
    contenders.extend(gpu::contenders(expected, |engine| accumulate_there(engine, groups as usize, &slots, values)));
    if let Ok(peer) = &peer {
        let name = peer.borrow().name.clone();
        contenders.push(Contender::new(name, expected, || peer.borrow_mut().ask(&Question::default())));
    }
    let mut contest = Contest::hold(name, Work::rows(values.len()), common, contenders)?;
    contest.notes.extend(peer.err());
    Ok(contest)
}

fn accumulate(backend: Backend, cells: &mut [Cell], slots: &[u32], values: &[f64]) -> Answer {
    cells.fill(Cell::EMPTY);
    for (slots, values) in slots.chunks(BATCH).zip(values.chunks(BATCH)) {
        backend.accumulate(cells, slots, values, None, Want::ALL);
    }
    answer(cells)
}

fn write(file: &DataFile, slots: &[u32], values: &[f64]) -> Result<()> {
    let mut out = BufWriter::new(File::create(file.path())?);
    slots.iter().try_for_each(|slot| out.write_all(&slot.to_ne_bytes()))?;
    values.iter().try_for_each(|value| out.write_all(&value.to_ne_bytes()))?;
    Ok(out.flush()?)
}

/// Rows that are sent at a time: what a pipeline gathers at most.
const GATHERED: usize = 1 << 20;

/// The same on a graphics processor, rows sent and cells fetched within the time.
fn accumulate_there(engine: &Engine, groups: usize, slots: &[u32], values: &[f64]) -> Result<Answer> {
    let mut table = engine.table::<f64>(groups, Want::ALL)?;
    for (slots, values) in slots.chunks(GATHERED).zip(values.chunks(GATHERED)) {
        table.accumulate(slots, values, None)?;
    }
    let mut cells = vec![Cell::EMPTY; groups];
    table.read_into(&mut cells)?;
    Ok(answer(&cells))
}
