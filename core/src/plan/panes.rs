//! Which windows of a query share panes: those over one stream by one key.

use crate::error::Result;
use crate::operator::aggregate::Aggregate;
use crate::operator::window::{SharedPanes, Window};
use crate::plan::Step;
use crate::plan::compile::Compiler;
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

/// The windows over one stream by one key.
struct Group {
    from: Option<usize>,
    by: Vec<String>,
    members: Vec<Member>,
}

/// Lets windows over one stream by one key share panes, where their edges allow it.
///
/// # Errors
/// As building the steps once.
pub(super) fn share(compiler: &mut Compiler<'_>) -> Result<()> {
    let Some(unit) = compiler.unit() else { return Ok(()) };
    for group in groups(compiler, unit)? {
        let windows: Vec<Panes> = group.members.iter().map(|member| member.panes).collect();
        if let (Some(common), 2..) = (Panes::common(&windows, MOST_PARTS), windows.len()) {
            share_group(compiler, group, common, windows, unit)?;
        }
    }
    Ok(())
}

fn groups(compiler: &Compiler<'_>, unit: Unit) -> Result<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::new();
    for (node, built) in compiler.steps.iter().enumerate() {
        let Step::Window { spec: Windowing::Panes(spec), revisions, by, aggregates, .. } = built.step() else { continue };
        if !revisions.none() {
            continue;
        }
        let member = Member { node, spec: spec.clone(), panes: spec.panes(unit)?, aggregates: aggregates.clone() };
        match groups.iter_mut().find(|group| group.from == built.from && group.by == *by) {
            Some(group) => group.members.push(member),
            None => groups.push(Group { from: built.from, by: by.clone(), members: vec![member] }),
        }
    }
    Ok(groups)
}

fn share_group(compiler: &mut Compiler<'_>, group: Group, common: Panes, windows: Vec<Panes>, unit: Unit) -> Result<()> {
    let Group { from, by, members } = group;
    let input = compiler.steps[members[0].node].input.clone();
    let (config, devices) = (compiler.config, compiler.devices.clone());
    let new = |spec: &WindowSpec, aggregates: &[Aggregate]| Window::new(spec, &by, aggregates, &input, unit, config, &devices);
    // No result is put out, so that names need only differ from each other and from those of columns.
    let all = members.iter().flat_map(|member| &member.aggregates).enumerate();
    let all: Vec<Aggregate> = all.map(|(number, aggregate)| aggregate.clone().alias(format!("\0{number}"))).collect();
    let whole = new(&members[0].spec, &all)?;
    let mut sharing = Vec::new();
    for member in &members {
        let Some(window) = new(&member.spec, &member.aggregates)?.sharing(&whole) else { return Ok(()) };
        sharing.push((member.node, window));
    }
    let nodes: Vec<usize> = members.iter().map(|member| member.node).collect();
    let label = format!("panes that {} windows share", nodes.len());
    tracing::info!("{label}, by [{}]", by.join(", "));
    for (node, window) in sharing {
        compiler.graph.replace(node, window.into_operator(1));
    }
    compiler.graph.add_before(from, &nodes, label, Box::new(SharedPanes::new(whole.with_panes(common), windows)));
    Ok(())
}
