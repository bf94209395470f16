// Grouped count, sum, minimum and maximum: what a group's words are, and how one row changes them.
//
// The twin of `kernels/src/aggregate.rs`, which says what null, NaN, infinity and -0.0 mean. A module is this file,
// one of `aggregate_global.wgsl` and `aggregate_private.wgsl` (where the words lie while rows are taken), and for the
// latter one of `lanes_plain.wgsl` and `lanes_subgroup.wgsl` (how neighbouring rows meet).
//
// Words of a group, `batch.stride` of them, all zero for a group without rows:
//     0, 1                   rows, low and high word
//     order_at + 0, 1        high words of the largest key and of the complement of the smallest
//     order_at + 2, 3        low words of the same
//     sum_at                 floats: which of NaN, +inf, -inf came
//     sum_at + 1 ..          floats: limbs of the sum, two's complement, the lowest of weight 2^(base - 1075)
//     sum_at + 0, 1, 2, 3    integers: limbs of the sum of value + 2^63
//
// A key orders unsigned as the values do. Words change by 32-bit atomics alone; every carry is found from the value
// that an atomic returned, so that sums are exact in any order of rows. Keys take two passes: `accumulate` settles the
// high words, `refine` the low words among the rows whose high word won.

override KIND: u32;
override SUM: bool;
override ORDER: bool;

const ROWS = 0u;
const INTS = 1u;
const FLOATS = 2u;

const HAS_VALIDITY = 1u;
const ONE_GROUP = 2u;

const SAW_NAN = 1u;
const SAW_INFINITY = 2u;
const SAW_NEGATIVE_INFINITY = 4u;

const INT_LIMBS = 4u;
const THREADS = 256u;

struct Batch {
    rows: u32,
    groups: u32,
    stride: u32,
    order_at: u32,
    sum_at: u32,
    limbs: u32,
    base: u32,
    flags: u32,
}

@group(0) @binding(0) var<storage, read_write> table: array<atomic<u32>>;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> slots: array<u32>;
@group(0) @binding(3) var<storage, read> values: array<vec2<u32>>;
@group(0) @binding(4) var<storage, read> validity: array<u32>;

struct Row {
    slot: u32,
    value: vec2<u32>,
    valid: bool,
}

fn row_at(index: u32) -> Row {
    var row = Row(0u, vec2(0u), false);
    if index < batch.rows {
        row.valid = (batch.flags & HAS_VALIDITY) == 0u || ((validity[index >> 5u] >> (index & 31u)) & 1u) == 1u;
        if (batch.flags & ONE_GROUP) == 0u {
            row.slot = slots[index];
        }
        if KIND != ROWS {
            row.value = values[index];
        }
        // The host refuses other slots; a stray one may stand in a null row.
        row.valid = row.valid && row.slot < batch.groups;
    }
    return row;
}

// The value's place among unsigned 64-bit numbers, low word first: IEEE 754 totalOrder with all NaNs as one, or i64.
fn order_key(value: vec2<u32>) -> vec2<u32> {
    if KIND == INTS {
        return vec2(value.x, value.y ^ 0x80000000u);
    }
    let magnitude = value.y & 0x7fffffffu;
    if magnitude > 0x7ff00000u || (magnitude == 0x7ff00000u && value.x != 0u) {
        return vec2(0u, 0xfff80000u);
    }
    if (value.y >> 31u) == 1u {
        return ~value;
    }
    return vec2(value.x, value.y | 0x80000000u);
}

// Adds `x` at a word; 1 if the word wrapped.
fn up(at: u32, x: u32) -> u32 {
    if x == 0u {
        return 0u;
    }
    return select(0u, 1u, add_word(at, x) > ~x);
}

// Takes `x` from a word; 1 if the word wrapped.
fn down(at: u32, x: u32) -> u32 {
    if x == 0u {
        return 0u;
    }
    return select(0u, 1u, sub_word(at, x) < x);
}

// As `up`, of `word + carry`, which wraps itself where it becomes 0.
fn up_with(at: u32, word: u32, carry: u32) -> u32 {
    let x = word + carry;
    return up(at, x) | select(0u, 1u, x < carry);
}

