//! Queries: streams bound to sinks, run in the foreground or the background.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::config::{Config, MAX_LATE_ROWS, MAX_QUARANTINED_ROWS};
use crate::error::{Error, Result};
use crate::metrics::{Metrics, SharedCounters};
use crate::operator::devices::{self, Devices};
use crate::plan::compile::{self, Compiler};
use crate::plan::table::{Kept, Table};
use crate::plan::{Stream, panes, sharing};
use crate::quality;
use crate::runtime::{HeldBack, Outlet, Parts, Pipeline, Running, Target};
use crate::sink::Sink;
use crate::state::Snapshot;
use crate::time::{SharedClock, SystemClock};

/// How long a pull for the next batch works before it looks at the outside again.
const STEP: Duration = Duration::from_millis(50);

/// One or more streams of one source, each bound to a sink. Steps that they share run once; windows of time by the same key over
/// the same stream share panes, so that a row's key is looked up and its values are added once for all of them (where they have neither allowed
/// lateness nor early results); each worker has panes of its own. [`Query::explain`] says which do.
///
/// ```
/// # use thalweg::{Query, Result, Stream, sink::Memory};
/// # fn run(payments: Stream, windows: Stream, all: Memory, sums: Memory) -> Result<()> {
/// let metrics = Query::new().sink(&payments, all).sink(&windows, sums).run()?;
/// println!("{} rows", metrics.rows_in);
/// # Ok(())
/// # }
/// ```
#[derive(Default)]
pub struct Query {
    config: Config,
    clock: Option<SharedClock>,
    devices: Option<Devices>,
    outputs: Vec<Output>,
    quarantine: Option<Box<dyn Sink>>,
    snapshot: Option<Snapshot>,
}

struct Output {
    stream: Stream,
    sink: Box<dyn Sink>,
    late: Option<Box<dyn Sink>>,
}

impl Query {
    /// A query without outputs, with the default configuration.
    pub fn new() -> Query {
        Query::default()
    }

    /// Runs with this configuration.
    pub fn config(mut self, config: Config) -> Query {
        self.config = config;
        self
    }

    /// Runs on this clock instead of the machine's, or that of a scripted source.
    pub fn clock(mut self, clock: SharedClock) -> Query {
        self.clock = Some(clock);
        self
    }

    /// Runs its kernels on these devices instead of those that the configuration names.
    pub fn devices(mut self, devices: Devices) -> Query {
        self.devices = Some(devices);
        self
    }

    /// Sends the rows of `stream` to `sink`.
    pub fn sink(mut self, stream: &Stream, sink: impl Sink + 'static) -> Query {
        self.outputs.push(Output { stream: stream.clone(), sink: Box::new(sink), late: None });
        self
    }

    /// Sends the late rows of the stream named last to `sink`: those of the last of its steps for which rows may be late (a window,
    /// [`dedup`](Stream::dedup), or a process in order of time), with the columns of [`Stream::late_schema`]. Late rows of steps
    /// before that one come too if they have the same columns.
    ///
    /// No row is late behind `dedup` and windows, rolling ones too, unless a process or a window with
    /// [`allowed_lateness`](crate::plan::Windowed::allowed_lateness), [`early`](crate::plan::Windowed::early) or
    /// [`updates`](crate::plan::Windowed::updates) follows them: what these put out may have times that are past. So of a rolling window that a
    /// tumbling one follows it is the rolling one's late rows that come here.
    pub fn late(mut self, sink: impl Sink + 'static) -> Query {
        if let Some(output) = self.outputs.last_mut() {
            output.late = Some(Box::new(sink));
        }
        self
    }

    /// Sends rows that did not decode or had no event time to `sink`; the columns are those of
    /// [`quality::schema`](crate::quality::schema).
    pub fn quarantine(mut self, sink: impl Sink + 'static) -> Query {
        self.quarantine = Some(Box::new(sink));
        self
    }

    /// Begins with the state of `snapshot`, which was taken of a pipeline of the same steps.
    pub fn restore(mut self, snapshot: Snapshot) -> Query {
        self.snapshot = Some(snapshot);
        self
    }

