//! Apache Kafka as a source and a sink, against brokers of its own. Where Java or Kafka's jars cannot be had the tests show as ignored;
//! with `THALWEG_REQUIRE_SERVICES=1` that is a failure.

#![allow(clippy::unwrap_used)]

mod group;
mod read;
mod rig;
mod secure;
mod tokens;
mod trouble;
mod values;
mod write;

use libtest_mimic::{Arguments, Failed, Trial};

use rig::{Kafka, REQUIRED, Rig};

type Test = (&'static str, fn(&Rig));

fn main() {
    let arguments = Arguments::from_args();
    let tests: Vec<Test> = [read::TESTS, group::TESTS, secure::TESTS, tokens::TESTS, trouble::TESTS, values::TESTS, write::TESTS].concat();
    let kafka = if arguments.list { Err("not needed for a list".to_owned()) } else { Kafka::start() };
    let ignored = kafka.is_err() && std::env::var_os(REQUIRED).is_none();
    if let Err(why) = &kafka {
        eprintln!("no Kafka, its tests are left out: {why}");
    }
    // For the life of the process, so that every test may borrow it; it is ended below, as nothing else would.
    let rig: &'static Result<Rig, String> = Box::leak(Box::new(kafka.map(Rig::new)));
    let trial = |(name, test): Test| {
        let run = move || match rig {
            Ok(rig) => {
                test(rig);
                Ok(())
            }
            Err(why) => Err(Failed::from(why)),
        };
        Trial::test(name, run).with_ignored_flag(ignored)
    };
    let conclusion = libtest_mimic::run(&arguments, tests.into_iter().map(trial).collect());
    if let Ok(rig) = rig {
        rig.kafka.end();
    }
    conclusion.exit();
}
