//! What the order service decides: requests and facts go in, events and an answer come out. Works
//! inside of a transaction that its caller holds; knows no bus.

use rusqlite::Connection;

use super::state::{Effect, Life, OutOfTurn, Step};
use super::store::{self, Asked, Order, Price};
use super::{OrderOut, Recorded};
use crate::database::WorkError;
use crate::events::{
    Checkout, CreateOrder, ListOrders, OrderAnswer, OrderFacts, OrderList, OrderStatus, OrderView,
    PaymentRequested, PriceChanged, ReturnOrder, UpdateOrder, Verdict, Wanted, worth,
};
use crate::limits::{
    LIST_MAX, ORDER_LINES_MAX, OWN_ORDER_ID_FIRST, QUANTITY_MAX, TRAFFIC_ORDER_ID_FIRST,
};

type Decided = Result<Recorded, WorkError>;

fn answer(verdict: Verdict, message: impl Into<String>, order: Option<&Order>) -> OrderAnswer {
    OrderAnswer {
        verdict,
        message: message.into(),
        order_id: order.map(|o| o.order_id),
        status: order.map(|o| o.life.status),
        revision: order.map_or(0, |o| o.life.revision),
    }
}

fn only(answer: OrderAnswer) -> Recorded {
    Recorded {
        events: Vec::new(),
        answer: Some(answer),
    }
}

pub(super) fn create(on: &Connection, request: &CreateOrder) -> Decided {
    if request.order_id.is_some_and(|id| id < 1) {
        let why = "an order's id is above zero";
        return Ok(only(answer(Verdict::Invalid, why, None)));
    }
    if let Some(known) = known(on, request.order_id)? {
        return Ok(only(known));
    }
    let order_id = match request.order_id {
        Some(id) => id,
        None if request.products.is_empty() => {
            let why = "an order needs at least one product";
            return Ok(only(answer(Verdict::Invalid, why, None)));
        }
        None => store::free_id(on, OWN_ORDER_ID_FIRST, TRAFFIC_ORDER_ID_FIRST)?,
    };
    let asked = match asked(on, &request.products)? {
        Ok(asked) => asked,
        Err(refused) => return Ok(only(refused)),
    };
    let head = (order_id, request.user_id, false);
    accept(on, head, &Life::new(request.checkout), &asked)
}

pub(super) fn take_back(on: &Connection, request: &ReturnOrder) -> Decided {
    if request.order_id >= 0 {
        let why = "a credit note's id is below zero";
        return Ok(only(answer(Verdict::Invalid, why, None)));
    }
    if let Some(known) = known(on, Some(request.order_id))? {
        return Ok(only(known));
    }
    let asked = match asked(on, &request.products)? {
        Ok(asked) => asked,
        Err(refused) => return Ok(only(refused)),
    };
    let mut life = Life::new(Checkout::Immediate);
    life.status = OrderStatus::PendingConfirmation;
    accept(on, (request.order_id, request.user_id, true), &life, &asked)
}

fn known(on: &Connection, order_id: Option<i64>) -> Result<Option<OrderAnswer>, WorkError> {
    let order = match order_id {
        Some(id) => store::find(on, id)?,
        None => None,
    };
    let known = |order| answer(Verdict::Done, "the order is known already", Some(&order));
    Ok(order.map(known))
}

/// Checks the lines and gives each the version of its price.
fn asked(on: &Connection, wanted: &[Wanted]) -> Result<Result<Vec<Asked>, OrderAnswer>, WorkError> {
    if wanted.len() > ORDER_LINES_MAX {
        let why = format!("an order has at most {ORDER_LINES_MAX} lines");
        return Ok(Err(answer(Verdict::Invalid, why, None)));
    }
    let mut all = Vec::with_capacity(wanted.len());
    for line in wanted {
        if !(1..=QUANTITY_MAX).contains(&line.quantity) {
            let why = format!("a quantity is 1 to {QUANTITY_MAX}");
            return Ok(Err(answer(Verdict::Invalid, why, None)));
        }
        let newest = store::newest_version(on, line.product_id)?;
        let Some(price_version) = line.price_version.or(newest) else {
            let why = format!("there is no product {}", line.product_id);
            return Ok(Err(answer(Verdict::Unknown, why, None)));
        };
        all.push(Asked {
            product_id: line.product_id,
            quantity: line.quantity,
            price_version,
        });
    }
    Ok(Ok(all))
}