    /// Checks everything and opens the source.
    ///
    /// # Errors
    /// What is wrong with the first setting, step or source that cannot work.
    pub fn build(self) -> Result<Pipeline> {
        self.config.validate()?;
        let Some(first) = self.outputs.first().map(|output| output.stream.clone()) else {
            return Err(compile::no_streams());
        };
        let clock = self.clock.or_else(|| first.clock()).unwrap_or_else(SystemClock::shared);
        let devices = match self.devices {
            Some(devices) => devices,
            None => devices::open(&self.config, &clock)?,
        };
        let keeps_state = self.outputs.iter().any(|output| output.stream.keeps_state());
        let mut compiler = Compiler::new(&first, &self.config, devices)?;
        for (number, output) in self.outputs.into_iter().enumerate() {
            let end = compiler.add(&output.stream)?;
            let outlets = &mut compiler.graph.outlets;
            outlets.push(Outlet::new(format!("sink {number}"), SchemaRef::clone(&compiler.schema), output.sink, &clock, true));
            let target = Target::Outlet(outlets.len() - 1);
            compiler.graph.connect(end.node, target);
            if let Some(sink) = output.late {
                let last = end.late.last().ok_or_else(|| Error::config("late rows come from windows and `dedup`; this stream has none"))?;
                let schema = SchemaRef::clone(&last.1);
                let outlet = compiler.graph.outlets.len();
                end.late
                    .iter()
                    .filter(|(_, columns)| *columns == schema)
                    .for_each(|(node, _)| compiler.graph.bind_late(*node, Target::Outlet(outlet)));
                compiler.graph.outlets.push(Outlet::new(format!("late sink {number}"), schema, sink, &clock, false));
            }
        }
        let quarantine = self.quarantine.map(|sink| {
            compiler.graph.outlets.push(Outlet::new("quarantine", quality::schema(), sink, &clock, false));
            compiler.graph.outlets.len() - 1
        });
        let sharing = match self.config.workers > 1 {
            true => sharing::share(&mut compiler, &self.config)?,
            false => {
                let commons = panes::common(&compiler)?;
                panes::share(&mut compiler, &commons).map(|_| None)?
            }
        };
        let mut source = compiler.source().open(&self.config, &clock)?;
        if compiler.graph.takes_late() || quarantine.is_some() && compiler.turns_rows_away() {
            source.keep_offsets();
        }
        let Compiler { prelude, time, graph, devices, .. } = compiler;
        let parts = Parts { source, prelude, time, graph, keeps_state, sharing, quarantine, config: self.config.clone(), clock, devices };
        let mut pipeline = Pipeline::new(parts)?;
        self.snapshot.iter().try_for_each(|snapshot| pipeline.restore(snapshot))?;
        Ok(pipeline)
    }

    /// The plans of its streams in words, as [`Stream::explain`] gives them, and the windows that share panes. May look for a GPU and measure it.
    ///
    /// # Errors
    /// What is wrong with the first setting or step that cannot work.
    pub fn explain(&self) -> Result<String> {
        self.plan().explain()
    }

    /// What it is to do, to be explained after it has started too.
    pub fn plan(&self) -> Plan {
        Plan { streams: self.outputs.iter().map(|output| output.stream.clone()).collect(), config: self.config.clone() }
    }

    /// Runs on this thread to the end of the input.
    ///
    /// # Errors
    /// As [`Query::build`], and what goes wrong while running.
    pub fn run(self) -> Result<Metrics> {
        let mut pipeline = self.build()?;
        pipeline.run()?;
        Ok(pipeline.counters().snapshot())
    }

    /// Runs on a thread of its own.
    ///
    /// # Errors
    /// As [`Query::build`].
    pub fn start(self) -> Result<Running> {
        Running::start(self.build()?)
    }
}

/// The streams of a query and how they are to run, without their sinks: what is left to explain of a query that has started.
///
/// ```
/// # use thalweg::{Query, Result, Stream, sink::Memory};
/// # fn run(windows: Stream, sums: Memory) -> Result<()> {
/// let query = Query::new().sink(&windows, sums);
/// let (plan, running) = (query.plan(), query.start()?);
/// println!("{}", plan.explain()?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Plan {
    streams: Vec<Stream>,
    config: Config,
}

impl Plan {
    /// As [`Query::explain`].
    ///
    /// # Errors
    /// As [`Query::explain`].
    pub fn explain(&self) -> Result<String> {
        self.config.validate()?;
        compile::explain_all(&self.streams, &self.config)
    }
}

impl Stream {
    /// Reads a bounded input to its end and returns the results. Every window that is open then fires.
    ///
    /// # Errors
    /// As [`Query::build`], and what goes wrong while running.
    pub fn collect(&self) -> Result<Table> {
        self.batches(Config::default())?.into_table()
    }

    /// The results as they come, computed on the thread that asks for them.
    ///
    /// # Errors
    /// As [`Query::build`].
    pub fn batches(&self, config: Config) -> Result<Batches> {
        self.begin(config, None)
    }

    /// The same, going on from a [snapshot](Batches::snapshot) of a stream of the same steps. The source is to give the rows after it.
    ///
    /// # Errors
    /// As [`Query::build`], and [`Kind::State`](crate::error::Kind::State) if the snapshot is of other steps.
    pub fn batches_from(&self, config: Config, snapshot: Snapshot) -> Result<Batches> {
        self.begin(config, Some(snapshot))
    }

