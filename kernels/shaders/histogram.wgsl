// Histograms by group: a thread for each row, which looks for its value among the edges of the bins.
//
// The twin of `kernels/src/histogram.rs`. Floats are compared by their bits.

const THREADS = 256u;

// The slot of a row that is null.
const NO_SLOT = 0xffffffffu;

struct Batch {
    rows: u32,
    edges: u32,
}

// Counters, the low word first.
@group(0) @binding(0) var<storage, read_write> counts: array<atomic<u32>>;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read> values: array<vec2<u32>>;
// Order keys of the edges, ascending.
@group(0) @binding(4) var<storage, read> edges: array<vec2<u32>>;

// An unsigned number in the order of the floats, both zeros being one.
fn order_key(bits: vec2<u32>) -> vec2<u32> {
    if ((bits.y & 0x7fffffffu) | bits.x) == 0u {
        return vec2(0u, 0x80000000u);
    }
    return select(vec2(bits.x, bits.y | 0x80000000u), ~bits, (bits.y >> 31u) == 1u);
}

fn is_nan(bits: vec2<u32>) -> bool {
    let high = bits.y & 0x7fffffffu;
    return high > 0x7ff00000u || (high == 0x7ff00000u && bits.x != 0u);
}

// How many edges are at or below a key.
fn edges_below(key: vec2<u32>) -> u32 {
    var least = 0u;
    var most = batch.edges;
    while least < most {
        let middle = (least + most) / 2u;
        let edge = edges[middle];
        if edge.y < key.y || (edge.y == key.y && edge.x <= key.x) {
            least = middle + 1u;
        } else {
            most = middle;
        }
    }
    return least;
}

@compute @workgroup_size(THREADS)
fn histogram(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = (tile.y * tiles.x + tile.x) * THREADS + thread;
    if row >= batch.rows || slots[row] == NO_SLOT {
        return;
    }
    var cell = batch.edges + 1u;
    if !is_nan(values[row]) {
        cell = edges_below(order_key(values[row]));
    }
    let at = 2u * (slots[row] * (batch.edges + 2u) + cell);
    if atomicAdd(&counts[at], 1u) == 0xffffffffu {
        atomicAdd(&counts[at + 1u], 1u);
    }
}
