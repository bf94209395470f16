// Exponentially weighted mean and variance, in 64-bit floats: a thread for each key, which goes through the key's rows in order.
//
// The twin of `kernels/src/anomaly/ewma.rs`. A key whose numbers come near to the ends of the range, where devices may take small numbers
// for 0 and need not know infinities, is given back to the host by a variance below 0.

const THREADS = 256u;
const RELATIVE_FLOOR = 1e-9lf;
const SMALL = 1e-290lf;
const LARGE = 1e145lf;

struct Batch {
    keys: u32,
    rows: u32,
}

// By row its score; then by key mean and variance.
@group(0) @binding(0) var<storage, read_write> answers: array<f64>;
@group(0) @binding(1) var<uniform> batch: Batch;
// Of each key: where its rows begin, how many there are, and how many of them score 0.
@group(0) @binding(2) var<storage, read> keys: array<u32>;
// Alpha; then by key mean, at first its first value, and variance.
@group(0) @binding(3) var<storage, read> cells: array<f64>;
@group(0) @binding(4) var<storage, read> values: array<f64>;

fn is_tame(x: f64) -> bool {
    return x == 0.0lf || (abs(x) >= SMALL && abs(x) <= LARGE);
}

@compute @workgroup_size(THREADS)
fn ewma(@builtin(global_invocation_id) thread: vec3<u32>) {
    let key = thread.x;
    if key >= batch.keys {
        return;
    }
    let begin = keys[key * 3u];
    let count = keys[key * 3u + 1u];
    let silent = keys[key * 3u + 2u];
    let alpha = cells[0];
    var mean = cells[key * 2u + 1u];
    var variance = cells[key * 2u + 2u];
    var tame = true;
    for (var row = 0u; row < count; row++) {
        let diff = values[begin + row] - mean;
        let deviation = sqrt(variance);
        tame = tame && is_tame(diff) && is_tame(mean) && (variance == 0.0lf || variance >= SMALL)
            && (mean != 0.0lf || variance != 0.0lf || diff == 0.0lf);
        var score = 0.0lf;
        if row >= silent && diff != 0.0lf {
            score = abs(diff) / max(deviation, RELATIVE_FLOOR * abs(mean));
        }
        answers[begin + row] = score;
        let increment = alpha * diff;
        mean += increment;
        variance = (1.0lf - alpha) * (variance + diff * increment);
    }
    answers[batch.rows + key * 2u] = mean;
    answers[batch.rows + key * 2u + 1u] = select(-1.0lf, variance, tame && is_tame(mean) && (variance == 0.0lf || variance >= SMALL));
}
