//! What is said on `order-topic` and `logistics-topic`, where plain clients of Kafka speak with the
//! shop. They send JSON and no attributes, so what a message is stands in its `type`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tidemill::Message;

use super::{Checkout, ShipmentStatus, Wanted};
use crate::limits::{DATA_NESTED_MAX, ORDER_LINES_MAX, OWN_ORDER_ID_FIRST, QUANTITY_MAX};

/// A message on `order-topic` that came without attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Message)]
#[message(type = "order-topic", topic = "order-topic")]
#[serde(try_from = "Value", into = "Value")]
pub struct OrderSaid(pub Said);

/// A message on `logistics-topic` that came without attributes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Message)]
#[message(type = "logistics-topic", topic = "logistics-topic")]
#[serde(try_from = "Value", into = "Value")]
pub struct LogisticsSaid(pub Said);

/// The order service did what a message on `order-topic` asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Message)]
#[message(type = "order_told", topic = "logistics-topic", key = "order_id")]
pub struct OrderTold {
    /// Which order.
    pub order_id: i64,
    /// What the message was: `order-create`, `order-update` or `order-delete`.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The logistics service tells how a shipment stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, Message)]
#[message(type = "logistics_reported", topic = "order-topic", key = "order_id")]
pub struct LogisticsReported {
    /// Always `logistics-update`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of which order.
    pub order_id: i64,
    /// What is reported.
    pub data: Report,
}

/// How a shipment stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Which shipment.
    pub logistics_id: i64,
    /// Of which order.
    pub order_id: i64,
    /// How it stands.
    pub status: ShipmentStatus,
}

impl LogisticsReported {
    /// The report of a shipment.
    #[must_use]
    pub fn new(logistics_id: i64, order_id: i64, status: ShipmentStatus) -> Self {
        let data = Report {
            logistics_id,
            order_id,
            status,
        };
        Self {
            kind: UPDATE_LOGISTICS.to_owned(),
            order_id,
            data,
        }
    }
}

const CREATE: &str = "order-create";
const UPDATE: &str = "order-update";
const DELETE: &str = "order-delete";
const UPDATE_LOGISTICS: &str = "logistics-update";

/// What a message asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// `order-create`.
    Create(NewOrder),
    /// `order-update` with other products.
    Change {
        /// Which order.
        order_id: i64,
        /// What is wanted in place of what was.
        products: Vec<Wanted>,
    },
    /// `order-update` with the status `confirmed`: pay and confirm.
    Settle {
        /// Which order.
        order_id: i64,
    },
    /// `order-delete`, or `order-update` with the status `cancelled`.
    Cancel {
        /// Which order.
        order_id: i64,
        /// By an `order-delete`.
        deleted: bool,
    },
    /// `logistics-update`.
    Carrier(CarrierSaid),
    /// A type that has no meaning.
    Strange(String),
}

/// A new order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewOrder {
    /// The id it is to have; the shop gives one if none is named. A known id changes nothing.
    pub order_id: Option<i64>,
    /// Whose; none is a guest.
    pub user_id: Option<i64>,
    /// What is wanted.
    pub products: Vec<Wanted>,
    /// How it goes on.
    pub checkout: Checkout,
}

/// A carrier's word: a shipment by its id, by its order, or by both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CarrierSaid {
    /// Which shipment.
    pub shipment_id: Option<i64>,
    /// Of which order.
    pub order_id: Option<i64>,
    /// How it stands.
    pub status: ShipmentStatus,
}

