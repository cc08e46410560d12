//! The stock of one product: units on hand, and how many of them are promised to orders.
//!
//! Which order reserved how much is the order's own business: it releases or ships what it
//! reserved, once. So a level stays two numbers however many orders there were.

use crate::{Aggregate, Change, MAX_INTEGER, Misfit, OrderId, Quantity, Sku, Text};

/// Where a stock is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Stock {
    /// Nothing ever happened to it: nothing there.
    #[default]
    Untouched,
    /// Kept.
    Kept(Levels),
}

/// How much there is. Always 0 ≤ reserved ≤ on hand ≤ 2^53 − 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Levels {
    on_hand: i64,
    reserved: i64,
}

/// What may be asked of a stock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Goods came in.
    Receive(Sku, Quantity),
    /// A count, breakage, theft: so many more or fewer than was thought.
    Adjust(Sku, Change, Text),
    /// Promise units to an order.
    Reserve(Movement),
    /// Take a promise back.
    Release(Movement),
    /// Send promised units out.
    Ship(Movement),
    /// Take units back from a customer.
    Return(Movement),
}

/// Units that an order moves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Movement {
    /// The product.
    pub sku: Sku,
    /// The order.
    pub order: OrderId,
    /// How many.
    pub quantity: Quantity,
}

/// What happens to a stock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Goods came in.
    Received(Sku, Quantity),
    /// It was corrected.
    Adjusted(Sku, Change, Text),
    /// Units were promised to an order.
    Reserved(Movement),
    /// A promise was taken back.
    Released(Movement),
    /// Promised units went out.
    Shipped(Movement),
    /// Units came back.
    Returned(Movement),
}

/// Why a stock says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Fewer are free than are wanted.
    Short {
        /// Units asked for.
        wanted: i64,
        /// Units on hand that no order has reserved.
        available: i64,
    },
    /// Fewer are reserved than are to be released or shipped.
    NotReserved {
        /// Units asked for.
        wanted: i64,
        /// Units reserved.
        reserved: i64,
    },
    /// There would be more than 2^53 − 1.
    TooMany {
        /// Units on hand.
        on_hand: i64,
    },
}

impl Levels {
    /// These levels, if they may be so.
    pub fn at(on_hand: i64, reserved: i64) -> Option<Self> {
        Self::default().moved(on_hand, reserved)
    }

    /// Units in the house.
    pub fn on_hand(self) -> i64 {
        self.on_hand
    }

    /// Units of them that are promised.
    pub fn reserved(self) -> i64 {
        self.reserved
    }

    /// Units that can still be promised.
    pub fn available(self) -> i64 {
        self.on_hand - self.reserved
    }

    /// The levels after a change of each, if they may be so.
    fn moved(self, on_hand: i64, reserved: i64) -> Option<Self> {
        let after = Self { on_hand: self.on_hand + on_hand, reserved: self.reserved + reserved };
        let sound =
            0 <= after.reserved && after.reserved <= after.on_hand && after.on_hand <= MAX_INTEGER;
        sound.then_some(after)
    }
}

impl Stock {
    /// How much there is.
    pub fn levels(&self) -> Levels {
        match self {
            Self::Untouched => Levels::default(),
            Self::Kept(levels) => *levels,
        }
    }
}

impl Aggregate for Stock {
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: &Command) -> Result<Vec<Event>, Refusal> {
        let levels = self.levels();
        let event = match (self, command) {
            (Self::Untouched | Self::Kept(_), Command::Receive(sku, quantity)) => {
                levels.room(quantity.get())?;
                Event::Received(sku.clone(), *quantity)
            }
            (Self::Untouched | Self::Kept(_), Command::Adjust(sku, change, reason)) => {
                levels.room(change.get())?;
                levels.free(-change.get())?;
                Event::Adjusted(sku.clone(), *change, reason.clone())
            }
            (Self::Untouched | Self::Kept(_), Command::Reserve(movement)) => {
                levels.free(movement.quantity.get())?;
                Event::Reserved(movement.clone())
            }
            (Self::Untouched | Self::Kept(_), Command::Release(movement)) => {
                levels.promised(movement.quantity)?;
                Event::Released(movement.clone())
            }
            (Self::Untouched | Self::Kept(_), Command::Ship(movement)) => {
                levels.promised(movement.quantity)?;
                Event::Shipped(movement.clone())
            }
            (Self::Untouched | Self::Kept(_), Command::Return(movement)) => {
                levels.room(movement.quantity.get())?;
                Event::Returned(movement.clone())
            }
        };
        Ok(vec![event])
    }

    fn evolve(self, event: &Event) -> Result<Self, Misfit> {
        let levels = self.levels();
        let (name, after) = match (self, event) {
            (Self::Untouched | Self::Kept(_), Event::Received(_, quantity)) => {
                ("StockReceived", levels.moved(quantity.get(), 0))
            }
            (Self::Untouched | Self::Kept(_), Event::Adjusted(_, change, _)) => {
                ("StockAdjusted", levels.moved(change.get(), 0))
            }
            (Self::Untouched | Self::Kept(_), Event::Reserved(Movement { quantity, .. })) => {
                ("StockReserved", levels.moved(0, quantity.get()))
            }
            (Self::Untouched | Self::Kept(_), Event::Released(Movement { quantity, .. })) => {
                ("StockReleased", levels.moved(0, -quantity.get()))
            }
            (Self::Untouched | Self::Kept(_), Event::Shipped(Movement { quantity, .. })) => {
                ("StockShipped", levels.moved(-quantity.get(), -quantity.get()))
            }
            (Self::Untouched | Self::Kept(_), Event::Returned(Movement { quantity, .. })) => {
                ("StockReturned", levels.moved(quantity.get(), 0))
            }
        };
        let bounds = "0 <= reserved <= on hand <= 2^53 - 1";
        after.map(Self::Kept).ok_or(Misfit::new(name, bounds))
    }
}

