//! States kept in memory and as snapshots.
//!
//! Only stocks become long: every order of a product adds to its stock, while orders and payments
//! end and prices change now and then.

use daybook_domain::stock::{Levels, Stock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ShopState;
use crate::{schemas, streams};

/// To be raised whenever a stock folds the same events to another state, or [`Frozen`] changes.
const REVISION: u32 = 1;

/// What a line of an order or a part of its payment takes in memory, bytes, roughly.
const LINE_BYTES: usize = 200;

/// A stock's state as it is written down.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Frozen {
    on_hand: i64,
    reserved: i64,
}

/// What tells snapshots of this fold from others.
pub(super) fn fingerprint() -> [u8; 32] {
    let mut hash = Sha256::new_with_prefix("stock\n");
    hash.update(REVISION.to_be_bytes());
    hash.update(schemas::upcasters().digest());
    hash.finalize().into()
}

pub(super) fn freeze(state: &ShopState) -> Option<Vec<u8>> {
    match state {
        ShopState::Stock(Stock::Kept(levels)) => {
            let frozen = Frozen { on_hand: levels.on_hand(), reserved: levels.reserved() };
            serde_json::to_vec(&frozen).ok()
        }
        ShopState::Stock(Stock::Untouched)
        | ShopState::Product(_)
        | ShopState::Order(_)
        | ShopState::Payment(_) => None,
    }
}

pub(super) fn thaw(stream: &str, frozen: &[u8]) -> Option<ShopState> {
    if !streams::is_stock(stream) {
        return None;
    }
    let Frozen { on_hand, reserved } = serde_json::from_slice(frozen).ok()?;
    Levels::at(on_hand, reserved).map(|levels| ShopState::Stock(Stock::Kept(levels)))
}

/// What a state takes in memory, bytes, roughly.
pub(super) fn weight(state: &ShopState) -> usize {
    let parts = match state {
        ShopState::Order(order) => order
            .details()
            .map_or(0, |details| details.lines().len() + details.ledger().parts().len()),
        ShopState::Product(_) | ShopState::Stock(_) | ShopState::Payment(_) => 0,
    };
    size_of::<ShopState>() + parts * LINE_BYTES
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use daybook_journal::Model;

    use super::*;
    use crate::{ShopModel, ShopSettings};

    /// A history that goes through every event of a stock, frozen here with what it folds to.
    const HISTORY: [(&str, &str); 7] = [
        ("StockReceived", r#"{"sku":"A","quantity":1000}"#),
        ("StockAdjusted", r#"{"sku":"A","quantity":-100,"reason":"count"}"#),
        (
            "StockReserved",
            r#"{"sku":"A","order_id":"0199c2a4-5c00-7e3a-8a51-3f1f0d4b7c10","quantity":30}"#,
        ),
        (
            "StockReleased",
            r#"{"sku":"A","order_id":"0199c2a4-5c00-7e3a-8a51-3f1f0d4b7c10","quantity":4}"#,
        ),
        (
            "StockShipped",
            r#"{"sku":"A","order_id":"0199c2a4-5c00-7e3a-8a51-3f1f0d4b7c10","quantity":20}"#,
        ),
        (
            "StockReturned",
            r#"{"sku":"A","order_id":"0199c2a4-5c00-7e3a-8a51-3f1f0d4b7c10","quantity":7}"#,
        ),
        ("StockReceived", r#"{"sku":"A","quantity":1}"#),
    ];
    /// SHA-256 of what each step of it leaves, written down, all in a row. Another value means
    /// that snapshots of before are wrong now: raise `REVISION`, then freeze the new value.
    const FOLDED: (u32, &str) =
        (1, "0dc102c23427367a651caeabb916b569d92283a683e5c70b16c6c4516c4b3553");

    fn fold(model: &ShopModel, from: Option<ShopState>, events: &[(&str, &str)]) -> Vec<ShopState> {
        let mut states = Vec::new();
        let mut state = from;
        for (kind, data) in events {
            let event = model.decode(kind, 1, data).unwrap();
            let next = model.evolve("stock-A", state, &event).unwrap();
            states.push(next.clone());
            state = Some(next);
        }
        states
    }

    #[test]
    fn a_frozen_history_folds_to_what_it_did() {
        let model = ShopModel::new(ShopSettings::default());
        let mut hash = Sha256::new();
        for state in fold(&model, None, &HISTORY) {
            hash.update(model.freeze(&state).unwrap());
        }
        assert_eq!((REVISION, &*hex::encode(hash.finalize())), FOLDED);
        // The history has every event of a stock.
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/golden");
        for folder in std::fs::read_dir(golden).unwrap() {
            let kind = folder.unwrap().file_name().into_string().unwrap();
            let here = HISTORY.iter().any(|(name, _)| *name == kind);
            assert_eq!(here, kind.starts_with("Stock"), "{kind}");
        }
    }

    #[test]
    fn a_state_that_was_written_down_goes_on_as_if_it_had_not_been() {
        let model = ShopModel::new(ShopSettings::default());
        let whole = fold(&model, None, &HISTORY);
        for split in 1..HISTORY.len() {
            let frozen = model.freeze(&whole[split - 1]).unwrap();
            let thawed = model.thaw("stock-A", &frozen).unwrap();
            assert_eq!(thawed, whole[split - 1]);
            assert_eq!(fold(&model, Some(thawed), &HISTORY[split..]).last(), whole.last());
        }
    }

    #[test]
    fn what_is_no_stock_is_not_thawed() {
        let model = ShopModel::new(ShopSettings::default());
        assert_eq!(model.thaw("order-1", br#"{"on_hand":1,"reserved":0}"#), None);
        assert_eq!(model.thaw("stock-A", br#"{"on_hand":1,"reserved":2}"#), None);
        assert_eq!(model.thaw("stock-A", b"no json"), None);
    }
}
