//! How a principal sees positions. Customers and partners get them sealed, since the number would
//! tell how much the shop sells; everybody else gets the number.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use daybook_identity::{Principal, TokenSealer};
use daybook_journal::{JournalError, Reader};
use uuid::Uuid;

/// The journal's incarnation is asked for again after this time.
const KNOWN_FOR: Duration = Duration::from_secs(1);
/// Bytes of a position and of an incarnation in a token.
const POSITION_BYTES: usize = 8;
const SEALED_BYTES: usize = POSITION_BYTES + 16;
/// Streams of one customer's own dealings. The version of any other, as of a product's stock, would
/// tell how much the shop sells, as a position would.
const OWN_STREAMS: [&str; 3] = ["order-", "payment-", "customer-"];
/// What tokens of positions are for; no query has a name with a colon.
const POSITION: &str = ":position";

/// Makes [`Positions`] for principals.
pub(crate) struct Tokens {
    sealer: TokenSealer,
    incarnation: Mutex<Option<(Instant, Uuid)>>,
}

impl Tokens {
    pub(crate) fn new(sealer: TokenSealer) -> Self {
        Self { sealer, incarnation: Mutex::default() }
    }

    /// Positions as the principal sees them.
    pub(crate) async fn of(
        &self,
        principal: &Principal,
        reader: &Reader,
    ) -> Result<Positions, JournalError> {
        // Not held while asking: behind a database that is slow, requests would wait in turn.
        let known = *self.incarnation.lock().expect("no code panics while holding it");
        let incarnation = match known {
            Some((asked, incarnation)) if asked.elapsed() < KNOWN_FOR => incarnation,
            _ => {
                let asked = Instant::now();
                let incarnation = reader.incarnation().await?;
                *self.incarnation.lock().expect("no code panics while holding it") =
                    Some((asked, incarnation));
                incarnation
            }
        };
        let seals = Seals { sealer: self.sealer.clone(), tenant: principal.tenant, incarnation };
        Ok(Positions { seals: Some(seals), shows_sealed: principal.role.is_bound() })
    }
}

/// Positions as one principal sees them, or nobody. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Positions {
    seals: Option<Seals>,
    shows_sealed: bool,
}

/// Makes and opens tokens, good in one history of one tenant's journal.
#[derive(Debug, Clone)]
struct Seals {
    sealer: TokenSealer,
    tenant: i32,
    incarnation: Uuid,
}

/// What a client's text means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sought {
    /// A position of this history.
    Position(i64),
    /// A position of another history of the journal, which says nothing about this one.
    Elsewhere,
}

impl Positions {
    fn seals(&self) -> Option<&Seals> {
        self.seals.as_ref().filter(|_| self.shows_sealed)
    }

    /// Whether this principal may see which version a stream has that it has appended to.
    pub(crate) fn show_stream(&self, stream: &str) -> bool {
        self.seals().is_none() || OWN_STREAMS.iter().any(|own| stream.starts_with(own))
    }

    /// The position as this principal may see it.
    pub(crate) fn show(&self, position: i64) -> String {
        let Some(Seals { sealer, tenant, incarnation }) = self.seals() else {
            return position.to_string();
        };
        let mut plain = [0; SEALED_BYTES];
        plain[..POSITION_BYTES].copy_from_slice(&position.to_be_bytes());
        plain[POSITION_BYTES..].copy_from_slice(incarnation.as_bytes());
        sealer.seal(&context(POSITION, *tenant), &plain)
    }

    /// What a client sends back; `None`: no position that it may have been shown. Whoever sees
    /// digits may also have a token from somebody who doesn't.
    pub(crate) fn read(&self, text: &str) -> Option<Sought> {
        if !self.shows_sealed
            && let Ok(position) = text.parse()
        {
            return (position >= 0).then_some(Sought::Position(position));
        }
        let Seals { sealer, tenant, incarnation } = self.seals.as_ref()?;
        let plain = sealer.open(&context(POSITION, *tenant), text)?;
        let (position, of) = plain.split_at_checked(POSITION_BYTES)?;
        if of != incarnation.as_bytes() {
            return Some(Sought::Elsewhere);
        }
        Some(Sought::Position(i64::from_be_bytes(position.try_into().ok()?)))
    }

