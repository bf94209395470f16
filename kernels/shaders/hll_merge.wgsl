// Takes the larger of two registers, one by one: a thread for each.

const THREADS = 256u;

struct Batch {
    registers: u32,
}

@group(0) @binding(0) var<storage, read_write> into: array<u32>;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> table: array<u32>;

@compute @workgroup_size(THREADS)
fn merge(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let at = (tile.y * tiles.x + tile.x) * THREADS + thread;
    if at < batch.registers {
        into[at] = max(into[at], table[at]);
    }
}
