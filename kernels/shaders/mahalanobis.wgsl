// Squared Mahalanobis distances: a thread for each row, the matrix the same for all.
//
// The twin of `kernels/src/anomaly/mahalanobis.rs`. The host subtracts means and divides by deviations; the matrix is the
// inverse of the Cholesky factor of the correlations, its lower triangle by row.

const THREADS = 256u;

struct Batch {
    rows: u32,
    columns: u32,
}

@group(0) @binding(0) var<storage, read_write> answers: array<f32>;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> matrix: array<f32>;
// By column and row, so that neighbouring threads read neighbours.
@group(0) @binding(3) var<storage, read> values: array<f32>;

@compute @workgroup_size(THREADS)
fn mahalanobis(@builtin(global_invocation_id) thread: vec3<u32>) {
    let row = thread.x;
    if row >= batch.rows {
        return;
    }
    var squares = 0.0;
    var at = 0u;
    for (var i = 0u; i < batch.columns; i++) {
        var sum = 0.0;
        for (var j = 0u; j <= i; j++) {
            sum += matrix[at] * values[j * batch.rows + row];
            at++;
        }
        squares += sum * sum;
    }
    answers[row] = squares;
}