    /// A cursor of a query as this principal may see it: it may hold positions.
    pub(crate) fn show_cursor(&self, query: &str, cursor: String) -> String {
        match self.seals() {
            None => cursor,
            Some(Seals { sealer, tenant, .. }) => {
                sealer.seal(&context(query, *tenant), cursor.as_bytes())
            }
        }
    }

    /// The cursor that a client sends back; `None`: it is none of this query's.
    pub(crate) fn read_cursor(&self, query: &str, text: String) -> Option<String> {
        match self.seals() {
            None => Some(text),
            Some(Seals { sealer, tenant, .. }) => {
                String::from_utf8(sealer.open(&context(query, *tenant), &text)?).ok()
            }
        }
    }
}

/// What a token is for, so that none is taken for another.
fn context(what: &str, tenant: i32) -> Vec<u8> {
    format!("{what} {tenant}").into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(tenant: i32, incarnation: u128) -> Positions {
        let sealer = TokenSealer::new([7; 32]);
        let incarnation = Uuid::from_u128(incarnation);
        Positions { seals: Some(Seals { sealer, tenant, incarnation }), shows_sealed: true }
    }

    #[test]
    fn a_sealed_position_is_read_in_its_own_tenant_and_history_alone() {
        let ours = sealed(1, 1);
        let token = ours.show(4_711);
        assert!(!token.contains("4711") && token.parse::<i64>().is_err());
        assert_eq!(ours.read(&token), Some(Sought::Position(4_711)));
        assert_eq!(sealed(1, 2).read(&token), Some(Sought::Elsewhere));
        assert_eq!(sealed(2, 1).read(&token), None);
        for odd in ["4711", "0", "", "-1", &token[..token.len() - 1]] {
            assert_eq!(ours.read(odd), None, "{odd}");
        }
    }

    #[test]
    fn digits_are_for_those_who_see_the_whole_journal_anyway() {
        let plain = Positions { shows_sealed: false, ..sealed(1, 1) };
        assert_eq!(plain.show(7), "7");
        assert_eq!(plain.read("7"), Some(Sought::Position(7)));
        assert_eq!(plain.read(&sealed(1, 1).show(7)), Some(Sought::Position(7)));
        assert_eq!(plain.read(&sealed(1, 2).show(7)), Some(Sought::Elsewhere));
        for odd in ["-1", "", "x", "1.5", &sealed(2, 1).show(7)] {
            assert_eq!(plain.read(odd), None, "{odd}");
        }
    }

    #[test]
    fn versions_of_the_shops_own_streams_are_for_those_who_see_digits() {
        let (theirs, plain) = (sealed(1, 1), Positions::default());
        let shown = |positions: &Positions| {
            let streams = ["order-1", "payment-1", "customer-1", "stock-A", "product-A"];
            streams.map(|stream| positions.show_stream(stream))
        };
        assert_eq!(shown(&theirs), [true, true, true, false, false]);
        assert_eq!(shown(&plain), [true; 5]);
    }

    #[test]
    fn a_cursor_is_good_for_its_query() {
        let ours = sealed(1, 1);
        let cursor = ours.show_cursor("web_orders", "abc".to_owned());
        assert!(!cursor.contains("abc"));
        assert_eq!(ours.read_cursor("web_orders", cursor.clone()).as_deref(), Some("abc"));
        assert_eq!(ours.read_cursor("mobile_orders", cursor.clone()), None);
        assert_eq!(ours.read_cursor("web_orders", "abc".to_owned()), None);
        assert_eq!(sealed(2, 1).read_cursor("web_orders", cursor), None);
        let nobody = Positions::default();
        assert_eq!(nobody.show_cursor("web_orders", "abc".to_owned()), "abc");
    }
}
