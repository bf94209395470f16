// Combines tables group by group: `into[i]` becomes the accumulator of both. The twin of `combine`
// of `kernels/src/aggregate.rs`, and how a table moves to a wider window of exponents: into one of zeros.
//
// The words are those of `aggregate.wgsl`. One thread has a group to itself, so nothing is atomic.

override KIND: u32;
override SUM: bool;
override ORDER: bool;

const FLOATS = 2u;
const THREADS = 256u;

struct Tables {
    groups: u32,
    into_stride: u32,
    from_stride: u32,
    order_at: u32,
    sum_at: u32,
    into_limbs: u32,
    from_limbs: u32,
    // Limbs that `into` has below the lowest of `from`.
    below: u32,
}

@group(0) @binding(0) var<storage, read_write> into: array<u32>;
@group(0) @binding(1) var<uniform> tables: Tables;
@group(0) @binding(2) var<storage, read> table: array<u32>;

// Adds a word and a carry; gives the carry out.
fn add(at: u32, word: u32, carry: u32) -> u32 {
    let x = word + carry;
    let sum = into[at] + x;
    into[at] = sum;
    return select(0u, 1u, x < carry || sum < x);
}

// The larger of two keys, high word and, two words on, low word: the largest value or the complement of the smallest.
fn raise(to: u32, from_at: u32) {
    let high = table[from_at];
    let low = table[from_at + 2u];
    if high > into[to] || (high == into[to] && low > into[to + 2u]) {
        into[to] = high;
        into[to + 2u] = low;
    }
}

// Two's complement: limbs above those of `from` repeat its sign, and integers have as many limbs on both sides.
fn add_sum(to: u32, from_at: u32) {
    let top = table[from_at + tables.from_limbs - 1u];
    let sign = select(0u, 0xffffffffu, KIND == FLOATS && (top >> 31u) == 1u);
    var carry = 0u;
    for (var limb = tables.below; limb < tables.into_limbs; limb++) {
        let index = limb - tables.below;
        var word = sign;
        if index < tables.from_limbs {
            word = table[from_at + index];
        }
        carry = add(to + limb, word, carry);
    }
}

@compute @workgroup_size(THREADS)
fn combine(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let group = (tile.y * tiles.x + tile.x) * THREADS + thread;
    if group >= tables.groups {
        return;
    }
    let to = group * tables.into_stride;
    let from_at = group * tables.from_stride;
    let carry = add(to, table[from_at], 0u);
    into[to + 1u] += table[from_at + 1u] + carry;
    if ORDER {
        raise(to + tables.order_at, from_at + tables.order_at);
        raise(to + tables.order_at + 1u, from_at + tables.order_at + 1u);
    }
    if SUM && KIND == FLOATS {
        into[to + tables.sum_at] |= table[from_at + tables.sum_at];
        add_sum(to + tables.sum_at + 1u, from_at + tables.sum_at + 1u);
    } else if SUM {
        add_sum(to + tables.sum_at, from_at + tables.sum_at);
    }
}
