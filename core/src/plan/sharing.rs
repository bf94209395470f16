//! Which steps of a query several workers can share, and the copies of them that each gets.
//!
//! Shared are, on each way from the source, the first step that keeps state, if its rows can be told apart by key (or it is a window
//! whose panes can be combined), and what follows it while rows stay with their worker: steps without state, and steps whose key
//! holds the columns of the first one's. All else stays on the pipeline's thread.

use std::fmt::Write;

use crate::config::{Config, Exchange as Asked};
use crate::error::Result;
use crate::operator::KeyColumns;
use crate::operator::window::{PartialWindow, Window};
use crate::plan::Step;
use crate::plan::compile::{BuiltStep, Compiler};
use crate::runtime::{Entry, Exchange, Exit, Graph, Port, Sharing, Target};
use crate::window::Windowing;

/// What becomes of the first step with state on a way from the source.
pub(super) enum Verdict {
    Shared(Shared),
    /// It is left to one worker, for this reason.
    Alone(&'static str),
}

/// A step that workers share, with what goes along.
pub(super) struct Shared {
    node: usize,
    /// It and the steps after it that can stay with its keys, each after its predecessor.
    chain: Vec<usize>,
    /// The steps before it, from the first one on, that workers can take along in two phases.
    prefix: Vec<usize>,
    by_hash: bool,
    two_phases: bool,
}

/// The key of a step that keeps state; `None` if it keeps none.
fn key_of(step: &Step) -> Option<&[String]> {
    match step {
        Step::Window { by, .. } | Step::Dedup { by, .. } | Step::Process { by, .. } => Some(by),
        Step::Detect(detection) => Some(detection.keys()),
        _ => None,
    }
}

/// Why workers cannot share a step by its key; `None` if they can.
fn alone(step: &Step) -> Option<&'static str> {
    match step {
        Step::Process { process, .. } => process.alone(),
        _ => None,
    }
}

/// Whether a step puts the column `name` out as it came in.
fn keeps(step: &Step, name: &str) -> bool {
    match step {
        Step::Filter(_) | Step::Detect(_) | Step::Dedup { .. } | Step::Window { spec: Windowing::Rolling(_), .. } => true,
        Step::WithColumns(columns) => columns.iter().all(|(replaced, _)| replaced != name),
        Step::Select(columns) => columns.iter().any(|column| column.to_string() == name),
        Step::Window { by, .. } => by.iter().any(|key| key == name),
        Step::EventTime(_) | Step::ArrivalTime(_) | Step::Process { .. } => false,
    }
}

/// Whether it is a window whose panes several workers can share.
fn has_panes(step: &Step) -> bool {
    matches!(step, Step::Window { spec: Windowing::Panes(_), revisions, .. } if revisions.none())
}

/// What becomes of the first step with state on each way from the source, by its node.
pub(super) fn judge(compiler: &Compiler<'_>) -> Vec<(usize, Verdict)> {
    let mut stateless = vec![false; compiler.steps.len()];
    let mut verdicts = Vec::new();
    for (node, built) in compiler.steps.iter().enumerate() {
        if built.from.is_some_and(|from| !stateless[from]) {
            continue;
        }
        let Some(by) = key_of(built.step()) else {
            stateless[node] = true;
            continue;
        };
        let two_phases = has_panes(built.step());
        let verdict = match (alone(built.step()), by.is_empty(), two_phases) {
            (Some(why), ..) => Verdict::Alone(why),
            (None, true, false) => Verdict::Alone("it has no key by which rows could be shared out, and what it keeps cannot be combined"),
            (None, no_key, _) => Verdict::Shared(Shared {
                node,
                chain: if no_key { Vec::new() } else { chain(compiler, node, by) },
                prefix: if two_phases { prefix(compiler, node, by) } else { Vec::new() },
                by_hash: !no_key,
                two_phases,
            }),
        };
        verdicts.push((node, verdict));
    }
    verdicts
}

/// The steps that can stay with the keys `by` of `node`.
fn chain(compiler: &Compiler<'_>, node: usize, by: &[String]) -> Vec<usize> {
    let keeps_all = |built: &BuiltStep| by.iter().all(|name| keeps(built.step(), name));
    let mut chain = vec![node];
    let mut keyed = vec![keeps_all(&compiler.steps[node])];
    for (next, built) in compiler.steps.iter().enumerate().skip(node + 1) {
        let Some(before) = built.from.and_then(|from| chain.iter().position(|&node| node == from)) else { continue };
        let stays = match key_of(built.step()) {
            None => true,
            Some(_) if alone(built.step()).is_some() => false,
            Some(key) => keyed[before] && by.iter().all(|name| key.contains(name)),
        };
        if stays {
            chain.push(next);
            keyed.push(keyed[before] && keeps_all(built));
        }
    }
    chain
}

