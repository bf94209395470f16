//! The rings of the engine, with no more of the engine than they import.

#[path = "../../../core/src/ring/mod.rs"]
pub mod ring;

/// What the rings need of the engine's configuration.
pub mod config {
    /// The engine's `config::WaitStrategy`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub enum WaitStrategy {
        /// Burns the core.
        Spin,
        /// Gives the core away between looks.
        Yield,
        /// Sleeps until woken.
        #[default]
        Park,
    }
}
