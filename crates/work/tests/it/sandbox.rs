//! The sandbox gateway behaves as real gateways do under failure, and keeps its books.

use daybook_work::{
    ChargeOutcome, ChargeRequest, Gateway, GatewayError, GatewayToken, RefundOutcome,
    RefundRequest, SandboxGateway, sandbox::tokens,
};
use uuid::Uuid;

use crate::kit::on_database;

fn charge(payment_id: Uuid, token: &str) -> ChargeRequest {
    ChargeRequest {
        payment_id,
        amount: 1_250,
        currency: "EUR".into(),
        token: GatewayToken::new(token),
        idempotency_key: format!("charge:{payment_id}"),
    }
}

fn refund(payment_id: Uuid, amount: i64) -> RefundRequest {
    let refund_id = Uuid::now_v7();
    RefundRequest {
        refund_id,
        payment_id,
        amount,
        currency: "EUR".into(),
        idempotency_key: format!("refund:{refund_id}"),
    }
}

fn declined(reason: &str) -> ChargeOutcome {
    ChargeOutcome::Declined { reason: reason.into() }
}

fn failed(reason: &str) -> RefundOutcome {
    RefundOutcome::Failed { reason: reason.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_key_charges_once_however_many_ask_at_once() {
    on_database(|database| async move {
        let gateway = SandboxGateway::new(database.pool.clone());
        let payment = Uuid::now_v7();
        let asking: Vec<_> = (0..20)
            .map(|_| {
                let gateway = gateway.clone();
                tokio::spawn(async move { gateway.charge(charge(payment, tokens::SUCCESS)).await })
            })
            .collect();
        let mut answers = Vec::new();
        for answer in asking {
            answers.push(answer.await.unwrap().unwrap());
        }
        answers.dedup();
        assert_eq!(answers.len(), 1, "{answers:?}");
        assert_eq!(gateway.look_up(payment).await.unwrap(), answers);
        let ledger = gateway.ledger().await.unwrap();
        assert_eq!(ledger.len(), 1);
        assert_eq!((ledger[0].payment_id, ledger[0].amount), (payment, 1_250));
    })
    .await;
}

#[tokio::test]
async fn a_key_is_for_one_request() {
    on_database(|database| async move {
        let gateway = SandboxGateway::new(database.pool.clone());
        let payment = Uuid::now_v7();
        gateway.charge(charge(payment, tokens::SUCCESS)).await.unwrap();
        let other = ChargeRequest { amount: 1_251, ..charge(payment, tokens::SUCCESS) };
        assert!(matches!(gateway.charge(other).await, Err(GatewayError::Rejected(_))));
        assert_eq!(gateway.ledger().await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn two_keys_charge_twice_and_the_books_show_it() {
    on_database(|database| async move {
        let gateway = SandboxGateway::new(database.pool.clone());
        let payment = Uuid::now_v7();
        gateway.charge(charge(payment, tokens::SUCCESS)).await.unwrap();
        let again =
            ChargeRequest { idempotency_key: "another".into(), ..charge(payment, tokens::SUCCESS) };
        gateway.charge(again).await.unwrap();
        assert_eq!(gateway.ledger().await.unwrap().len(), 2);
        assert_eq!(gateway.look_up(payment).await.unwrap().len(), 2);
    })
    .await;
}

#[tokio::test]
async fn a_decline_takes_nothing_and_stays_declined() {
    on_database(|database| async move {
        let gateway = SandboxGateway::new(database.pool.clone());
        for (token, reason) in [
            (tokens::DECLINED, "card_declined"),
            (tokens::INSUFFICIENT_FUNDS, "insufficient_funds"),
            ("4242", "token_unknown"),
        ] {
            let payment = Uuid::now_v7();
            for _ in 0..2 {
                let answer = gateway.charge(charge(payment, token)).await;
                assert_eq!(answer, Ok(declined(reason)));
            }
            assert_eq!(gateway.look_up(payment).await, Ok(vec![declined(reason)]));
        }
        assert_eq!(gateway.ledger().await, Ok(vec![]));
    })
    .await;
}

#[tokio::test]
async fn a_lost_answer_is_found_again() {
    on_database(|database| async move {
        let gateway = SandboxGateway::new(database.pool.clone());
        let payment = Uuid::now_v7();
        let first = gateway.charge(charge(payment, tokens::TIMEOUT_AFTER_CHARGE)).await;
        assert_eq!(first, Err(GatewayError::Timeout));
        let found = gateway.look_up(payment).await.unwrap();
        assert!(matches!(&found[..], [ChargeOutcome::Captured { amount: 1_250, .. }]));
        let second = gateway.charge(charge(payment, tokens::TIMEOUT_AFTER_CHARGE)).await.unwrap();
        assert_eq!(vec![second], found, "the same key, the same charge");
        assert_eq!(gateway.ledger().await.unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_lost_request_did_nothing() {
    on_database(|database| async move {
        let gateway = SandboxGateway::new(database.pool.clone());
        let payment = Uuid::now_v7();
        let first = gateway.charge(charge(payment, tokens::TIMEOUT_BEFORE)).await;
        assert_eq!(first, Err(GatewayError::Timeout));
        assert_eq!(gateway.look_up(payment).await, Ok(vec![]));
        let second = gateway.charge(charge(payment, tokens::TIMEOUT_BEFORE)).await;
        assert!(matches!(second, Ok(ChargeOutcome::Captured { .. })));
    })
    .await;
}

#[tokio::test]
async fn a_stored_failure_is_repeated_for_ever() {
    on_database(|database| async move {
        let gateway = SandboxGateway::new(database.pool.clone());
        let payment = Uuid::now_v7();
        let ask = || gateway.charge(charge(payment, tokens::SERVER_ERROR));
        assert_eq!(ask().await, Err(GatewayError::Server { replayed: false }));
        assert_eq!(ask().await, Err(GatewayError::Server { replayed: true }));
        assert_eq!(ask().await, Err(GatewayError::Server { replayed: true }));
        assert_eq!(gateway.look_up(payment).await, Ok(vec![]));
    })
    .await;
}

#[tokio::test]
async fn refunds_are_idempotent_and_never_exceed_the_charge() {
    on_database(|database| async move {
        let gateway = SandboxGateway::new(database.pool.clone());
        let payment = Uuid::now_v7();
        gateway.charge(charge(payment, tokens::SUCCESS)).await.unwrap();

        let part = refund(payment, 1_000);
        let first = gateway.refund(part.clone()).await.unwrap();
        assert!(matches!(&first, RefundOutcome::Refunded { amount: 1_000, .. }));
        assert_eq!(gateway.refund(part.clone()).await.as_ref(), Ok(&first));
        assert_eq!(gateway.look_up_refund(part.refund_id).await, Ok(vec![first]));

        let too_much = refund(payment, 251);
        assert_eq!(gateway.refund(too_much.clone()).await, Ok(failed("refund_exceeds_charge")));
        assert_eq!(gateway.look_up_refund(too_much.refund_id).await, Ok(vec![]));
        let dollars = RefundRequest { currency: "USD".into(), ..refund(payment, 1) };
        assert_eq!(gateway.refund(dollars).await, Ok(failed("currency_differs")));
        assert_eq!(gateway.refund(refund(Uuid::now_v7(), 1)).await, Ok(failed("payment_unknown")));
        assert_eq!(gateway.ledger().await.unwrap()[0].refunded, 1_000);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refunds_at_once_share_one_charge() {
    on_database(|database| async move {
        let gateway = SandboxGateway::new(database.pool.clone());
        let payment = Uuid::now_v7();
        gateway.charge(charge(payment, tokens::SUCCESS)).await.unwrap();
        let asking: Vec<_> = (0..10)
            .map(|_| {
                let gateway = gateway.clone();
                tokio::spawn(async move { gateway.refund(refund(payment, 500)).await.unwrap() })
            })
            .collect();
        let mut refunded = 0;
        for answer in asking {
            refunded += i32::from(matches!(
                answer.await.unwrap(),
                RefundOutcome::Refunded { amount: 500, .. }
            ));
        }
        assert_eq!(refunded, 2);
        assert_eq!(gateway.ledger().await.unwrap()[0].refunded, 1_000);
    })
    .await;
}
