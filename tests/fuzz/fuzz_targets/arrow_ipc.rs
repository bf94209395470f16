#![no_main]

#[path = "../bodies.rs"]
mod bodies;

// The decoder contains panics of arrow-ipc, which the fuzzer's own hook would take for crashes; a failed check aborts.
libfuzzer_sys::fuzz_target!(
    init: std::panic::set_hook(Box::new(|_| {})),
    |data: &[u8]| {
        if std::panic::catch_unwind(|| bodies::arrow_ipc(data)).is_err() {
            std::process::abort();
        }
    }
);
