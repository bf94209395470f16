// CUSUM and Page–Hinkley, in 64-bit floats: a thread for each key, which goes through the key's rows in order.
//
// The twin of `kernels/src/anomaly/cusum.rs` and `page_hinkley.rs`. Given back to the host, by a count below 0, is a key whose numbers come near to
// the ends of the range, as in `ewma.wgsl`, and one with a score so near to the limit that rounding decides whether the key begins anew.

const THREADS = 256u;
const RELATIVE_FLOOR = 1e-9lf;
const MOST_SCORE = 1e12lf;
const SMALL = 1e-290lf;
const LARGE = 1e145lf;

// More than what rounding makes of a sum, for each row in it.
const SLACK = 1e-13lf;

struct Batch {
    keys: u32,
    rows: u32,
    // 1 if the reference goes on learning: Page–Hinkley.
    learns: u32,
}

struct Cell {
    count: f64,
    mean: f64,
    squares: f64,
    up: f64,
    down: f64,
}

// By row its score; then the cells by key.
@group(0) @binding(0) var<storage, read_write> answers: array<f64>;
@group(0) @binding(1) var<uniform> batch: Batch;
// Of each key: where its rows begin, how many there are, and a number that is not used.
@group(0) @binding(2) var<storage, read> keys: array<u32>;
// Allowance, limit and warm-up; then the cells by key.
@group(0) @binding(3) var<storage, read> cells: array<f64>;
@group(0) @binding(4) var<storage, read> values: array<f64>;

fn is_tame(x: f64) -> bool {
    return x == 0.0lf || (abs(x) >= SMALL && abs(x) <= LARGE);
}

// Deviations that a value is off: `spread` is above 0 unless it is off by nothing.
fn deviations(off: f64, spread: f64) -> f64 {
    if off == 0.0lf {
        return 0.0lf;
    }
    if abs(off) >= MOST_SCORE * spread {
        return select(-MOST_SCORE, MOST_SCORE, off > 0.0lf);
    }
    return off / spread;
}

fn drifted(sum: f64, by: f64) -> f64 {
    return min(max(sum + by - cells[0], 0.0lf), MOST_SCORE);
}

@compute @workgroup_size(THREADS)
fn drift(@builtin(global_invocation_id) thread: vec3<u32>) {
    let key = thread.x;
    if key >= batch.keys {
        return;
    }
    let begin = keys[key * 3u];
    let limit = cells[1];
    let warmup = cells[2];
    let at = 3u + key * 5u;
    var cell = Cell(cells[at], cells[at + 1u], cells[at + 2u], cells[at + 3u], cells[at + 4u]);
    var largest = abs(cell.mean) + sqrt(cell.squares);
    var passed = cell.count;
    var tame = true;
    for (var row = 0u; row < keys[key * 3u + 1u]; row++) {
        let x = values[begin + row];
        let learns = batch.learns == 1u || cell.count < warmup;
        if learns {
            cell.count += 1.0lf;
            let diff = x - cell.mean;
            tame = tame && is_tame(diff);
            if cell.count == 1.0lf {
                cell.mean = x;
            } else {
                cell.mean += diff / cell.count;
                cell.squares += diff * (x - cell.mean);
                tame = tame && (diff == 0.0lf || cell.squares >= SMALL);
            }
        }
        largest = max(largest, abs(x));
        passed += 1.0lf;
        tame = tame && is_tame(x) && is_tame(cell.mean) && (cell.squares == 0.0lf || cell.squares >= SMALL);
        var score = 0.0lf;
        if !learns || (batch.learns == 1u && cell.count > warmup) {
            let spread = max(sqrt(cell.squares / max(cell.count, 1.0lf)), RELATIVE_FLOOR * abs(cell.mean));
            let off = x - cell.mean;
            tame = tame && is_tame(off) && (spread > 0.0lf || off == 0.0lf);
            let z = deviations(off, spread);
            cell.up = drifted(cell.up, z);
            cell.down = drifted(cell.down, -z);
            score = max(cell.up, cell.down);
            // Values that are all the same leave nothing to round.
            let rough = select(largest, 0.0lf, cell.squares == 0.0lf);
            let slack = SLACK * passed * (1.0lf + score) * (spread + rough);
            tame = tame && (spread == 0.0lf || abs(score - limit) * spread > slack);
            if score >= limit {
                cell = Cell(0.0lf, 0.0lf, 0.0lf, 0.0lf, 0.0lf);
                largest = 0.0lf;
                passed = 0.0lf;
            }
        }
        answers[begin + row] = score;
    }
    let answer = batch.rows + key * 5u;
    answers[answer] = select(-1.0lf, cell.count, tame);
    answers[answer + 1u] = cell.mean;
    answers[answer + 2u] = cell.squares;
    answers[answer + 3u] = cell.up;
    answers[answer + 4u] = cell.down;
}
