// k nearest neighbours: a thread for each row, which looks at every row in reach, one by one; neighbouring threads look at neighbours.
//
// The twin of `kernels/src/anomaly/knn.rs`. A value is the sum of two floats, the second what the first leaves of it, so that a large level costs
// the difference of two values no digits.

const THREADS = 256u;

// Neighbours that a thread keeps at most.
const MOST_K = 32u;
const MOST_SQUARE = 1e18;

struct Batch {
    rows: u32,
    columns: u32,
    values: u32,
    k: u32,
    // 1 if all k distances are asked for, 0 if the k-th alone.
    all: u32,
}

@group(0) @binding(0) var<storage, read_write> answers: array<f32>;
@group(0) @binding(1) var<uniform> batch: Batch;
// By column and place, both parts.
@group(0) @binding(2) var<storage, read> values: array<vec2<f32>>;
// Of each row its place, and the place of the first row in reach: those between are the others.
@group(0) @binding(3) var<storage, read> rows: array<vec2<u32>>;
// What differences are multiplied by, by column and row.
@group(0) @binding(4) var<storage, read> inverses: array<f32>;

@compute @workgroup_size(THREADS)
fn knn(@builtin(global_invocation_id) thread: vec3<u32>) {
    let row = thread.x;
    if row >= batch.rows {
        return;
    }
    let own = rows[row].x;
    var nearest: array<f32, MOST_K>;
    for (var at = 0u; at < batch.k; at++) {
        nearest[at] = 3.0e38;
    }
    for (var other = rows[row].y; other < own; other++) {
        var sum = 0.0;
        for (var column = 0u; column < batch.columns; column++) {
            let apart = values[column * batch.values + own] - values[column * batch.values + other];
            let off = min(abs((apart.x + apart.y) * inverses[column * batch.rows + row]), 1e9);
            sum += min(off * off, MOST_SQUARE);
        }
        if sum < nearest[batch.k - 1u] {
            var at = batch.k - 1u;
            while at > 0u && nearest[at - 1u] > sum {
                nearest[at] = nearest[at - 1u];
                at--;
            }
            nearest[at] = sum;
        }
    }
    if batch.all == 0u {
        answers[row] = nearest[batch.k - 1u];
        return;
    }
    for (var at = 0u; at < batch.k; at++) {
        answers[row * batch.k + at] = nearest[at];
    }
}