impl Said {
    /// The `type` of the message.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::Create(_) => CREATE,
            Self::Change { .. } | Self::Settle { .. } | Self::Cancel { deleted: false, .. } => {
                UPDATE
            }
            Self::Cancel { deleted: true, .. } => DELETE,
            Self::Carrier(_) => UPDATE_LOGISTICS,
            Self::Strange(kind) => kind,
        }
    }

    fn read(message: Value) -> Result<Self, String> {
        let (outer, key) = opened(message)?;
        let kind = match outer.get("type") {
            Some(Value::String(kind)) => kind.clone(),
            Some(_) => return Err("\"type\" is no text".to_owned()),
            None => guessed(&outer)?.to_owned(),
        };
        let fields = Fields {
            fields: data(outer)?,
            key,
        };
        let said = match kind.as_str() {
            CREATE => fields.create().map(Self::Create),
            UPDATE => fields.update(),
            DELETE => Ok(Self::Cancel {
                order_id: fields.order_id()?,
                deleted: true,
            }),
            UPDATE_LOGISTICS => fields.carried().map(Self::Carrier),
            _ => Ok(Self::Strange(kind.clone())),
        };
        said.map_err(|why| format!("{kind}: {why}"))
    }

    /// A message that reads as this one.
    fn written(&self) -> Value {
        let mut data = match self {
            Self::Create(order) => serde_json::json!({
                "order_id": order.order_id,
                "user_id": order.user_id,
                "products": order.products,
                "checkout": order.checkout,
            }),
            Self::Change { order_id, products } => {
                serde_json::json!({"order_id": order_id, "products": products})
            }
            Self::Settle { order_id } => {
                serde_json::json!({"order_id": order_id, "status": "confirmed"})
            }
            // As `order-delete` it needs no status, which does no harm.
            Self::Cancel { order_id, .. } => {
                serde_json::json!({"order_id": order_id, "status": "cancelled"})
            }
            Self::Carrier(said) => serde_json::json!({
                "logistics_id": said.shipment_id,
                "order_id": said.order_id,
                "status": said.status,
            }),
            Self::Strange(_) => Value::Object(Map::new()),
        };
        if let Some(fields) = data.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        serde_json::json!({"type": self.kind(), "data": data})
    }
}

/// The message itself, out of the envelope `{"key", "value"}` with JSON in its value, if it is in
/// one; and that key, if it is an order's id.
fn opened(message: Value) -> Result<(Map<String, Value>, Option<i64>), String> {
    let object = |value| match value {
        Value::Object(object) => Ok(object),
        _ => Err("the message is no JSON object".to_owned()),
    };
    let mut outer = object(message)?;
    if outer.contains_key("type") || outer.contains_key("data") || !outer.contains_key("value") {
        return Ok((outer, None));
    }
    let inner = match outer.remove("value").unwrap_or_default() {
        Value::String(text) => {
            let wrong = |why| format!("the JSON in \"value\" is broken: {why}");
            serde_json::from_str(&text).map_err(wrong)?
        }
        other => other,
    };
    let key = match outer.get("key") {
        Some(Value::String(key)) => key.parse().ok(),
        Some(key) => key.as_i64(),
        None => None,
    };
    Ok((object(inner)?, key))
}

/// What a message without a `type` can only be.
fn guessed(message: &Map<String, Value>) -> Result<&'static str, String> {
    if message.contains_key("products") {
        Ok(CREATE)
    } else if message.contains_key("logistics_id") && message.contains_key("status") {
        Ok(UPDATE_LOGISTICS)
    } else {
        Err(format!(
            "there is no \"type\"; write {CREATE}, {UPDATE}, {DELETE} or {UPDATE_LOGISTICS}"
        ))
    }
}

/// The fields: those in `data`, however often it is nested, or those beside `type`.
fn data(mut message: Map<String, Value>) -> Result<Map<String, Value>, String> {
    for _ in 0..DATA_NESTED_MAX {
        message = match message.remove("data") {
            None => return Ok(message),
            Some(Value::Object(inner)) => inner,
            Some(_) => return Err("\"data\" is no JSON object".to_owned()),
        };
    }
    Ok(message)
}

struct Fields {
    fields: Map<String, Value>,
    /// The key of the envelope.
    key: Option<i64>,
}

