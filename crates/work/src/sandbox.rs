//! A payment gateway to try things with: no real money, but real books of its own.
//!
//! Its tokens behave as cards and networks do (see [`tokens`]). It is idempotent by key as real
//! gateways are: the same key gets the same answer for ever, a failure included. Its books stand in
//! schema `sandbox` and survive whoever called it.

use async_trait::async_trait;
use deadpool_postgres::{Pool, Transaction};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use crate::gateway::{
    ChargeOutcome, ChargeRequest, Gateway, GatewayError, RefundOutcome, RefundRequest,
};

/// The tokens that the sandbox knows. Any other is declined as `token_unknown`.
pub mod tokens {
    /// Captured.
    pub const SUCCESS: &str = "tok_success";
    /// Declined as `card_declined`.
    pub const DECLINED: &str = "tok_declined";
    /// Declined as `insufficient_funds`.
    pub const INSUFFICIENT_FUNDS: &str = "tok_insufficient_funds";
    /// Captured, but the answer is lost. Asked again with the same key: captured.
    pub const TIMEOUT_AFTER_CHARGE: &str = "tok_timeout_after_charge";
    /// The first request of a key is lost on the way: nothing happens. The next one is captured.
    pub const TIMEOUT_BEFORE: &str = "tok_timeout_before";
    /// Captured, one minor unit more than asked for.
    pub const WRONG_AMOUNT: &str = "tok_wrong_amount";
    /// Nothing happens, and the gateway fails: now and, with the same key, for ever.
    pub const SERVER_ERROR: &str = "tok_server_error";
}

mod embedded {
    #![allow(missing_docs, reason = "generated")]
    refinery::embed_migrations!("migrations");
}

/// Brings schema `sandbox` to this program's version. Safe to run again.
pub async fn migrate(client: &mut tokio_postgres::Client) -> Result<(), refinery::Error> {
    embedded::migrations::runner()
        .set_migration_table_name("daybook_migrations_sandbox")
        .run_async(client)
        .await
        .map(|_report| ())
}

/// The sandbox, on its own schema of a database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SandboxGateway {
    pool: Pool,
}

/// Money that the sandbox has taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// The sandbox's id of the charge.
    pub gateway_payment_id: String,
    /// The caller's id of the payment.
    pub payment_id: Uuid,
    /// Minor units taken.
    pub amount: i64,
    /// ISO 4217.
    pub currency: String,
    /// Minor units given back.
    pub refunded: i64,
}

/// What the sandbox remembers under a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Charge(ChargeOutcome),
    Refund(RefundOutcome),
    ServerError,
}

impl SandboxGateway {
    /// A sandbox on a pool whose user may read and insert in schema `sandbox`.
    pub fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// Everything taken and not merely declined, oldest first.
    pub async fn ledger(&self) -> Result<Vec<LedgerEntry>, GatewayError> {
        let client = self.pool.get().await.map_err(unreachable_gateway)?;
        let rows = client
            .query(include_str!("sandbox/ledger.sql"), &[])
            .await
            .map_err(unreachable_gateway)?;
        rows.iter()
            .map(|row| {
                Ok(LedgerEntry {
                    gateway_payment_id: row.try_get("id")?,
                    payment_id: row.try_get("payment_id")?,
                    amount: row.try_get("amount")?,
                    currency: row.try_get("currency")?,
                    refunded: row.try_get("refunded")?,
                })
            })
            .collect::<Result<_, tokio_postgres::Error>>()
            .map_err(unreachable_gateway)
    }
}

