//! Which windows of a query share panes: those over one stream by one key.

use crate::config::Config;
use crate::error::Result;
use crate::operator::aggregate::Aggregate;
use crate::operator::window::{SharedPanes, Window};
use crate::plan::Step;
use crate::plan::compile::Compiler;
use crate::runtime::Graph;
use crate::time::Unit;
use crate::window::{Panes, WindowSpec, Windowing};

/// How many shared panes there may be to the shortest pane of a window: with more, windows would look up each key as often as rows do.
const MOST_PARTS: i64 = 8;

/// A window that may share its panes.
struct Member {
    node: usize,
    spec: WindowSpec,
    panes: Panes,
    aggregates: Vec<Aggregate>,
}

/// Windows over one stream by one key.
pub(super) struct Common {
    /// The step that they follow; none if they follow the source.
    pub from: Option<usize>,
    by: Vec<String>,
    members: Vec<Member>,
    /// What they share, once it is known.
    panes: Option<Panes>,
    unit: Unit,
}

/// Operators of windows that share panes.
pub(super) struct Sharers {
    /// What takes in the rows.
    pub panes: SharedPanes,
    /// In the order of [`Common::nodes`].
    windows: Vec<Window>,
}

/// The windows over one stream by one key that share panes: those whose edges allow it.
///
/// # Errors
/// As building the steps once.
pub(super) fn common(compiler: &Compiler<'_>) -> Result<Vec<Common>> {
    let Some(unit) = compiler.unit() else { return Ok(Vec::new()) };
    let mut shared = Vec::new();
    for mut common in groups(compiler, unit)? {
        let windows = common.windows();
        common.panes = Panes::common(&windows, MOST_PARTS).filter(|_| windows.len() > 1);
        if common.sharers(compiler, compiler.config)?.is_some() {
            shared.push(common);
        }
    }
    Ok(shared)
}

fn groups(compiler: &Compiler<'_>, unit: Unit) -> Result<Vec<Common>> {
    let mut groups: Vec<Common> = Vec::new();
    for (node, built) in compiler.steps.iter().enumerate() {
        let Step::Window { spec: Windowing::Panes(spec), revisions, by, aggregates, .. } = built.step() else { continue };
        if !revisions.none() {
            continue;
        }
        let member = Member { node, spec: spec.clone(), panes: spec.panes(unit)?, aggregates: aggregates.clone() };
        match groups.iter_mut().find(|group| group.from == built.from && group.by == *by) {
            Some(group) => group.members.push(member),
            None => groups.push(Common { from: built.from, by: by.clone(), members: vec![member], panes: None, unit }),
        }
    }
    Ok(groups)
}

impl Common {
    /// The steps that share panes, ascending.
    pub fn nodes(&self) -> Vec<usize> {
        self.members.iter().map(|member| member.node).collect()
    }

    fn windows(&self) -> Vec<Panes> {
        self.members.iter().map(|member| member.panes).collect()
    }

    /// What they share, in words.
    pub fn label(&self) -> String {
        format!("panes that {} windows share", self.members.len())
    }

    /// The same for whoever reads a plan.
    pub fn describe(&self, compiler: &Compiler<'_>) -> String {
        let length = self.panes.map_or(0, |panes| panes.length);
        let unit = match self.unit {
            Unit::Millisecond => "ms",
            Unit::Microsecond => "µs",
            Unit::Nanosecond => "ns",
        };
        let windows: Vec<String> = self.members.iter().map(|member| format!("`{}`", compiler.steps[member.node].step())).collect();
        format!("panes of {length}{unit} by [{}] are shared by {}", self.by.join(", "), windows.join(", "))
    }

    /// Operators of theirs; `None` if one cannot take up such panes as the others.
    ///
    /// # Errors
    /// As building the steps once.
    pub fn sharers(&self, compiler: &Compiler<'_>, config: &Config) -> Result<Option<Sharers>> {
        let Some(panes) = self.panes else { return Ok(None) };
        let input = &compiler.steps[self.members[0].node].input;
        let new = |spec: &WindowSpec, aggregates: &[Aggregate]| {
            Window::new(spec, &self.by, aggregates, input, self.unit, config, &compiler.devices)
        };
        // No result is put out, so that names need only differ from each other and from those of columns.
        let all = self.members.iter().flat_map(|member| &member.aggregates).enumerate();
        let all: Vec<Aggregate> = all.map(|(number, aggregate)| aggregate.clone().alias(format!("\0{number}"))).collect();
        let whole = new(&self.members[0].spec, &all)?;
        let mut windows = Vec::new();
        for member in &self.members {
            let Some(window) = new(&member.spec, &member.aggregates)?.sharing(&whole) else { return Ok(None) };
            windows.push(window);
        }
        Ok(Some(Sharers { panes: SharedPanes::new(whole.with_panes(panes), self.windows()), windows }))
    }

    /// Lets the windows at `nodes` of a graph, which follow `from` there, share panes; returns the node that takes in their rows.
    ///
    /// # Errors
    /// As building the steps once.
    pub fn place(
        &self,
        compiler: &Compiler<'_>,
        config: &Config,
        graph: &mut Graph,
        (from, nodes): (Option<usize>, &[usize]),
    ) -> Result<Option<usize>> {
        let Some(Sharers { panes, windows }) = self.sharers(compiler, config)? else { return Ok(None) };
        // Their panes are combined before they get them, if workers share the rows.
        nodes.iter().zip(windows).for_each(|(&node, window)| graph.replace(node, window.into_operator(1)));
        Ok(Some(graph.add_before(from, nodes, self.label(), Box::new(panes))))
    }
}

/// Lets windows of the pipeline's own graph share panes; returns the nodes that take in the rows of each group.
///
/// # Errors
/// As building the steps once.
pub(super) fn share(compiler: &mut Compiler<'_>, commons: &[Common]) -> Result<Vec<usize>> {
    let mut graph = std::mem::take(&mut compiler.graph);
    let mut placed = Vec::new();
    for common in commons {
        tracing::info!("{}, by [{}]", common.label(), common.by.join(", "));
        placed.extend(common.place(compiler, compiler.config, &mut graph, (common.from, &common.nodes()))?);
    }
    compiler.graph = graph;
    Ok(placed)
}