/// Keeps a new order or credit note and goes as far as the known prices allow.
fn accept(
    on: &Connection,
    (order_id, user_id, credit): (i64, Option<i64>, bool),
    life: &Life,
    asked: &[Asked],
) -> Decided {
    let mut life = *life;
    if asked.is_empty() {
        life.status = OrderStatus::Rejected;
    }
    store::insert(on, (order_id, user_id, credit), &life, asked)?;
    let order = reload(on, order_id)?;
    let mut events = Vec::new();
    if asked.is_empty() {
        let why = Some("none of its lines was accepted".to_owned());
        events.push(OrderOut::Updated(facts(on, &order, why)?.into()));
    } else if !store::is_unpriced(on, order_id)? {
        events = priced(on, &order)?;
    }
    let message = match credit {
        true => "the credit note is accepted",
        false => "the order is accepted",
    };
    let order = reload(on, order_id)?;
    Ok(Recorded {
        events,
        answer: Some(answer(Verdict::Done, message, Some(&order))),
    })
}

fn reload(on: &Connection, order_id: i64) -> Result<Order, WorkError> {
    let lost = || WorkError::Broken(format!("no order {order_id} where one was written"));
    store::find(on, order_id)?.ok_or_else(lost)
}

/// Every price of an order or credit note is known now.
fn priced(on: &Connection, order: &Order) -> Result<Vec<OrderOut>, WorkError> {
    if order.credit {
        return settle_credit(on, order);
    }
    match advance(on, order, Step::Priced)? {
        Ok(events) => Ok(events),
        Err(OutOfTurn(_)) => Ok(Vec::new()),
    }
}

/// Goes one step with an order and tells what follows.
fn advance(
    on: &Connection,
    order: &Order,
    step: Step,
) -> Result<Result<Vec<OrderOut>, OutOfTurn>, WorkError> {
    let mut order = order.clone();
    let before = order.life;
    let effects = match order.life.step(step) {
        Ok(effects) => effects,
        Err(out_of_turn) => return Ok(Err(out_of_turn)),
    };
    if order.life == before {
        return Ok(Ok(Vec::new()));
    }
    store::save(on, order.order_id, &order.life)?;
    let mut events = Vec::with_capacity(effects.len());
    for effect in effects {
        events.push(tell(on, &order, effect)?);
    }
    let is_decided = before.status.is_pending() && !order.life.status.is_pending();
    if let (true, Some(user)) = (is_decided, order.user_id) {
        for credit in store::waiting_credits(on, user)? {
            events.extend(settle_credit(on, &credit)?);
        }
    }
    Ok(Ok(events))
}

fn tell(on: &Connection, order: &Order, effect: Effect) -> Result<OrderOut, WorkError> {
    Ok(match effect {
        Effect::Created => OrderOut::Created(facts(on, order, None)?.into()),
        Effect::RequestPayment => {
            let products = store::items(on, order.order_id)?;
            OrderOut::RequestPayment(PaymentRequested {
                order_id: order.order_id,
                user_id: order.user_id,
                amount_pence: worth(&products),
                products,
                checkout: order.life.checkout,
                revision: order.life.revision,
            })
        }
        Effect::Updated(why) => OrderOut::Updated(facts(on, order, why)?.into()),
        Effect::Confirmed => OrderOut::Confirmed(facts(on, order, None)?.into()),
        Effect::Cancelled(why) => OrderOut::Cancelled(facts(on, order, why)?.into()),
        Effect::Restored(why) => {
            store::restore_lines(on, order.order_id)?;
            let why = format!("{why}; the order stays as it was");
            OrderOut::Updated(facts(on, order, Some(why))?.into())
        }
        Effect::Returned => OrderOut::Returned(facts(on, order, None)?.into()),
    })
}

fn facts(on: &Connection, order: &Order, reason: Option<String>) -> Result<OrderFacts, WorkError> {
    Ok(OrderFacts {
        order_id: order.order_id,
        user_id: order.user_id,
        products: store::items(on, order.order_id)?,
        status: order.life.status,
        checkout: order.life.checkout,
        revision: order.life.revision,
        reason,
    })
}