#[async_trait]
impl Gateway for SandboxGateway {
    fn name(&self) -> &'static str {
        "sandbox"
    }

    async fn charge(&self, request: ChargeRequest) -> Result<ChargeOutcome, GatewayError> {
        check_amount(request.amount, &request.currency)?;
        let mut client = self.pool.get().await.map_err(unreachable_gateway)?;
        let key = &request.idempotency_key;
        let token = request.token.reveal();
        if token == tokens::TIMEOUT_BEFORE {
            let lost = client.execute(include_str!("sandbox/lose.sql"), &[key]).await;
            if lost.map_err(unreachable_gateway)? == 1 {
                return Err(GatewayError::Timeout);
            }
        }
        let asked = json!({
            "charge": request.payment_id, "amount": request.amount, "currency": request.currency,
        });
        let answer = answer_for(&request, format!("sbx_ch_{}", Uuid::now_v7().simple()));
        let books = client.transaction().await.map_err(unreachable_gateway)?;
        let (answer, replayed) = remember(&books, key, &asked, answer).await?;
        if !replayed && let Answer::Charge(outcome) = &answer {
            write_charge(&books, &request, outcome).await?;
        }
        books.commit().await.map_err(unreachable_gateway)?;
        if token == tokens::TIMEOUT_AFTER_CHARGE && !replayed {
            return Err(GatewayError::Timeout);
        }
        match answer {
            Answer::Charge(outcome) => Ok(outcome),
            Answer::ServerError => Err(GatewayError::Server { replayed }),
            Answer::Refund(_) => Err(other_request()),
        }
    }

    async fn look_up(&self, payment_id: Uuid) -> Result<Vec<ChargeOutcome>, GatewayError> {
        let client = self.pool.get().await.map_err(unreachable_gateway)?;
        let rows = client
            .query(include_str!("sandbox/find_charges.sql"), &[&payment_id])
            .await
            .map_err(unreachable_gateway)?;
        rows.iter()
            .map(|row| {
                Ok(if row.try_get::<_, &str>("status")? == "captured" {
                    ChargeOutcome::Captured {
                        gateway_payment_id: row.try_get("id")?,
                        amount: row.try_get("amount")?,
                        currency: row.try_get("currency")?,
                    }
                } else {
                    let reason: Option<String> = row.try_get("reason")?;
                    ChargeOutcome::Declined { reason: reason.unwrap_or_default() }
                })
            })
            .collect::<Result<_, tokio_postgres::Error>>()
            .map_err(unreachable_gateway)
    }

    async fn refund(&self, request: RefundRequest) -> Result<RefundOutcome, GatewayError> {
        check_amount(request.amount, &request.currency)?;
        let mut client = self.pool.get().await.map_err(unreachable_gateway)?;
        let key = &request.idempotency_key;
        let asked = json!({
            "refund": request.refund_id, "payment": request.payment_id,
            "amount": request.amount, "currency": request.currency,
        });
        let books = client.transaction().await.map_err(unreachable_gateway)?;
        let (charge, outcome) = decide_refund(&books, &request).await?;
        let (answer, replayed) = remember(&books, key, &asked, Answer::Refund(outcome)).await?;
        let Answer::Refund(outcome) = answer else { return Err(other_request()) };
        if !replayed
            && let RefundOutcome::Refunded { gateway_refund_id, amount, currency } = &outcome
        {
            let params: [&(dyn ToSql + Sync); 5] =
                [gateway_refund_id, &request.refund_id, &charge, amount, currency];
            books
                .execute(include_str!("sandbox/add_refund.sql"), &params)
                .await
                .map_err(unreachable_gateway)?;
        }
        books.commit().await.map_err(unreachable_gateway)?;
        Ok(outcome)
    }

    async fn look_up_refund(&self, refund_id: Uuid) -> Result<Vec<RefundOutcome>, GatewayError> {
        let client = self.pool.get().await.map_err(unreachable_gateway)?;
        let rows = client
            .query(include_str!("sandbox/find_refunds.sql"), &[&refund_id])
            .await
            .map_err(unreachable_gateway)?;
        rows.iter()
            .map(|row| {
                Ok(RefundOutcome::Refunded {
                    gateway_refund_id: row.try_get("id")?,
                    amount: row.try_get("amount")?,
                    currency: row.try_get("currency")?,
                })
            })
            .collect::<Result<_, tokio_postgres::Error>>()
            .map_err(unreachable_gateway)
    }
}

/// What a token makes of a request that arrives for the first time.
fn answer_for(request: &ChargeRequest, id: String) -> Answer {
    let captured = |amount| {
        let currency = request.currency.clone();
        Answer::Charge(ChargeOutcome::Captured { gateway_payment_id: id, amount, currency })
    };
    let declined = |reason: &str| Answer::Charge(ChargeOutcome::Declined { reason: reason.into() });
    match request.token.reveal() {
        tokens::SUCCESS | tokens::TIMEOUT_AFTER_CHARGE | tokens::TIMEOUT_BEFORE => {
            captured(request.amount)
        }
        tokens::WRONG_AMOUNT => captured(request.amount + 1),
        tokens::DECLINED => declined("card_declined"),
        tokens::INSUFFICIENT_FUNDS => declined("insufficient_funds"),
        tokens::SERVER_ERROR => Answer::ServerError,
        _ => declined("token_unknown"),
    }
}

/// The answer of a key, and whether it is an earlier one. The first of several at once writes, the
/// others wait for it.
async fn remember(
    books: &Transaction<'_>,
    key: &str,
    asked: &Value,
    answer: Answer,
) -> Result<(Answer, bool), GatewayError> {
    let stored = serde_json::to_value(&answer).map_err(unreachable_gateway)?;
    let inserted = books
        .execute(include_str!("sandbox/remember_answer.sql"), &[&key, asked, &stored])
        .await
        .map_err(unreachable_gateway)?;
    if inserted == 1 {
        return Ok((answer, false));
    }
    let row = books
        .query_one(include_str!("sandbox/find_answer.sql"), &[&key])
        .await
        .map_err(unreachable_gateway)?;
    if row.get::<_, Value>("request") != *asked {
        return Err(other_request());
    }
    let earlier = serde_json::from_value(row.get("answer")).map_err(unreachable_gateway)?;
    Ok((earlier, true))
}

