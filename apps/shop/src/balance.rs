//! The closing account: whether orders, stock, money and shipments of four databases add up.
//! Reads the services' accounts; changes nothing, and no service knows of it.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::database::DatabaseError;
use crate::events::{OrderStatus, ShipmentStatus};
use crate::logistics::audit::LogisticsAccount;
use crate::money::Pence;
use crate::orders::audit::{OrderRow, OrdersAccount};
use crate::payment::audit::PaymentAccount;
use crate::shop::Shop;
use crate::stock::audit::StockAccount;

/// Most complaints that are kept; all are counted.
const COMPLAINTS_MAX: usize = 20;

/// What the databases say together. Money in pence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Balance {
    /// Orders that were sold.
    pub confirmed: u64,
    /// Of these, those that are on their way.
    pub shipped: u64,
    /// Of these, those that arrived.
    pub delivered: u64,
    /// Orders that arrived and were sent back.
    pub sent_back: u64,
    /// Orders that were given up.
    pub cancelled: u64,
    /// Orders and credit notes that were not begun: none of their lines was accepted.
    pub empty: u64,
    /// Orders that were not begun: there was not enough in stock.
    pub out_of_stock: u64,
    /// Credit notes taken in.
    pub returned: u64,
    /// Orders that wait for their buyer.
    pub by_hand: u64,
    /// Orders and credit notes that should have ended by themselves and have not.
    pub unfinished: u64,
    /// Lines of credit notes that were matched to a purchase.
    pub matched_lines: i64,
    /// The worth of the orders that were sold.
    pub sold_pence: i64,
    /// Taken from buyers, and given back since for orders that were given up or came back.
    pub captured_pence: i64,
    /// Given back for these.
    pub refunded_pence: i64,
    /// Given for credit notes.
    pub credited_pence: i64,
    /// Pieces on all shelves at first.
    pub opening_pieces: i64,
    /// Pieces held for orders.
    pub held_pieces: i64,
    /// Pieces that came back.
    pub returned_pieces: i64,
    /// Pieces that can be ordered.
    pub available_pieces: i64,
    /// What does not add up; empty when all does. At most twenty.
    pub complaints: Vec<String>,
}

impl Balance {
    /// Draws the account of a shop. Its memory follows the number of orders.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn of(shop: &Shop) -> Result<Self, DatabaseError> {
        let orders = shop.orders.account().await?;
        let stock = shop.stock.account().await?;
        let payment = shop.payment.account().await?;
        let logistics = shop.logistics.account().await?;
        let mut balance = Self {
            matched_lines: orders.matched_lines,
            ..Self::default()
        };
        balance.count(&orders);
        balance.money(&orders, &payment);
        balance.pieces(&orders, &stock);
        balance.shipments(&orders, &logistics);
        Ok(balance)
    }

    /// Whether everything adds up and every order that goes on by itself has ended.
    #[must_use]
    pub fn is_even(&self) -> bool {
        self.complaints.is_empty() && self.unfinished == 0
    }

    fn complain(&mut self, complaint: String) {
        if self.complaints.len() < COMPLAINTS_MAX {
            self.complaints.push(complaint);
        }
    }

    fn count(&mut self, account: &OrdersAccount) {
        for (id, order) in &account.orders {
            let lines = account.pieces.range((*id, i64::MIN)..=(*id, i64::MAX));
            let has_lines = lines.count() > 0;
            if order.status.is_sold() {
                self.confirmed += 1;
                self.sold_pence += order.worth_pence;
            }
            let count = match order.status {
                OrderStatus::Delivered => &mut self.delivered,
                status if order.immediate && !status.is_final() => &mut self.unfinished,
                OrderStatus::Shipped => &mut self.shipped,
                // A person sends it off.
                OrderStatus::Confirmed => continue,
                OrderStatus::Cancelled => &mut self.cancelled,
                OrderStatus::Rejected if has_lines => &mut self.out_of_stock,
                OrderStatus::Rejected => &mut self.empty,
                OrderStatus::Returned if order.credit => &mut self.returned,
                OrderStatus::Returned => &mut self.sent_back,
                OrderStatus::PendingPayment | OrderStatus::PendingConfirmation => &mut self.by_hand,
            };
            *count += 1;
        }
    }

    fn money(&mut self, orders: &OrdersAccount, payment: &PaymentAccount) {
        for (id, order) in &orders.orders {
            let paid = payment.payments.get(id);
            let kept = paid
                .filter(|p| p.captured)
                .map(|p| p.amount_pence - p.refunded_pence);
            let (expected, given) = match (order.credit, order.status) {
                (true, _) => (None, kept),
                (false, status) if status.is_held() => (Some(order.worth_pence), kept),
                (false, OrderStatus::PendingPayment) => continue,
                (false, _) => (None, kept.filter(|pence| *pence != 0)),
            };
            if expected != given {
                let status = order.status.as_str();
                self.complain(format!(
                    "order {id} is {status}: {} should be paid for it, {} is",
                    pounds(expected),
                    pounds(given),
                ));
            }
            self.credit(*id, order, payment);
        }
        for (id, paid) in payment.payments.iter().filter(|(_, p)| p.captured) {
            self.captured_pence += paid.amount_pence;
            self.refunded_pence += paid.refunded_pence;
            if !orders.orders.contains_key(id) {
                self.complain(format!("order {id} was paid for and nobody knows it"));
            }
        }
        self.credited_pence = payment.credits.values().sum();
        let is_decided = orders
            .orders
            .values()
            .all(|order| !order.status.is_pending());
        if is_decided && self.captured_pence - self.refunded_pence != self.sold_pence {
            self.complain(format!(
                "orders worth {} were sold, but {} was captured and {} refunded",
                Pence(self.sold_pence),
                Pence(self.captured_pence),
                Pence(self.refunded_pence),
            ));
        }
    }

    fn credit(&mut self, id: i64, order: &OrderRow, payment: &PaymentAccount) {
        let due =
            (order.credit && order.status == OrderStatus::Returned).then_some(order.worth_pence);
        let given = payment.credits.get(&id).copied();
        if due != given {
            self.complain(format!(
                "credit note {id}: {} is due for it, {} was given",
                pounds(due),
                pounds(given),
            ));
        }
    }

    fn pieces(&mut self, orders: &OrdersAccount, stock: &StockAccount) {
        let mut held: BTreeMap<i64, i64> = BTreeMap::new();
        let mut returned: BTreeMap<i64, i64> = BTreeMap::new();
        for ((id, product), pieces) in &orders.pieces {
            let Some(order) = orders.orders.get(id) else {
                self.complain(format!("order {id} has lines and nobody knows it"));
                continue;
            };
            if !stock.shelf.contains_key(product) {
                continue;
            }
            if order.credit && order.status == OrderStatus::Returned {
                *returned.entry(*product).or_default() += pieces;
            }
            let due = match order.status {
                status if status.is_held() && !order.credit => Some(*pieces),
                OrderStatus::PendingPayment => continue,
                _ => None,
            };
            let there = stock.held.get(&(*id, *product)).copied();
            if due != there {
                self.complain(format!(
                    "order {id} is {}: {} pieces of product {product} should be held, {} are",
                    order.status.as_str(),
                    due.unwrap_or(0),
                    there.unwrap_or(0),
                ));
            }
        }
        for ((id, product), pieces) in &stock.held {
            *held.entry(*product).or_default() += pieces;
            if !orders.pieces.contains_key(&(*id, *product)) {
                self.complain(format!(
                    "pieces are held for order {id} and nobody knows it"
                ));
            }
        }
        for (product, shelf) in &stock.shelf {
            let held = held.get(product).copied().unwrap_or(0);
            let back = returned.get(product).copied().unwrap_or(0);
            let expected = shelf.opening - held + shelf.returned;
            if shelf.available != expected || shelf.available < 0 || shelf.returned != back {
                self.complain(format!(
                    "product {product}: {} pieces are available and {} came back; of {} at first \
                     {held} are held and orders say that {back} came back",
                    shelf.available, shelf.returned, shelf.opening,
                ));
            }
            self.opening_pieces += shelf.opening;
            self.held_pieces += held;
            self.returned_pieces += shelf.returned;
            self.available_pieces += shelf.available;
        }
    }
}

