// Words in the table itself, one thread per row: for more groups than fit a workgroup's storage.

fn add_word(at: u32, x: u32) -> u32 {
    return atomicAdd(&table[at], x);
}

fn sub_word(at: u32, x: u32) -> u32 {
    return atomicSub(&table[at], x);
}

fn or_word(at: u32, bits: u32) {
    atomicOr(&table[at], bits);
}

fn raise_word(at: u32, x: u32) {
    if atomicLoad(&table[at]) < x {
        atomicMax(&table[at], x);
    }
}

fn raise_high(at: u32, high: u32) {
    raise_table_high(at, high);
}

@compute @workgroup_size(THREADS)
fn accumulate(@builtin(global_invocation_id) thread: vec3<u32>) {
    let row = row_at(thread.x);
    if row.valid {
        take(row.slot, row.value);
    }
}

@compute @workgroup_size(THREADS)
fn refine(@builtin(global_invocation_id) thread: vec3<u32>) {
    let row = row_at(thread.x);
    if row.valid {
        refine_row(row.slot, row.value);
    }
}
