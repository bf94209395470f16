// Each number becomes the sum of those before it: numbers of `a` words.
//
// The twin of the sums of `kernels/src/partition.rs`.

@group(0) @binding(2) var<storage, read> values: array<u32>;

@compute @workgroup_size(THREADS)
fn widen(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let at = (tile.y * tiles.x + tile.x) * THREADS + thread;
    if at < batch.length {
        let first = at * batch.a;
        set_pair(batch.scan + 2u * at, vec2(values[first], select(0u, values[first + batch.a - 1u], batch.a == 2u)));
    }
}

@compute @workgroup_size(THREADS)
fn narrow(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let at = (tile.y * tiles.x + tile.x) * THREADS + thread;
    if at < batch.length {
        let sum = pair(batch.scan + 2u * at);
        answers[at * batch.a] = sum.x;
        if batch.a == 2u {
            answers[at * 2u + 1u] = sum.y;
        }
    }
}
