//! The engine through its public face: one program, so that what all these tests need is linked once.

#![allow(clippy::unwrap_used)]

mod aggregates;
mod budget;
mod counts;
mod dedup;
mod detect;
mod detect_ttl;
mod global;
mod late;
mod lines;
mod many_keys;
mod pipeline;
mod process;
mod registry;
mod revisions;
mod rolling;
mod sessions;
mod shared_panes;
mod sketches;
mod snapshots;
mod testing;
mod top_k;
mod trace;
mod trim;
mod watermarks;
mod windows;
mod workers;
