// Takes rows into windows: raises the tops, moves windows whose top has risen, then counts. The host tells each row's bucket.
//
// The twin of `kernels/src/sketch/ddsketch.rs`.

// The slot of a row that is null.
const NO_SLOT = 0xffffffffu;

// Codes below this are counted apart; others are a side in the lowest bit, and a bucket with BIAS.
const LEAST_BUCKET = 4u;

@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read> codes: array<u32>;

@compute @workgroup_size(THREADS)
fn raise(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = (tile.y * tiles.x + tile.x) * THREADS + thread;
    if row >= batch.rows || slots[row] == NO_SLOT || codes[row] < LEAST_BUCKET {
        return;
    }
    atomicMax(&groups[group_at(slots[row]) + (codes[row] & 1u)], codes[row] >> 1u);
}

@compute @workgroup_size(THREADS)
fn move_up(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let number = (tile.y * tiles.x + tile.x) * THREADS + thread;
    if number >= batch.groups * 2u {
        return;
    }
    let side = number & 1u;
    let at = group_at(number >> 1u);
    let top = atomicLoad(&groups[at + side]);
    advance(at, side, atomicLoad(&groups[at + BEFORE + side]), top);
    atomicStore(&groups[at + BEFORE + side], top);
}

@compute @workgroup_size(THREADS)
fn count(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = (tile.y * tiles.x + tile.x) * THREADS + thread;
    if row >= batch.rows || slots[row] == NO_SLOT {
        return;
    }
    let at = group_at(slots[row]);
    let code = codes[row];
    if code < LEAST_BUCKET {
        count_more(at + APART + 2u * code, 1u, 0u);
        return;
    }
    let side = code & 1u;
    let lowest = atomicLoad(&groups[at + side]) - batch.buckets + 1u;
    if code >> 1u < lowest {
        atomicStore(&groups[at + COLLAPSED + side], 1u);
    }
    count_more(counter(at, side, max(code >> 1u, lowest)), 1u, 0u);
}
