// Words in a workgroup's own storage, merged into the table once per workgroup: for few groups, whose words all rows
// would otherwise contend for.

// The storage that every WebGPU adapter has, 16 KiB. Starts as zeros, which is the state without rows.
const PRIVATE_WORDS = 4096u;
const ROWS_PER_THREAD = 16u;

var<workgroup> mine: array<atomic<u32>, PRIVATE_WORDS>;

fn add_word(at: u32, x: u32) -> u32 {
    return atomicAdd(&mine[at], x);
}

fn sub_word(at: u32, x: u32) -> u32 {
    return atomicSub(&mine[at], x);
}

fn or_word(at: u32, bits: u32) {
    atomicOr(&mine[at], bits);
}

fn raise_word(at: u32, x: u32) {
    if atomicLoad(&mine[at]) < x {
        atomicMax(&mine[at], x);
    }
}

fn raise_high(at: u32, high: u32) {
    raise_word(at, high);
}

// Adds the workgroup's words to the table's; modulo 2^(32 * words), as two's complement adds.
fn merge_number(at: u32, words: u32) {
    var carry = 0u;
    for (var word = at; word < at + words; word++) {
        let x = atomicLoad(&mine[word]) + carry;
        let wrapped = select(0u, 1u, x < carry);
        var over = 0u;
        if x != 0u {
            over = select(0u, 1u, atomicAdd(&table[word], x) > ~x);
        }
        carry = wrapped | over;
    }
}

fn merge(at: u32) {
    if atomicLoad(&mine[at]) == 0u {
        return;
    }
    merge_number(at, 2u);
    if ORDER {
        raise_table_high(at + batch.order_at, atomicLoad(&mine[at + batch.order_at]));
        raise_table_high(at + batch.order_at + 1u, atomicLoad(&mine[at + batch.order_at + 1u]));
    }
    if SUM && KIND == INTS {
        merge_number(at + batch.sum_at, INT_LIMBS);
    } else if SUM {
        atomicOr(&table[at + batch.sum_at], atomicLoad(&mine[at + batch.sum_at]));
        merge_number(at + batch.sum_at + 1u, batch.limbs);
    }
}

fn merge_low(at: u32) {
    let low = atomicLoad(&mine[at]);
    if atomicLoad(&table[at]) < low {
        atomicMax(&table[at], low);
    }
}

@compute @workgroup_size(THREADS)
fn accumulate(@builtin(workgroup_id) tile: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var k = 0u; k < ROWS_PER_THREAD; k++) {
        let row = row_at((tile.x * ROWS_PER_THREAD + k) * THREADS + thread);
        take_lane(row);
    }
    workgroupBarrier();
    for (var group = thread; group < batch.groups; group += THREADS) {
        merge(group * batch.stride);
    }
}

@compute @workgroup_size(THREADS)
fn refine(@builtin(workgroup_id) tile: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    for (var k = 0u; k < ROWS_PER_THREAD; k++) {
        let row = row_at((tile.x * ROWS_PER_THREAD + k) * THREADS + thread);
        if row.valid {
            refine_row(row.slot, row.value);
        }
    }
    workgroupBarrier();
    for (var group = thread; group < batch.groups; group += THREADS) {
        merge_low(group * batch.stride + batch.order_at + 2u);
        merge_low(group * batch.stride + batch.order_at + 3u);
    }
}
