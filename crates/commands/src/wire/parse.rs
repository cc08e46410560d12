//! Reading a command's body, and saying which field is wrong without repeating what it held.

use serde::de;

use super::{Command, cards, command as wire, object};

/// A command that can't be read. Nothing of what the client sent is repeated, save field names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {detail}")]
pub struct BadCommand {
    /// `unknown-command` or `invalid-command`.
    pub code: &'static str,
    /// Which field, as `lines[2].quantity`, where that is known.
    pub field: Option<String>,
    /// What is wrong with it.
    pub detail: String,
}

/// Longest field name that is repeated, in bytes.
const MAX_FIELD: usize = 200;

impl Command {
    /// Reads a client's command. The backend's own are unknown here.
    pub fn parse(name: &str, body: &[u8]) -> Result<Self, BadCommand> {
        Ok(match name {
            "AddProduct" => Self::AddProduct(read(body)?),
            "ChangePrice" => Self::ChangePrice(read(body)?),
            "DiscontinueProduct" => Self::DiscontinueProduct(read(body)?),
            "ReceiveStock" => Self::ReceiveStock(read(body)?),
            "AdjustStock" => Self::AdjustStock(read(body)?),
            "PlaceOrder" => {
                let order: wire::PlaceOrder = read(body)?;
                filled(&order.lines)?;
                Self::PlaceOrder(order)
            }
            "ChargePayment" => Self::ChargePayment(read(body)?),
            "RecordPayment" => Self::RecordPayment(read(body)?),
            "CancelOrder" => Self::CancelOrder(read(body)?),
            "ShipOrder" => {
                let shipment: wire::ShipOrder = read(body)?;
                shipment.lines.as_deref().map_or(Ok(()), filled)?;
                Self::ShipOrder(shipment)
            }
            "DeliverOrder" => Self::DeliverOrder(read(body)?),
            "ReturnItems" => {
                let items: wire::ReturnItems = read(body)?;
                filled(&items.lines)?;
                Self::ReturnItems(items)
            }
            "RefundPayment" => Self::RefundPayment(read(body)?),
            "ResolvePayment" => Self::ResolvePayment(read(body)?),
            _ => {
                return Err(BadCommand {
                    code: "unknown-command",
                    field: None,
                    detail: "there is no command of this name".to_owned(),
                });
            }
        })
    }
}

fn filled<T>(lines: &[T]) -> Result<(), BadCommand> {
    if lines.is_empty() {
        return Err(invalid(Some("lines".to_owned()), "expected at least one line".to_owned()));
    }
    Ok(())
}

fn invalid(field: Option<String>, detail: String) -> BadCommand {
    BadCommand { code: "invalid-command", field, detail }
}

fn read<T: de::DeserializeOwned>(body: &[u8]) -> Result<T, BadCommand> {
    let mut json = serde_json::Deserializer::from_slice(body);
    let mut track = serde_path_to_error::Track::new();
    let command = object::one(serde_path_to_error::Deserializer::new(&mut json, &mut track))
        .map_err(|error| explain(&track.path(), &error))?;
    json.end().map_err(|error| {
        let (_, detail) = without_values(&error);
        invalid(None, format!("not JSON: {detail}"))
    })?;
    Ok(command)
}

fn explain(path: &serde_path_to_error::Path, error: &serde_json::Error) -> BadCommand {
    let (named, detail) = without_values(error);
    // A part that could not be read is shown as a question mark; that names nothing.
    let known: Vec<String> = path
        .to_string()
        .split('.')
        .filter(|part| !matches!(*part, "" | "?"))
        .map(str::to_owned)
        .collect();
    let mut field = known.join(".");
    if let Some(name) = named {
        // A missing field's path ends at the object that misses it.
        if field != name && !field.ends_with(&format!(".{name}")) {
            field = if field.is_empty() { name } else { format!("{field}.{name}") };
        }
    }
    let repeatable = !field.is_empty()
        && field.len() <= MAX_FIELD
        && !field.chars().any(char::is_control)
        && !cards::found_in(&field);
    let detail = if error.is_data() { detail } else { format!("not JSON: {detail}") };
    invalid(repeatable.then_some(field), detail)
}

/// What serde says, without the values in it; and the field it names, if it does.
fn without_values(error: &serde_json::Error) -> (Option<String>, String) {
    let said = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    let said = said.strip_suffix(&place).unwrap_or(&said);
    for what in ["missing field `", "duplicate field `"] {
        // These names are ours.
        if let Some(name) = said.strip_prefix(what).and_then(|rest| rest.strip_suffix('`')) {
            return (Some(name.to_owned()), format!("{} field", what.trim_end_matches(" field `")));
        }
    }
    let expected = said.rfind(", expected ").map(|at| &said[at + 2..]);
    for what in ["invalid type: ", "invalid value: ", "invalid length "] {
        if said.starts_with(what) {
            return (None, expected.unwrap_or("wrong type").to_owned());
        }
    }
    for (what, detail) in
        [("unknown field `", "unknown field"), ("unknown variant `", "unknown value")]
    {
        if said.starts_with(what) {
            let detail = expected.map_or(detail.to_owned(), |e| format!("{detail}, {e}"));
            return (None, detail);
        }
    }
    if said.starts_with("UUID parsing failed") {
        return (None, "expected a UUID".to_owned());
    }
    (None, said.to_owned())
}
