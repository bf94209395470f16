//! Windows over one stream that share panes in one query, beside a query for each.

use thalweg::window::WindowSpec;
use thalweg::{Aggregate, Query, Stream, count, hopping, max, mean, min, secs, sum, tumbling};

use crate::answer::{Answer, Collector};
use crate::bench::Bench;
use crate::contest::{Contender, Contest, Run};
use crate::events::KEYS;
use crate::{Result, reference};

/// The windows: how many seconds each is long. All slide by one.
const SECONDS: [u64; 3] = [1, 2, 10];

fn spec(seconds: u64) -> WindowSpec {
    if seconds == 1 { tumbling(secs(1)) } else { hopping(secs(seconds), secs(1)) }
}

/// One contest for each number of keys.
pub fn contests(bench: &Bench<'_>) -> Result<Vec<Contest>> {
    let mut contests = Vec::new();
    for (key, keys) in KEYS {
        let name = format!("windows of 1, 2 and 10 s over one stream, K = {keys}");
        if !bench.common.wants(&name) {
            continue;
        }
        let answers = SECONDS.iter().map(|&panes| reference::windows(&bench.events, (key, keys), panes as i64));
        let expected = answers.collect::<Result<Vec<Answer>>>()?.into_iter().fold(Answer::default(), Answer::and);
        let stream = bench.stream(&["ts", key, "value"])?;
        let aggregates = || -> [Aggregate; 5] {
            [
                count().alias("n"),
                sum("value").alias("sum"),
                min("value").alias("min"),
                max("value").alias("max"),
                mean("value").alias("mean"),
            ]
        };
        let windows: Vec<Stream> = SECONDS.iter().map(|&seconds| stream.window(spec(seconds)).by([key]).agg(aggregates())).collect();
        let run = |queries: &[&[Stream]]| {
            Run::time(|| {
                let collector = Collector::default();
                for windows in queries {
                    let query = windows.iter().fold(Query::new(), |query, window| query.sink(window, collector.clone()));
                    query.run()?;
                }
                Ok(collector.answer())
            })
        };
        let together = || run(&[&windows]);
        let each = || run(&windows.iter().map(std::slice::from_ref).collect::<Vec<_>>());
        let contenders = vec![Contender::new("one query", expected, together), Contender::new("a query each", expected, each)];
        contests.push(bench.hold(&name, contenders, 20)?);
    }
    Ok(contests)
}
