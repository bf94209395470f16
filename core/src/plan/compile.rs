//! From streams to a pipeline: shared steps become one operator, every step is checked against its input.

use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::operator::Operator;
use crate::operator::aggregate::Aggregate;
use crate::operator::arrival_time::ArrivalColumn;
use crate::operator::dedup::Dedup;
use crate::operator::derive::{Derive, Select};
use crate::operator::detect::Detect;
use crate::operator::devices::{self, Devices};
use crate::operator::event_time::{Punctuation, TimeColumn};
use crate::operator::filter::Filter;
use crate::operator::late_schema;
use crate::operator::rolling::Rolling;
use crate::operator::window::{AssignedWindow, CountWindow, GlobalWindow, RevisedWindow, SessionWindow, Window};
use crate::plan::{EventTime, Node, Step, Stream, panes, sharing};
use crate::runtime::{Graph, Origin, Target, TimeStage};
use crate::source::OpenSource;
use crate::time::{SystemClock, Unit};
use crate::watermark::Watermarks;
use crate::window::{Revisions, Windowing};

/// A stream from its source on: the source, then the streams after each step.
fn chain(stream: &Stream) -> Result<(&dyn OpenSource, Vec<&Stream>)> {
    let mut steps = Vec::new();
    let mut current = stream;
    loop {
        match &*current.node {
            Node::Source(source) => {
                steps.reverse();
                return Ok((source.as_ref(), steps));
            }
            Node::Invalid(why) => return Err(Error::schema(why.clone())),
            Node::Step { input, .. } => {
                steps.push(current);
                current = input;
            }
        }
    }
}

fn step_of(stream: &Stream) -> Option<&Step> {
    match &*stream.node {
        Node::Step { step, .. } => Some(step),
        _ => None,
    }
}

/// One step, ready to run.
struct Built {
    operator: Box<dyn Operator>,
    schema: SchemaRef,
    /// The pane of a window step, in units of event time.
    pane: Option<i64>,
}

fn build(step: &Step, input: &SchemaRef, unit: Option<Unit>, config: &Config, devices: &Devices) -> Result<Built> {
    let plain = |operator: Box<dyn Operator>, schema| Built { operator, schema, pane: None };
    Ok(match step {
        Step::EventTime(_) | Step::ArrivalTime(_) => {
            return Err(Error::config("`event_time` or `arrival_time` may be called once per stream, before the first window or branch"));
        }
        Step::Filter(predicate) => plain(Box::new(Filter::new(predicate, input)?), SchemaRef::clone(input)),
        Step::WithColumns(columns) => {
            let derive = Derive::new(columns, input)?;
            let schema = SchemaRef::clone(derive.schema());
            plain(Box::new(derive), schema)
        }
        Step::Select(columns) => {
            let select = Select::new(columns, input)?;
            let schema = SchemaRef::clone(select.schema());
            plain(Box::new(select), schema)
        }
        Step::Window { spec, revisions, ttl, by, aggregates } => {
            let step = WindowStep { spec, revisions, ttl: *ttl, by, aggregates };
            build_window(&step, input, unit, config, devices)?
        }
        Step::Detect(detection) => {
            let detect = Detect::new(detection, input, unit, config)?.on_devices(devices);
            let schema = detect.schema();
            plain(Box::new(detect), schema)
        }
        Step::Dedup { by, within } => plain(Box::new(Dedup::new(by, *within, input, unit, config)?), SchemaRef::clone(input)),
        Step::Process { by, process } => {
            let (operator, schema) = Arc::clone(process).build(by, input, unit, config)?;
            plain(operator, schema)
        }
    })
}

/// The parts of a window step.
struct WindowStep<'a> {
    spec: &'a Windowing,
    revisions: &'a Revisions,
    ttl: Option<Duration>,
    by: &'a [String],
    aggregates: &'a [Aggregate],
}

/// What cannot go together.
fn check_window(step: &WindowStep<'_>) -> Result<()> {
    let WindowStep { spec, revisions, ttl, .. } = step;
    if !revisions.none() && matches!(spec, Windowing::Global(_)) {
        return Err(Error::config(format!(
            "`allowed_lateness`, `early` and `updates` are of windows that end, which {spec} does not: it takes rows in order of event time once \
             the watermark has passed them, and one behind that is late; let rows be on time by a longer `max_delay`, and give it the \
             trigger `rows` or `every` for more results"
        )));
    }
    if !revisions.none() && !matches!(spec, Windowing::Panes(_) | Windowing::Sessions(_) | Windowing::Assigned(_)) {
        return Err(Error::config(format!(
            "`allowed_lateness`, `early` and `updates` are of windows of time and of sessions, which {spec} is not; \
             let rows be on time by a longer `max_delay`"
        )));
    }
    if ttl.is_some() && matches!(spec, Windowing::Panes(_) | Windowing::Sessions(_) | Windowing::Assigned(_)) {
        return Err(Error::config(format!(
            "`ttl` is of windows that keep their keys, which {spec} does not: a key is forgotten with its last window; leave it out"
        )));
    }
    Ok(())
}

