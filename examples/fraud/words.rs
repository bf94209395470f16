//! Numbers as people read them.

use std::time::Duration;

/// A count with a comma between thousands: `1,234,567`.
pub fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A short time in the unit that suits it: `870 µs`, `12.4 ms`, `1.2 s`.
pub fn short(duration: Duration) -> String {
    match duration.as_nanos() {
        0..1_000_000 => format!("{} µs", duration.as_micros()),
        1_000_000..1_000_000_000 => format!("{:.1} ms", duration.as_secs_f64() * 1e3),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let texts = [0, 999, 1_000, 12_345, 1_234_567].map(grouped);
        assert_eq!(texts, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn times_come_in_the_unit_that_suits_them() {
        let texts = [870, 12_400, 1_200_000].map(|micros| short(Duration::from_micros(micros)));
        assert_eq!(texts, ["870 µs", "12.4 ms", "1.2 s"]);
    }
}
