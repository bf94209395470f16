// Exponential smoothing, in 64-bit floats: a thread for each key, which goes through the key's rows in order.
//
// The twin of `kernels/src/smooth.rs`.

const THREADS = 256u;

struct Batch {
    keys: u32,
}

// By row the level after it.
@group(0) @binding(0) var<storage, read_write> answers: array<f64>;
@group(0) @binding(1) var<uniform> batch: Batch;
// Of each key: where its rows begin, and how many there are.
@group(0) @binding(2) var<storage, read> keys: array<u32>;
// Alpha; then by key the level, at first its first value.
@group(0) @binding(3) var<storage, read> levels: array<f64>;
@group(0) @binding(4) var<storage, read> values: array<f64>;

@compute @workgroup_size(THREADS)
fn smooth_keys(@builtin(global_invocation_id) thread: vec3<u32>) {
    let key = thread.x;
    if key >= batch.keys {
        return;
    }
    let begin = keys[key * 2u];
    var level = levels[key + 1u];
    for (var row = begin; row < begin + keys[key * 2u + 1u]; row++) {
        level += levels[0] * (values[row] - level);
        answers[row] = level;
    }
}
