//! A product: what it is called, what it costs, whether stock is kept of it.

use crate::{Aggregate, Currency, Misfit, Money, Sku, Text};

/// Where a product is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Product {
    /// Never heard of.
    #[default]
    Unknown,
    /// In the catalogue.
    Listed(Listing),
    /// Not sold any more. What was ordered before is still sent and taken back.
    Discontinued(Listing),
}

/// A product in the catalogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// Name, at the time it was added.
    pub name: Text,
    /// Price of one unit.
    pub price: Money,
    /// Whether stock is kept; not for services such as postage.
    pub tracked: bool,
}

/// What may be asked of a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Put it into the catalogue.
    Add {
        /// Its code.
        sku: Sku,
        /// Its name.
        name: Text,
        /// Price of one unit.
        price: Money,
        /// Whether stock is kept.
        tracked: bool,
    },
    /// Give it another price in the same currency.
    ChangePrice {
        /// Its code.
        sku: Sku,
        /// Price of one unit from now on.
        price: Money,
    },
    /// Sell it no more.
    Discontinue(Sku),
}

/// What happens to a product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It came into the catalogue.
    Added {
        /// Its code.
        sku: Sku,
        /// Its name.
        name: Text,
        /// Price of one unit.
        price: Money,
        /// Whether stock is kept.
        tracked: bool,
    },
    /// Its price is another from now on.
    PriceChanged {
        /// Its code.
        sku: Sku,
        /// Price of one unit.
        price: Money,
    },
    /// It is not sold any more.
    Discontinued(Sku),
}

/// Why a product says no.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is one with this code already.
    Exists,
    /// There is none with this code.
    Unknown,
    /// It is not sold any more.
    Discontinued,
    /// It is priced in another currency.
    CurrencyDiffers {
        /// The product's.
        expected: Currency,
        /// The command's.
        actual: Currency,
    },
}

impl Event {
    /// Name of the event, as it is stored.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Added { .. } => "ProductAdded",
            Self::PriceChanged { .. } => "PriceChanged",
            Self::Discontinued(_) => "ProductDiscontinued",
        }
    }
}

impl Product {
    /// The listing, once there is one; a discontinued product's is its last.
    pub fn listing(&self) -> Option<&Listing> {
        match self {
            Self::Unknown => None,
            Self::Listed(listing) | Self::Discontinued(listing) => Some(listing),
        }
    }

    /// The listing of a product that can be ordered, or why it can't.
    pub fn on_sale(&self) -> Result<&Listing, Refusal> {
        match self {
            Self::Unknown => Err(Refusal::Unknown),
            Self::Listed(listing) => Ok(listing),
            Self::Discontinued(_) => Err(Refusal::Discontinued),
        }
    }
}

impl Aggregate for Product {
    type Command = Command;
    type Event = Event;
    type Refusal = Refusal;

    fn decide(&self, command: &Command) -> Result<Vec<Event>, Refusal> {
        match (self, command) {
            (Self::Unknown, Command::Add { sku, name, price, tracked }) => {
                let (sku, name) = (sku.clone(), name.clone());
                Ok(vec![Event::Added { sku, name, price: *price, tracked: *tracked }])
            }
            // A code keeps its meaning: what was sold under it may still come back.
            (Self::Listed(_) | Self::Discontinued(_), Command::Add { .. }) => Err(Refusal::Exists),
            (Self::Unknown, Command::ChangePrice { .. } | Command::Discontinue(_)) => {
                Err(Refusal::Unknown)
            }
            (Self::Discontinued(_), Command::ChangePrice { .. } | Command::Discontinue(_)) => {
                Err(Refusal::Discontinued)
            }
            (Self::Listed(_), Command::Discontinue(sku)) => {
                Ok(vec![Event::Discontinued(sku.clone())])
            }
            (Self::Listed(listing), Command::ChangePrice { sku, price }) => {
                let (expected, actual) = (listing.price.currency, price.currency);
                if expected != actual {
                    return Err(Refusal::CurrencyDiffers { expected, actual });
                }
                Ok(vec![Event::PriceChanged { sku: sku.clone(), price: *price }])
            }
        }
    }

