//! The house rules: who may import whom, where each thing lives, how long things are. Each failure says what to do.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

/// Modules of `core/src`, lowest layer first. A file may import from layers below its own.
const LAYERS: &[&[&str]] = &[
    &["error", "config", "time", "metrics"],
    &["io", "ring", "watermark", "window"],
    &["batch", "expr"],
    &["format", "quality", "state"],
    &["checkpoint"],
    &["source", "sink", "operator"],
    &["connector"],
    &["runtime"],
    &["plan"],
    &["serve", "testing"],
];

/// Neighbours in one layer that may use each other; all other neighbours may not.
const NEIGHBOURS: &[(&str, &str)] =
    &[("config", "error"), ("time", "error"), ("metrics", "error"), ("format", "quality"), ("config", "time")];

/// Text that has one home: what, where it may stand, what to do otherwise.
const HOMES: &[(&str, &[&str], &str)] = &[
    ("io_uring::", &["core/src/io/uring.rs"], "submit operations through the trait Io"),
    ("core::arch", &["kernels/src/simd/"], "write the kernel over the vector trait of kernels/src/simd"),
    ("std::arch", &["kernels/src/simd/"], "write the kernel over the vector trait of kernels/src/simd"),
    ("pyo3", &["python/"], "bind in python/, not in the engine"),
    ("loom::", &["core/src/ring/sync.rs", "core/src/ring/loom_tests.rs", "core/src/ring/mod.rs", "tests/loom/"], "import from ring::sync"),
    ("rdkafka::", &["core/src/connector/kafka/", "benches/", "tests/"], "read and write Kafka through connector::kafka"),
    ("reqwest::", &["core/src/connector/registry/"], "ask schema registries through connector::registry"),
    ("object_store::", &["core/src/connector/s3/"], "write through the trait Place, read through the trait FileSet"),
    ("aws_sdk", &["core/src/connector/kinesis/", "tests/"], "read and write Kinesis through connector::kinesis"),
    (
        "tokio::",
        &["core/src/connector/kinesis/", "core/src/connector/registry/", "core/src/connector/s3/"],
        "wait on the source or a ring; the engine has no runtime",
    ),
    ("wgpu::", &["kernels/src/gpu/"], "use the engine in kernels/src/gpu"),
    ("std::env::", &["core/src/config.rs", "examples/", "benches/", "tests/"], "read the environment in Config::from_env"),
    ("SystemTime", &["core/src/time.rs", "examples/", "benches/", "tests/"], "take a Clock"),
    (
        "Instant::now",
        &["core/src/time.rs", "core/src/ring/", "core/src/io/", "examples/", "benches/", "tests/", "python/src/"],
        "take a Clock",
    ),
    ("thread::sleep", &["core/src/time.rs", "core/src/ring/", "core/src/io/", "examples/", "benches/"], "wait on the source or a ring"),
    (
        "unsafe {",
        &["core/src/ring/", "core/src/io/", "kernels/src/simd/", "kernels/src/gpu/", "python/src/arrow.rs", "tests/"],
        "find the safe way",
    ),
];

const MAX_FILE_LINES: usize = 600;
const MAX_FUNCTION_LINES: usize = 70;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Every source file below the named folders, with its path from the root and its text.
fn sources(folders: &[&str]) -> Vec<(String, String)> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    walk(&path, found);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut paths = Vec::new();
    folders.iter().for_each(|folder| walk(&root().join(folder), &mut paths));
    paths.sort();
    let text = |path: PathBuf| (path.strip_prefix(root()).unwrap().to_string_lossy().into_owned(), fs::read_to_string(&path).unwrap());
    paths.into_iter().map(text).collect()
}

fn everything() -> Vec<(String, String)> {
    sources(&["core/src", "kernels/src", "python/src", "benches", "examples", "tests"])
}

/// The code of a file up to its unit tests, without comments.
fn code(text: &str) -> Vec<&str> {
    text.lines().take_while(|line| !line.contains("#[cfg(test)]")).map(|line| line.split("//").next().unwrap_or("")).collect()
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn report(failures: Vec<String>) {
    assert!(failures.is_empty(), "\n{}\n", failures.join("\n"));
}

#[test]
fn imports_point_downwards() {
    let mut failures = Vec::new();
    for (path, text) in sources(&["core/src"]) {
        let own = path.trim_start_matches("core/src/").split(['/', '.']).next().unwrap().to_owned();
        let Some(height) = layer(&own) else {
            if own != "lib" {
                failures.push(format!("{path}: give the module `{own}` its place in LAYERS"));
            }
            continue;
        };
        for (number, line) in code(&text).iter().enumerate() {
            for used in line.split("crate::").skip(1).map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap()) {
                let Some(depth) = layer(used) else { continue };
                let neighbours = NEIGHBOURS.contains(&(own.as_str(), used));
                if used != own && (depth > height || (depth == height && !neighbours)) {
                    failures.push(format!(
                        "{path}:{}: `{own}` may not import `{used}`: data flows one way, move the shared part down",
                        number + 1
                    ));
                }
            }
        }
    }
    report(failures);
}

