//! Twin of [`crate::window`].

/// Twin of [`crate::assign_panes`].
pub fn assign_panes(times: &[i64], origin: i64, length: i64, panes: &mut Vec<u32>) -> u32 {
    let mut highest = 0;
    for &time in times {
        let pane = (i128::from(time) - i128::from(origin)).div_euclid(i128::from(length));
        let pane = u32::try_from(pane).unwrap_or(u32::MAX);
        highest = highest.max(pane);
        panes.push(pane);
    }
    highest
}
