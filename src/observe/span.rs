//! Spans of time for people: `6d 3h`, `12m`, `40s`.
//!
//! Not here: moments, which are RFC 3339 everywhere.

use std::time::Duration;

/// `span` in its largest unit and the one below it, without zeros: `6d 3h`, `2h`, `40s`.
#[must_use]
pub fn text(span: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3600, "h"), (60, "m"), (1, "s")];
    let mut rest = span.as_secs();
    let mut parts: Vec<String> = Vec::new();
    for (seconds, unit) in UNITS {
        let count = rest / seconds;
        rest %= seconds;
        if count > 0 {
            parts.push(format!("{count}{unit}"));
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() { "0s".to_owned() } else { parts.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_at_most_two_neighbouring_units() {
        let cases = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (61, "1m 1s"),
            (3600, "1h"),
            (3605, "1h"),
            (86_400 * 6 + 3600 * 3 + 60, "6d 3h"),
            (86_400 * 90, "90d"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(text(Duration::from_secs(seconds)), expected);
        }
    }
}