#[test]
fn kernels_are_called_by_operators_and_formats_only() {
    let allowed = ["core/src/operator/", "core/src/format/", "core/src/state/key_group.rs", "core/src/runtime/exchange.rs"];
    let calls = |(path, text): &(String, String)| {
        !allowed.iter().any(|home| path.starts_with(home)) && code(text).iter().any(|line| line.contains("thalweg_kernels"))
    };
    report(
        sources(&["core/src"])
            .iter()
            .filter(|file| calls(file))
            .map(|(path, _)| format!("{path}: hand plain slices over in an operator"))
            .collect(),
    );
    let upward = |(path, text): &(String, String)| {
        text.contains("use thalweg::").then(|| format!("{path}: kernels import nothing of the workspace"))
    };
    report(sources(&["kernels/src"]).iter().filter_map(upward).collect());
}

#[test]
fn everything_has_one_home() {
    let mut failures = Vec::new();
    for (path, text) in everything() {
        for (what, homes, instead) in HOMES {
            if path == "tests/tidy.rs" || homes.iter().any(|home| path.starts_with(home)) {
                continue;
            }
            for (number, _) in code(&text).iter().enumerate().filter(|(_, line)| line.contains(what)) {
                failures.push(format!("{path}:{}: `{what}` lives in {}; {instead}", number + 1, homes.join(", ")));
            }
        }
    }
    report(failures);
}

#[test]
fn every_unsafe_block_says_why_it_is_sound() {
    let mut failures = Vec::new();
    for (path, text) in everything().into_iter().filter(|(path, _)| path != "tests/tidy.rs") {
        let lines: Vec<&str> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let block = (line.contains("unsafe {") || line.contains("unsafe impl")) && !line.trim_start().starts_with("//");
            if block && !lines[number.saturating_sub(6)..=number].iter().any(|line| line.contains("SAFETY")) {
                failures.push(format!("{path}:{}: write `// SAFETY:` above it", number + 1));
            }
        }
    }
    report(failures);
}

#[test]
fn files_and_functions_are_short() {
    let mut failures = Vec::new();
    for (path, text) in everything() {
        let lines: Vec<&str> = text.lines().collect();
        if lines.len() > MAX_FILE_LINES {
            failures.push(format!("{path}: {} lines; split it by what its parts are for", lines.len()));
        }
        for (start, line) in lines.iter().enumerate() {
            let indent = &line[..line.len() - line.trim_start().len()];
            let words = line.trim_start();
            let is_function =
                words.starts_with("fn ") || ((words.starts_with("pub") || words.starts_with("unsafe")) && words.contains(" fn "));
            if !is_function || words.ends_with(';') {
                continue;
            }
            let closing = format!("{indent}}}");
            let length = lines[start..].iter().position(|line| *line == closing).map_or(0, |length| length + 1);
            if length > MAX_FUNCTION_LINES {
                failures.push(format!("{path}:{}: a function of {length} lines; name its steps", start + 1));
            }
        }
    }
    report(failures);
}

#[test]
fn simd_kernels_have_a_scalar_twin() {
    let stems = |folder: &str| -> Vec<String> {
        let files = sources(&[folder]).into_iter();
        files.map(|(path, _)| path.trim_start_matches(folder).trim_start_matches('/').to_owned()).collect()
    };
    let scalar = stems("kernels/src/scalar");
    let machinery = ["mod.rs", "vector.rs", "lanes.rs", "scatter.rs", "prefetch.rs", "aarch64.rs", "x86_64/"];
    let missing =
        stems("kernels/src/simd").into_iter().filter(|stem| !machinery.iter().any(|part| stem.starts_with(part)) && !scalar.contains(stem));
    report(missing.map(|stem| format!("kernels/src/simd/{stem}: write its reference in kernels/src/scalar/{stem}")).collect());
}