impl Fields {
    fn number(&self, name: &str) -> Result<Option<i64>, String> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Some(None),
            Some(Value::String(text)) => text.parse().map(Some).ok(),
            Some(value) => value.as_i64().map(Some),
        }
        .ok_or_else(|| format!("{name:?} is no whole number"))
    }

    fn text(&self, name: &str) -> Result<Option<&str>, String> {
        match self.fields.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(format!("{name:?} is no text")),
        }
    }

    fn order_id(&self) -> Result<i64, String> {
        let id = self.number("order_id")?.or(self.key);
        id.ok_or_else(|| "there is no \"order_id\"".to_owned())
    }

    fn create(&self) -> Result<NewOrder, String> {
        let order_id = self.number("order_id")?.or(self.key);
        if order_id.is_some_and(|id| !(1..OWN_ORDER_ID_FIRST).contains(&id)) {
            let last = OWN_ORDER_ID_FIRST - 1;
            return Err(format!(
                "an \"order_id\" is 1 to {last}; without one the shop gives one"
            ));
        }
        let checkout = match self.text("checkout")? {
            None | Some("stepwise") => Checkout::Stepwise,
            Some("prepaid") => Checkout::Prepaid,
            Some("immediate") => Checkout::Immediate,
            Some(_) => return Err("\"checkout\" is stepwise, prepaid or immediate".to_owned()),
        };
        Ok(NewOrder {
            order_id,
            user_id: self.number("user_id")?,
            products: self.products()?,
            checkout,
        })
    }

    fn update(&self) -> Result<Said, String> {
        let order_id = self.order_id()?;
        match (self.text("status")?, self.fields.contains_key("products")) {
            (None, true) => Ok(Said::Change {
                order_id,
                products: self.products()?,
            }),
            (Some("confirmed"), false) => Ok(Said::Settle { order_id }),
            (Some("cancelled"), false) => Ok(Said::Cancel {
                order_id,
                deleted: false,
            }),
            (Some(_), false) => {
                let why = "a \"status\" is set to confirmed or cancelled; others follow from \
                           payment and logistics";
                Err(why.to_owned())
            }
            _ => Err("write either \"products\" or \"status\"".to_owned()),
        }
    }

    fn products(&self) -> Result<Vec<Wanted>, String> {
        let Some(Value::Array(lines)) = self.fields.get("products") else {
            return Err("there is no list \"products\"".to_owned());
        };
        if lines.is_empty() || lines.len() > ORDER_LINES_MAX {
            return Err(format!("an order has 1 to {ORDER_LINES_MAX} products"));
        }
        lines.iter().map(wanted).collect()
    }

    fn carried(&self) -> Result<CarrierSaid, String> {
        let status = self.text("status")?;
        let status = status.ok_or_else(|| "there is no \"status\"".to_owned())?;
        let mut known = ShipmentStatus::ALL.into_iter();
        let Some(status) = known.find(|known| known.as_str() == status) else {
            return Err("\"status\" is shipped or delivered".to_owned());
        };
        let (shipment_id, order_id) = (self.number("logistics_id")?, self.number("order_id")?);
        let order_id = order_id.or(self.key.filter(|_| shipment_id.is_none()));
        if shipment_id.or(order_id).is_none() {
            return Err("there is neither \"logistics_id\" nor \"order_id\"".to_owned());
        }
        Ok(CarrierSaid {
            shipment_id,
            order_id,
            status,
        })
    }
}

/// A line: a product's id alone, or an object as a cart shows it.
fn wanted(line: &Value) -> Result<Wanted, String> {
    let fields = match line {
        Value::Object(fields) => Fields {
            fields: fields.clone(),
            key: None,
        },
        Value::Number(_) => Fields {
            fields: Map::from_iter([("product_id".to_owned(), line.clone())]),
            key: None,
        },
        _ => return Err("a product is its id, or an object with \"product_id\"".to_owned()),
    };
    let product_id = match fields.number("product_id")? {
        Some(id) => Some(id),
        None => fields.number("id")?,
    };
    let quantity = fields.number("quantity")?.unwrap_or(1);
    if !(1..=QUANTITY_MAX).contains(&quantity) {
        return Err(format!("a \"quantity\" is 1 to {QUANTITY_MAX}"));
    }
    Ok(Wanted {
        product_id: product_id.ok_or_else(|| "a product without \"product_id\"".to_owned())?,
        quantity,
        price_version: None,
    })
}

macro_rules! as_said {
    ($($name:ident)+) => {$(
        impl TryFrom<Value> for $name {
            type Error = String;

            fn try_from(message: Value) -> Result<Self, String> {
                Said::read(message).map(Self)
            }
        }

        impl From<$name> for Value {
            fn from(said: $name) -> Self {
                said.0.written()
            }
        }
    )+};
}

