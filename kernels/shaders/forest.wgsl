// Scores of points by the trees of a random cut forest: a thread for each point, which goes through the trees one by one.
//
// The twin of `kernels/src/anomaly/forest/score.rs`. Words of the forest, floats as their bits:
//     8 a tree           where its nodes, boxes, leaves and points begin, its root, and the weight of its score
//     4 a node           cut, sum of the sides of its box, dimension and parent, children: 16 bits each, the first one low
//     2 stride a box     least corner, greatest corner
//     2 a leaf           parent, score of a point that is equal to the leaf's
//     stride a point     of a leaf

const THREADS = 256u;
const HEADER = 8u;
const LEAF = 0x8000u;
const NONE = 0xffffu;

// As many are added up before their sum goes to the sum of all: rounding grows with the longest chain of additions.
const RUN = 16u;

struct Batch {
    points: u32,
    stride: u32,
    trees: u32,
}

@group(0) @binding(0) var<storage, read_write> answers: array<f32>;
@group(0) @binding(1) var<uniform> batch: Batch;
// By dimension and point, so that neighbouring threads read neighbours.
@group(0) @binding(2) var<storage, read> points: array<f32>;
@group(0) @binding(3) var<storage, read> forest: array<u32>;

fn float_at(at: u32) -> f32 {
    return bitcast<f32>(forest[at]);
}

// How far a point lies outside a box, summed over the sides.
fn excess(point: u32, low: u32, high: u32) -> f32 {
    var all = 0.0;
    for (var run = 0u; run < batch.stride; run += RUN) {
        var sum = 0.0;
        for (var dim = run; dim < min(run + RUN, batch.stride); dim++) {
            let x = points[dim * batch.points + point];
            sum += max(max(x - float_at(high + dim), float_at(low + dim) - x), 0.0);
        }
        all += sum;
    }
    return all;
}

fn unseen(depth: u32) -> f32 {
    return 1.0 / f32(depth + 1u);
}

fn score(tree: u32, point: u32) -> f32 {
    let nodes = forest[tree * HEADER];
    let boxes = forest[tree * HEADER + 1u];
    var at = forest[tree * HEADER + 4u];
    var depth = 0u;
    while (at & LEAF) == 0u {
        let node = nodes + at * 4u;
        let x = points[(forest[node + 2u] & 0xffffu) * batch.points + point];
        let children = forest[node + 3u];
        at = select(children & 0xffffu, children >> 16u, x > float_at(node));
        depth++;
    }
    let number = at & ~LEAF;
    let leaf = forest[tree * HEADER + 2u] + number * 2u;
    let same = forest[tree * HEADER + 3u] + number * batch.stride;
    if excess(point, same, same) == 0.0 {
        return float_at(leaf + 1u);
    }
    var found = unseen(depth);
    at = forest[leaf];
    while at != NONE {
        depth--;
        let low = boxes + at * 2u * batch.stride;
        let outside = excess(point, low, low + batch.stride);
        // A box that has the point lies within all above it.
        if outside == 0.0 {
            break;
        }
        let node = nodes + at * 4u;
        let sides = float_at(node + 1u);
        let per = 1.0 / (outside + sides);
        found = outside * per * unseen(depth) + sides * per * found;
        at = forest[node + 2u] >> 16u;
    }
    return found;
}

@compute @workgroup_size(THREADS)
fn forest_scores(@builtin(global_invocation_id) thread: vec3<u32>) {
    let point = thread.x;
    if point >= batch.points {
        return;
    }
    var all = 0.0;
    for (var run = 0u; run < batch.trees; run += RUN) {
        var sum = 0.0;
        for (var tree = run; tree < min(run + RUN, batch.trees); tree++) {
            sum += score(tree, point) * float_at(tree * HEADER + 5u);
        }
        all += sum;
    }
    answers[point] = all;
}
