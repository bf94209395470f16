// Left discord: a workgroup for each row, which compares the row's stretch with every earlier one in reach, value by value.
//
// The twin of `kernels/src/anomaly/discord.rs`. Values are distances from the centre of their history, in floors; a stretch
// is named by the value that it begins with. No difference of large products is taken, so that nothing is lost to cancellation.

const THREADS = 256u;

// Values that are added up before their sum goes to the sum of all: rounding grows with the longest chain of additions.
const RUN = 32u;

struct Batch {
    rows: u32,
    length: u32,
}

@group(0) @binding(0) var<storage, read_write> answers: array<f32>;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> values: array<f32>;
// Of the stretch that begins at each value: its mean, and what its deviations are multiplied by.
@group(0) @binding(3) var<storage, read> scales: array<vec2<f32>>;
// Of each row: where its stretch begins, where the first of the others begins, and how many others there are.
@group(0) @binding(4) var<storage, read> rows: array<u32>;

// A part of the row's stretch, scaled.
var<workgroup> latest: array<f32, THREADS>;
var<workgroup> least: array<f32, THREADS>;

// Squared distance of `count` values from those in `latest`.
fn apart(begin: u32, scale: vec2<f32>, count: u32) -> f32 {
    var all = 0.0;
    for (var run = 0u; run < count; run += RUN) {
        var sum = 0.0;
        for (var at = run; at < min(run + RUN, count); at++) {
            let off = (values[begin + at] - scale.x) * scale.y - latest[at];
            sum += off * off;
        }
        all += sum;
    }
    return all;
}

@compute @workgroup_size(THREADS)
fn discord(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = tile.y * tiles.x + tile.x;
    if row >= batch.rows {
        return;
    }
    let own = rows[row * 3u];
    let first = rows[row * 3u + 1u];
    let count = rows[row * 3u + 2u];
    let own_scale = scales[own];
    var best = 3.0e38;
    for (var block = 0u; block < count; block += THREADS) {
        // Threads beyond the last stretch look at it again, as all of them must meet at the barriers.
        let other = first + min(block + thread, count - 1u);
        let scale = scales[other];
        var sum = 0.0;
        for (var begin = 0u; begin < batch.length; begin += THREADS) {
            workgroupBarrier();
            if begin + thread < batch.length {
                latest[thread] = (values[own + begin + thread] - own_scale.x) * own_scale.y;
            }
            workgroupBarrier();
            sum += apart(other + begin, scale, min(THREADS, batch.length - begin));
        }
        best = min(best, sum);
    }
    least[thread] = best;
    for (var half = THREADS / 2u; half > 0u; half /= 2u) {
        workgroupBarrier();
        if thread < half {
            least[thread] = min(least[thread], least[thread + half]);
        }
    }
    if thread == 0u {
        answers[row] = least[0];
    }
}
