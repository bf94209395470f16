//! Kernels on graphics processors: contenders beside the processor's backends.

use thalweg_kernels::gpu::{AdapterInfo, AdapterKind, Engine, Options, adapters};

use crate::Result;
use crate::answer::Answer;
use crate::contest::{Contender, Run};

/// One for each adapter that is no piece of software, opened when its turn first comes; rows are sent and answers fetched within the time.
pub fn contenders<'a>(expected: Answer, run: impl Fn(&Engine) -> Result<Answer> + Copy + 'a) -> impl Iterator<Item = Contender<'a>> {
    let adapters = adapters().into_iter().filter(|adapter| adapter.kind != AdapterKind::Software);
    adapters.map(move |adapter| {
        let mut engine = None;
        Contender::new(format!("gpu, {}", adapter.name), expected, move || {
            let engine = match &engine {
                Some(engine) => engine,
                None => engine.insert(open(&adapter)?),
            };
            Run::time(|| run(engine))
        })
    })
}

fn open(adapter: &AdapterInfo) -> Result<Engine> {
    Ok(Engine::open(&Options { name: Some(adapter.name.clone()), ..Options::default() })?)
}
