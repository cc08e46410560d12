//! What a command does to the streams it is about: catalogue, stock, and the goods of orders.

use chrono::{DateTime, TimeDelta, Utc};
use daybook_domain::{
    Aggregate, Amount, CustomerId, OrderId, PartnerId, Quantity, RefundSeed, Sku, Text,
    order::{self, Details, NewLine, NewOrder, Order},
    product::{self, Listing},
    stock,
};
use daybook_journal::{Decision, Loaded, Refusal};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    ShopCommand, ShopModel, ShopState,
    draft::Draft,
    money,
    refusals::{self, refuse},
    states::States,
};
use crate::{
    authority::Authority,
    events::ShopEvent,
    jobs, streams,
    wire::{self, Command, Time},
};

/// What is at hand while a command is decided.
pub(super) struct Desk<'a> {
    pub(super) model: &'a ShopModel,
    pub(super) asked: &'a ShopCommand,
    pub(super) states: States<'a>,
    pub(super) now: DateTime<Utc>,
}

/// Events, what the client is told, and whether an outcome is still to come.
pub(super) struct Decided<'a> {
    pub(super) draft: Draft<'a>,
    pub(super) result: Value,
    pub(super) open: bool,
}

impl<'a> From<Draft<'a>> for Decided<'a> {
    fn from(draft: Draft<'a>) -> Self {
        Self { draft, result: json!({}), open: false }
    }
}

pub(super) fn decide(
    model: &ShopModel,
    asked: &ShopCommand,
    loaded: &Loaded<ShopState>,
    now: DateTime<Utc>,
) -> Result<Decision<ShopEvent>, Refusal> {
    if !asked.authority.may_send(&asked.command) {
        let name = asked.command.name();
        let values = json!({ "command": name });
        return Err(refuse("not-allowed", format!("{name} is not yours to send."), values));
    }
    let desk = Desk { model, asked, states: States(loaded), now };
    let Decided { draft, result, open } = match &asked.command {
        Command::AddProduct(c) => desk.add_product(c),
        Command::ChangePrice(c) => desk.change_price(c),
        Command::DiscontinueProduct(c) => desk.discontinue_product(c),
        Command::ReceiveStock(c) => desk.receive_stock(c),
        Command::AdjustStock(c) => desk.adjust_stock(c),
        Command::PlaceOrder(c) => desk.place_order(c),
        Command::ChargePayment(c) => money::charge(&desk, c),
        Command::RecordPayment(c) => money::record(&desk, c),
        Command::CancelOrder(c) => desk.cancel_order(c),
        Command::ShipOrder(c) => desk.ship_order(c),
        Command::DeliverOrder(c) => desk.deliver_order(c),
        Command::ReturnItems(c) => desk.return_items(c),
        Command::RefundPayment(c) => money::refund(&desk, c),
        Command::ResolvePayment(c) => money::resolve(&desk, c),
        Command::RecordGatewayPayment(c) => money::gateway_payment(&desk, c),
        Command::RecordDispute(c) => money::dispute(&desk, c),
        Command::RecordPaymentOutcome(c) => money::payment_outcome(&desk, c),
        Command::RecordRefundOutcome(c) => money::refund_outcome(&desk, c),
        Command::ExpireOrder(c) => desk.expire_order(c),
    }?;
    let tenant = &model.settings.tenant;
    let mut new_jobs: Vec<_> =
        draft.events.iter().filter_map(|(_, event)| jobs::reaction(tenant, event, now)).collect();
    for job in &mut new_jobs {
        if job.kind == jobs::CHARGE_PAYMENT {
            job.sealed.clone_from(&asked.sealed);
        }
    }
    Ok(Decision { events: draft.events, jobs: new_jobs, result, open })
}