/// Matches the lines of a credit note, once the prices are there and every earlier order of the
/// same user has ended; until then it waits.
fn settle_credit(on: &Connection, credit: &Order) -> Result<Vec<OrderOut>, WorkError> {
    if store::is_unpriced(on, credit.order_id)? || store::is_early(on, credit)? {
        return Ok(Vec::new());
    }
    for (line, item) in (0..).zip(store::items(on, credit.order_id)?) {
        let (product, quantity) = (item.product_id, item.quantity);
        if let Some(bought_with) = store::purchase(on, credit, product, quantity)? {
            let back = (line, product, quantity);
            store::match_line(on, credit.order_id, back, bought_with)?;
        }
    }
    let mut credit = credit.clone();
    credit.life.status = OrderStatus::Returned;
    store::save(on, credit.order_id, &credit.life)?;
    Ok(vec![OrderOut::Returned(facts(on, &credit, None)?.into())])
}

/// A request about an order that exists or not.
pub(super) fn request(on: &Connection, order_id: i64, step: Step, done: &str) -> Decided {
    let unknown = format!("there is no order {order_id}");
    let order = match store::find(on, order_id)? {
        Some(order) if !order.credit => order,
        _ => return Ok(only(answer(Verdict::Unknown, unknown, None))),
    };
    match advance(on, &order, step)? {
        Ok(events) => {
            let order = reload(on, order_id)?;
            Ok(Recorded {
                events,
                answer: Some(answer(Verdict::Done, done, Some(&order))),
            })
        }
        Err(OutOfTurn(why)) => {
            let why = format!("order {order_id} cannot do that: {why}");
            Ok(only(answer(Verdict::Conflict, why, Some(&order))))
        }
    }
}

/// Other products, at today's prices, before anything is paid.
pub(super) fn update(on: &Connection, request: &UpdateOrder) -> Decided {
    if request.products.is_empty() {
        let why = "an order needs at least one product; cancel it to give it up";
        return Ok(only(answer(Verdict::Invalid, why, None)));
    }
    let asked = match asked(on, &request.products)? {
        Ok(asked) => asked,
        Err(refused) => return Ok(only(refused)),
    };
    // Whether it is its turn is seen before its lines are touched.
    let order = match store::find(on, request.order_id)? {
        Some(order) if !order.credit => order,
        _ => return self::request(on, request.order_id, Step::Update, ""),
    };
    if order.life.clone().step(Step::Update).is_ok() {
        store::change_lines(on, order.order_id, &asked)?;
    }
    let done = "the stock is asked for what is new";
    self::request(on, order.order_id, Step::Update, done)
}

/// Takes a delivered order back, unless a credit note took back some of it.
pub(super) fn send_back(on: &Connection, order_id: i64) -> Decided {
    if store::is_credited(on, order_id)? {
        let why = format!("pieces of order {order_id} came back with a credit note");
        let order = store::find(on, order_id)?;
        return Ok(only(answer(Verdict::Conflict, why, order.as_ref())));
    }
    request(on, order_id, Step::SendBack, "the order is taken back")
}

/// A fact about an order. One that comes too late has no effect.
pub(super) fn fact(on: &Connection, order_id: i64, step: Step) -> Decided {
    let events = match store::find(on, order_id)? {
        Some(order) if !order.credit => advance(on, &order, step)?.unwrap_or_default(),
        _ => Vec::new(),
    };
    Ok(Recorded {
        events,
        answer: None,
    })
}

pub(super) fn price(on: &Connection, changed: &PriceChanged) -> Decided {
    store::keep_price(
        on,
        &Price {
            product_id: changed.product_id,
            version: changed.version,
            sku: changed.sku.clone(),
            name: changed.name.clone(),
            price: changed.price_pence,
        },
    )?;
    let mut events = Vec::new();
    for order_id in store::price_came(on, changed.product_id, changed.version)? {
        events.extend(priced(on, &reload(on, order_id)?)?);
    }
    Ok(Recorded {
        events,
        answer: None,
    })
}

pub(super) fn show(on: &Connection, orders: Vec<Order>) -> Result<OrderList, WorkError> {
    let mut views = Vec::with_capacity(orders.len());
    for order in orders {
        views.push(OrderView {
            order_id: order.order_id,
            user_id: order.user_id,
            status: order.life.status,
            products: store::items(on, order.order_id)?,
        });
    }
    Ok(OrderList {
        orders: views,
        logged_in: false,
    })
}

pub(super) fn list(on: &Connection, asked: &ListOrders) -> Result<OrderList, WorkError> {
    let orders = store::list(on, asked.user_id, asked.after, LIST_MAX)?;
    let logged_in = match asked.user_id {
        Some(user) => store::is_logged_in(on, user)?,
        None => false,
    };
    Ok(OrderList {
        logged_in,
        ..show(on, orders)?
    })
}
