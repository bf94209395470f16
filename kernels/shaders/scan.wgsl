// Sums of what comes before: of 64-bit numbers, which lie as pairs of words from `scan` on, the low word first. Tiles of as many numbers
// as a workgroup has threads are summed up by themselves, then their totals, which lie from `sums` on, then both are put together (G. E.
// Blelloch, "Prefix sums and their applications", 1990).

const THREADS = 256u;

struct Batch {
    rows: u32,
    // Numbers to sum up.
    length: u32,
    scan: u32,
    sums: u32,
    // What they mean, each shader says.
    a: u32,
    b: u32,
    c: u32,
}

@group(0) @binding(0) var<storage, read_write> answers: array<u32>;
@group(0) @binding(1) var<uniform> batch: Batch;

var<workgroup> lanes: array<vec2<u32>, THREADS>;

fn plus(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
    let low = a.x + b.x;
    return vec2(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn pair(at: u32) -> vec2<u32> {
    return vec2(answers[at], answers[at + 1u]);
}

fn set_pair(at: u32, value: vec2<u32>) {
    answers[at] = value.x;
    answers[at + 1u] = value.y;
}

// The sum of the values of the threads before; `lanes` are then the sums up to each. All threads of a workgroup call.
fn sum_before(thread: u32, value: vec2<u32>) -> vec2<u32> {
    workgroupBarrier();
    lanes[thread] = value;
    for (var step = 1u; step < THREADS; step *= 2u) {
        workgroupBarrier();
        var more = vec2(0u);
        if thread >= step {
            more = lanes[thread - step];
        }
        workgroupBarrier();
        lanes[thread] = plus(lanes[thread], more);
    }
    workgroupBarrier();
    if thread == 0u {
        return vec2(0u);
    }
    return lanes[thread - 1u];
}

@compute @workgroup_size(THREADS)
fn scan_tiles(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let number = tile.y * tiles.x + tile.x;
    let at = number * THREADS + thread;
    var value = vec2(0u);
    if at < batch.length {
        value = pair(batch.scan + 2u * at);
    }
    let before = sum_before(thread, value);
    if at < batch.length {
        set_pair(batch.scan + 2u * at, before);
    }
    if thread == 0u && at < batch.length {
        set_pair(batch.sums + 2u * number, lanes[THREADS - 1u]);
    }
}

// One workgroup.
@compute @workgroup_size(THREADS)
fn scan_sums(@builtin(local_invocation_index) thread: u32) {
    let tiles = (batch.length + THREADS - 1u) / THREADS;
    var all = vec2(0u);
    for (var first = 0u; first < tiles; first += THREADS) {
        var value = vec2(0u);
        if first + thread < tiles {
            value = pair(batch.sums + 2u * (first + thread));
        }
        let before = sum_before(thread, value);
        if first + thread < tiles {
            set_pair(batch.sums + 2u * (first + thread), plus(all, before));
        }
        all = plus(all, lanes[THREADS - 1u]);
    }
}

@compute @workgroup_size(THREADS)
fn scan_add(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let number = tile.y * tiles.x + tile.x;
    let at = number * THREADS + thread;
    if at < batch.length {
        set_pair(batch.scan + 2u * at, plus(pair(batch.scan + 2u * at), pair(batch.sums + 2u * number)));
    }
}
