//! What the tests of kernels on graphics processors share: how they are run, and how an engine is opened, on whatever adapter there is,
//! software ones included.

#![allow(dead_code)]

use libtest_mimic::{Arguments, Trial};
use proptest::test_runner::{Config, TestRunner};
use thalweg_kernels::gpu::{Engine, Options, adapters};

/// Runs tests by name; without an adapter they show as ignored, and never pass in silence.
pub fn run(tests: &[(&str, fn())]) -> ! {
    let arguments = Arguments::from_args();
    let ignored = adapters().is_empty();
    if ignored {
        eprintln!("no GPU adapter: install mesa-vulkan-drivers for a software one; its tests are ignored");
    }
    let trial = |(name, test): &(&str, fn())| {
        let test = *test;
        Trial::test(*name, move || {
            test();
            Ok(())
        })
        .with_ignored_flag(ignored)
    };
    libtest_mimic::run(&arguments, tests.iter().map(trial).collect()).exit()
}

/// Options that take a software adapter, and uploads of several workgroups.
pub fn software() -> Options {
    Options { software: true, memory: 256 << 20, batch_rows: 1 << 16, ..Options::default() }
}

/// An engine of these options.
pub fn open_with(options: &Options) -> Engine {
    Engine::open(options).unwrap()
}

/// An engine of [`software`]'s options.
pub fn open() -> Engine {
    open_with(&software())
}

/// Runs a property over so many random cases.
pub fn property(cases: u32) -> TestRunner {
    TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() })
}