    fn evolve(self, event: &Event) -> Result<Self, Misfit> {
        match (self, event) {
            (Self::Unknown, Event::Added { name, price, tracked, .. }) => {
                Ok(Self::Listed(Listing { name: name.clone(), price: *price, tracked: *tracked }))
            }
            (Self::Listed(listing), Event::PriceChanged { price, .. }) => {
                Ok(Self::Listed(Listing { price: *price, ..listing }))
            }
            (Self::Listed(listing), Event::Discontinued(_)) => Ok(Self::Discontinued(listing)),
            (Self::Listed(_), Event::Added { .. }) => Err(Misfit::new(event.name(), "listed")),
            (Self::Unknown, Event::PriceChanged { .. } | Event::Discontinued(_)) => {
                Err(Misfit::new(event.name(), "unknown"))
            }
            (
                Self::Discontinued(_),
                Event::Added { .. } | Event::PriceChanged { .. } | Event::Discontinued(_),
            ) => Err(Misfit::new(event.name(), "discontinued")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Amount, spec::given};

    fn sku() -> Sku {
        Sku::new("22423").unwrap()
    }

    fn money(minor: i64, code: &str) -> Money {
        Amount::new(minor).unwrap().of(Currency::from_code(code).unwrap())
    }

    fn added() -> Event {
        let name = "REGENCY CAKESTAND 3 TIER".into();
        Event::Added { sku: sku(), name, price: money(1275, "GBP"), tracked: true }
    }

    fn add() -> Command {
        let name = "REGENCY CAKESTAND 3 TIER".into();
        Command::Add { sku: sku(), name, price: money(1275, "GBP"), tracked: true }
    }

    #[test]
    fn a_product_is_added_once() {
        given::<Product>(&[]).when(&add()).then(&[added()]).when(&add()).refused(&Refusal::Exists);
    }

    #[test]
    fn its_price_changes_within_its_currency() {
        let change = |price| Command::ChangePrice { sku: sku(), price };
        let changed = |price| Event::PriceChanged { sku: sku(), price };
        given::<Product>(&[]).when(&change(money(1, "GBP"))).refused(&Refusal::Unknown);
        let then = given::<Product>(&[added()])
            .when(&change(money(0, "GBP")))
            .then(&[changed(money(0, "GBP"))]);
        assert_eq!(then.0.listing().unwrap().price, money(0, "GBP"));
        then.when(&change(money(1, "EUR"))).refused(&Refusal::CurrencyDiffers {
            expected: money(0, "GBP").currency,
            actual: money(0, "EUR").currency,
        });
    }

    #[test]
    fn what_is_discontinued_stays_so() {
        let (discontinue, discontinued) = (Command::Discontinue(sku()), Event::Discontinued(sku()));
        given::<Product>(&[]).when(&discontinue).refused(&Refusal::Unknown);
        let then = given::<Product>(&[added()]).when(&discontinue).then(&[discontinued]);
        assert_eq!(then.0.on_sale(), Err(Refusal::Discontinued));
        assert_eq!(then.0.listing().unwrap().price, money(1275, "GBP"));
        let change = Command::ChangePrice { sku: sku(), price: money(1, "GBP") };
        for (command, refusal) in [
            (discontinue, Refusal::Discontinued),
            (change, Refusal::Discontinued),
            (add(), Refusal::Exists),
        ] {
            then.clone().when(&command).refused(&refusal);
        }
    }

    #[test]
    fn a_history_that_cannot_be_is_not_folded() {
        let changed = Event::PriceChanged { sku: sku(), price: money(1, "GBP") };
        assert!(Product::Unknown.evolve(&changed).is_err());
        assert!(given::<Product>(&[added()]).0.evolve(&added()).is_err());
        let over = given::<Product>(&[added(), Event::Discontinued(sku())]).0;
        for event in [added(), changed, Event::Discontinued(sku())] {
            assert!(over.clone().evolve(&event).is_err(), "{event:?}");
        }
    }
}
