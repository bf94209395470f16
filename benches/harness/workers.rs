//! Workers that share the rows of windows by key, beside one.

use thalweg::{Config, Query, count, max, mean, min, secs, sum, tumbling};

use crate::answer::Collector;
use crate::bench::Bench;
use crate::contest::{Contender, Contest, Run};
use crate::events::KEYS;
use crate::{Result, machine, reference};

/// What two workers promise over one where both cores are free.
const TWO_OVER_ONE: f64 = 1.7;

/// What two cores can do where nothing is shared, which on a machine that is shared with others is not always twice what one does.
const APART: &str = "2 queries of 1 worker at once";

/// One contest for each number of keys: as many workers as asked for, and one.
pub fn contests(bench: &Bench<'_>) -> Result<Vec<Contest>> {
    let mut contests = Vec::new();
    for (key, keys) in KEYS {
        let name = format!("tumbling 1 s, K = {keys}, workers");
        if !bench.common.wants(&name) {
            continue;
        }
        let expected = reference::windows(&bench.events, (key, keys), 1)?;
        let aggregates = [
            count().alias("n"),
            sum("value").alias("sum"),
            min("value").alias("min"),
            max("value").alias("max"),
            mean("value").alias("mean"),
        ];
        let stream = bench.stream(&["ts", key, "value"])?.window(tumbling(secs(1))).by([key]).agg(aggregates);
        let run = |workers: usize| -> thalweg::Result<_> {
            let mut config = Config::default();
            config.workers = workers;
            let collector = Collector::default();
            Query::new().config(config).sink(&stream, collector.clone()).run()?;
            Ok(collector.answer())
        };
        let contender = |workers: usize| {
            let name = if workers == 1 { "1 worker".to_owned() } else { format!("{workers} workers") };
            Contender::new(name, expected, move || {
                let run = Run::time(|| Ok(run(workers)?))?;
                // The work is done by several threads: only the wall's clock counts.
                Ok(Run { cpu_seconds: None, ..run })
            })
        };
        let counts = bench.common.workers.iter().copied().filter(|workers| *workers > 1).chain([1]);
        let apart = Contender::new(APART, expected, || {
            let both = Run::time(|| {
                std::thread::scope(|scope| {
                    let other = scope.spawn(|| run(1));
                    let answer = run(1)?;
                    other.join().map_err(|_| "a query has panicked")??;
                    Ok(answer)
                })
            })?;
            // Twice the rows.
            Ok(Run { cpu_seconds: None, seconds: both.seconds / 2.0, ..both })
        });
        machine::unpin();
        let contest = bench.hold(&name, counts.map(contender).chain([apart]).collect(), 20);
        machine::pin(0);
        contests.push(contest?.goal("2 workers", "1 worker", TWO_OVER_ONE));
    }
    Ok(contests)
}