impl Levels {
    fn free(self, wanted: i64) -> Result<(), Refusal> {
        let available = self.available();
        if wanted > available { Err(Refusal::Short { wanted, available }) } else { Ok(()) }
    }

    fn promised(self, quantity: Quantity) -> Result<(), Refusal> {
        let (wanted, reserved) = (quantity.get(), self.reserved);
        if wanted > reserved { Err(Refusal::NotReserved { wanted, reserved }) } else { Ok(()) }
    }

    fn room(self, more: i64) -> Result<(), Refusal> {
        let on_hand = self.on_hand;
        if more > MAX_INTEGER - on_hand { Err(Refusal::TooMany { on_hand }) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::spec::{fold, given};

    fn sku() -> Sku {
        Sku::new("85123A").unwrap()
    }

    fn quantity(units: i64) -> Quantity {
        Quantity::new(units).unwrap()
    }

    fn moved(units: i64) -> Movement {
        let order = OrderId(Uuid::from_u128(7));
        Movement { sku: sku(), order, quantity: quantity(units) }
    }

    fn received(units: i64) -> Event {
        Event::Received(sku(), quantity(units))
    }

    fn adjust(units: i64) -> Command {
        Command::Adjust(sku(), Change::new(units).unwrap(), "damaged".into())
    }

    #[test]
    fn no_more_is_promised_than_is_there() {
        given::<Stock>(&[])
            .when(&Command::Reserve(moved(1)))
            .refused(&Refusal::Short { wanted: 1, available: 0 });
        let given = given::<Stock>(&[received(10)])
            .when(&Command::Reserve(moved(7)))
            .then(&[Event::Reserved(moved(7))]);
        given
            .clone()
            .when(&Command::Reserve(moved(4)))
            .refused(&Refusal::Short { wanted: 4, available: 3 });
        let all = given.when(&Command::Reserve(moved(3))).accepted();
        assert_eq!(all.0.levels().available(), 0);
    }

    #[test]
    fn what_was_promised_goes_out_or_comes_free() {
        let history = [received(10), Event::Reserved(moved(7))];
        let then = given::<Stock>(&history).when(&Command::Release(moved(2))).accepted();
        let then = then.when(&Command::Ship(moved(5))).then(&[Event::Shipped(moved(5))]);
        assert_eq!(then.0.levels(), Levels { on_hand: 5, reserved: 0 });
        then.clone()
            .when(&Command::Ship(moved(1)))
            .refused(&Refusal::NotReserved { wanted: 1, reserved: 0 });
        then.clone()
            .when(&Command::Release(moved(1)))
            .refused(&Refusal::NotReserved { wanted: 1, reserved: 0 });
        let then = then.when(&Command::Return(moved(2))).then(&[Event::Returned(moved(2))]);
        assert_eq!(then.0.levels(), Levels { on_hand: 7, reserved: 0 });
    }

    #[test]
    fn a_correction_leaves_promises_alone() {
        let given = given::<Stock>(&[received(10), Event::Reserved(moved(7))]);
        given.clone().when(&adjust(-4)).refused(&Refusal::Short { wanted: 4, available: 3 });
        given.clone().when(&adjust(-3)).accepted();
        given.when(&adjust(5)).accepted();
    }

    #[test]
    fn levels_have_a_ceiling() {
        let full = given::<Stock>(&[received(MAX_INTEGER)]);
        let refusal = Refusal::TooMany { on_hand: MAX_INTEGER };
        full.clone().when(&Command::Receive(sku(), quantity(1))).refused(&refusal);
        full.clone().when(&adjust(1)).refused(&refusal);
        full.when(&Command::Return(moved(1))).refused(&refusal);
    }

    #[test]
    fn a_history_that_cannot_be_is_not_folded() {
        for event in
            [Event::Reserved(moved(1)), Event::Shipped(moved(1)), Event::Released(moved(1))]
        {
            assert!(Stock::Untouched.evolve(&event).is_err());
        }
    }

    fn any_command() -> impl Strategy<Value = Command> {
        let units = prop_oneof![4 => 1..50_i64, 1 => Just(MAX_INTEGER)];
        (0..6_u8, units, any::<bool>()).prop_map(|(kind, units, down)| match kind {
            0 => Command::Receive(sku(), quantity(units)),
            1 => adjust(if down { -units } else { units }),
            2 => Command::Reserve(moved(units)),
            3 => Command::Release(moved(units)),
            4 => Command::Ship(moved(units)),
            _ => Command::Return(moved(units)),
        })
    }

    proptest! {
        #[test]
        fn stock_is_never_below_zero_and_every_decision_folds(
            commands in prop::collection::vec(any_command(), 0..60)
        ) {
            let mut stock = Stock::default();
            for command in &commands {
                if let Ok(events) = stock.decide(command) {
                    stock = fold(stock, &events);
                }
                let levels = stock.levels();
                prop_assert!(0 <= levels.reserved() && levels.reserved() <= levels.on_hand());
                prop_assert!(levels.on_hand() <= MAX_INTEGER);
            }
        }
    }
}
