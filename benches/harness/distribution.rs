//! Quantiles and distinct values per key and window, beside the plain aggregates of the same rows.

use std::collections::{BTreeMap, HashMap, HashSet};

use arrow::array::AsArray;
use arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use thalweg::{approx_distinct, quantile, secs, tumbling};

use crate::Result;
use crate::answer::Answer;
use crate::bench::Bench;
use crate::contest::{Contender, Contest};
use crate::events::{Events, KEYS};
use crate::reference::{self, PANE};

/// Median, 99th percentile and distinct values of every key and second, few enough in each that the answer is exact.
pub fn contest(bench: &Bench<'_>) -> Result<Option<Contest>> {
    let (key, keys) = KEYS[1];
    let name = format!("tumbling 1 s, p50, p99 and approximate distinct by key, K = {keys}");
    if !bench.common.wants(&name) {
        return Ok(None);
    }
    let expected = expected(&bench.events, key)?;
    let aggregates = [approx_distinct("value").alias("n"), quantile("value", 0.5).alias("mean"), quantile("value", 0.99).alias("max")];
    let stream = bench.stream(&["ts", key, "value"])?.window(tumbling(secs(1))).by([key]).agg(aggregates);
    let plain =
        bench.aggregate("Thalweg, count/sum/min/max/mean", key, tumbling(secs(1)), reference::windows(&bench.events, (key, keys), 1)?)?;
    let contenders = vec![Contender::new("Thalweg, sketches", expected, || bench.run(&stream)), plain];
    bench.hold(&name, contenders, 20).map(Some)
}

fn expected(events: &Events, key: &str) -> Result<Answer> {
    let index = events.schema.index_of(key)?;
    let mut groups: HashMap<(i64, i32), Vec<f64>> = HashMap::new();
    let mut answer = Answer::default();
    for batch in &events.batches {
        let times = batch.column(0).as_primitive::<Int64Type>().values();
        let values = batch.column(1).as_primitive::<Float64Type>().values();
        let keys = batch.column(index).as_primitive::<Int32Type>().values();
        for ((time, key), value) in times.iter().zip(keys).zip(values) {
            groups.entry((time.div_euclid(PANE), *key)).or_default().push(*value);
        }
    }
    // In a fixed order, so that sums of floats are the same in every run.
    for mut values in groups.into_iter().collect::<BTreeMap<_, _>>().into_values() {
        let rank = |q: f64| (q * (values.len() - 1) as f64) as usize;
        let (middle, high) = (rank(0.5), rank(0.99));
        answer.n += values.iter().map(|value| value.to_bits()).collect::<HashSet<_>>().len() as i64;
        values.sort_unstable_by(f64::total_cmp);
        answer.rows += 1;
        answer.mean += values[middle];
        answer.max += values[high];
    }
    Ok(answer)
}