fn build_window(step: &WindowStep<'_>, input: &SchemaRef, unit: Option<Unit>, config: &Config, devices: &Devices) -> Result<Built> {
    check_window(step)?;
    let WindowStep { spec, revisions, ttl, by, aggregates } = *step;
    let timed = || unit.ok_or_else(no_event_time);
    let (schema, pane, operator): (SchemaRef, Option<i64>, Box<dyn Operator>) = match spec {
        Windowing::Rolling(spec) => {
            let rolling = Rolling::new((*spec, ttl), by, aggregates, input, unit, config)?.on_devices(devices);
            (rolling.schema(), None, Box::new(rolling))
        }
        Windowing::Panes(spec) if !revisions.none() => {
            let window = RevisedWindow::new((spec, revisions), by, aggregates, input, timed()?, config, devices)?;
            (window.schema(), Some(window.pane_length()), Box::new(window))
        }
        Windowing::Panes(spec) => {
            let window = Window::new(spec, by, aggregates, input, timed()?, config, devices)?;
            (window.schema(), Some(window.pane_length()), window.into_operator(config.workers))
        }
        Windowing::Rows(spec) => {
            let window = CountWindow::new((*spec, ttl), by, aggregates, input, timed()?, config)?;
            (window.schema(), None, Box::new(window))
        }
        Windowing::Sessions(spec) => {
            let window = SessionWindow::new((*spec, revisions), by, aggregates, input, timed()?, config)?;
            (window.schema(), Some(window.gap()), Box::new(window))
        }
        Windowing::Global(spec) => {
            let window = GlobalWindow::new((spec, ttl), by, aggregates, input, timed()?, config)?;
            (window.schema(), None, Box::new(window))
        }
        Windowing::Assigned(spec) => {
            let window = AssignedWindow::new((spec, revisions), by, aggregates, input, timed()?, config, devices)?;
            (window.schema(), None, Box::new(window))
        }
    };
    Ok(Built { operator, schema, pane })
}

fn no_event_time() -> Error {
    Error::config("a window needs event times; call `event_time(column)` before `window`, or `arrival_time(name)` for the clock's")
}

fn time_stage(time: &EventTime, input: &SchemaRef) -> Result<TimeStage> {
    let column = TimeColumn::new(input, &time.column, time.unit)?;
    let delay = column.unit.count(time.max_delay)?;
    let idle = time.idle_timeout.map(|timeout| timeout.as_nanos() as u64);
    let punctuation =
        time.punctuated_by.as_ref().map(|name| Ok::<_, Error>((name.clone(), Punctuation::new(input, name, &column)?))).transpose()?;
    if let (Some(name), 1..) = (&time.punctuated_by, delay) {
        return Err(Error::config(format!(
            "`max_delay` has no say where `{name}` punctuates the stream: the watermark is what `{name}` says; leave out one of the two"
        )));
    }
    let mut watermarks = Watermarks::new(delay, idle);
    if let Some(quiet) = time.advance_after {
        if quiet.is_zero() {
            return Err(Error::config(
                "`advance_after` is zero; give a time that the stream is never quiet for while rows are on their way",
            ));
        }
        watermarks.advance_after(quiet.as_nanos() as u64, 1_000_000_000 / column.unit.per_second() as u64);
    }
    if let Some(skew) = time.max_skew {
        watermarks.max_skew(column.unit.count(skew)?);
    }
    Ok(TimeStage::new(Origin::Column { time: column, punctuation }, watermarks))
}

/// The columns of `stream`.
pub(super) fn schema_of(stream: &Stream, config: &Config) -> Result<SchemaRef> {
    let mut compiler = Compiler::new(stream, config, devices::unused())?;
    compiler.add(stream)?;
    Ok(compiler.schema)
}

/// The columns of the late rows of `stream`, if it has a step for which rows may be late.
pub(super) fn late_schema_of(stream: &Stream, config: &Config) -> Result<Option<SchemaRef>> {
    let mut compiler = Compiler::new(stream, config, devices::unused())?;
    Ok(compiler.add(stream)?.late.pop().map(|(_, schema)| schema))
}

