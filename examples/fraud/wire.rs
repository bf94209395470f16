//! Transactions as lines of JSON. Digits are written by hand into one large buffer, and what never changes of a card or
//! terminal is written once, so that the simulator is not what the demo measures.

use crate::simulator::Transaction;

/// Writes transactions as NDJSON.
pub struct Encoder {
    /// `,"terminal":"t-00042","amount":` of each terminal.
    terminals: Vec<Box<[u8]>>,
    /// `,"x":12.34,"y":56.78}` and the end of the line, of each terminal.
    places: Vec<Box<[u8]>>,
}

impl Encoder {
    /// An encoder for terminals at these places.
    pub fn new(places: &[(f64, f64)]) -> Encoder {
        let bytes = |text: String| text.into_bytes().into_boxed_slice();
        Encoder {
            terminals: (0..places.len()).map(|terminal| bytes(format!(",\"terminal\":\"t-{terminal:05}\",\"amount\":"))).collect(),
            places: places.iter().map(|(x, y)| bytes(format!(",\"x\":{x:.2},\"y\":{y:.2}}}\n"))).collect(),
        }
    }

    /// Appends one line.
    pub fn line(&self, id: u64, transaction: &Transaction, out: &mut Vec<u8>) {
        let terminal = transaction.terminal as usize;
        out.extend_from_slice(b"{\"ts\":");
        digits(transaction.ts.unsigned_abs(), 1, out);
        out.extend_from_slice(b",\"id\":");
        digits(id, 1, out);
        out.extend_from_slice(b",\"card\":\"c-");
        digits(u64::from(transaction.customer), 6, out);
        out.push(b'"');
        out.extend_from_slice(&self.terminals[terminal]);
        digits(u64::from(transaction.cents / 100), 1, out);
        out.push(b'.');
        digits(u64::from(transaction.cents % 100), 2, out);
        out.extend_from_slice(&self.places[terminal]);
    }
}

/// Appends `value` in decimal, with zeros in front up to `width`.
fn digits(mut value: u64, width: usize, out: &mut Vec<u8>) {
    let mut buffer = [b'0'; 20];
    let mut at = buffer.len();
    while value > 0 {
        at -= 1;
        buffer[at] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out.extend_from_slice(&buffer[at.min(buffer.len() - width)..]);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_line_reads_as_the_transaction() {
        let encoder = Encoder::new(&[(0.0, 0.0), (12.345, 99.999)]);
        let transaction = Transaction { ts: 1_522_540_800_007, arrival: 0, customer: 1_234, terminal: 1, cents: 1_205, scenario: None };
        let mut out = Vec::new();
        encoder.line(0, &transaction, &mut out);
        let text = String::from_utf8(out).unwrap();
        let expected = r#"{"ts":1522540800007,"id":0,"card":"c-001234","terminal":"t-00001","amount":12.05,"x":12.35,"y":100.00}"#;
        let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(parsed, serde_json::from_str::<serde_json::Value>(expected).unwrap());
        assert!(text.ends_with('\n'), "{text}");
    }

    #[test]
    fn digits_are_those_of_the_standard_library() {
        for value in [0, 1, 9, 10, 99, 100, 12_345, u64::MAX] {
            for width in [1, 2, 6] {
                let mut out = Vec::new();
                digits(value, width, &mut out);
                assert_eq!(String::from_utf8(out).unwrap(), format!("{value:0width$}"));
            }
        }
    }
}
