// Windows of buckets. Words of a group:
//     2    highest bucket in use of each side, with BIAS; 0 of a side without values
//     2    whether a bucket that held values left the window of each side
//     2    the highest buckets before this batch
//     2    unused
//     8    counters of +infinity, -infinity, zeros and NaN, the low word first
//     ...  the counters of the positive side, then those of the negative one: bucket i is counted at i modulo their number

const THREADS = 256u;
const HEAD = 16u;
const COLLAPSED = 2u;
const BEFORE = 4u;
const APART = 8u;

struct Batch {
    rows: u32,
    groups: u32,
    buckets: u32,
}

@group(0) @binding(0) var<storage, read_write> groups: array<atomic<u32>>;
@group(0) @binding(1) var<uniform> batch: Batch;

fn group_at(group: u32) -> u32 {
    return group * (HEAD + 4u * batch.buckets);
}

// Where a bucket of a side of the group at `at` is counted. BIAS is a multiple of what a window may have.
fn counter(at: u32, side: u32, bucket: u32) -> u32 {
    return at + HEAD + 2u * (side * batch.buckets + (bucket & (batch.buckets - 1u)));
}

fn count_more(at: u32, low: u32, high: u32) {
    let before = atomicAdd(&groups[at], low);
    let carry = select(0u, 1u, before + low < before);
    if high + carry > 0u {
        atomicAdd(&groups[at + 1u], high + carry);
    }
}

// Moves a window up, its buckets below the new lowest one into that. No other thread has this side.
fn advance(at: u32, side: u32, old: u32, top: u32) {
    if old == 0u || top <= old {
        return;
    }
    let lowest = top - batch.buckets + 1u;
    let to = counter(at, side, lowest);
    for (var bucket = old - batch.buckets + 1u; bucket <= old && bucket < lowest; bucket++) {
        let place = counter(at, side, bucket);
        let low = atomicExchange(&groups[place], 0u);
        let high = atomicExchange(&groups[place + 1u], 0u);
        if (low | high) != 0u {
            count_more(to, low, high);
            atomicStore(&groups[at + COLLAPSED + side], 1u);
        }
    }
}
