// Every row by itself: for adapters without subgroup operations.

fn take_lane(row: Row) {
    if row.valid {
        take(row.slot, row.value);
    }
}