as_said!(OrderSaid LogisticsSaid);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Said, String> {
        let said: Result<OrderSaid, _> = serde_json::from_str(text);
        said.map(|said| said.0).map_err(|why| why.to_string())
    }

    fn line(product_id: i64, quantity: i64) -> Wanted {
        Wanted {
            product_id,
            quantity,
            price_version: None,
        }
    }

    #[test]
    fn an_order_is_read_however_it_is_wrapped() {
        let order = Said::Create(NewOrder {
            order_id: Some(42),
            user_id: Some(7),
            products: vec![line(1, 2), line(3, 1), line(5, 1)],
            checkout: Checkout::Prepaid,
        });
        let fields = r#""order_id": 42, "user_id": "7", "checkout": "prepaid", "x": [],
            "products": [{"product_id": 1, "quantity": 2}, {"id": 3}, 5]"#;
        let flat = format!(r#"{{"type": "order-create", {fields}}}"#);
        let inner = serde_json::to_string(&flat).unwrap();
        let keyed = fields.replacen(r#""order_id": 42, "#, "", 1);
        let keyed = serde_json::to_string(&format!("{{{keyed}}}")).unwrap();
        for text in [
            flat,
            format!(r#"{{"type": "order-create", "data": {{{fields}}}}}"#),
            format!(r#"{{"type": "order-create", "data": {{"data": {{{fields}}}}}}}"#),
            format!(r#"{{"key": "42", "value": {inner}}}"#),
            format!(r#"{{"key": "42", "value": {keyed}}}"#),
            format!(r#"{{{fields}}}"#),
        ] {
            assert_eq!(read(&text).as_ref(), Ok(&order), "{text}");
        }
        let written = serde_json::to_string(&OrderSaid(order.clone())).unwrap();
        assert_eq!(read(&written), Ok(order));
    }

    #[test]
    fn the_other_types_are_read() {
        let table = [
            (
                r#"{"type": "order-update", "data": {"order_id": 1, "products": [2]}}"#,
                Said::Change {
                    order_id: 1,
                    products: vec![line(2, 1)],
                },
            ),
            (
                r#"{"type": "order-update", "data": {"order_id": 1, "status": "confirmed"}}"#,
                Said::Settle { order_id: 1 },
            ),
            (
                r#"{"type": "order-delete", "data": {"data": {"order_id": 1}}}"#,
                Said::Cancel {
                    order_id: 1,
                    deleted: true,
                },
            ),
            (
                r#"{"type": "logistics-update", "data": {"data":
                    {"logistics_id": 3, "status": "shipped", "driver": "Kim"}}}"#,
                Said::Carrier(CarrierSaid {
                    shipment_id: Some(3),
                    order_id: None,
                    status: ShipmentStatus::Shipped,
                }),
            ),
            (r#"{"type": "hello"}"#, Said::Strange("hello".into())),
        ];
        for (text, said) in table {
            assert_eq!(read(text).as_ref(), Ok(&said), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("[]", "no JSON object"),
            ("{}", "there is no \"type\""),
            (r#"{"type": 1}"#, "\"type\" is no text"),
            (r#"{"key": "1", "value": "{"}"#, "in \"value\" is broken"),
            (r#"{"type": "order-create", "data": 1}"#, "\"data\" is no"),
            (r#"{"type": "order-create"}"#, "no list \"products\""),
            (
                r#"{"type": "order-create", "products": []}"#,
                "1 to 10000 products",
            ),
            (
                r#"{"type": "order-create", "products": [{}]}"#,
                "without \"product_id\"",
            ),
            (
                r#"{"type": "order-create", "products": [1], "order_id": 1000000000}"#,
                "1 to 999999999",
            ),
            (
                r#"{"type": "order-update", "order_id": 1}"#,
                "either \"products\" or",
            ),
            (
                r#"{"type": "order-update", "order_id": 1, "status": "lost"}"#,
                "confirmed or cancelled",
            ),
            (r#"{"type": "order-delete"}"#, "no \"order_id\""),
            (
                r#"{"type": "logistics-update", "logistics_id": 1, "status": "gone"}"#,
                "shipped or delivered",
            ),
            (
                r#"{"type": "logistics-update", "status": "shipped"}"#,
                "neither",
            ),
        ] {
            let why = read(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
