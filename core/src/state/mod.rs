//! State by key: what its keys are grouped by.

mod key_group;

pub(crate) use key_group::{KEY_GROUPS, key_groups};
