use super::{Exponents, Window, to_float};
use crate::Bits;
use crate::testing::{FLOATS, scramble};

/// Limbs of a sum, added up one by one in as wide a window as it takes: the shader's arithmetic, bit by bit.
fn limbs_of(values: &[f64], window: Window) -> Vec<u32> {
    let mut limbs = vec![0u32; window.limbs as usize];
    for value in values.iter().filter(|value| **value != 0.0) {
        let exponent = ((value.to_bits() << 1 >> 53) as u32).max(1);
        let fraction = value.to_bits() & ((1 << 52) - 1);
        let mantissa = fraction | if value.is_normal() { 1 << 52 } else { 0 };
        let shift = exponent - window.base;
        let mut part = u128::from(mantissa) << (shift % 32);
        let mut carry = 0i64;
        for limb in &mut limbs[(shift / 32) as usize..] {
            let word = i64::from(part as u32);
            let next = i64::from(*limb) + carry + if *value < 0.0 { -word } else { word };
            (*limb, carry, part) = (next as u32, next >> 32, part >> 32);
        }
    }
    limbs
}

fn sum_of(values: &[f64]) -> f64 {
    let range = Exponents::of(values, None, 0);
    let window = if Window::START.holds(range) { Window::START } else { Window::START.widened(range, false) };
    assert!(window.holds(range), "{window:?} {range:?}");
    let (sum, error) = to_float(&mut limbs_of(values, window), window.base);
    assert_eq!(sum + error, sum, "the sum is the nearest float");
    sum
}

#[test]
fn one_value_comes_back_as_it_is() {
    let edges = FLOATS.iter().copied().chain([f64::MAX, f64::MIN, f64::MIN_POSITIVE, -5e-324, 1.5]);
    let random = (0..2000).map(|n| f64::from_bits(scramble(n)));
    for value in edges.chain(random).filter(|value| value.is_finite()) {
        assert_eq!(sum_of(&[value]), value);
        assert_eq!(sum_of(&[value, 1e300, value, -1e300, -value]), value);
    }
}

#[test]
fn sums_round_to_the_nearest_and_ties_to_even() {
    let ulp = f64::EPSILON;
    assert_eq!(sum_of(&[1.0, ulp / 2.0]), 1.0);
    assert_eq!(sum_of(&[1.0, ulp / 2.0, 5e-324]), 1.0 + ulp);
    assert_eq!(sum_of(&[1.0 + ulp, ulp / 2.0]), 1.0 + 2.0 * ulp);
    assert_eq!(sum_of(&[-1.0, -ulp / 2.0, -5e-324]), -1.0 - ulp);
    assert_eq!(sum_of(&[1e16, 1.0, -1e16]), 1.0);
    assert_eq!(sum_of(&[f64::MAX, f64::MAX]), f64::INFINITY);
    assert_eq!(sum_of(&[f64::MAX, f64::MAX, -f64::MAX]), f64::MAX);
    assert_eq!(sum_of(&[-0.0, -0.0]).to_bits(), 0, "as a cell's sum, which starts from +0.0");
}

#[test]
fn the_error_of_the_sum_is_kept() {
    for (values, expected) in [
        ([1e16, 0.5, 1e-20], (1e16, 0.5)),
        ([1e16, 1.0, 1e-10], (1e16 + 2.0, -1.0 + 1e-10)),
        ([-1e16, -1.0, -1e-10], (-1e16 - 2.0, 1.0 - 1e-10)),
        ([1e16, 1.0, 0.0], (1e16, 1.0)),
    ] {
        let window = Window::START.widened(Exponents::of(&values, None, 0), false);
        let (sum, error) = to_float(&mut limbs_of(&values, window), window.base);
        // Two parts of the error: rounding to odd, and that of the literals here.
        assert!(sum == expected.0 && (error - expected.1).abs() <= f64::EPSILON, "{sum:e} {error:e}");
    }
}

#[test]
fn exponents_are_those_of_valid_numbers() {
    let of = |values: &[f64]| Exponents::of(values, None, 0);
    assert_eq!(of(&[]), Exponents::NONE);
    assert_eq!(of(&[0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY]), Exponents::NONE);
    assert_eq!(of(&[-5e-324, f64::NAN, -f64::MAX]), Exponents { least: 1, most: 2046 });
    for len in 1..200usize {
        let values: Vec<f64> = (0..len).map(|row| f64::from_bits(scramble(row as u64) >> (row % 5 * 16))).collect();
        let bytes: Vec<u8> = (0..40).map(|byte| scramble(byte + len as u64) as u8 | if len % 3 == 0 { 255 } else { 0 }).collect();
        let bits = Bits { bytes: &bytes, offset: 3, len: len + 5 };
        let valid = (0..len).filter(|row| bits.get(row + 5)).map(|row| values[row]);
        let exponents = valid.filter(|value| *value != 0.0 && value.is_finite()).map(|value| ((value.abs().to_bits() >> 52) as u32).max(1));
        let expected = exponents.fold(Exponents::NONE, |range, e| range.union(Exponents { least: e, most: e }));
        assert_eq!(Exponents::of(&values, Some(bits), 5), expected, "{len}");
    }
}

#[test]
fn windows_hold_what_they_were_made_for_and_grow_only() {
    let everything = Exponents { least: 1, most: 2046 };
    let window = Window::START.widened(everything, true);
    assert_eq!(window, Window { base: 0, limbs: 67 });
    assert!(window.holds(everything) && window.holds(Exponents::NONE));
    assert!(!Window::START.holds(everything));
    let mut window = Window::START;
    for n in 0..500 {
        let [a, b] = [0, 1].map(|stream| (scramble(n * 2 + stream) % 2046) as u32 + 1);
        let range = Exponents { least: a.min(b), most: a.max(b) };
        let wider = if window.holds(range) { window } else { window.widened(range, true) };
        assert!(wider.holds(range) && wider.holds(window.exponents()) && wider.limbs <= 67, "{window:?} {range:?} {wider:?}");
        window = wider;
    }
}
