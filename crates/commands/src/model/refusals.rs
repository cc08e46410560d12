//! The business saying no, as clients are told.

use daybook_domain::{
    Amount, Currency, Misfit, OrderId, PaymentId, Sku, order, payment, product, stock,
};
use daybook_journal::Refusal;
use serde_json::{Value, json};

use crate::wire::Time;

pub(super) fn refuse(code: &str, detail: impl Into<String>, values: Value) -> Refusal {
    Refusal { code: code.to_owned(), detail: detail.into(), values }
}

pub(super) fn order_unknown(order: OrderId) -> Refusal {
    refuse("order-unknown", "There is no such order.", json!({ "order_id": order.0 }))
}

pub(super) fn payment_unknown(payment: PaymentId) -> Refusal {
    refuse("payment-unknown", "There is no such payment.", json!({ "payment_id": payment.0 }))
}

fn payment_exists(payment: PaymentId) -> Refusal {
    refuse(
        "payment-exists",
        "There is a payment with this id already.",
        json!({ "payment_id": payment.0 }),
    )
}

fn refund_too_high(payment: PaymentId, amount: Amount, limit: Amount) -> Refusal {
    refuse(
        "refund-too-high",
        "Less is left of the payment.",
        json!({ "payment_id": payment.0, "amount": amount.get(), "limit": limit.get() }),
    )
}

fn not_at_gateway(refund: Amount, refundable: Amount) -> Refusal {
    refuse(
        "not-at-gateway",
        "What is to go back did not come through a gateway: say that it was settled elsewhere.",
        json!({ "refund": refund.get(), "refundable": refundable.get() }),
    )
}

pub(super) fn product_unknown(sku: &Sku) -> Refusal {
    refuse("product-unknown", "There is no such product.", json!({ "sku": sku.as_str() }))
}

pub(super) fn gateway_payment_counted(gateway_payment: &str, other: PaymentId) -> Refusal {
    refuse(
        "gateway-payment-counted",
        "The gateway took that for another payment of the order.",
        json!({ "gateway_payment_id": gateway_payment, "payment_id": other.0 }),
    )
}

pub(super) fn currency_differs(expected: Currency, actual: Currency) -> Refusal {
    refuse(
        "currency-differs",
        format!("The currency is {expected}, not {actual}."),
        json!({ "expected": expected.code(), "actual": actual.code() }),
    )
}

pub(super) fn too_large() -> Refusal {
    refuse(
        "too-large",
        "A sum would pass 9007199254740991.",
        json!({ "limit": daybook_domain::MAX_INTEGER }),
    )
}

pub(super) fn out_of_stock(missing: &[(&Sku, i64, i64)]) -> Refusal {
    let missing: Vec<Value> = missing
        .iter()
        .map(|(sku, wanted, available)| {
            json!({ "sku": sku.as_str(), "wanted": wanted, "available": available })
        })
        .collect();
    refuse("out-of-stock", "Not enough is in stock.", json!({ "missing": missing }))
}

/// What was decided can't be folded: a fault of the program, answered rather than appended.
pub(super) fn misfit(misfit: &Misfit) -> Refusal {
    let values = json!({ "event": misfit.event, "state": misfit.state });
    refuse("inconsistent", format!("The decision contradicts itself: {misfit}."), values)
}

pub(super) fn product(sku: &Sku, refusal: product::Refusal) -> Refusal {
    match refusal {
        product::Refusal::Exists => refuse(
            "product-exists",
            "There is a product with this code already.",
            json!({ "sku": sku.as_str() }),
        ),
        product::Refusal::Unknown => product_unknown(sku),
        product::Refusal::Discontinued => refuse(
            "product-discontinued",
            "The product is not sold any more.",
            json!({ "sku": sku.as_str() }),
        ),
        product::Refusal::CurrencyDiffers { expected, actual } => {
            currency_differs(expected, actual)
        }
    }
}

pub(super) fn stock(sku: &Sku, refusal: stock::Refusal) -> Refusal {
    match refusal {
        stock::Refusal::Short { wanted, available } => out_of_stock(&[(sku, wanted, available)]),
        stock::Refusal::NotReserved { wanted, reserved } => refuse(
            "not-reserved",
            "Less is reserved than is to be moved.",
            json!({ "sku": sku.as_str(), "wanted": wanted, "reserved": reserved }),
        ),
        stock::Refusal::TooMany { on_hand } => refuse(
            "stock-full",
            "More would be in stock than can be counted.",
            json!({
                "sku": sku.as_str(), "on_hand": on_hand, "limit": daybook_domain::MAX_INTEGER
            }),
        ),
    }
}

