// Columns closed up: the rows that a bitmap names, and the others behind them, where they are wanted.
//
// The twin of `kernels/src/selection.rs`. A value has `a` words; of none, rows are answered by their numbers from `c` on. The others begin
// at place `b`, unless that is 0xffffffff.

const NOT_WANTED = 0xffffffffu;

@group(0) @binding(2) var<storage, read> selection: array<u32>;
@group(0) @binding(3) var<storage, read> values: array<u32>;

@compute @workgroup_size(THREADS)
fn count(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let at = (tile.y * tiles.x + tile.x) * THREADS + thread;
    if at < batch.length {
        set_pair(batch.scan + 2u * at, vec2(countOneBits(selection[at]), 0u));
    }
}

@compute @workgroup_size(THREADS)
fn place(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = (tile.y * tiles.x + tile.x) * THREADS + thread;
    if row >= batch.rows {
        return;
    }
    let word = selection[row / 32u];
    let bit = row % 32u;
    let before = answers[batch.scan + row / 32u * 2u] + countOneBits(word & ((1u << bit) - 1u));
    var to = before;
    if ((word >> bit) & 1u) == 0u {
        if batch.b == NOT_WANTED {
            return;
        }
        to = batch.b + row - before;
    }
    if batch.a == 0u {
        answers[to] = batch.c + row;
    }
    for (var part = 0u; part < batch.a; part++) {
        answers[to * batch.a + part] = values[row * batch.a + part];
    }
}
