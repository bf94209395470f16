// Rows of one group that fall together in a subgroup are added up there, and change the group's words once.
// Whole subgroups call: rows without a part in it come as not valid.

fn take_lane(row: Row) {
    let leader = subgroupMax(select(0u, row.slot + 1u, row.valid));
    let together = subgroupAll(!row.valid || row.slot + 1u == leader);
    if together {
        if leader != 0u {
            take_together((leader - 1u) * batch.stride, row);
        }
    } else if row.valid {
        take(row.slot, row.value);
    }
}

fn take_together(at: u32, row: Row) {
    let first = subgroupExclusiveAdd(1u) == 0u;
    let rows = subgroupAdd(select(0u, 1u, row.valid));
    if first {
        add_word(at, rows);
    }
    if ORDER {
        let high = order_key(row.value).y;
        let largest = subgroupMax(select(0u, high, row.valid));
        let smallest = subgroupMax(select(0u, ~high, row.valid));
        if first {
            raise_high(at + batch.order_at, largest);
            raise_high(at + batch.order_at + 1u, smallest);
        }
    }
    if SUM && KIND == INTS {
        ints_together(at + batch.sum_at, row, first);
    } else if SUM {
        floats_together(at + batch.sum_at, row, first);
    }
}

// The halves of words add up to 23 bits and a sign over 128 lanes, the most that a subgroup has.
fn sum_halves(word: u32, sign: i32) -> vec2<i32> {
    let low = subgroupAdd(i32(word & 0xffffu) * sign);
    let high = subgroupAdd(i32(word >> 16u) * sign);
    return vec2(low, high);
}

// A word and what goes to the next one from its summed halves and from the word before.
struct Carried {
    word: u32,
    carry: i32,
}

fn join_halves(halves: vec2<i32>, carry: i32) -> Carried {
    let low = halves.x + carry;
    let high = halves.y + (low >> 16u);
    return Carried((u32(low) & 0xffffu) | (u32(high) << 16u), high >> 16u);
}

fn ints_together(at: u32, row: Row, first: bool) {
    let live = select(0, 1, row.valid);
    let low = join_halves(sum_halves(row.value.x, live), 0);
    let high = join_halves(sum_halves(row.value.y ^ 0x80000000u, live), low.carry);
    if first {
        add_words(at, at + INT_LIMBS, vec3(low.word, high.word, u32(high.carry)));
    }
}

fn floats_together(at: u32, row: Row, first: bool) {
    let fixed = fixed_point(row.value);
    let live = row.valid && fixed.special == 0u && any(fixed.words != vec3(0u));
    let leader = subgroupMax(select(0u, fixed.limb + 1u, live));
    let together = subgroupAll(!live || fixed.limb + 1u == leader);
    if row.valid && (fixed.special != 0u || (live && !together)) {
        take_fixed(at, fixed);
    }
    if together && leader != 0u {
        let sign = select(0, select(1, -1, fixed.negative), live);
        let low = join_halves(sum_halves(fixed.words.x, sign), 0);
        let middle = join_halves(sum_halves(fixed.words.y, sign), low.carry);
        let high = join_halves(sum_halves(fixed.words.z, sign), middle.carry);
        if first {
            let limb = at + leader;
            let end = at + 1u + batch.limbs;
            add_words(limb, end, vec3(low.word, middle.word, high.word));
            // A value has at most 20 bits in its third word: of a sum of 128 only a sign goes beyond.
            carry_down(limb + 3u, end, u32(-high.carry));
        }
    }
}