/// The steps of `stream`, one a line, with the devices of their kernels.
pub(super) fn explain(stream: &Stream, config: &Config) -> Result<String> {
    let devices = devices::open(config, &SystemClock::shared())?;
    let mut compiler = Compiler::new(stream, config, devices)?;
    compiler.add(stream)?;
    let (notes, alone) = if config.workers > 1 { sharing::explain(&compiler, &[], config) } else { (Vec::new(), None) };
    let mut text = describe(&compiler, stream, &notes)?;
    text.extend(alone);
    Ok(text)
}

/// The steps of several streams of one query, each as [`explain`] does, and what they share.
pub(super) fn explain_all(streams: &[Stream], config: &Config) -> Result<String> {
    let Some(first) = streams.first() else { return Err(no_streams()) };
    let devices = devices::open(config, &SystemClock::shared())?;
    let mut compiler = Compiler::new(first, config, devices)?;
    streams.iter().try_for_each(|stream| compiler.add(stream).map(drop))?;
    let commons = panes::common(&compiler)?;
    let (notes, alone) = if config.workers > 1 { sharing::explain(&compiler, &commons, config) } else { (Vec::new(), None) };
    let mut text = String::new();
    for stream in streams {
        let _ = writeln!(text, "{}", describe(&compiler, stream, &notes)?);
    }
    let place = if config.workers > 1 { ", in each worker" } else { "" };
    for common in &commons {
        let _ = writeln!(text, "{}{place}", common.describe(&compiler));
    }
    let mut text = text.trim_end().to_owned();
    text.extend(alone);
    Ok(text)
}

/// What a query without streams is told.
pub(super) fn no_streams() -> Error {
    Error::config("a query needs at least one stream bound to a sink")
}

/// The steps of a stream, one a line, with the notes on them by node.
fn describe(compiler: &Compiler<'_>, stream: &Stream, notes: &[(usize, String)]) -> Result<String> {
    let (source, steps) = chain(stream)?;
    let mut text = source.describe();
    for stream in steps {
        if let Some(step) = step_of(stream) {
            let _ = write!(text, "\n  → {step}");
        }
        if let Some(placement) = compiler.placement_of(stream) {
            let _ = write!(text, " on {placement}");
        }
        let node = compiler.node_of(Arc::as_ptr(&stream.node));
        if let Some((_, note)) = notes.iter().find(|(noted, _)| Some(*noted) == node) {
            let _ = write!(text, "; {note}");
        }
    }
    Ok(text)
}

/// The streams of one query, compiled one after the other into one graph.
pub(super) struct Compiler<'a> {
    source: &'a dyn OpenSource,
    pub config: &'a Config,
    pub devices: Devices,
    pub prelude: Vec<(String, Box<dyn Operator>)>,
    pub time: Option<TimeStage>,
    pub graph: Graph,
    /// The steps that every stream has in common up to the event time.
    head: Vec<*const Node>,
    /// The columns where the head ends.
    head_schema: SchemaRef,
    /// The steps of the graph, each at the number of its node.
    pub steps: Vec<BuiltStep>,
    /// The columns of the stream added last.
    pub schema: SchemaRef,
}

/// A step that has an operator.
pub(super) struct BuiltStep {
    stream: Stream,
    /// The node that it follows; none if it follows the source.
    pub from: Option<usize>,
    /// The columns that go in.
    pub input: SchemaRef,
    schema: SchemaRef,
}

impl BuiltStep {
    /// What it is.
    pub fn step(&self) -> &Step {
        step_of(&self.stream).unwrap_or_else(|| unreachable!("only steps are built"))
    }
}

/// Where a compiled stream ends in the graph.
pub(super) struct End {
    /// The node whose output is the stream's; `None` if it is the source itself.
    pub node: Option<usize>,
    /// The steps of the stream for which rows may be late, with the columns of the late rows of each.
    pub late: Vec<(usize, SchemaRef)>,
    /// Whether rows that come out of the stream may be behind the watermark.
    puts_out_late: bool,
}

