//! Integer keys to slots to count, sum, minimum and maximum, beside a hash map that is asked for every row.

use hashbrown::HashMap;
use thalweg_kernels::{Cell, IntDictionary, Want, accumulate, resize_table};

use super::{BATCH, answer, expected, slots, values};
use crate::answer::Answer;
use crate::contest::{Contender, Contest, Run, Work};
use crate::report::Report;
use crate::{Common, Result};

/// Numbers of keys, and how many times as fast as a map per row is promised.
const KEYS: [(u32, f64); 3] = [(100, 1.0), (10_000, 1.5), (1_000_000, 4.0)];

/// An odd factor: keys that no table can be indexed by.
const SPREAD: i64 = 0x5851_f42d_4c95_7f2d;

pub fn measure(common: &Common, report: &mut Report) -> Result<()> {
    for (keys, at_least) in KEYS {
        for (form, factor) in [("dense", 1), ("spread", SPREAD)] {
            let name = format!("count/sum/min/max by int64 key, {keys} {form} keys");
            if common.wants(&name) {
                let contest = contest(common, &name, keys, factor)?.reading(16, report.machine.read_gb_per_s);
                report.add(contest.goal("dictionary", "hash map", at_least));
            }
        }
    }
    Ok(())
}

fn contest(common: &Common, name: &str, keys: u32, factor: i64) -> Result<Contest> {
    let values = values(common.rows);
    let slots = slots(common.rows, keys);
    let expected = expected(keys as usize, &slots, &values);
    let column: Vec<i64> = slots.into_iter().map(|slot| i64::from(slot).wrapping_mul(factor)).collect();
    let contenders = vec![
        Contender::new("dictionary and kernel", expected, || Run::time(|| by_slot(&column, &values))),
        Contender::new("hash map per row (hashbrown)", expected, || Run::time(|| Ok(by_map(&column, &values)))),
    ];
    Contest::hold(name, Work::rows(values.len()), common, contenders)
}

/// As the engine does it: a batch of keys becomes slots, the slots and values go to the kernel.
fn by_slot(keys: &[i64], values: &[f64]) -> Result<Answer> {
    let mut dictionary = IntDictionary::new(1 << 24);
    let (mut cells, mut slots) = (Vec::new(), Vec::with_capacity(BATCH));
    for (keys, values) in keys.chunks(BATCH).zip(values.chunks(BATCH)) {
        slots.clear();
        dictionary.assign(keys, &mut slots).map_err(|full| full.to_string())?;
        if cells.len() < dictionary.slots() {
            resize_table(&mut cells, dictionary.slots().next_power_of_two(), Cell::EMPTY);
        }
        accumulate(&mut cells, &slots, values, None, Want::ALL);
    }
    Ok(answer(&cells))
}

struct Plain {
    n: i64,
    sum: f64,
    min: f64,
    max: f64,
}

/// As one would write it by hand.
fn by_map(keys: &[i64], values: &[f64]) -> Answer {
    let mut map: HashMap<i64, Plain> = HashMap::new();
    for (key, &value) in keys.iter().zip(values) {
        let group = map.entry(*key).or_insert(Plain { n: 0, sum: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY });
        group.n += 1;
        group.sum += value;
        group.min = group.min.min(value);
        group.max = group.max.max(value);
    }
    let mut answer = Answer { rows: map.len() as u64, ..Answer::default() };
    for group in map.values() {
        answer.n += group.n;
        answer.sum += group.sum;
        answer.min += group.min;
        answer.max += group.max;
    }
    answer
}
