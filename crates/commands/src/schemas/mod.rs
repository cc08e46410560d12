//! Versions of event types: which are known here, and the two ways between neighbours.
//!
//! Upwards, what was stored once is read for ever: SQL, applied by whoever reads for a fold.
//! Downwards, what may not be written yet is written as the version before, where that can say it:
//! Rust, applied by the model when it writes.

mod asyncapi;
mod check;

use daybook_journal::{Activations, Encoded, EventVersion, NotActivated, Upcaster, Upcasters};
use serde_json::Value;

pub use self::asyncapi::asyncapi;
pub use self::check::{Fault, SchemaFiles, check};
use crate::events::{event_types, event_version};

/// How a type got its next version. One without the other can't be written down.
struct Evolution {
    kind: &'static str,
    /// The older of the two versions.
    from: i16,
    /// JSON Schema of the older one, as it was released.
    schema: &'static str,
    /// An SQL expression over `data` of version `from`, to the next.
    upcast: &'static str,
    /// Data of the next version as `from` would say it; `None` where that can't.
    downcast: fn(Value) -> Option<Value>,
}

/// Every evolution there was.
const EVOLUTIONS: [Evolution; 1] = [Evolution {
    kind: "OrderPlaced",
    from: 1,
    schema: include_str!("../../../../schemas/events/OrderPlaced/1.json"),
    upcast: include_str!("../../../../schemas/upcasters/OrderPlaced/1.sql"),
    downcast: without_charges,
}];

/// Types that were there, in version 1, before activations were kept. Never longer: whatever came
/// after has to be activated.
const FIRST: [&str; 30] = [
    "OrderCancelled",
    "OrderCredited",
    "OrderDelivered",
    "OrderExpired",
    "OrderItemsReturned",
    "OrderPaid",
    "OrderPaymentCaptured",
    "OrderPaymentClosed",
    "OrderPaymentOpened",
    "OrderPlaced",
    "OrderRefundFailed",
    "OrderRefundOpened",
    "OrderRefundSettled",
    "OrderShipped",
    "PaymentCaptured",
    "PaymentDeclined",
    "PaymentRecorded",
    "PaymentRefundFailed",
    "PaymentRefundRequested",
    "PaymentRefunded",
    "PaymentRequested",
    "PaymentUnresolved",
    "PriceChanged",
    "ProductAdded",
    "StockAdjusted",
    "StockReceived",
    "StockReleased",
    "StockReserved",
    "StockReturned",
    "StockShipped",
];

/// Every version of every event type that this program reads, in order.
pub fn event_versions() -> Vec<EventVersion> {
    let versions =
        |kind| (1..=event_version(kind)).map(move |version| EventVersion { kind, version });
    event_types().iter().copied().flat_map(versions).collect()
}

/// The versions that a journal without any record of activations was written with.
pub fn first_versions() -> Vec<EventVersion> {
    FIRST.iter().map(|kind| EventVersion { kind, version: 1 }).collect()
}

/// What lifts stored events to the versions that this program folds.
pub fn upcasters() -> Upcasters {
    let steps = EVOLUTIONS
        .iter()
        .map(|&Evolution { kind, from, upcast, .. }| Upcaster { kind, from, sql: upcast })
        .collect();
    Upcasters::new(steps).expect("a test reads every version through its chain")
}

/// Whether it is decided how a version is written while it is not activated.
pub fn has_downcast(kind: &str, version: i16) -> bool {
    evolution_to(kind, version).is_some()
}

fn evolution_to(kind: &str, version: i16) -> Option<&'static Evolution> {
    EVOLUTIONS.iter().find(|e| e.kind == kind && e.from + 1 == version)
}

/// An event in the newest version that may be written, which must be able to say it.
pub(crate) fn writable(
    mut event: Encoded,
    activations: &Activations,
) -> Result<Encoded, NotActivated> {
    let wanted = NotActivated { kind: event.kind, version: event.schema_version };
    while !activations.contains(event.kind, event.schema_version) {
        let evolution = evolution_to(event.kind, event.schema_version).ok_or(wanted.clone())?;
        event.data = (evolution.downcast)(event.data).ok_or(wanted.clone())?;
        event.schema_version = evolution.from;
    }
    Ok(event)
}

/// OrderPlaced/2 as 1: where nothing is charged beside the lines.
fn without_charges(mut data: Value) -> Option<Value> {
    let members = data.as_object_mut()?;
    for charge in ["shipping", "tax"] {
        if members.remove(charge)?.as_i64() != Some(0) {
            return None;
        }
    }
    Some(data)
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    use serde_json::json;

    use super::*;

    fn order(shipping: i64, tax: i64) -> Encoded {
        let data = json!({ "order_id": "x", "shipping": shipping, "tax": tax, "total": 5 });
        Encoded { kind: "OrderPlaced", schema_version: 2, data }
    }

    #[test]
    fn until_it_is_activated_a_version_is_written_as_the_one_before_if_that_can_say_it() {
        let activations = Activations::none(&event_versions());
        activations.activate("OrderPlaced", 1);
        let old = writable(order(0, 0), &activations).unwrap();
        assert_eq!((old.schema_version, old.data), (1, json!({ "order_id": "x", "total": 5 })));
        let refused = Err(NotActivated { kind: "OrderPlaced", version: 2 });
        assert_eq!(writable(order(1, 0), &activations), refused);
        assert_eq!(writable(order(0, 1), &activations), refused);
        activations.activate("OrderPlaced", 2);
        for event in [order(0, 0), order(3, 4)] {
            assert_eq!(writable(event.clone(), &activations), Ok(event));
        }
    }

    #[test]
    fn a_new_type_is_not_written_before_it_is_activated() {
        let activations = Activations::none(&event_versions());
        let new = Encoded { kind: "StockReserved", schema_version: 1, data: json!({}) };
        let refused = Err(NotActivated { kind: "StockReserved", version: 1 });
        assert_eq!(writable(new.clone(), &activations), refused);
        activations.activate("StockReserved", 1);
        assert_eq!(writable(new.clone(), &activations), Ok(new));
    }

    #[test]
    fn what_was_there_first_is_known_and_every_evolution_has_its_file() {
        let known: BTreeSet<EventVersion> = event_versions().into_iter().collect();
        assert!(first_versions().iter().all(|first| known.contains(first)));
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/upcasters");
        let mut files = BTreeSet::new();
        for kind in fs::read_dir(folder).unwrap() {
            for file in fs::read_dir(kind.unwrap().path()).unwrap() {
                let file = file.unwrap().path();
                let kind = file.parent().unwrap().file_name().unwrap().to_str().unwrap().to_owned();
                files.insert((kind, file.file_stem().unwrap().to_str().unwrap().to_owned()));
            }
        }
        let listed: BTreeSet<_> =
            EVOLUTIONS.iter().map(|e| (e.kind.to_owned(), e.from.to_string())).collect();
        assert_eq!(files, listed);
        for EventVersion { kind, version } in known {
            assert_eq!(version > 1, has_downcast(kind, version), "{kind}/{version}");
        }
    }
}
