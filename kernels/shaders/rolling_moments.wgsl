// Sums and sums of squares of integers of 96 bits, in two's complement, exact: 2^31 of them fit the words.

const NODE_WORDS = 11u;
const SUM = 4u;
const SQUARES = 7u;

// Words of an integer, the lowest first; it has up to eight.
alias Long = array<u32, 8>;

struct Node {
    sum: array<u32, 4>,
    squares: array<u32, 7>,
}

fn none() -> Node {
    return Node();
}

fn merged(a: Node, b: Node) -> Node {
    var all = a;
    var more = b;
    var carry = 0u;
    for (var word = 0u; word < SUM; word++) {
        let part = add(all.sum[word], more.sum[word], carry);
        all.sum[word] = part.x;
        carry = part.y;
    }
    carry = 0u;
    for (var word = 0u; word < SQUARES; word++) {
        let part = add(all.squares[word], more.squares[word], carry);
        all.squares[word] = part.x;
        carry = part.y;
    }
    return all;
}

// Product of integers without a sign, the first of which has `words` words, the second `others`.
fn multiplied(first: Long, words: u32, second: Long, others: u32) -> Long {
    var a = first;
    var b = second;
    var all = Long();
    for (var i = 0u; i < words; i++) {
        var carry = 0u;
        for (var j = 0u; j < others && i + j < 8u; j++) {
            let part = product(a[i], b[j]);
            let sum = add(part.x, all[i + j], carry);
            all[i + j] = sum.x;
            carry = part.y + sum.y;
        }
        if i + others < 8u {
            all[i + others] = carry;
        }
    }
    return all;
}

// Magnitude of an integer in two's complement of so many words.
fn magnitude(value: Long, words: u32) -> Long {
    var all = value;
    if (all[words - 1u] >> 31u) == 0u {
        return all;
    }
    var carry = 1u;
    for (var word = 0u; word < words; word++) {
        let part = add(~all[word], 0u, carry);
        all[word] = part.x;
        carry = part.y;
    }
    return all;
}

fn leaf(at: u32) -> Node {
    var value = Long();
    for (var word = 0u; word < 3u; word++) {
        value[word] = leaves[at * 3u + word];
    }
    var node = Node();
    for (var word = 0u; word < 3u; word++) {
        node.sum[word] = value[word];
    }
    node.sum[3] = select(0u, 0xffffffffu, (value[2] >> 31u) == 1u);
    let size = magnitude(value, 3u);
    var square = multiplied(size, 3u, size, 3u);
    for (var word = 0u; word < 6u; word++) {
        node.squares[word] = square[word];
    }
    return node;
}

fn load(at: u32) -> Node {
    var node = Node();
    for (var word = 0u; word < SUM; word++) {
        node.sum[word] = answers[at + word];
    }
    for (var word = 0u; word < SQUARES; word++) {
        node.squares[word] = answers[at + SUM + word];
    }
    return node;
}

fn store(at: u32, value: Node) {
    var node = value;
    for (var word = 0u; word < SUM; word++) {
        answers[at + word] = node.sum[word];
    }
    for (var word = 0u; word < SQUARES; word++) {
        answers[at + SUM + word] = node.squares[word];
    }
}

// The bits of the 64-bit float of an integer without a sign, the low word first; what its significand has no room for is cut off.
fn to_float(value: Long) -> vec2<u32> {
    var all = value;
    var top = 7u;
    while top > 0u && all[top] == 0u {
        top--;
    }
    if all[top] == 0u {
        return vec2(0u);
    }
    let shift = countLeadingZeros(all[top]);
    var words = vec3(all[top], 0u, 0u);
    if top > 0u {
        words.y = all[top - 1u];
    }
    if top > 1u {
        words.z = all[top - 2u];
    }
    if shift > 0u {
        words = vec3((words.x << shift) | (words.y >> (32u - shift)), (words.y << shift) | (words.z >> (32u - shift)), 0u);
    }
    let exponent = 1023u + top * 32u + 31u - shift;
    return vec2((words.x << 21u) | (words.y >> 11u), (exponent << 20u) | ((words.x & 0x7fffffffu) >> 11u));
}

// The sum, and count · squares - sum², which is what squared distances from the mean add up to, times the count.
fn put(row: u32, value: Node, count: u32) {
    var node = value;
    var sum = Long();
    for (var word = 0u; word < SUM; word++) {
        sum[word] = node.sum[word];
        answers[row * 6u + word] = node.sum[word];
    }
    var squares = Long();
    for (var word = 0u; word < SQUARES; word++) {
        squares[word] = node.squares[word];
    }
    var times = Long();
    times[0] = count;
    let size = magnitude(sum, SUM);
    var all = multiplied(squares, SQUARES, times, 1u);
    var less = multiplied(size, SUM, size, SUM);
    var carry = 1u;
    for (var word = 0u; word < 8u; word++) {
        let part = add(all[word], ~less[word], carry);
        all[word] = part.x;
        carry = part.y;
    }
    let spread = to_float(all);
    answers[row * 6u + 4u] = spread.x;
    answers[row * 6u + 5u] = spread.y;
}
