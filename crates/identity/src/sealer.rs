//! Sealing of short secrets: XChaCha20-Poly1305 under one installation key.

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Generate, Payload},
};

/// Bytes of the nonce that stands before a ciphertext.
const NONCE: usize = 24;
/// Bytes of the authentication tag at its end.
const TAG: usize = 16;

/// Seals and opens secrets with a key that the database never holds.
#[derive(Clone)]
pub struct Sealer {
    cipher: XChaCha20Poly1305,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

impl Sealer {
    /// A sealer under this key.
    pub fn new(key: [u8; 32]) -> Self {
        Self { cipher: XChaCha20Poly1305::new(&key.into()) }
    }

    /// A random nonce (24 bytes), then the ciphertext and its tag: `plain.len() + 40` bytes.
    ///
    /// `context` says what the secret is for; only the same context opens it again. The nonce is
    /// random, so equal secrets look different.
    ///
    /// # Panics
    ///
    /// Where `plain` exceeds 256 GiB, or the operating system gives no random bytes.
    pub fn seal(&self, context: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce = XNonce::generate();
        let ciphertext = self
            .cipher
            .encrypt(&nonce, Payload { msg: plain, aad: context })
            .expect("fails only beyond 256 GiB");
        let mut sealed = Vec::with_capacity(NONCE + ciphertext.len());
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        sealed
    }

    /// The secret; `None` where key or context is another, or a byte was changed.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
        if sealed.len() < NONCE + TAG {
            return None;
        }
        let (nonce, ciphertext) = sealed.split_at(NONCE);
        let nonce = XNonce::try_from(nonce).ok()?;
        self.cipher.decrypt(&nonce, Payload { msg: ciphertext, aad: context }).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealer() -> Sealer {
        Sealer::new([7; 32])
    }

    #[test]
    fn what_was_sealed_opens_with_the_same_key_and_context_alone() {
        let sealed = sealer().seal(b"payment:1", b"tok_visa");
        assert_eq!(sealed.len(), 8 + 40);
        assert_eq!(sealer().open(b"payment:1", &sealed), Some(b"tok_visa".to_vec()));
        assert_eq!(sealer().open(b"payment:2", &sealed), None);
        assert_eq!(Sealer::new([8; 32]).open(b"payment:1", &sealed), None);
        assert_eq!(sealer().open(b"", &sealer().seal(b"", b"")), Some(Vec::new()));
    }

    #[test]
    fn equal_secrets_look_different() {
        assert_ne!(sealer().seal(b"c", b"same"), sealer().seal(b"c", b"same"));
    }

    #[test]
    fn any_changed_or_missing_byte_is_noticed() {
        let sealed = sealer().seal(b"c", b"secret");
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(sealer().open(b"c", &changed), None, "byte {at}");
            assert_eq!(sealer().open(b"c", &sealed[..at]), None, "cut to {at}");
        }
    }

    #[test]
    fn it_is_the_published_construction() {
        // draft-irtf-cfrg-xchacha-03, appendix A.3.1.
        let key: [u8; 32] = std::array::from_fn(|i| 0x80 + u8::try_from(i).unwrap());
        let nonce: Vec<u8> = (0x40..0x58).collect();
        let aad = [0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7];
        let plain = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip \
                      for the future, sunscreen would be it.";
        let sealer = Sealer::new(key);
        let nonce_array = XNonce::try_from(nonce.as_slice()).unwrap();
        let ciphertext =
            sealer.cipher.encrypt(&nonce_array, Payload { msg: plain, aad: &aad }).unwrap();
        assert_eq!(ciphertext[..8], [0xbd, 0x6d, 0x17, 0x9d, 0x3e, 0x83, 0xd4, 0x3b]);
        assert_eq!(
            ciphertext[ciphertext.len() - 16..],
            [
                0xc0, 0x87, 0x59, 0x24, 0xc1, 0xc7, 0x98, 0x79, 0x47, 0xde, 0xaf, 0xd8, 0x78, 0x0a,
                0xcf, 0x49
            ]
        );
        assert_eq!(sealer.open(&aad, &[nonce, ciphertext].concat()), Some(plain.to_vec()));
    }
}
