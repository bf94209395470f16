// HyperLogLog: a thread for each row, which raises the register that its hash names.
//
// The twin of `kernels/src/sketch/hll.rs`. A register has a word of its own, as atomics are of words.

const THREADS = 256u;

// The slot of a row that is null.
const NO_SLOT = 0xffffffffu;

// Low bits of a hash that the value of a register does not look at.
const ADDRESS_BITS = 26u;

struct Batch {
    rows: u32,
    lg_k: u32,
}

@group(0) @binding(0) var<storage, read_write> registers: array<atomic<u32>>;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
// The low word first.
@group(0) @binding(3) var<storage, read> hashes: array<vec2<u32>>;

@compute @workgroup_size(THREADS)
fn hll(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = (tile.y * tiles.x + tile.x) * THREADS + thread;
    if row >= batch.rows || slots[row] == NO_SLOT {
        return;
    }
    let hash = hashes[row];
    let at = (slots[row] << batch.lg_k) | (hash.x & ((1u << batch.lg_k) - 1u));
    let low = 32u + countLeadingZeros(hash.x >> ADDRESS_BITS) - ADDRESS_BITS;
    atomicMax(&registers[at], 1u + select(countLeadingZeros(hash.y), low, hash.y == 0u));
}
