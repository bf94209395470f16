//! The one spelling of times that most programs write: `2024-01-31T01:02:03.123456789Z`.

use super::number::window;

/// Seconds since 1970 and nanoseconds of the time at `at`, behind its quote, and the position after its closing quote.
///
/// Knows RFC 3339 in UTC with `T` and `Z`, at most nine digits of a second's fraction, and the years 1970 to 2261,
/// in which every unit fits 64 bits. `None` for the rest, which is for arrow-cast to judge.
#[inline]
pub(super) fn rfc3339(text: &[u8], at: usize) -> Option<(i64, i64, usize)> {
    let [y1, y2, y3, y4, b'-', m1, m2, b'-', d1, d2, b'T', h1, h2, b':', n1, n2, b':', s1, s2] = *window(text, at)? else { return None };
    let year = two(y1, y2)? * 100 + two(y3, y4)?;
    let (month, day) = (two(m1, m2)?, two(d1, d2)?);
    let (hour, minute, second) = (two(h1, h2)?, two(n1, n2)?, two(s1, s2)?);
    let in_range = (1970..2262).contains(&year) && (1..=12).contains(&month) && hour < 24 && minute < 60 && second < 60;
    if !in_range || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let (mut end, mut nanos) = (at + 19, 0);
    if *text.get(end)? == b'.' {
        let mut unit = 1_000_000_000;
        end += 1;
        while let Some(digit @ b'0'..=b'9') = text.get(end) {
            unit /= 10;
            nanos += i64::from(digit - b'0') * unit;
            end += 1;
        }
        if !(1..=9).contains(&(end - at - 20)) {
            return None;
        }
    }
    let seconds = days(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second;
    (text.get(end..end + 2)? == b"Z\"").then_some((seconds, nanos, end + 2))
}

/// The number that two digits make.
#[inline(always)]
fn two(tens: u8, ones: u8) -> Option<i64> {
    let (tens, ones) = (tens.wrapping_sub(b'0'), ones.wrapping_sub(b'0'));
    (tens < 10 && ones < 10).then_some(i64::from(tens) * 10 + i64::from(ones))
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the Gregorian calendar (Howard Hinnant, *chrono-Compatible Low-Level Date Algorithms*), for
/// years after 0: a year begins in March here, so that the leap day is its last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    year * 365 + year / 4 - year / 100 + year / 400 + day_of_year - 719_468
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use arrow::compute::kernels::cast_utils::string_to_timestamp_nanos;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_day_follows_the_one_before() {
        let mut expected = 0;
        for year in 1970..2262 {
            for month in 1..=12 {
                for day in 1..=days_in(year, month) {
                    assert_eq!(days(year, month, day), expected, "{year}-{month}-{day}");
                    expected += 1;
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn is_what_arrow_reads(
            (year, month, day) in (1960_u32..2300, 0_u32..14, 0_u32..33),
            (hour, minute, second) in (0_u32..25, 0_u32..61, 0_u32..61),
            fraction in "(\\.[0-9]{0,11})?",
        ) {
            let time = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}Z");
            let text = format!("{time}\"");
            if let Some((seconds, nanos, end)) = rfc3339(text.as_bytes(), 0) {
                prop_assert_eq!(string_to_timestamp_nanos(&time).unwrap(), seconds * 1_000_000_000 + nanos);
                prop_assert_eq!(end, text.len());
            } else if (1970..2262).contains(&year) && fraction.len() < 10 && fraction != "." && second < 60 {
                prop_assert!(string_to_timestamp_nanos(&time).is_err(), "{}", time);
            }
        }
    }
}