fn down_with(at: u32, word: u32, borrow: u32) -> u32 {
    let x = word + borrow;
    return down(at, x) | select(0u, 1u, x < borrow);
}

fn carry_up(at: u32, end: u32, x: u32) {
    var rest = x;
    for (var word = at; rest != 0u && word < end; word++) {
        rest = up(word, rest);
    }
}

fn carry_down(at: u32, end: u32, x: u32) {
    var rest = x;
    for (var word = at; rest != 0u && word < end; word++) {
        rest = down(word, rest);
    }
}

fn add_words(at: u32, end: u32, words: vec3<u32>) {
    let first = up(at, words.x);
    let second = up_with(at + 1u, words.y, first);
    let third = up_with(at + 2u, words.z, second);
    carry_up(at + 3u, end, third);
}

fn sub_words(at: u32, end: u32, words: vec3<u32>) {
    let first = down(at, words.x);
    let second = down_with(at + 1u, words.y, first);
    let third = down_with(at + 2u, words.z, second);
    carry_down(at + 3u, end, third);
}

// A float as fixed point: `words << (32 * limb)` units of the lowest limb, or what it is instead of a number.
struct Fixed {
    words: vec3<u32>,
    limb: u32,
    negative: bool,
    special: u32,
}

fn fixed_point(value: vec2<u32>) -> Fixed {
    let exponent = (value.y >> 20u) & 0x7ffu;
    let fraction = value.y & 0xfffffu;
    let negative = (value.y >> 31u) == 1u;
    if exponent == 0x7ffu {
        let infinity = select(SAW_INFINITY, SAW_NEGATIVE_INFINITY, negative);
        return Fixed(vec3(0u), 0u, negative, select(infinity, SAW_NAN, (fraction | value.x) != 0u));
    }
    if (exponent | fraction | value.x) == 0u {
        return Fixed(vec3(0u), 0u, negative, 0u);
    }
    let high = fraction | select(0u, 0x100000u, exponent != 0u);
    // The host chose the base at or below every exponent of the batch, denormals counting as 1.
    let shift = max(exponent, 1u) - batch.base;
    let bits = shift & 31u;
    let back = 31u - bits;
    let words = vec3(value.x << bits, (high << bits) | ((value.x >> 1u) >> back), (high >> 1u) >> back);
    return Fixed(words, shift >> 5u, negative, 0u);
}

fn take_fixed(at: u32, fixed: Fixed) {
    if fixed.special != 0u {
        or_word(at, fixed.special);
        return;
    }
    let limb = at + 1u + fixed.limb;
    let end = at + 1u + batch.limbs;
    if fixed.negative {
        sub_words(limb, end, fixed.words);
    } else {
        add_words(limb, end, fixed.words);
    }
}

fn take_sum(at: u32, value: vec2<u32>) {
    if KIND == INTS {
        add_words(at, at + INT_LIMBS, vec3(value.x, value.y ^ 0x80000000u, 0u));
    } else {
        take_fixed(at, fixed_point(value));
    }
}

// One valid row, its key down to the high words.
fn take(slot: u32, value: vec2<u32>) {
    let at = slot * batch.stride;
    carry_up(at, at + 2u, 1u);
    if ORDER {
        let high = order_key(value).y;
        raise_high(at + batch.order_at, high);
        raise_high(at + batch.order_at + 1u, ~high);
    }
    if SUM {
        take_sum(at + batch.sum_at, value);
    }
}

// One valid row again, for the low words of its key, once all high words stand.
fn refine_row(slot: u32, value: vec2<u32>) {
    let at = slot * batch.stride + batch.order_at;
    let key = order_key(value);
    if key.y == atomicLoad(&table[at]) {
        raise_word(at + 2u, key.x);
    }
    if ~key.y == atomicLoad(&table[at + 1u]) {
        raise_word(at + 3u, ~key.x);
    }
}

// Raises a high word of the table. No low word is raised in this pass, so whoever raises the high one may clear it.
fn raise_table_high(at: u32, high: u32) {
    if atomicLoad(&table[at]) < high && atomicMax(&table[at], high) < high {
        atomicStore(&table[at + 2u], 0u);
    }
}