async fn write_charge(
    books: &Transaction<'_>,
    request: &ChargeRequest,
    outcome: &ChargeOutcome,
) -> Result<(), GatewayError> {
    let (id, status, amount, currency, reason) = match outcome {
        ChargeOutcome::Captured { gateway_payment_id, amount, currency } => {
            (gateway_payment_id.clone(), "captured", *amount, currency, None)
        }
        ChargeOutcome::Declined { reason } => (
            format!("sbx_de_{}", Uuid::now_v7().simple()),
            "declined",
            request.amount,
            &request.currency,
            Some(reason),
        ),
    };
    let params: [&(dyn ToSql + Sync); 6] =
        [&id, &request.payment_id, &status, &amount, currency, &reason];
    books
        .execute(include_str!("sandbox/add_charge.sql"), &params)
        .await
        .map(|_written| ())
        .map_err(unreachable_gateway)
}

/// The charge to refund from, locked, and what a first request for this refund gets.
async fn decide_refund(
    books: &Transaction<'_>,
    request: &RefundRequest,
) -> Result<(Option<String>, RefundOutcome), GatewayError> {
    let failed = |reason: &str| RefundOutcome::Failed { reason: reason.into() };
    let charge = books
        .query_opt(include_str!("sandbox/lock_charge.sql"), &[&request.payment_id])
        .await
        .map_err(unreachable_gateway)?;
    let Some(charge) = charge else { return Ok((None, failed("payment_unknown"))) };
    let id: String = charge.get("id");
    let refunded: i64 = books
        .query_one(include_str!("sandbox/sum_refunds.sql"), &[&id])
        .await
        .map_err(unreachable_gateway)?
        .get("refunded");
    let outcome = if charge.get::<_, &str>("currency") != request.currency {
        failed("currency_differs")
    } else if request.amount > charge.get::<_, i64>("amount") - refunded {
        failed("refund_exceeds_charge")
    } else {
        RefundOutcome::Refunded {
            gateway_refund_id: format!("sbx_re_{}", Uuid::now_v7().simple()),
            amount: request.amount,
            currency: request.currency.clone(),
        }
    };
    Ok((Some(id), outcome))
}

fn check_amount(amount: i64, currency: &str) -> Result<(), GatewayError> {
    let code = currency.len() == 3 && currency.bytes().all(|byte| byte.is_ascii_uppercase());
    if amount > 0 && amount < i64::MAX && code {
        Ok(())
    } else {
        Err(GatewayError::Rejected("amount or currency is not valid".into()))
    }
}

fn other_request() -> GatewayError {
    GatewayError::Rejected("the idempotency key was used for another request".into())
}

fn unreachable_gateway(error: impl std::fmt::Display) -> GatewayError {
    GatewayError::Unreachable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::GatewayToken;

    fn answer(token: &str) -> Answer {
        let request = ChargeRequest {
            payment_id: Uuid::nil(),
            amount: 1_250,
            currency: "EUR".into(),
            token: GatewayToken::new(token),
            idempotency_key: "k".into(),
        };
        answer_for(&request, "id".into())
    }

    fn captured(amount: i64) -> Answer {
        Answer::Charge(ChargeOutcome::Captured {
            gateway_payment_id: "id".into(),
            amount,
            currency: "EUR".into(),
        })
    }

    fn declined(reason: &str) -> Answer {
        Answer::Charge(ChargeOutcome::Declined { reason: reason.into() })
    }

    #[test]
    fn each_token_behaves_as_its_name_says() {
        assert_eq!(answer(tokens::SUCCESS), captured(1_250));
        assert_eq!(answer(tokens::TIMEOUT_AFTER_CHARGE), captured(1_250));
        assert_eq!(answer(tokens::TIMEOUT_BEFORE), captured(1_250));
        assert_eq!(answer(tokens::WRONG_AMOUNT), captured(1_251));
        assert_eq!(answer(tokens::DECLINED), declined("card_declined"));
        assert_eq!(answer(tokens::INSUFFICIENT_FUNDS), declined("insufficient_funds"));
        assert_eq!(answer(tokens::SERVER_ERROR), Answer::ServerError);
        assert_eq!(answer("tok_of_nobody"), declined("token_unknown"));
    }

    #[test]
    fn amounts_that_are_none_are_refused() {
        assert!(check_amount(1, "EUR").is_ok());
        for (amount, currency) in [(0, "EUR"), (-1, "EUR"), (i64::MAX, "EUR"), (1, "eur"), (1, "")]
        {
            assert!(matches!(check_amount(amount, currency), Err(GatewayError::Rejected(_))));
        }
    }

    #[test]
    fn an_answer_is_stored_as_it_is_read() {
        for answer in [captured(5), declined("card_declined"), Answer::ServerError] {
            let stored = serde_json::to_value(&answer).unwrap();
            assert_eq!(serde_json::from_value::<Answer>(stored).unwrap(), answer);
        }
    }
}