impl<'a> Compiler<'a> {
    /// Compiles the steps of `first` up to its event time.
    pub fn new(first: &'a Stream, config: &'a Config, devices: Devices) -> Result<Compiler<'a>> {
        let (source, steps) = chain(first)?;
        let mut compiler = Compiler {
            source,
            config,
            devices,
            prelude: Vec::new(),
            time: None,
            graph: Graph::default(),
            head: Vec::new(),
            head_schema: source.schema(),
            steps: Vec::new(),
            schema: source.schema(),
        };
        let Some(position) = steps.iter().position(|stream| matches!(step_of(stream), Some(Step::EventTime(_) | Step::ArrivalTime(_))))
        else {
            return Ok(compiler);
        };
        for stream in &steps[..=position] {
            compiler.head.push(Arc::as_ptr(&stream.node));
            match step_of(stream) {
                Some(Step::EventTime(time)) => compiler.time = Some(time_stage(time, &compiler.head_schema)?),
                Some(Step::ArrivalTime(name)) => {
                    let arrival = ArrivalColumn::new(name, &compiler.head_schema)?;
                    compiler.head_schema = arrival.schema();
                    compiler.time = Some(TimeStage::new(Origin::Arrival(arrival), Watermarks::new(0, None)));
                }
                Some(Step::Window { .. }) => return Err(no_event_time()),
                Some(step @ Step::Process { .. }) => {
                    return Err(Error::config("`process` must come after `event_time`; move it behind").context(step));
                }
                Some(step) => {
                    let built = build(step, &compiler.head_schema, None, config, &compiler.devices)?;
                    compiler.prelude.push((step.to_string(), built.operator));
                    compiler.head_schema = built.schema;
                }
                None => {}
            }
        }
        compiler.graph.unit = compiler.unit().unwrap_or_default();
        Ok(compiler)
    }

    /// The source that all streams share.
    pub fn source(&self) -> &'a dyn OpenSource {
        self.source
    }

    /// Where the kernels of the last step of `stream` run, if it has any.
    fn placement_of(&self, stream: &Stream) -> Option<String> {
        let pointer = Arc::as_ptr(&stream.node);
        if let Some(node) = self.node_of(pointer) {
            return self.graph.operator(node).placement();
        }
        let position = self.head.iter().position(|head| *head == pointer)?;
        self.prelude.get(position)?.1.placement()
    }

    /// The node of a step, if it has one.
    fn node_of(&self, pointer: *const Node) -> Option<usize> {
        self.steps.iter().position(|built| Arc::as_ptr(&built.stream.node) == pointer)
    }

    /// What the event time counts, if there is one.
    pub fn unit(&self) -> Option<Unit> {
        self.time.as_ref().map(TimeStage::unit)
    }

    /// Whether rows may lack an event time, so that they go to quarantine when their bytes have long been decoded.
    pub fn turns_rows_away(&self) -> bool {
        self.time.as_ref().is_some_and(|time| time.turns_rows_away(&self.head_schema))
    }

    /// One more operator of a step.
    pub fn operator(&self, built: &BuiltStep, config: &Config) -> Result<Box<dyn Operator>> {
        let again = build(built.step(), &built.input, self.unit(), config, &self.devices);
        again.map(|built| built.operator).map_err(|error| error.context(built.step()))
    }

    /// Adds the steps of `stream` that no stream before it had.
    pub fn add(&mut self, stream: &Stream) -> Result<End> {
        let (source, steps) = chain(stream)?;
        if !std::ptr::addr_eq(source, self.source) {
            return Err(Error::config("the streams of one query must come from one source; start one query per source"));
        }
        if steps.len() < self.head.len() || steps.iter().zip(&self.head).any(|(stream, head)| Arc::as_ptr(&stream.node) != *head) {
            return Err(Error::config("the streams of one query must share their steps up to `event_time`; call it once, then branch"));
        }
        let mut end = End { node: None, late: Vec::new(), puts_out_late: true };
        self.schema = SchemaRef::clone(&self.head_schema);
        for stream in &steps[self.head.len()..] {
            self.add_step(stream, &mut end)?;
        }
        Ok(end)
    }

    fn add_step(&mut self, stream: &Stream, end: &mut End) -> Result<()> {
        let Some(step) = step_of(stream) else { return Ok(()) };
        let pointer = Arc::as_ptr(&stream.node);
        let input = SchemaRef::clone(&self.schema);
        let known = self.node_of(pointer).map(|node| (node, SchemaRef::clone(&self.steps[node].schema)));
        let (node, schema) = match known {
            Some(known) => known,
            None => {
                let built = build(step, &input, self.unit(), self.config, &self.devices).map_err(|error| error.context(step))?;
                let node = self.graph.add(step.to_string(), built.operator);
                self.graph.connect(end.node, Target::Node(node));
                let (input, schema) = (SchemaRef::clone(&input), SchemaRef::clone(&built.schema));
                self.steps.push(BuiltStep { stream: stream.clone(), from: end.node, input, schema });
                if let (Some(time), Some(pane)) = (&mut self.time, built.pane) {
                    time.pane = Some(time.pane.map_or(pane, |shortest| shortest.min(pane)));
                }
                (node, built.schema)
            }
        };
        if step.has_late_rows() && end.puts_out_late {
            end.late.push((node, late_schema(&input, self.graph.unit)));
        }
        end.puts_out_late = step.puts_out_late(end.puts_out_late);
        (end.node, self.schema) = (Some(node), schema);
        Ok(())
    }
}
