// Windows over leaves: a tree of nodes, each of which stands for FAN of the level below, and a thread for each row, which puts the nodes of
// its window together. A shader adds what a node is: `Node`, `none`, `merged`, `leaf`, `load`, `store`, `put`.
//
// The twin of `kernels/src/rolling`. What nodes hold is exact, so that the shape of the tree makes no difference.

const THREADS = 256u;
const FAN = 16u;
// Above the last level, nodes are gone through one by one.
const LEVELS = 4u;

// The level that is built.
override LEVEL: u32 = 1u;

struct Batch {
    leaves: u32,
    rows: u32,
    // The word where the first level begins, behind the answers.
    nodes: u32,
}

@group(0) @binding(0) var<storage, read_write> answers: array<u32>;
@group(0) @binding(1) var<uniform> batch: Batch;
@group(0) @binding(2) var<storage, read> leaves: array<u32>;
// Of each row: the first leaf of its window, the one behind the last, and how many of them have a value.
@group(0) @binding(3) var<storage, read> spans: array<u32>;

fn width(level: u32) -> u32 {
    var nodes = batch.leaves;
    for (var below = 0u; below < level; below++) {
        nodes = (nodes + FAN - 1u) / FAN;
    }
    return nodes;
}

// The word where a node of a level above the leaves lies.
fn place(level: u32, node: u32) -> u32 {
    var at = node;
    for (var below = 1u; below < level; below++) {
        at += width(below);
    }
    return batch.nodes + at * NODE_WORDS;
}

fn node_of(level: u32, node: u32) -> Node {
    if level == 0u {
        return leaf(node);
    }
    return load(place(level, node));
}

@compute @workgroup_size(THREADS)
fn build(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let node = (tile.y * tiles.x + tile.x) * THREADS + thread;
    if node >= width(LEVEL) {
        return;
    }
    var all = none();
    for (var child = node * FAN; child < min((node + 1u) * FAN, width(LEVEL - 1u)); child++) {
        all = merged(all, node_of(LEVEL - 1u, child));
    }
    store(place(LEVEL, node), all);
}

@compute @workgroup_size(THREADS)
fn roll(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let row = (tile.y * tiles.x + tile.x) * THREADS + thread;
    if row >= batch.rows {
        return;
    }
    var begin = spans[row * 3u];
    var end = spans[row * 3u + 1u];
    var all = none();
    for (var level = 0u; begin < end; level++) {
        while begin < end && (level == LEVELS || begin % FAN != 0u) {
            all = merged(all, node_of(level, begin));
            begin++;
        }
        while begin < end && end % FAN != 0u {
            end--;
            all = merged(all, node_of(level, end));
        }
        begin /= FAN;
        end /= FAN;
    }
    put(row, all, spans[row * 3u + 2u]);
}