impl Balance {
    /// Every shipment belongs to an order and is as far as it; every order that was sold has one,
    /// with the same pieces.
    fn shipments(&mut self, orders: &OrdersAccount, logistics: &LogisticsAccount) {
        for (id, order) in &orders.orders {
            let shipment = logistics.shipments.get(id);
            let is = shipment.map(|shipment| shipment.status);
            if !order.credit && !fits(order.status, is) {
                self.complain(format!(
                    "order {id} is {} and its shipment is {}",
                    order.status.as_str(),
                    is.map_or("not there", ShipmentStatus::as_str),
                ));
            }
            let mut packed: BTreeMap<i64, i64> = BTreeMap::new();
            for line in shipment.iter().flat_map(|shipment| &shipment.products) {
                *packed.entry(line.product_id).or_default() += line.quantity;
            }
            let lines = orders.pieces.range((*id, i64::MIN)..=(*id, i64::MAX));
            let sold = lines.map(|((_, product), pieces)| (*product, *pieces));
            if order.status.is_sold() && !packed.into_iter().eq(sold) {
                self.complain(format!(
                    "the shipment of order {id} has other pieces than it"
                ));
            }
        }
        for id in logistics.shipments.keys() {
            if orders.orders.get(id).is_none_or(|order| order.credit) {
                self.complain(format!(
                    "there is a shipment of order {id} and nobody knows it"
                ));
            }
        }
    }
}

/// Whether an order and its shipment stand as they should once all news have arrived.
fn fits(order: OrderStatus, shipment: Option<ShipmentStatus>) -> bool {
    use ShipmentStatus::{Cancelled, Created, Delivered, Planned, Returned, Shipped};
    match order {
        // One whose prices are not all known has none yet.
        OrderStatus::PendingPayment => matches!(shipment, None | Some(Planned)),
        OrderStatus::PendingConfirmation => shipment == Some(Planned),
        OrderStatus::Confirmed => shipment == Some(Created),
        OrderStatus::Shipped => shipment == Some(Shipped),
        OrderStatus::Delivered => shipment == Some(Delivered),
        // One that was empty, or given up before its prices were known, never had one.
        OrderStatus::Cancelled | OrderStatus::Rejected => {
            matches!(shipment, None | Some(Cancelled))
        }
        OrderStatus::Returned => shipment == Some(Returned),
    }
}

/// An amount for people; none is nothing.
fn pounds(pence: Option<i64>) -> String {
    match pence {
        Some(pence) => Pence(pence).to_string(),
        None => "nothing".to_owned(),
    }
}
