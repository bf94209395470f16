//! What every kernel is tested with: one table of seeds, one property macro, each backend in turn.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::{Backend, Bits};

/// Floats at the edges of their order and range.
pub(crate) const FLOATS: &[f64] = &[
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.1,
    f64::MAX / 1e6,
    f64::MIN / 1e6,
    f64::MIN_POSITIVE,
    5e-324,
    -5e-324,
    2.2e-310,
    1e16,
    -1e16,
    f64::NAN,
    -f64::NAN,
    f64::INFINITY,
    f64::NEG_INFINITY,
];

/// Integers at the edges.
pub(crate) const INTS: &[i64] = &[0, 1, -1, i64::MAX, i64::MIN, i64::MAX - 1, i64::MIN + 1, 1 << 32, -(1 << 32), u32::MAX as i64];

/// Lengths around the widths of vectors, words of validity, blocks and copies.
pub(crate) const LENGTHS: &[usize] = &[0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 129, 511, 512, 513, 1024, 2000];

/// Numbers of groups: one, few (private copies), some, and more than the second-level cache holds cells of.
pub(crate) const GROUPS: &[u32] = &[1, 2, 3, 8, 9, 100, 30_000];

/// A column with its slots and validity.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub groups: u32,
    pub slots: Vec<u32>,
    pub floats: Vec<f64>,
    pub ints: Vec<i64>,
    pub bitmap: Vec<u8>,
    pub offset: usize,
    pub nulls: bool,
}

impl Case {
    pub(crate) fn validity(&self) -> Option<Bits<'_>> {
        self.nulls.then(|| Bits { bytes: &self.bitmap, offset: self.offset, len: self.slots.len() })
    }

    pub(crate) fn valid(&self, row: usize) -> bool {
        self.validity().is_none_or(|bits| bits.get(row))
    }
}

/// A number without pattern for each `n`: splitmix64.
pub(crate) fn scramble(n: u64) -> u64 {
    let n = (n.wrapping_add(1)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// The table of seeds: every length with every number of groups, in every order of slots, with and without nulls, with
/// ordinary values and with the edges among them.
pub(crate) fn seeds() -> impl Iterator<Item = Case> {
    LENGTHS.iter().enumerate().flat_map(|(i, &len)| {
        let groups = GROUPS.iter().enumerate().filter(move |(_, groups)| **groups < 1000 || len == 2000);
        groups.flat_map(move |(j, &groups)| (0..12).map(move |form| seed(len, groups, form, (i * 100 + j) as u64)))
    })
}

fn seed(len: usize, groups: u32, form: u64, salt: u64) -> Case {
    let random = |row: usize, stream: u64| scramble(scramble(salt * 16 + stream) ^ row as u64);
    let slot = |row: usize| match form % 3 {
        0 => random(row, 0) as u32 % groups,
        1 => row as u32 % groups,
        _ => (row / 600) as u32 % groups,
    };
    let edges = form % 2 == 1;
    let float = |row: usize| match random(row, 1) {
        n if edges && n % 5 == 0 => FLOATS[(n >> 8) as usize % FLOATS.len()],
        n => (n >> 11) as f64 / 1e9 - 4e6,
    };
    let int = |row: usize| match random(row, 2) {
        n if edges && n % 5 == 0 => INTS[(n >> 8) as usize % INTS.len()],
        n => n as i64 >> (n % 60),
    };
    let density = [0, 1, 2, 3][(salt % 4) as usize];
    let byte = |i: usize| (0..density).fold(0u8, |byte, k| byte | random(i, 3 + k) as u8);
    Case {
        groups,
        slots: (0..len).map(slot).collect(),
        floats: (0..len).map(float).collect(),
        ints: (0..len).map(int).collect(),
        bitmap: (0..len / 8 + 3).map(byte).collect(),
        offset: (salt % 11) as usize,
        nulls: form % 4 >= 2,
    }
}

/// Any case at all.
pub(crate) fn any_case() -> impl Strategy<Value = Case> {
    (prop::sample::select(GROUPS), 0usize..1500, any::<u64>(), 0u64..12, any::<bool>()).prop_flat_map(|(groups, len, salt, form, wild)| {
        let float =
            prop_oneof![prop::sample::select(FLOATS), any::<f64>().prop_filter("sums stay finite", |x| x.abs() <= 1e300), -1e6..1e6];
        let int = prop_oneof![prop::sample::select(INTS), any::<i64>(), -1000i64..1000];
        let wild_len = if wild { len.min(300) } else { 0 };
        (vec(float, wild_len), vec(int, wild_len)).prop_map(move |(floats, ints)| {
            let mut case = seed(if wild { wild_len } else { len }, groups, form, salt >> 8);
            if wild {
                (case.floats, case.ints) = (floats, ints);
            }
            case
        })
    })
}

/// Holds `$check(backend, &case)` for the table of seeds and for random cases, on every backend of this processor.
macro_rules! on_every_backend {
    ($name:ident, $check:path) => {
        mod $name {
            #[test]
            fn seeds() {
                for backend in crate::Backend::available() {
                    crate::testing::seeds().for_each(|case| $check(backend, &case));
                }
            }

            proptest::proptest! {
                #[test]
                fn property(case in crate::testing::any_case()) {
                    for backend in crate::Backend::available() {
                        $check(backend, &case);
                    }
                }
            }
        }
    };
}
pub(crate) use on_every_backend;

/// Equal, NaN to NaN whatever its bits, else bit for bit.
pub(crate) fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()
}

/// Two sums of the same values: the same if not finite, else within 1e-12 of the sum of magnitudes.
pub(crate) fn assert_sums_agree(backend: Backend, sum: f64, expected: f64, magnitudes: f64) {
    let near = same(sum, expected) || (sum - expected).abs() <= 1e-12 * magnitudes;
    assert!(near, "{backend}: sum {sum:e}, expected {expected:e}, magnitudes {magnitudes:e}");
}
