//! API keys: made, shown once, stored hashed, checked in constant time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use deadpool_postgres::Pool;
use rand::{Rng as _, RngCore as _};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{
    IdentityError, MAX_LABEL,
    principal::{Principal, Role, UnknownRole},
};

/// Longest that an answer of the database is believed: so late does a revocation take effect.
const CACHE_FOR: Duration = Duration::from_secs(1);
/// Most principals remembered at once; beyond it the outdated ones go, then all.
const CACHE_LIMIT: usize = 10_000;
/// Locks that keep many requests with one key from asking the database at once.
const LOOKUPS: usize = 64;

const PREFIX: &str = "dbk_";
const ID_LEN: usize = 8;
const SECRET_BYTES: usize = 32;
/// Characters of 32 bytes in base64url without padding.
const SECRET_LEN: usize = 43;
const ID_ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// Draws of an id (one of 2^40) until one is free.
const ID_DRAWS: usize = 5;

type Hash = [u8; 32];

/// A key just made. Its text is in no log and never shown again.
#[derive(Clone)]
pub struct NewKey {
    /// Public part, for lists and revocation.
    pub id: String,
    /// Whose key it is.
    pub owner: Uuid,
    /// The whole text, as it stands after `Authorization: Bearer`.
    pub secret: String,
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewKey")
            .field("id", &self.id)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

/// What may be shown of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyInfo {
    /// Public part.
    pub id: String,
    /// Whose key it is.
    pub owner: Uuid,
    /// What it may do.
    pub role: Role,
    /// Customer or partner it is bound to.
    pub subject: Option<Uuid>,
    /// What its maker called it.
    pub label: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// From when on it is refused.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
}

/// The API keys of all tenants. Cheap to clone; clones share one cache.
#[derive(Debug, Clone)]
pub struct ApiKeys {
    pool: Pool,
    known: Arc<Mutex<HashMap<Hash, (Instant, Principal)>>>,
    lookups: Arc<[tokio::sync::Mutex<()>]>,
}

impl ApiKeys {
    /// Keys in the database that `pool` reaches.
    pub fn new(pool: Pool) -> Self {
        let lookups = (0..LOOKUPS).map(|_| tokio::sync::Mutex::default()).collect();
        Self { pool, known: Arc::default(), lookups }
    }

    /// The principal of a key's text; `None` for any text that is no usable key, whatever the
    /// reason. A revoked or expired key may be accepted for one more second.
    pub async fn authenticate(&self, text: &str) -> Result<Option<Principal>, IdentityError> {
        let Some(id) = id_of(text) else { return Ok(None) };
        let hash = hash_of(text);
        if let Some(principal) = self.cached(&hash) {
            return Ok(Some(principal));
        }
        let _one_at_a_time = self.lookups[usize::from(hash[0]) % LOOKUPS].lock().await;
        if let Some(principal) = self.cached(&hash) {
            return Ok(Some(principal));
        }
        let asked_at = Instant::now();
        let principal = self.look_up(id, &hash).await?;
        if let Some(principal) = &principal {
            self.remember(hash, asked_at, principal.clone());
        }
        Ok(principal)
    }

    /// A new key with an owner of its own. Customers and partners need a `subject`, others must
    /// not have one.
    pub async fn create(
        &self,
        tenant: i32,
        role: Role,
        subject: Option<Uuid>,
        label: &str,
    ) -> Result<NewKey, IdentityError> {
        if role.is_bound() != subject.is_some() {
            return Err(IdentityError::Subject(role));
        }
        let length = label.chars().count();
        if length > MAX_LABEL {
            return Err(IdentityError::Label(length));
        }
        let owner = Uuid::new_v4();
        let client = self.pool.get().await?;
        let mut draws = 1;
        loop {
            let (id, secret) = draw();
            let hash = hash_of(&secret);
            let made = client
                .execute(
                    include_str!("sql/create.sql"),
                    &[&id, &owner, &tenant, &role.as_str(), &subject, &label, &hash.as_slice()],
                )
                .await?;
            if made == 1 {
                return Ok(NewKey { id, owner, secret });
            }
            if draws == ID_DRAWS {
                return Err(IdentityError::NoFreeId);
            }
            draws += 1;
        }
    }

    /// A successor of a key with the same owner, role and subject. The old one is accepted for
    /// `overlap` more, at most until its own end. `None`: no such key, or it has ended.
    pub async fn rotate(
        &self,
        id: &str,
        overlap: Duration,
    ) -> Result<Option<NewKey>, IdentityError> {
        let (new_id, secret) = draw();
        let hash = hash_of(&secret);
        let client = self.pool.get().await?;
        let row = client
            .query_opt(
                include_str!("sql/rotate.sql"),
                &[&id, &new_id, &hash.as_slice(), &overlap.as_secs_f64()],
            )
            .await?;
        Ok(row.map(|row| NewKey { id: new_id, owner: row.get(0), secret }))
    }

    /// Ends a key; within a second no process accepts it. Whether there is such a key.
    pub async fn revoke(&self, id: &str) -> Result<bool, IdentityError> {
        let client = self.pool.get().await?;
        let found = client.execute(include_str!("sql/revoke.sql"), &[&id]).await? == 1;
        // Other processes learn of it when their entry ends; here it is over at once.
        self.known().clear();
        Ok(found)
    }

    /// The public part of a key's text; `None` if the text can't be a key.
    pub fn id_of(text: &str) -> Option<&str> {
        id_of(text)
    }

    /// Which of these keys, by public part, can't be used any more.
    pub async fn ended(&self, ids: &[String]) -> Result<Vec<String>, IdentityError> {
        let client = self.pool.get().await?;
        let ended = client.prepare_cached(include_str!("sql/ended.sql")).await?;
        let rows = client.query(&ended, &[&ids]).await?;
        Ok(rows.iter().map(|row| row.get(0)).collect())
    }