/// The steps before `node` that lead to it alone and leave its key as it is.
fn prefix(compiler: &Compiler<'_>, node: usize, by: &[String]) -> Vec<usize> {
    let mut prefix = Vec::new();
    let mut first = node;
    while let Some(from) = compiler.steps[first].from {
        let alone = compiler.graph.next_of(Some(from)).len() == 1;
        if !alone || !by.iter().all(|name| keeps(compiler.steps[from].step(), name)) {
            break;
        }
        prefix.insert(0, from);
        first = from;
    }
    prefix
}

/// What `explain` says of a step beside its placement, and at the end of a plan of which nothing is shared.
pub(super) fn explain(compiler: &Compiler<'_>, config: &Config) -> (Vec<(usize, String)>, Option<String>) {
    let (mut notes, mut alone) = (Vec::new(), String::new());
    for (node, verdict) in judge(compiler) {
        match verdict {
            Verdict::Alone(why) => {
                let _ = write!(alone, "\n  one worker has `{}`: {why}", compiler.steps[node].step());
            }
            Verdict::Shared(shared) => {
                let how = match (shared.by_hash, shared.two_phases, config.exchange) {
                    (true, true, Asked::Auto) => "by key hash, or in two phases if the first rows are of few or unequal keys",
                    (true, false, _) | (true, true, Asked::Hash) => "by key hash",
                    _ => "in two phases",
                };
                notes.push((node, format!("{} workers share its rows {how}", config.workers)));
                let after = shared.chain.iter().skip(1).map(|&node| (node, "in the same workers, by key hash".to_owned()));
                notes.extend(after);
            }
        }
    }
    if notes.is_empty() && alone.is_empty() {
        alone.push_str("\n  one worker: no step keeps state, so there is nothing to share");
    }
    (notes, (!alone.is_empty()).then_some(alone))
}

/// Lets workers share what they can of a compiled query: the pipeline's graph then ends in ports where rows go out to them.
///
/// # Errors
/// As building the steps once.
pub(super) fn share(compiler: &mut Compiler<'_>, config: &Config) -> Result<Option<Sharing>> {
    let shared = |(_, verdict)| match verdict {
        Verdict::Shared(shared) => Some(shared),
        Verdict::Alone(_) => None,
    };
    let shared: Vec<Shared> = judge(compiler).into_iter().filter_map(shared).collect();
    if shared.is_empty() {
        return Ok(None);
    }
    let mut sharing = Sharing { copies: Vec::new(), nodes: Vec::new(), exchanges: Vec::new(), ports: Vec::new(), exits: Vec::new() };
    let mut routes = Vec::new();
    for shared in &shared {
        routes.push(exits(compiler, shared, &mut sharing.exits));
    }
    // Each copy may hold its share, so that all together hold what one would.
    let own = Config { max_state_bytes: config.max_state_bytes / config.workers, ..config.clone() };
    for _ in 0..config.workers {
        let (mut graph, mut entries) = (Graph::new(compiler.graph.unit), Vec::new());
        sharing.nodes.clear();
        for (exchange, (shared, routes)) in shared.iter().zip(&routes).enumerate() {
            entries.push(copy_chain(compiler, shared, routes, &mut graph, &own)?);
            entries.push(copy_partial(compiler, shared, routes, &mut graph, &own)?);
            let chain = shared.chain.iter().map(|&node| (node, Some(exchange)));
            let partial = shared.prefix.iter().chain([&shared.node]).map(|&node| (node, None));
            sharing.nodes.extend(chain.chain(partial.filter(|_| shared.two_phases)));
        }
        sharing.copies.push((graph, entries));
    }
    for (shared, routes) in shared.iter().zip(routes) {
        exchange(compiler, shared, routes, &mut sharing, config)?;
    }
    Ok(Some(sharing))
}

/// Where what comes of a node leaves the workers.
struct Route {
    node: usize,
    rows: Option<usize>,
    late: Option<usize>,
}

