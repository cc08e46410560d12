//! Stock keeping units.

use std::{fmt, sync::Arc};

/// A product's code: 1 to 64 printable ASCII characters, without `"` and `\`, that neither begin
/// nor end with a space. Case matters: `85123a` and `85123A` are different products.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sku(Arc<str>);

impl Sku {
    /// Longest code, in characters.
    pub const MAX_LENGTH: usize = 64;

    /// `None` unless the code keeps to the rules above.
    pub fn new(code: &str) -> Option<Self> {
        let allowed = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
        let fits = (1..=Self::MAX_LENGTH).contains(&code.len())
            && code.bytes().all(allowed)
            && !code.starts_with(' ')
            && !code.ends_with(' ');
        fits.then(|| Self(Arc::from(code)))
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The code, shared.
    pub fn text(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

impl fmt::Display for Sku {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_codes_fit_and_codes_that_would_need_escaping_do_not() {
        for code in ["85123A", "85123a", "BANK CHARGES", "gift_0001_20", "m", "15056BL", "a/b?c#d%"]
        {
            assert_eq!(Sku::new(code).unwrap().as_str(), code);
        }
        assert_ne!(Sku::new("85123A"), Sku::new("85123a"));
        for code in ["", " ", " a", "a ", "a\"b", "a\\b", "a\nb", "\u{7f}", "é", "a\0"] {
            assert_eq!(Sku::new(code), None, "{code:?}");
        }
        assert!(Sku::new(&"x".repeat(64)).is_some());
        assert!(Sku::new(&"x".repeat(65)).is_none());
    }
}
