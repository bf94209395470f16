// Words that carry into the next one.

// Sum of two words and a carry: its low word, and the carry out of it.
fn add(a: u32, b: u32, carry: u32) -> vec2<u32> {
    let sum = a + b;
    let all = sum + carry;
    return vec2(all, select(0u, 1u, sum < a) + select(0u, 1u, all < sum));
}

// Product of two words, the low word first.
fn product(a: u32, b: u32) -> vec2<u32> {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let middle = (a >> 16u) * (b & 0xffffu) + (low >> 16u);
    let other = (a & 0xffffu) * (b >> 16u) + (middle & 0xffffu);
    return vec2((other << 16u) | (low & 0xffffu), (a >> 16u) * (b >> 16u) + (middle >> 16u) + (other >> 16u));
}
