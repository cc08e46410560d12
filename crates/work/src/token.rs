//! Gateway tokens at rest: sealed on the way into a job, opened on the way to the gateway.

use daybook_commands::SealToken;
use daybook_identity::Sealer;
use uuid::Uuid;

use crate::gateway::GatewayToken;

/// Seals gateway tokens with the installation's key, each bound to its payment.
#[derive(Debug, Clone)]
pub struct TokenSeal {
    sealer: Sealer,
}

impl TokenSeal {
    /// Seals under this sealer's key.
    pub fn new(sealer: Sealer) -> Self {
        Self { sealer }
    }

    /// The token; `None` where it was sealed for another payment, under another key, or changed.
    pub fn open(&self, payment_id: Uuid, sealed: &[u8]) -> Option<GatewayToken> {
        let plain = self.sealer.open(&context(payment_id), sealed)?;
        String::from_utf8(plain).ok().map(GatewayToken::new)
    }
}

impl SealToken for TokenSeal {
    fn seal(&self, payment_id: Uuid, token: &str) -> Vec<u8> {
        self.sealer.seal(&context(payment_id), token.as_bytes())
    }
}

/// A token sealed for one payment opens for no other.
fn context(payment_id: Uuid) -> Vec<u8> {
    [b"gateway-token:".as_slice(), payment_id.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_opens_for_its_payment_only() {
        let seal = TokenSeal::new(Sealer::new([7; 32]));
        let payment = Uuid::from_u128(1);
        let sealed = seal.seal(payment, "tok_success");
        assert!(!sealed.windows(11).any(|bytes| bytes == b"tok_success"));
        assert_eq!(seal.open(payment, &sealed).unwrap().reveal(), "tok_success");
        assert_eq!(seal.open(Uuid::from_u128(2), &sealed), None);
        let other_key = TokenSeal::new(Sealer::new([8; 32]));
        assert_eq!(other_key.open(payment, &sealed), None);
    }
}
