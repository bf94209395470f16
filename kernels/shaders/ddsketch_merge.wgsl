// Adds windows to others, group by group: a thread for each side.

@group(0) @binding(2) var<storage, read> table: array<u32>;

@compute @workgroup_size(THREADS)
fn merge(@builtin(workgroup_id) tile: vec3<u32>, @builtin(num_workgroups) tiles: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let number = (tile.y * tiles.x + tile.x) * THREADS + thread;
    if number >= batch.groups * 2u {
        return;
    }
    let side = number & 1u;
    let at = group_at(number >> 1u);
    // Two of the counters apart belong to each side's thread.
    for (var apart = at + APART + 4u * side; apart < at + APART + 4u * side + 4u; apart += 2u) {
        count_more(apart, table[apart], table[apart + 1u]);
    }
    if table[at + COLLAPSED + side] != 0u {
        atomicStore(&groups[at + COLLAPSED + side], 1u);
    }
    let added = table[at + side];
    if added == 0u {
        return;
    }
    let old = atomicLoad(&groups[at + side]);
    let top = max(old, added);
    advance(at, side, old, top);
    atomicStore(&groups[at + side], top);
    atomicStore(&groups[at + BEFORE + side], top);
    let lowest = top - batch.buckets + 1u;
    for (var bucket = added - batch.buckets + 1u; bucket <= added; bucket++) {
        let place = counter(at, side, bucket);
        if (table[place] | table[place + 1u]) != 0u {
            if bucket < lowest {
                atomicStore(&groups[at + COLLAPSED + side], 1u);
            }
            count_more(counter(at, side, max(bucket, lowest)), table[place], table[place + 1u]);
        }
    }
}
