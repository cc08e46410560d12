//! Telling card numbers apart from other text, so that none is ever written down.

/// Shortest and longest card numbers (ISO/IEC 7812-1 allows 19 digits; nothing shorter than 13 is
/// in use).
const DIGITS: std::ops::RangeInclusive<usize> = 13..=19;

/// Whether 13 to 19 digits that pass the Luhn check (ISO/IEC 7812-1, annex B) stand in the text,
/// in one piece or in groups with one space or hyphen between.
pub(crate) fn found_in(text: &str) -> bool {
    // Groups of digits; a group that another character separates begins a new run.
    let mut run: Vec<Vec<u8>> = Vec::new();
    let mut group: Vec<u8> = Vec::new();
    let mut gap = 0;
    for byte in text.bytes().chain([b'.']) {
        if byte.is_ascii_digit() {
            group.push(byte - b'0');
            gap = 0;
            continue;
        }
        if !group.is_empty() {
            run.push(std::mem::take(&mut group));
        }
        gap += 1;
        if gap > 1 || !matches!(byte, b' ' | b'-') {
            if any_card(&run) {
                return true;
            }
            run.clear();
        }
    }
    false
}

/// Whether neighbouring groups make up a card number.
fn any_card(run: &[Vec<u8>]) -> bool {
    (0..run.len()).any(|from| {
        let mut digits = Vec::with_capacity(*DIGITS.end());
        for group in &run[from..] {
            digits.extend_from_slice(group);
            if digits.len() > *DIGITS.end() {
                return false;
            }
            if DIGITS.contains(&digits.len()) && luhn(&digits) {
                return true;
            }
        }
        false
    })
}

fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let doubled = u32::from(*digit) << (place % 2);
            if doubled > 9 { doubled - 9 } else { doubled }
        })
        .sum();
    sum.is_multiple_of(10)
}

#[cfg(test)]
mod tests {
    use super::found_in;

    #[test]
    fn card_numbers_are_found_however_they_are_grouped() {
        for text in [
            "4242424242424242",
            "card 4242 4242 4242 4242 please",
            "4242-4242-4242-4242",
            "378282246310005",
            "3782 822463 10005",
            "6011000990139424",
            "x4222222222222x",
            "ref 12 4242 4242 4242 4242",
            "6304000000000000000",
        ] {
            assert!(found_in(text), "{text}");
        }
    }

    #[test]
    fn other_numbers_are_left_alone() {
        for text in [
            "",
            "tok_visa",
            "4242424242424243",
            "536365",
            "424242424242",
            "42424242424242424242",
            "4242  4242  4242  4242",
            "0190c4f0-7d3a-7cc2-b1a5-2f1e6d3c4b5a",
            "WHITE HANGING HEART T-LIGHT HOLDER",
        ] {
            assert!(!found_in(text), "{text}");
        }
    }
}
