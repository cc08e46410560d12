//! Orders' pages that are followed, and change.

use std::sync::Arc;

use anyhow::Context;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use serde_json::json;
use tokio::{sync::watch, time::Instant};
use uuid::Uuid;

use super::{
    fresh::{Sample, Shop, position},
    http::Connection,
};

/// Orders whose pages are followed; one principal may follow 100.
const PAGES: u32 = 96;
/// Pieces of each line: enough money for a payment of one penny a change.
const PIECES: u32 = 1_000;

/// Followed pages, one an order.
pub(super) struct Pages(Vec<Page>);

struct Page {
    order: Uuid,
    /// The position that the newest event stands for, and when it came.
    shown: watch::Receiver<(i64, Instant)>,
}

impl Pages {
    pub(super) async fn open(shop: &Shop) -> anyhow::Result<Self> {
        let mut pages = Vec::new();
        for _ in 0..PAGES {
            let (order, body) = shop.order(PIECES);
            let placed = shop.http.command("PlaceOrder", &body).await?;
            let request = shop
                .http
                .request("GET", &format!("/v1/operator/orders/{order}/live"))
                .header("accept", "text/event-stream")
                .header("daybook-min-position", position(&placed)?)
                .header("prefer", "wait=10")
                .body(Full::new(Bytes::new()))?;
            let (connection, events) = shop.http.connect().await?.follow(request).await?;
            let (sender, shown) = watch::channel((0, Instant::now()));
            tokio::spawn(follow(connection, events, sender));
            pages.push(Page { order, shown });
        }
        Ok(Self(pages))
    }

    /// Changes an order, and waits until its page shows that.
    pub(super) async fn change(
        self: Arc<Self>,
        shop: Arc<Shop>,
        nth: u32,
        scheduled: Instant,
    ) -> anyhow::Result<Sample> {
        let page = &self.0[usize::try_from(nth % PAGES)?];
        let payment =
            json!({ "order_id": page.order, "amount": 1, "currency": "GBP", "method": "cash" });
        let answer = shop.http.command("RecordPayment", &payment).await?;
        let accepted = Instant::now();
        let wanted: i64 = position(&answer)?.parse().context("an operator sees positions")?;
        let mut shown = page.shown.clone();
        let (_, at) = *shown.wait_for(|(position, _)| *position >= wanted).await?;
        Ok(Sample {
            accepted: accepted - scheduled,
            visible: at.saturating_duration_since(accepted),
        })
    }
}

/// Reads a stream of events to its end; the connection lives as long.
async fn follow(
    connection: Connection,
    mut events: Incoming,
    shown: watch::Sender<(i64, Instant)>,
) {
    let mut text = Vec::new();
    while let Some(Ok(frame)) = events.frame().await {
        let now = Instant::now();
        let Ok(data) = frame.into_data() else { continue };
        text.extend_from_slice(&data);
        // an event ends with an empty line
        while let Some(end) = text.windows(2).position(|two| two == b"\n\n") {
            let event: Vec<u8> = text.drain(..end + 2).collect();
            let event = String::from_utf8_lossy(&event);
            let id = event.lines().find_map(|line| line.strip_prefix("id: ")?.parse().ok());
            if let Some(position) = id {
                shown.send_replace((position, now));
            }
        }
    }
    drop(connection);
}