/// The exits of the nodes that workers have.
fn exits(compiler: &Compiler<'_>, shared: &Shared, exits: &mut Vec<Exit>) -> Vec<Route> {
    let nodes = if shared.chain.is_empty() { &[shared.node][..] } else { &shared.chain };
    let inside = |target: &Target| matches!(target, Target::Node(node) if nodes.contains(node));
    let mut add = |exit| {
        exits.push(exit);
        exits.len() - 1
    };
    let mut route = |&node: &usize| {
        let outside: Vec<Target> = compiler.graph.next_of(Some(node)).iter().filter(|target| !inside(target)).copied().collect();
        let rows = (!outside.is_empty()).then(|| add(Exit::Rows(outside)));
        let late = match compiler.graph.late_of(node) {
            Some(Target::Outlet(outlet)) => Some(add(Exit::Late(outlet))),
            _ => None,
        };
        Route { node, rows, late }
    };
    nodes.iter().map(&mut route).collect()
}

/// Where rows enter that nobody sends.
const NOWHERE: Entry = Entry { target: Target::Port(usize::MAX), window: None };

/// A worker's copy of the steps that it has if rows go by key hash.
fn copy_chain(compiler: &Compiler<'_>, shared: &Shared, routes: &[Route], graph: &mut Graph, config: &Config) -> Result<Entry> {
    let mut copies: Vec<usize> = Vec::new();
    for node in &shared.chain {
        let built = &compiler.steps[*node];
        let copy = graph.add(built.step().to_string(), compiler.operator(built, config)?);
        let before = built.from.and_then(|from| shared.chain.iter().position(|&node| node == from));
        if let Some(&before) = before.and_then(|before| copies.get(before)) {
            graph.connect(Some(before), Target::Node(copy));
        }
        let route = routes.iter().find(|route| route.node == *node);
        if let Some(exit) = route.and_then(|route| route.rows) {
            graph.connect(Some(copy), Target::Port(exit));
        }
        if let Some(exit) = route.and_then(|route| route.late) {
            graph.bind_late(copy, Target::Port(exit));
        }
        copies.push(copy);
    }
    Ok(copies.first().map_or(NOWHERE, |&first| Entry { target: Target::Node(first), window: None }))
}

/// A worker's copy of the steps that it has in two phases.
fn copy_partial(compiler: &Compiler<'_>, shared: &Shared, routes: &[Route], graph: &mut Graph, config: &Config) -> Result<Entry> {
    let built = &compiler.steps[shared.node];
    let Some(partial) = partial(compiler, built, config)? else { return Ok(NOWHERE) };
    let mut copies = Vec::new();
    for node in &shared.prefix {
        let built = &compiler.steps[*node];
        copies.push(graph.add(built.step().to_string(), compiler.operator(built, config)?));
    }
    let window = graph.add(built.step().to_string(), Box::new(partial));
    copies.push(window);
    copies.windows(2).for_each(|pair| graph.connect(Some(pair[0]), Target::Node(pair[1])));
    if let Some(exit) = routes.first().and_then(|route| route.late) {
        graph.bind_late(window, Target::Port(exit));
    }
    Ok(Entry { target: Target::Node(copies[0]), window: Some(window) })
}

/// A worker's share of a window of panes.
fn partial(compiler: &Compiler<'_>, built: &BuiltStep, config: &Config) -> Result<Option<PartialWindow>> {
    let (Step::Window { spec: Windowing::Panes(spec), by, aggregates, .. }, true) = (built.step(), has_panes(built.step())) else {
        return Ok(None);
    };
    let Some(unit) = compiler.unit() else { return Ok(None) };
    Window::new(spec, by, aggregates, &built.input, unit, config, &compiler.devices).map(PartialWindow::new).map(Some)
}

/// Cuts the pipeline's graph before a step, and says how its rows are shared out.
fn exchange(compiler: &mut Compiler<'_>, shared: &Shared, routes: Vec<Route>, sharing: &mut Sharing, config: &Config) -> Result<()> {
    let number = sharing.exchanges.len();
    let built = &compiler.steps[shared.node];
    let by = key_of(built.step()).unwrap_or_default().to_vec();
    let (label, from) = (built.step().to_string(), built.from);
    let keys = KeyColumns::new(&by, &built.input, config.max_keys)?;
    let mut port = |early| {
        sharing.ports.push(Port { exchange: number, early });
        Target::Port(sharing.ports.len() - 1)
    };
    compiler.graph.redirect(from, shared.node, port(false));
    let before = match shared.prefix.first() {
        None => None,
        Some(&first) => {
            let built = &compiler.steps[first];
            compiler.graph.redirect(built.from, first, port(true));
            Some((first, KeyColumns::new(&by, &built.input, config.max_keys)?))
        }
    };
    let exits = routes.iter().filter_map(|route| route.rows).collect();
    sharing.exchanges.push(Exchange { label, keys, before, ways: [shared.by_hash, shared.two_phases], node: shared.node, exits });
    Ok(())
}
