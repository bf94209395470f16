//! Which steps of a query several workers can share, and the copies of them that each gets.
//!
//! Shared are, on each way from the source, the first step that keeps state, if its rows can be told apart by key (or it is a window
//! whose panes can be combined), and what follows it while rows stay with their worker: steps without state, and steps whose key
//! holds the columns of the first one's. Windows that share panes are shared together, as one step. All else stays on the pipeline's thread.

use std::fmt::Write;

use crate::config::{Config, Exchange as Asked};
use crate::error::Result;
use crate::operator::KeyColumns;
use crate::operator::Operator;
use crate::operator::window::{PartialWindow, SharedPanes, Window};
use crate::plan::Step;
use crate::plan::compile::{BuiltStep, Compiler};
use crate::plan::panes::{self, Common};
use crate::runtime::{Entry, Exchange, Exit, Graph, Port, Sharing, Target};
use crate::window::{Panes, Windowing};

/// What becomes of the first step with state on a way from the source.
pub(super) enum Verdict {
    Shared(Shared),
    /// It is left to one worker, for this reason.
    Alone(&'static str),
}

/// A step that workers share, or several windows with their panes, with what goes along.
pub(super) struct Shared {
    nodes: Vec<usize>,
    /// Which of the groups of windows that share panes it is, if it is one.
    common: Option<usize>,
    /// The steps and those after them that can stay with their keys, each after its predecessor.
    chain: Vec<usize>,
    /// The steps before, from the first one on, that workers can take along in two phases.
    prefix: Vec<usize>,
    by_hash: bool,
    two_phases: bool,
    /// The panes of its windows, if each of these can have a worker to itself.
    windows: Option<Panes>,
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

/// The panes of windows of one pane each.
fn whole_panes(compiler: &Compiler<'_>, step: &Step) -> Option<Panes> {
    let Step::Window { spec: Windowing::Panes(spec), .. } = step else { return None };
    spec.panes(compiler.unit()?).ok().filter(|panes| has_panes(step) && panes.is_tumbling())
}

/// What becomes of the first step with state on each way from the source, by its node; of windows that share panes, by that of the first.
pub(super) fn judge(compiler: &Compiler<'_>, commons: &[Common]) -> Vec<(usize, Verdict)> {
    let groups: Vec<Vec<usize>> = commons.iter().map(Common::nodes).collect();
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
        let common = groups.iter().position(|nodes| nodes.contains(&node));
        let nodes = common.map_or(vec![node], |common| groups[common].clone());
        if nodes[0] < node {
            continue;
        }
        let two_phases = has_panes(built.step());
        let verdict = match (alone(built.step()), by.is_empty(), two_phases) {
            (Some(why), ..) => Verdict::Alone(why),
            (None, true, false) => Verdict::Alone("it has no key by which rows could be shared out, and what it keeps cannot be combined"),
            (None, no_key, _) => {
                let chain = if no_key { Vec::new() } else { chain(compiler, &nodes, by) };
                let keeps_state = |node: &&usize| key_of(compiler.steps[**node].step()).is_some();
                Verdict::Shared(Shared {
                    common,
                    prefix: if two_phases { prefix(compiler, &nodes, by) } else { Vec::new() },
                    by_hash: !no_key,
                    two_phases,
                    windows: whole_panes(compiler, built.step()).filter(|_| chain.iter().filter(keeps_state).count() == 1),
                    chain,
                    nodes,
                })
            }
        };
        verdicts.push((node, verdict));
    }
    verdicts
}

/// The steps that can stay with the keys `by` of `nodes`, which are ascending.
fn chain(compiler: &Compiler<'_>, nodes: &[usize], by: &[String]) -> Vec<usize> {
    let keeps_all = |built: &BuiltStep| by.iter().all(|name| keeps(built.step(), name));
    let (mut chain, mut keyed): (Vec<usize>, Vec<bool>) = (Vec::new(), Vec::new());
    for (next, built) in compiler.steps.iter().enumerate().skip(nodes[0]) {
        if nodes.contains(&next) {
            chain.push(next);
            keyed.push(keeps_all(built));
            continue;
        }
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

/// The steps before `nodes` that lead to them alone and leave their key as it is.
fn prefix(compiler: &Compiler<'_>, nodes: &[usize], by: &[String]) -> Vec<usize> {
    let mut prefix = Vec::new();
    let mut first = nodes[0];
    while let Some(from) = compiler.steps[first].from {
        let leads = |target: &Target| matches!(target, Target::Node(node) if *node == first || prefix.is_empty() && nodes.contains(node));
        let alone = compiler.graph.next_of(Some(from)).iter().all(leads);
        if !alone || !by.iter().all(|name| keeps(compiler.steps[from].step(), name)) {
            break;
        }
        prefix.insert(0, from);
        first = from;
    }
    prefix
}

/// What `explain` says of a step beside its placement, and at the end of a plan of which nothing is shared.
pub(super) fn explain(compiler: &Compiler<'_>, commons: &[Common], config: &Config) -> (Vec<(usize, String)>, Option<String>) {
    let (mut notes, mut alone) = (Vec::new(), String::new());
    for (node, verdict) in judge(compiler, commons) {
        match verdict {
            Verdict::Alone(why) => {
                let _ = write!(alone, "\n  one worker has `{}`: {why}", compiler.steps[node].step());
            }
            Verdict::Shared(shared) => {
                let how = match (shared.by_hash, shared.two_phases, config.exchange) {
                    (true, true, Asked::Windows) if shared.windows.is_some() => "by window",
                    (true, true, Asked::Auto) if shared.windows.is_some() => {
                        "by key hash, in two phases if the first rows are of few or unequal keys, or by window if windows are short"
                    }
                    (true, true, Asked::Auto | Asked::Windows) => {
                        "by key hash, or in two phases if the first rows are of few or unequal keys"
                    }
                    (true, false, _) | (true, true, Asked::Hash) => "by key hash",
                    _ => "in two phases",
                };
                notes.extend(shared.nodes.iter().map(|&node| (node, format!("{} workers share its rows {how}", config.workers))));
                let after = shared.chain.iter().filter(|node| !shared.nodes.contains(node));
                notes.extend(after.map(|&node| (node, "in the same workers, by key hash".to_owned())));
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
    let commons = panes::common(compiler)?;
    let shared = |(_, verdict)| match verdict {
        Verdict::Shared(shared) => Some(shared),
        Verdict::Alone(_) => None,
    };
    let shared: Vec<Shared> = judge(compiler, &commons).into_iter().filter_map(shared).collect();
    let placed = panes::share(compiler, &commons)?;
    if shared.is_empty() {
        return Ok(None);
    }
    let mut sharing = Sharing { copies: Vec::new(), nodes: Vec::new(), exchanges: Vec::new(), ports: Vec::new(), exits: Vec::new() };
    let mut routes = Vec::new();
    for shared in &shared {
        routes.push(exits(compiler, shared, (&commons, &placed), &mut sharing.exits));
    }
    // Each copy may hold its share, so that all together hold what one would.
    let own = Config { max_state_bytes: config.max_state_bytes / config.workers, ..config.clone() };
    for _ in 0..config.workers {
        sharing.nodes.clear();
        let copy = Replica { compiler, commons: &commons, config: &own, graph: Graph::new(compiler.graph.unit), entries: Vec::new() };
        let (graph, entries) = copy.of_all(&shared, &routes, &mut sharing.nodes)?;
        sharing.copies.push((graph, entries));
    }
    for (shared, routes) in shared.iter().zip(routes) {
        let node = shared.common.map_or(shared.nodes[0], |common| placed[common]);
        let label = shared.common.map_or_else(|| compiler.steps[node].step().to_string(), |common| commons[common].label());
        exchange(compiler, shared, (label, node), routes, &mut sharing, config)?;
    }
    Ok(Some(sharing))
}

/// Where what comes of a node leaves the workers.
struct Route {
    node: usize,
    rows: Option<usize>,
    late: Option<usize>,
}

/// The ways out of the workers of what comes of a shared step.
struct Routes {
    of_nodes: Vec<Route>,
    /// For rows that go to the windows, of those that share panes in two phases.
    direct: Option<usize>,
}

/// The exits of the nodes that workers have. `placed` are the nodes that take in the rows of windows that share panes.
fn exits(compiler: &Compiler<'_>, shared: &Shared, (commons, placed): (&[Common], &[usize]), exits: &mut Vec<Exit>) -> Routes {
    let nodes = if shared.chain.is_empty() { &shared.nodes } else { &shared.chain };
    let is_of_common = |node: &usize| {
        let common = placed.iter().position(|placed| placed == node);
        common.is_some_and(|common| commons[common].nodes().iter().all(|node| nodes.contains(node)))
    };
    let inside = |target: &Target| matches!(target, Target::Node(node) if nodes.contains(node) || is_of_common(node));
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
    let of_nodes = nodes.iter().map(&mut route).collect();
    let windows = || shared.nodes.iter().map(|&node| Target::Node(node)).collect();
    Routes { of_nodes, direct: shared.common.map(|_| add(Exit::Rows(windows()))) }
}

/// Where rows enter that nobody sends.
const NOWHERE: Entry = Entry { target: Target::Port(usize::MAX), window: None };

/// A worker's copy of the steps that it has.
struct Replica<'a, 'c> {
    compiler: &'a Compiler<'c>,
    commons: &'a [Common],
    config: &'a Config,
    graph: Graph,
    entries: Vec<Entry>,
}

impl Replica<'_, '_> {
    /// The copies of all steps, with where their rows enter. `nodes` are those that they are copies of, with the exchanges.
    fn of_all(mut self, shared: &[Shared], routes: &[Routes], nodes: &mut Vec<(usize, Option<usize>)>) -> Result<(Graph, Vec<Entry>)> {
        let mut chains = Vec::new();
        for (exchange, (shared, routes)) in shared.iter().zip(routes).enumerate() {
            chains.push(self.chain(shared, routes)?);
            self.first_phase(shared, routes)?;
            let chain = shared.chain.iter().map(|&node| (node, Some(exchange)));
            let partial = shared.prefix.iter().chain(&shared.nodes[..1]).map(|&node| (node, None));
            nodes.extend(chain.chain(partial.filter(|_| shared.two_phases)));
        }
        // What is no step of the plan comes behind all that are.
        for (exchange, (shared, copies)) in shared.iter().zip(chains).enumerate() {
            self.share_panes(exchange, shared, &copies)?;
        }
        Ok((self.graph, self.entries))
    }

    /// The steps that it has if rows go by key hash; returns their nodes, in the order of the chain.
    fn chain(&mut self, shared: &Shared, routes: &Routes) -> Result<Vec<usize>> {
        let mut copies: Vec<usize> = Vec::new();
        for node in &shared.chain {
            let built = &self.compiler.steps[*node];
            let copy = self.graph.add(built.step().to_string(), self.compiler.operator(built, self.config)?);
            let before = built.from.and_then(|from| shared.chain.iter().position(|&node| node == from));
            if let Some(&before) = before.and_then(|before| copies.get(before)) {
                self.graph.connect(Some(before), Target::Node(copy));
            }
            let route = routes.of_nodes.iter().find(|route| route.node == *node);
            if let Some(exit) = route.and_then(|route| route.rows) {
                self.graph.connect(Some(copy), Target::Port(exit));
            }
            if let Some(exit) = route.and_then(|route| route.late) {
                self.graph.bind_late(copy, Target::Port(exit));
            }
            copies.push(copy);
        }
        self.entries.push(copies.first().map_or(NOWHERE, |&first| Entry { target: Target::Node(first), window: None }));
        Ok(copies)
    }

    /// Lets windows of a chain share panes, those among them that do.
    fn share_panes(&mut self, exchange: usize, shared: &Shared, copies: &[usize]) -> Result<()> {
        let copy_of = |node: usize| shared.chain.iter().position(|&other| other == node).map(|place| copies[place]);
        for (number, common) in self.commons.iter().enumerate() {
            let Some(nodes) = common.nodes().into_iter().map(copy_of).collect::<Option<Vec<usize>>>() else { continue };
            let from = common.from.and_then(copy_of);
            let placed = common.place(self.compiler, self.config, &mut self.graph, (from, &nodes))?;
            if let Some(placed) = placed.filter(|_| shared.common == Some(number)) {
                self.entries[2 * exchange].target = Target::Node(placed);
            }
        }
        Ok(())
    }

    /// The steps that it has in two phases.
    fn first_phase(&mut self, shared: &Shared, routes: &Routes) -> Result<()> {
        let Some(partial) = self.partial(shared)? else {
            self.entries.push(NOWHERE);
            return Ok(());
        };
        let mut copies = Vec::new();
        for node in &shared.prefix {
            let built = &self.compiler.steps[*node];
            copies.push(self.graph.add(built.step().to_string(), self.compiler.operator(built, self.config)?));
        }
        let label = shared.common.map(|common| self.commons[common].label());
        let window = self.graph.add(label.unwrap_or_else(|| self.compiler.steps[shared.nodes[0]].step().to_string()), partial);
        copies.push(window);
        copies.windows(2).for_each(|pair| self.graph.connect(Some(pair[0]), Target::Node(pair[1])));
        match (routes.direct, routes.of_nodes.first().and_then(|route| route.late)) {
            (Some(exit), _) => self.graph.connect(Some(window), Target::Port(exit)),
            (None, Some(exit)) => self.graph.bind_late(window, Target::Port(exit)),
            (None, None) => {}
        }
        self.entries.push(Entry { target: Target::Node(copies[0]), window: Some(window) });
        Ok(())
    }

    /// A worker's share of a window of panes, or of panes that several share.
    fn partial(&self, shared: &Shared) -> Result<Option<Box<dyn Operator>>> {
        if let Some(common) = shared.common {
            let sharers = self.commons[common].sharers(self.compiler, self.config)?;
            return Ok(sharers.map(|sharers| Box::new(SharedPanes::part(sharers.panes)) as Box<dyn Operator>));
        }
        let built = &self.compiler.steps[shared.nodes[0]];
        let (Step::Window { spec: Windowing::Panes(spec), by, aggregates, .. }, true) = (built.step(), has_panes(built.step())) else {
            return Ok(None);
        };
        let Some(unit) = self.compiler.unit() else { return Ok(None) };
        let window = Window::new(spec, by, aggregates, &built.input, unit, self.config, &self.compiler.devices)?;
        Ok(Some(Box::new(PartialWindow::new(window))))
    }
}

/// Cuts the pipeline's graph before a step, whose rows `node` takes there, and says how they are shared out.
fn exchange(
    compiler: &mut Compiler<'_>,
    shared: &Shared,
    (label, node): (String, usize),
    routes: Routes,
    sharing: &mut Sharing,
    config: &Config,
) -> Result<()> {
    let number = sharing.exchanges.len();
    let built = &compiler.steps[shared.nodes[0]];
    let by = key_of(built.step()).unwrap_or_default().to_vec();
    let from = built.from;
    let keys = KeyColumns::new(&by, &built.input, config.max_keys)?;
    let mut port = |early| {
        sharing.ports.push(Port { exchange: number, early });
        Target::Port(sharing.ports.len() - 1)
    };
    compiler.graph.redirect(from, node, port(false));
    let before = match shared.prefix.first() {
        None => None,
        Some(&first) => {
            let built = &compiler.steps[first];
            compiler.graph.redirect(built.from, first, port(true));
            Some((first, KeyColumns::new(&by, &built.input, config.max_keys)?))
        }
    };
    let exits = routes.of_nodes.iter().filter_map(|route| route.rows).collect();
    let ways = [shared.by_hash, shared.two_phases];
    let stride = if shared.common.is_some() { SharedPanes::STRIDE } else { 1 };
    sharing.exchanges.push(Exchange {
        label,
        keys,
        before,
        ways,
        windows: shared.windows,
        node,
        steps: shared.nodes.clone(),
        stride,
        exits,
    });
    Ok(())
}