pub(super) fn payment(payment: PaymentId, refusal: payment::Refusal) -> Refusal {
    let id = payment.0;
    match refusal {
        payment::Refusal::Exists => payment_exists(payment),
        payment::Refusal::Unknown => payment_unknown(payment),
        payment::Refusal::NotCaptured { state } => refuse(
            "not-captured",
            format!("The payment is {state}."),
            json!({ "payment_id": id, "state": state }),
        ),
        payment::Refusal::RefundTooHigh { amount, limit } => {
            refund_too_high(payment, amount, limit)
        }
        payment::Refusal::RefundExists { refund } => refuse(
            "refund-exists",
            "There is a refund with this id already.",
            json!({ "payment_id": id, "refund_id": refund.0 }),
        ),
        payment::Refusal::NotAtGateway { amount } => not_at_gateway(amount, Amount::ZERO),
        payment::Refusal::NotUnresolved { state } => refuse(
            "not-unresolved",
            format!("The payment is {state}: there is nothing to resolve."),
            json!({ "payment_id": id, "state": state }),
        ),
        payment::Refusal::AmountDiffers { expected, actual } => refuse(
            "amount-differs",
            "Another sum was asked for.",
            json!({
                "payment_id": id,
                "expected": expected.amount.get(),
                "expected_currency": expected.currency.code(),
                "actual": actual.amount.get(),
                "actual_currency": actual.currency.code()
            }),
        ),
        payment::Refusal::GatewayPaymentDiffers { expected, actual } => refuse(
            "gateway-payment-differs",
            "The gateway knows the payment by another id.",
            json!({ "payment_id": id, "expected": expected, "actual": actual }),
        ),
    }
}

pub(super) fn order(order: OrderId, refusal: order::Refusal) -> Refusal {
    use order::Refusal as R;
    let id = order.0;
    match refusal {
        R::Exists => refuse(
            "order-exists",
            "There is an order with this id already.",
            json!({ "order_id": id }),
        ),
        R::Unknown => order_unknown(order),
        R::NoLines => refuse("no-lines", "No line is named.", json!({ "order_id": id })),
        R::TooLarge => too_large(),
        R::TotalDiffers { expected, actual } => refuse(
            "total-differs",
            "The total is another than the one expected.",
            json!({ "expected": expected.get(), "actual": actual.get() }),
        ),
        R::CurrencyDiffers { expected, actual } => currency_differs(expected, actual),
        R::WrongState { state } => {
            let values = json!({ "order_id": id, "state": state });
            refuse("wrong-state", format!("The order is {state}."), values)
        }
        R::OverCharge { due, captured, open } => refuse(
            "over-charge",
            "With it more would be paid than is due.",
            json!({ "due": due.get(), "captured": captured.get(), "open": open.get() }),
        ),
        R::PaymentExists { payment } => payment_exists(payment),
        R::PaymentUnknown { payment } => payment_unknown(payment),
        R::TooManyPayments { limit } => refuse(
            "too-many-payments",
            "The order has had too many payments.",
            json!({ "limit": limit }),
        ),
        R::PaymentOpen { open } => refuse(
            "payment-open",
            "A payment is under way; wait for its outcome.",
            json!({ "open": open.get() }),
        ),
        R::NotPaid { due, paid } => refuse(
            "not-paid",
            "Less is paid than is due.",
            json!({ "due": due.get(), "paid": paid.get() }),
        ),
        R::AlreadyPaid { due, paid } => refuse(
            "already-paid",
            "The order is paid.",
            json!({ "due": due.get(), "paid": paid.get() }),
        ),
        R::DeadlineMoved { expires_at } => refuse(
            "deadline-moved",
            "The order expires at another time, or never.",
            json!({ "expires_at": expires_at.map(|time| Time(time).to_string()) }),
        ),
        R::NothingToShip { state } => refuse(
            "nothing-to-ship",
            "Everything has been sent.",
            json!({ "order_id": id, "state": state }),
        ),
        R::LineUnknown { line } => {
            refuse("line-unknown", "The order has no such line.", json!({ "line": line }))
        }
        R::LineRepeated { line } => {
            refuse("line-repeated", "A line is named twice.", json!({ "line": line }))
        }
        R::TooManyShipped { line, shippable } => refuse(
            "too-many-shipped",
            "Fewer units of the line are left to be sent.",
            json!({ "line": line, "shippable": shippable }),
        ),
        R::TooManyReturned { line, returnable } => refuse(
            "too-many-returned",
            "Fewer units of the line can come back.",
            json!({ "line": line, "returnable": returnable }),
        ),
        R::CreditTooHigh { credit, limit } => refuse(
            "credit-too-high",
            "Less is left of what is due.",
            json!({ "credit": credit.get(), "limit": limit.get() }),
        ),
        R::RefundTooHigh { payment, amount, limit } => refund_too_high(payment, amount, limit),
        R::NotAtGateway { refund, refundable } => not_at_gateway(refund, refundable),
    }
}
