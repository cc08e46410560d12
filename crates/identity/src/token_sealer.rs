//! Sealing of what clients carry and bring back: equal texts give equal tokens.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{
    KeyInit as _, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use hmac::{Hmac, Mac};
use sha2::Sha256;

/// Bytes of the nonce that stands before a ciphertext.
const NONCE: usize = 24;
/// What a token begins with: a letter, so that no spreadsheet takes it for a formula.
const MARK: char = 'p';
/// Longest token that is looked at, characters.
const TOKEN_MAX: usize = 4_096;

/// Makes tokens that nobody else can read or make. The nonce is a MAC of what is sealed (the idea
/// of RFC 5297), so a token says whether two texts are the same, and nothing else.
#[derive(Clone)]
pub struct TokenSealer {
    cipher: XChaCha20Poly1305,
    nonces: Hmac<Sha256>,
}

impl std::fmt::Debug for TokenSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenSealer").finish_non_exhaustive()
    }
}

fn mac(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes keys of any length")
}

impl TokenSealer {
    /// A sealer under this key, from which one for each purpose is derived.
    pub fn new(key: [u8; 32]) -> Self {
        let derived = |purpose: &[u8]| mac(&key).chain_update(purpose).finalize().into_bytes();
        Self {
            cipher: XChaCha20Poly1305::new(&derived(b"daybook token cipher")),
            nonces: mac(&derived(b"daybook token nonce")),
        }
    }

    /// A token of letters, digits, `-` and `_`: 55 characters and four for each three bytes of
    /// `plain`. `context` says what it is for; only the same context opens it again.
    ///
    /// # Panics
    ///
    /// Where `plain` exceeds 256 GiB.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> String {
        let tag = (self.nonces.clone())
            .chain_update((context.len() as u64).to_be_bytes())
            .chain_update(context)
            .chain_update(plain)
            .finalize()
            .into_bytes();
        let nonce = XNonce::try_from(&tag[..NONCE]).expect("24 of 32 bytes");
        let ciphertext = self
            .cipher
            .encrypt(&nonce, Payload { msg: plain, aad: context })
            .expect("fails only beyond 256 GiB");
        let mut sealed = nonce.to_vec();
        sealed.extend_from_slice(&ciphertext);
        let mut token = String::from(MARK);
        URL_SAFE_NO_PAD.encode_string(sealed, &mut token);
        token
    }

    /// What was sealed; `None` where key or context is another, or a character was changed.
    pub fn open(&self, context: &[u8], token: &str) -> Option<Vec<u8>> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(token.strip_prefix(MARK)?).ok()?;
        let (nonce, ciphertext) = sealed.split_at_checked(NONCE)?;
        let nonce = XNonce::try_from(nonce).ok()?;
        self.cipher.decrypt(&nonce, Payload { msg: ciphertext, aad: context }).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer() -> TokenSealer {
        TokenSealer::new([7; 32])
    }

    #[test]
    fn what_was_sealed_opens_with_the_same_key_and_context_alone() {
        let token = sealer().seal(b"position 1", b"4711");
        assert_eq!(sealer().open(b"position 1", &token), Some(b"4711".to_vec()));
        assert_eq!(sealer().open(b"position 2", &token), None);
        assert_eq!(TokenSealer::new([8; 32]).open(b"position 1", &token), None);
        assert_eq!(sealer().open(b"", &sealer().seal(b"", b"")), Some(Vec::new()));
    }

    #[test]
    fn equal_texts_give_equal_tokens_and_others_tell_nothing() {
        let token = |context: &[u8], plain: &[u8]| sealer().seal(context, plain);
        assert_eq!(token(b"c", b"4711"), token(b"c", b"4711"));
        let near: Vec<String> = [&b"4711"[..], b"4712", b"4713"].map(|p| token(b"c", p)).into();
        for (one, other) in [(0, 1), (0, 2), (1, 2)] {
            let same = near[one].bytes().zip(near[other].bytes()).filter(|(a, b)| a == b).count();
            assert!(same < near[one].len() / 2, "{near:?}");
        }
        assert_ne!(token(b"c", b"ab"), token(b"ca", b"b"));
    }

    #[test]
    fn no_changed_character_is_read() {
        let token = sealer().seal(b"c", b"4711");
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b)));
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(sealer().open(b"c", &changed), None, "{at}");
        }
        for odd in ["", "p", "4711", "pAAAA", "pä"] {
            assert_eq!(sealer().open(b"c", odd), None, "{odd}");
        }
    }
}