impl<'a> Desk<'a> {
    pub(super) fn draft(&self) -> Draft<'a> {
        Draft::new(self.states)
    }

    /// When an order expires whose waiting begins now.
    pub(super) fn expiry(&self) -> DateTime<Utc> {
        self.now + TimeDelta::milliseconds(self.model.settings.reservation_ms.into())
    }

    pub(super) fn payment_deadline(&self) -> DateTime<Utc> {
        self.now + TimeDelta::milliseconds(self.model.settings.payment_deadline_ms.into())
    }

    pub(super) fn gateway(&self) -> Text {
        self.model.gateway.clone()
    }

    pub(super) fn seed(&self) -> RefundSeed {
        RefundSeed(self.asked.fresh)
    }

    /// An order that is the asker's; another's is as unknown as one that does not exist.
    pub(super) fn order(&self, order_id: Uuid) -> Result<(&'a Order, &'a Details), Refusal> {
        let id = OrderId(order_id);
        let order = self.states.order(id);
        match order.details() {
            Some(details) if self.asked.authority.owns(details) => Ok((order, details)),
            Some(_) | None => Err(refusals::order_unknown(id)),
        }
    }

    fn listing(&self, sku: &Sku) -> Result<&'a Listing, Refusal> {
        self.states.product(sku).listing().ok_or_else(|| refusals::product_unknown(sku))
    }

    fn product(&self, sku: &Sku, command: &product::Command) -> Result<Decided<'a>, Refusal> {
        let events = self
            .states
            .product(sku)
            .decide(command)
            .map_err(|refusal| refusals::product(sku, refusal))?;
        let mut draft = self.draft();
        let stream = streams::product(sku);
        draft.events.extend(events.into_iter().map(|e| (stream.clone(), ShopEvent::Product(e))));
        Ok(draft.into())
    }

    fn add_product(&self, c: &wire::AddProduct) -> Result<Decided<'a>, Refusal> {
        let sku = c.sku.domain();
        let price = c.price.domain().of(c.currency.domain());
        let (name, tracked) = (c.name.domain(), c.tracked);
        self.product(sku, &product::Command::Add { sku: sku.clone(), name, price, tracked })
    }

    fn change_price(&self, c: &wire::ChangePrice) -> Result<Decided<'a>, Refusal> {
        let sku = c.sku.domain();
        let price = c.price.domain().of(c.currency.domain());
        self.product(sku, &product::Command::ChangePrice { sku: sku.clone(), price })
    }

    fn discontinue_product(&self, c: &wire::DiscontinueProduct) -> Result<Decided<'a>, Refusal> {
        let sku = c.sku.domain();
        self.product(sku, &product::Command::Discontinue(sku.clone()))
    }

    fn receive_stock(&self, c: &wire::ReceiveStock) -> Result<Decided<'a>, Refusal> {
        let sku = c.sku.domain();
        self.stock(sku, &stock::Command::Receive(sku.clone(), c.quantity.domain()))
    }

    fn adjust_stock(&self, c: &wire::AdjustStock) -> Result<Decided<'a>, Refusal> {
        let sku = c.sku.domain();
        let (change, reason) = (c.quantity.domain(), c.reason.domain());
        self.stock(sku, &stock::Command::Adjust(sku.clone(), change, reason))
    }

    fn stock(&self, sku: &Sku, command: &stock::Command) -> Result<Decided<'a>, Refusal> {
        if !self.listing(sku)?.tracked {
            let values = json!({ "sku": sku.as_str() });
            return Err(refuse("not-tracked", "No stock is kept of the product.", values));
        }
        let events = self
            .states
            .stock(sku)
            .decide(command)
            .map_err(|refusal| refusals::stock(sku, refusal))?;
        let mut draft = self.draft();
        let stream = streams::stock(sku);
        draft.events.extend(events.into_iter().map(|e| (stream.clone(), ShopEvent::Stock(e))));
        Ok(draft.into())
    }

    fn place_order(&self, c: &wire::PlaceOrder) -> Result<Decided<'a>, Refusal> {
        let (customer, partner) = self.buyer(c.customer_id)?;
        let limit = self.model.settings.max_lines;
        if c.lines.len() > limit {
            let values = json!({ "lines": c.lines.len(), "limit": limit });
            return Err(refuse("too-many-lines", "The order has too many lines.", values));
        }
        let id = OrderId(c.order_id.unwrap_or(self.asked.fresh));
        let order = self.states.order(id);
        if order.details().is_some() {
            return Err(refusals::order(id, order::Refusal::Exists));
        }
        let mut lines = Vec::with_capacity(c.lines.len());
        for line in &c.lines {
            lines.push(self.new_line(line, c.currency)?);
        }
        let expires_at = match self.asked.authority {
            Authority::Import => None,
            Authority::Customer(_)
            | Authority::Partner(_)
            | Authority::Operator
            | Authority::Backend => Some(self.expiry()),
        };
        let (shipping, tax) = self.charges(c)?;
        let new = NewOrder {
            order: id,
            customer,
            partner,
            reference: c.reference.as_ref().map(wire::Reference::domain),
            country: c.country.as_ref().map(wire::Country::domain),
            currency: c.currency.domain(),
            lines,
            shipping,
            tax,
            expected_total: c.expected_total.map(wire::Amount::domain),
            expires_at,
        };
        let events = order
            .decide(&order::Command::Place(new))
            .map_err(|refusal| refusals::order(id, refusal))?;
        let mut draft = self.draft();
        let mut result = json!({});
        for event in events {
            if let order::Event::Placed(placed) = &event {
                result = json!({
                    "order_id": id.0,
                    "shipping": placed.shipping.get(),
                    "tax": placed.tax.get(),
                    "total": placed.total.get(),
                    "currency": placed.currency.code(),
                    "expires_at": placed.expires_at.map(|time| Time(time).to_string()),
                });
                let lines = placed.lines.clone();
                draft.order(id, event);
                let tracked = lines.iter().filter(|line| line.tracked);
                let units = tracked.map(|line| (&line.sku, line.quantity));
                draft.stock(id, units, stock::Command::Reserve)?;
            }
        }
        Ok(Decided { draft, result, open: false })
    }

    /// Whose order it is to be: one's own, unless one runs the shop.
    fn buyer(
        &self,
        named: Option<Uuid>,
    ) -> Result<(Option<CustomerId>, Option<PartnerId>), Refusal> {
        let refused = || {
            let values = json!({ "customer_id": named });
            refuse("customer-not-allowed", "An order can't be placed for another.", values)
        };
        match (self.asked.authority, named) {
            (Authority::Customer(own), Some(named)) if named != own => Err(refused()),
            (Authority::Customer(own), Some(_) | None) => Ok((Some(CustomerId(own)), None)),
            (Authority::Partner(_), Some(_)) => Err(refused()),
            (Authority::Partner(own), None) => Ok((None, Some(PartnerId(own)))),
            (Authority::Operator | Authority::Import | Authority::Backend, named) => {
                Ok((named.map(CustomerId), None))
            }
        }
    }

    /// Shipping and tax, what is asked for beside the lines. Like prices, buyers don't name them:
    /// they may insist on what they were shown by `expected_total`.
    fn charges(&self, c: &wire::PlaceOrder) -> Result<(Amount, Amount), Refusal> {
        let settings = &self.model.settings;
        let flat = settings.flat_shipping.get(&c.currency).copied();
        let (may_name, flat) = match self.asked.authority {
            // What history doesn't name was not asked for.
            Authority::Import => (true, None),
            Authority::Operator => (true, flat),
            Authority::Partner(_) => (settings.partners_charge, flat),
            Authority::Customer(_) | Authority::Backend => (false, flat),
        };
        let named = [("shipping", c.shipping), ("tax", c.tax)];
        if let Some((field, _)) = named.iter().find(|(_, named)| named.is_some() && !may_name) {
            let detail = format!("The {field} is the shop's to say.");
            return Err(refuse("charge-not-allowed", detail, json!({ "field": field })));
        }
        let amount = |named: Option<wire::Amount>| named.map_or(Amount::ZERO, wire::Amount::domain);
        Ok((amount(c.shipping.or(flat)), amount(c.tax)))
    }

    fn new_line(
        &self,
        line: &wire::OrderLine,
        currency: wire::Currency,
    ) -> Result<NewLine, Refusal> {
        let sku = line.sku.domain();
        let product = self.states.product(sku);
        let listing = product.on_sale().map_err(|refusal| refusals::product(sku, refusal))?;
        let unit_price = match line.unit_price {
            Some(price) if self.asked.authority.runs_the_shop() => price.domain(),
            Some(_) => {
                let values = json!({ "sku": sku.as_str() });
                return Err(refuse("price-not-allowed", "The price is the product's.", values));
            }
            None if listing.price.currency != currency.domain() => {
                return Err(refusals::currency_differs(listing.price.currency, currency.domain()));
            }
            None => listing.price.amount,
        };
        Ok(NewLine {
            sku: sku.clone(),
            name: listing.name.clone(),
            quantity: line.quantity.domain(),
            unit_price,
            tracked: listing.tracked,
        })
    }

    fn ship_order(&self, c: &wire::ShipOrder) -> Result<Decided<'a>, Refusal> {
        let line = |line: &wire::ShipLine| order::ShipLine {
            line: line.line,
            quantity: line.quantity.domain(),
        };
        let command = order::Command::Ship {
            lines: c.lines.as_ref().map(|lines| lines.iter().map(line).collect()),
            on_account: c.on_account,
        };
        let (id, details, events) = self.ask_order(c.order_id, &command)?;
        let mut draft = self.draft();
        let mut result = json!({});
        for event in events {
            if let order::Event::Shipped { lines, shipment, .. } = &event {
                result = json!({ "shipment": shipment });
                let lines = lines.clone();
                draft.order(id, event);
                let units = lines.iter().map(|line| (line.line, line.quantity));
                draft.stock(id, tracked(details, units), stock::Command::Ship)?;
            }
        }
        Ok(Decided { draft, result, open: false })
    }

    fn deliver_order(&self, c: &wire::DeliverOrder) -> Result<Decided<'a>, Refusal> {
        let (id, _, events) = self.ask_order(c.order_id, &order::Command::Deliver)?;
        let mut draft = self.draft();
        draft.orders(id, events);
        Ok(draft.into())
    }

    fn return_items(&self, c: &wire::ReturnItems) -> Result<Decided<'a>, Refusal> {
        let line = |line: &wire::ReturnLine| order::ReturnLine {
            line: line.line,
            quantity: line.quantity.domain(),
            credit: line.credit.map(wire::Amount::domain),
        };
        let command = order::Command::Return {
            lines: c.lines.iter().map(line).collect(),
            by: money::by(c.refund),
            seed: self.seed(),
        };
        let (id, details, mut events) = self.ask_order(c.order_id, &command)?;
        let money_events = events.split_off(events.len().min(1));
        let mut draft = self.draft();
        let mut credited = Amount::ZERO;
        for event in events {
            if let order::Event::ItemsReturned { lines, credit, .. } = &event {
                credited = *credit;
                let lines = lines.clone();
                draft.order(id, event);
                let units = lines.iter().map(|line| (line.line, line.quantity));
                draft.stock(id, tracked(details, units), stock::Command::Return)?;
            }
        }
        let refunds = money::refunds_of(&money_events);
        money::follow(&mut draft, id, money_events, &"returned".into())?;
        let result = json!({ "credit": credited.get(), "refunds": refunds });
        Ok(Decided { draft, result, open: false })
    }

    fn cancel_order(&self, c: &wire::CancelOrder) -> Result<Decided<'a>, Refusal> {
        let reason = c.reason.domain();
        let command = order::Command::Cancel { reason, seed: self.seed() };
        self.end_order(c.order_id, &command, "cancelled")
    }

    fn expire_order(&self, c: &wire::ExpireOrder) -> Result<Decided<'a>, Refusal> {
        let command = order::Command::Expire { deadline: c.deadline.0, seed: self.seed() };
        self.end_order(c.order_id, &command, "expired")
    }

    /// The order ends, its stock comes free, its money goes back.
    fn end_order(
        &self,
        order_id: Uuid,
        command: &order::Command,
        reason: &str,
    ) -> Result<Decided<'a>, Refusal> {
        let (id, details, mut events) = self.ask_order(order_id, command)?;
        let money_events = events.split_off(events.len().min(1));
        let mut draft = self.draft();
        draft.orders(id, events);
        let units = details.lines().iter().map(|line| (line.line, line.quantity));
        draft.stock(id, tracked(details, units), stock::Command::Release)?;
        money::follow(&mut draft, id, money_events, &reason.into())?;
        Ok(draft.into())
    }

    /// What an order that is the asker's says to a command.
    pub(super) fn ask_order(
        &self,
        order_id: Uuid,
        command: &order::Command,
    ) -> Result<(OrderId, &'a Details, Vec<order::Event>), Refusal> {
        let (order, details) = self.order(order_id)?;
        let id = OrderId(order_id);
        let events = order.decide(command).map_err(|refusal| refusals::order(id, refusal))?;
        Ok((id, details, events))
    }
}

/// Those of the lines that stock is kept of.
fn tracked(
    details: &Details,
    lines: impl Iterator<Item = (u32, Quantity)>,
) -> impl Iterator<Item = (&Sku, Quantity)> {
    lines.filter_map(|(number, quantity)| {
        let (line, _) = details.line(number)?;
        line.tracked.then_some((&line.sku, quantity))
    })
}