    fn begin(&self, config: Config, snapshot: Option<Snapshot>) -> Result<Batches> {
        let schema = self.schema()?;
        let results = Kept::new(usize::MAX);
        let (late, quarantined) = (Kept::new(MAX_LATE_ROWS), Kept::new(MAX_QUARANTINED_ROWS));
        let mut query = Query { snapshot, ..Query::new().config(config).sink(self, results.sink()) };
        if self.has_late_rows() {
            query = query.late(late.sink());
        }
        let pipeline = query.quarantine(quarantined.sink()).build()?;
        Ok(Batches { counters: pipeline.counters(), pipeline, schema, results, late, quarantined, ended: false })
    }

    /// Runs in the background with the results going to `sink`.
    ///
    /// # Errors
    /// As [`Query::build`].
    pub fn run(&self, sink: impl Sink + 'static) -> Result<Running> {
        Query::new().sink(self, sink).start()
    }

    /// Whether a step of it keeps rows, or what it made of them, for rows to come.
    fn keeps_state(&self) -> bool {
        match &*self.node {
            crate::plan::Node::Step { input, step } => step.keeps_state() || input.keeps_state(),
            _ => false,
        }
    }

    /// Whether rows may come too late for a step of it: whether [`Query::late`] may follow.
    pub fn has_late_rows(&self) -> bool {
        match &*self.node {
            crate::plan::Node::Step { input, step } => step.has_late_rows() || input.has_late_rows(),
            _ => false,
        }
    }
}

/// The results of a stream, batch by batch. The work is done by whoever asks for the next one.
pub struct Batches {
    pipeline: Pipeline,
    counters: SharedCounters,
    schema: SchemaRef,
    results: Kept,
    late: Kept,
    quarantined: Kept,
    ended: bool,
}

impl Batches {
    /// The columns of the results.
    pub fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// The counters now.
    pub fn metrics(&self) -> Metrics {
        self.counters.snapshot()
    }

    /// The state of all steps as it is now, to go on from with [`Stream::batches_from`], see [`Pipeline::snapshot`].
    ///
    /// # Errors
    /// [`Kind::State`](crate::error::Kind::State) if there are results that were not taken, which it would not hold: pull them with no budget first; as
    /// [`Pipeline::snapshot`].
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        // With workers more may be on their way.
        let snapshot = self.pipeline.snapshot()?;
        match self.results.is_empty() {
            true => Ok(snapshot),
            false => Err(Error::state("there are results that were not taken, which a snapshot would not hold; pull them, then try again")),
        }
    }

    /// Why the earliest window that waits has not fired: which partition holds the watermark back, where it is and when it
    /// last had rows. `None` if no window waits or the stream has ended.
    pub fn why_not_firing(&self) -> Option<HeldBack> {
        self.pipeline.why_not_firing()
    }

    /// The next batch, if one is there within about `budget`; [`Pulled::End`] after the last one.
    ///
    /// # Errors
    /// What goes wrong while running; the stream has ended then.
    pub fn pull(&mut self, budget: Duration) -> Result<Pulled> {
        if let Some(batch) = self.results.pop() {
            return Ok(Pulled::Batch(batch));
        }
        if !self.ended {
            self.ended = true;
            self.ended = self.pipeline.step_until(budget, &mut || !self.results.is_empty())?;
        }
        Ok(match (self.results.pop(), self.ended) {
            (Some(batch), _) => Pulled::Batch(batch),
            (None, true) => Pulled::End,
            (None, false) => Pulled::Nothing,
        })
    }

    /// Works for about `budget`, keeping the results; returns whether the input has ended.
    ///
    /// # Errors
    /// What goes wrong while running; the stream has ended then.
    pub fn work(&mut self, budget: Duration) -> Result<bool> {
        if !self.ended {
            self.ended = true;
            self.ended = self.pipeline.step(budget)?;
        }
        Ok(self.ended)
    }

    /// Runs to the end and returns all results that were not taken yet.
    ///
    /// # Errors
    /// What goes wrong while running.
    pub fn into_table(mut self) -> Result<Table> {
        while !self.work(Duration::from_secs(1))? {}
        Ok(self.finish())
    }

    /// The results that were not taken yet, with late and quarantined rows and the counters.
    pub fn finish(self) -> Table {
        Table {
            schema: self.schema,
            batches: self.results.take(),
            late: self.late.take(),
            quarantined: self.quarantined.take(),
            metrics: self.counters.snapshot(),
        }
    }
}

/// The answer to [`Batches::pull`].
#[derive(Debug)]
pub enum Pulled {
    /// The next batch.
    Batch(RecordBatch),
    /// None within the budget; ask again.
    Nothing,
    /// There are no more.
    End,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            match self.pull(STEP) {
                Ok(Pulled::Batch(batch)) => return Some(Ok(batch)),
                Ok(Pulled::Nothing) => {}
                Ok(Pulled::End) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// Shared, so that a sink can write what a handle reads.
pub(super) type Shared<T> = Arc<Mutex<T>>;

pub(super) fn locked<T>(shared: &Shared<T>) -> std::sync::MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
