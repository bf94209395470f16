// Least and greatest: order keys as unsigned 64-bit numbers, the low word first.

const NODE_WORDS = 4u;

struct Node {
    least: vec2<u32>,
    greatest: vec2<u32>,
}

fn none() -> Node {
    return Node(vec2(0xffffffffu), vec2(0u));
}

fn below(a: vec2<u32>, b: vec2<u32>) -> bool {
    return a.y < b.y || (a.y == b.y && a.x < b.x);
}

fn merged(a: Node, b: Node) -> Node {
    return Node(select(a.least, b.least, below(b.least, a.least)), select(a.greatest, b.greatest, below(a.greatest, b.greatest)));
}

fn leaf(at: u32) -> Node {
    let word = at * 4u;
    return Node(vec2(leaves[word], leaves[word + 1u]), vec2(leaves[word + 2u], leaves[word + 3u]));
}

fn load(at: u32) -> Node {
    return Node(vec2(answers[at], answers[at + 1u]), vec2(answers[at + 2u], answers[at + 3u]));
}

fn store(at: u32, node: Node) {
    answers[at] = node.least.x;
    answers[at + 1u] = node.least.y;
    answers[at + 2u] = node.greatest.x;
    answers[at + 3u] = node.greatest.y;
}

fn put(row: u32, node: Node, count: u32) {
    store(row * 4u, node);
}
