// Rows ordered by the part that they are in, and in a part by their number: counts by part and tile of rows, summed up, say where each goes.
//
// The twin of `kernels/src/partition.rs`. There are `a` parts, and `b` tiles of as many rows as a workgroup has threads; rows come with
// their hash where `c` is 0, else with their part. Answers are the rows' numbers, then where each part begins.

@group(0) @binding(2) var<storage, read> rows: array<u32>;

const NO_PART = 0xffffffffu;

var<workgroup> parts: array<u32, THREADS>;

// The part of a row: floor(hash * parts / 2^64).
fn part_of(row: u32) -> u32 {
    if batch.c != 0u {
        return rows[row];
    }
    let low = product(rows[row * 2u], batch.a);
    let high = product(rows[row * 2u + 1u], batch.a);
    return high.y + add(high.x, low.y, 0u).y;
}

// How many rows of the same part come before a thread's in the tile, and whether there are more behind it.
fn among_tile(thread: u32, part: u32) -> vec2<u32> {
    parts[thread] = part;
    workgroupBarrier();
    var found = vec2(0u);
    for (var other = 0u; other < THREADS; other++) {
        if parts[other] == part && other != thread {
            found += select(vec2(0u, 1u), vec2(1u, 0u), other < thread);
        }
    }
    return found;
}

@compute @workgroup_size(THREADS)
fn count(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let number = tile.y * tiles.x + tile.x;
    let row = number * THREADS + thread;
    var part = NO_PART;
    if row < batch.rows {
        part = part_of(row);
    }
    let found = among_tile(thread, part);
    // The last of its part says how many there are.
    if row < batch.rows && found.y == 0u {
        answers[batch.scan + 2u * (part * batch.b + number)] = found.x + 1u;
    }
}

@compute @workgroup_size(THREADS)
fn place(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let number = tile.y * tiles.x + tile.x;
    let row = number * THREADS + thread;
    var part = NO_PART;
    if row < batch.rows {
        part = part_of(row);
    }
    let found = among_tile(thread, part);
    if row < batch.rows {
        answers[answers[batch.scan + 2u * (part * batch.b + number)] + found.x] = row;
    }
}

@compute @workgroup_size(THREADS)
fn begin(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let part = (tile.y * tiles.x + tile.x) * THREADS + thread;
    if part < batch.a {
        answers[batch.rows + part] = answers[batch.scan + 2u * part * batch.b];
    }
}