    /// Every key of a tenant, ended ones included, oldest first.
    pub async fn list(&self, tenant: i32) -> Result<Vec<KeyInfo>, IdentityError> {
        let client = self.pool.get().await?;
        let rows = client.query(include_str!("sql/list.sql"), &[&tenant]).await?;
        rows.iter()
            .map(|row| {
                let id: String = row.get(0);
                Ok(KeyInfo {
                    owner: row.get(1),
                    role: role_of(&id, row.get(2))?,
                    subject: row.get(3),
                    label: row.get(4),
                    created_at: row.get(5),
                    expires_at: row.get(6),
                    revoked_at: row.get(7),
                    last_used_at: row.get(8),
                    id,
                })
            })
            .collect()
    }

    async fn look_up(&self, id: &str, hash: &Hash) -> Result<Option<Principal>, IdentityError> {
        let client = self.pool.get().await?;
        let find = client.prepare_cached(include_str!("sql/find.sql")).await?;
        let Some(row) = client.query_opt(&find, &[&id]).await? else { return Ok(None) };
        if !same(hash, row.get(4)) {
            return Ok(None);
        }
        let owner: Uuid = row.get(1);
        let principal = Principal {
            tenant: row.get(0),
            id: format!("owner:{owner}"),
            role: role_of(id, row.get(2))?,
            subject: row.get(3),
        };
        if row.get(5)
            && let Err(error) = client.execute(include_str!("sql/touch.sql"), &[&id]).await
        {
            // Nobody's request fails because a note could not be taken.
            tracing::warn!(%error, key = id, "the use of a key was not noted");
        }
        Ok(Some(principal))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Hash, (Instant, Principal)>> {
        self.known.lock().expect("no code panics while holding it")
    }

    fn cached(&self, hash: &Hash) -> Option<Principal> {
        let known = self.known();
        let (asked_at, principal) = known.get(hash)?;
        (asked_at.elapsed() < CACHE_FOR).then(|| principal.clone())
    }

    fn remember(&self, hash: Hash, asked_at: Instant, principal: Principal) {
        let mut known = self.known();
        if known.len() >= CACHE_LIMIT {
            known.retain(|_, (asked_at, _)| asked_at.elapsed() < CACHE_FOR);
            if known.len() >= CACHE_LIMIT {
                known.clear();
            }
        }
        known.insert(hash, (asked_at, principal));
    }
}

fn role_of(id: &str, name: &str) -> Result<Role, IdentityError> {
    name.parse().map_err(|source: UnknownRole| IdentityError::Role { id: id.to_owned(), source })
}

/// The id inside a key's text; `None` if the text can't be a key. `dbk_<id>_<secret>`, where the
/// secret may hold `_` itself.
fn id_of(text: &str) -> Option<&str> {
    let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
    let well_formed = id.len() == ID_LEN
        && id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
        && secret.len() == SECRET_LEN
        && secret.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    well_formed.then_some(id)
}

/// A random id and the whole text of its key.
fn draw() -> (String, String) {
    let mut rng = rand::rng();
    let id: String = (0..ID_LEN)
        .map(|_| char::from(ID_ALPHABET[rng.random_range(0..ID_ALPHABET.len())]))
        .collect();
    let mut secret = [0; SECRET_BYTES];
    rng.fill_bytes(&mut secret);
    let text = format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(secret));
    (id, text)
}

fn hash_of(text: &str) -> Hash {
    Sha256::digest(text.as_bytes()).into()
}

/// Whether both are equal, in a time that does not tell where they differ.
fn same(a: &Hash, b: &[u8]) -> bool {
    let difference = a.iter().zip(b).fold(0, |sum, (x, y)| std::hint::black_box(sum | (x ^ y)));
    b.len() == a.len() && difference == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drawn_key_has_the_documented_form_and_is_never_drawn_twice() {
        let (id, text) = draw();
        assert_eq!(text.len(), 4 + 8 + 1 + 43);
        assert_eq!(id_of(&text), Some(id.as_str()));
        let mut drawn: Vec<String> = (0..1000).map(|_| draw().1).collect();
        drawn.sort_unstable();
        drawn.dedup();
        assert_eq!(drawn.len(), 1000);
    }

    #[test]
    fn texts_that_are_no_keys_are_known_without_asking_the_database() {
        let secret = "A".repeat(43);
        assert_eq!(id_of(&format!("dbk_0123abcd_{secret}")), Some("0123abcd"));
        assert_eq!(id_of(&format!("dbk_0123abcd_{}_-", "A".repeat(41))), Some("0123abcd"));
        for wrong in [
            String::new(),
            "dbk_".to_owned(),
            format!("dbk_0123abcd{secret}"),
            format!("dbk_0123abc_{secret}"),
            format!("dbk_0123ABCD_{secret}"),
            format!("dbk_0123abcd_{secret}A"),
            format!("dbk_0123abcd_{}'", "A".repeat(42)),
            format!("DBK_0123abcd_{secret}"),
            format!(" dbk_0123abcd_{secret}"),
        ] {
            assert_eq!(id_of(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn hashes_are_compared_whole() {
        let hash = hash_of("x");
        assert!(same(&hash, &hash));
        for at in 0..32 {
            let mut other = hash;
            other[at] ^= 0x80;
            assert!(!same(&hash, &other));
        }
        assert!(!same(&hash, &hash[..31]));
        assert!(!same(&hash, &[]));
    }

    #[test]
    fn a_key_is_not_printed() {
        let (id, secret) = draw();
        let key = NewKey { id, owner: Uuid::nil(), secret: secret.clone() };
        assert!(!format!("{key:?}").contains(&secret[13..]));
    }
}
