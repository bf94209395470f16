//! Amazon Kinesis as a source and a sink, against a service that others wrote (moto, see `tests/services/aws`) and one of our own that fails
//! when it is told to. Where moto cannot be had the tests show as ignored; with `THALWEG_REQUIRE_SERVICES=1` that is a failure. Those beside
//! Amazon's own library are run by `make kcl`.

#![allow(clippy::unwrap_used)]

mod beside;
mod double;
mod live;
mod read;
mod rig;
mod share;
mod stub;
mod write;

use libtest_mimic::{Arguments, Failed, Trial};

use rig::{REQUIRED, Rig};

type Test = (&'static str, fn(&Rig));

fn main() {
    let arguments = Arguments::from_args();
    let tests: Vec<Test> = [read::TESTS, share::TESTS, write::TESTS].concat();
    let started = if arguments.list { Err("not needed for a list".to_owned()) } else { Rig::start() };
    let ignored = started.is_err() && std::env::var_os(REQUIRED).is_none();
    if let Err(why) = &started {
        eprintln!("no Kinesis, its tests are left out: {why}");
    }
    // For the life of the process, so that every test may borrow it; it is ended below, as nothing else would.
    let rig: &'static Result<Rig, String> = Box::leak(Box::new(started));
    let trial = |(name, test): Test, ignored: bool| {
        let run = move || match rig {
            Ok(rig) => {
                test(rig);
                Ok(())
            }
            Err(why) => Err(Failed::from(why)),
        };
        Trial::test(name, run).with_ignored_flag(ignored)
    };
    let trials = tests.into_iter().map(|test| trial(test, ignored));
    // What is run beside Amazon's library is asked for by name.
    let trials = trials.chain(beside::TESTS.iter().map(|test| trial(*test, true)));
    let conclusion = libtest_mimic::run(&arguments, trials.collect());
    if let Ok(rig) = rig {
        rig.end();
    }
    conclusion.exit();
}
