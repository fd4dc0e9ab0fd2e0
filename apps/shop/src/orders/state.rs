//! The life of one order as a pure state machine: `(order, input) -> effects`. Knows no database,
//! no events and no clock.

use crate::events::{ASKING, Checkout, OrderStatus};

/// What the order knows of its stock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stock {
    /// Not asked for yet: a price is missing.
    Unpriced,
    /// Asked for.
    Asked,
    /// Held for this order.
    Reserved,
}

/// Everything that decides how an order goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub(crate) checkout: Checkout,
    pub(crate) status: OrderStatus,
    pub(crate) stock: Stock,
    /// Its buyer asked to pay before the stock was reserved.
    pub(crate) wants_to_pay: bool,
    /// The payment is asked for and not answered.
    pub(crate) paying: bool,
    /// How often its products were changed.
    pub(crate) revision: i64,
}

/// What happens to an order. Requests come from a buyer, the others are facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Fact: every price is known.
    Priced,
    /// Fact: the stock of this revision is held.
    Reserved(i64),
    /// Fact: there is not enough stock for this revision.
    Refused(i64, String),
    /// Request.
    Pay,
    /// Fact: the money is there.
    Paid,
    /// Fact: the money is not there.
    PaymentFailed(String),
    /// Request.
    Confirm,
    /// Request.
    Cancel,
    /// Request: pay and confirm, each as soon as it can be done.
    Settle,
    /// Request: other products.
    Update,
    /// Fact: it left.
    Shipped,
    /// Fact: it arrived.
    Delivered,
    /// Request: what arrived comes back.
    SendBack,
}

/// What follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Tell that it was created: stock is to be reserved.
    Created,
    /// Ask for the money.
    RequestPayment,
    /// Tell how it stands.
    Updated(Option<String>),
    /// Tell that it is confirmed.
    Confirmed,
    /// Tell that it is cancelled: stock and money go back.
    Cancelled(Option<String>),
    /// Go back to the products that it had, and tell how it stands.
    Restored(String),
    /// Tell that it came back: stock and money go back.
    Returned,
}

/// A request out of turn; nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfTurn(pub(crate) &'static str);

impl Life {
    /// An order that was just accepted.
    pub(crate) fn new(checkout: Checkout) -> Self {
        Self {
            checkout,
            status: OrderStatus::PendingPayment,
            stock: Stock::Unpriced,
            wants_to_pay: false,
            paying: false,
            revision: 0,
        }
    }

    /// Goes one step. A fact that comes too late, or a second time, has no effect.
    pub(crate) fn step(&mut self, step: Step) -> Result<Vec<Effect>, OutOfTurn> {
        use OrderStatus::{
            Cancelled, Confirmed, Delivered, PendingConfirmation, PendingPayment, Rejected, Shipped,
        };
        let before = (self.status, self.stock);
        Ok(match (step, before) {
            (Step::Priced, (PendingPayment, Stock::Unpriced)) => {
                self.stock = Stock::Asked;
                vec![Effect::Created]
            }
            (Step::Reserved(of), (PendingPayment, Stock::Asked)) if of == self.revision => {
                self.reserved(None)
            }
            (Step::Refused(of, why), (PendingPayment, Stock::Asked)) if of == self.revision => {
                if of > 0 {
                    self.reserved(Some(why))
                } else {
                    self.status = Rejected;
                    vec![Effect::Updated(Some(why))]
                }
            }
            (Step::Pay, _) => return self.pay(),
            (Step::Paid, (PendingPayment, _)) if self.paying => {
                self.paying = false;
                if self.checkout != Checkout::Stepwise {
                    self.status = Confirmed;
                    vec![Effect::Confirmed]
                } else {
                    self.status = PendingConfirmation;
                    vec![Effect::Updated(None)]
                }
            }
            (Step::PaymentFailed(why), (PendingPayment, _)) if self.paying => {
                self.paying = false;
                self.status = Cancelled;
                vec![Effect::Cancelled(Some(why))]
            }
            (Step::Confirm, (PendingConfirmation, _)) => {
                self.status = Confirmed;
                vec![Effect::Confirmed]
            }
            (Step::Confirm, (PendingPayment, _)) => return Err(OutOfTurn("it is not paid")),
            (Step::Cancel, (PendingPayment, _)) if self.paying => {
                return Err(OutOfTurn("its payment is under way"));
            }
            (Step::Cancel, (PendingPayment | PendingConfirmation, _)) => {
                self.wants_to_pay = false;
                self.status = Cancelled;
                vec![Effect::Cancelled(None)]
            }
            (Step::Confirm | Step::Cancel, _) => return Err(OutOfTurn("it is closed")),
            (Step::Settle, _) => return self.settle(),
            (Step::Update, _) => return self.update(),
            (Step::Shipped, (Confirmed, _)) => {
                self.status = Shipped;
                vec![Effect::Updated(None)]
            }
            (Step::Delivered, (Confirmed | Shipped, _)) => {
                self.status = Delivered;
                vec![Effect::Updated(None)]
            }
            (Step::SendBack, (Delivered, _)) => {
                self.status = OrderStatus::Returned;
                vec![Effect::Returned]
            }
            (Step::SendBack, _) => return Err(OutOfTurn("it is not delivered")),
            _ => Vec::new(),
        })
    }

    /// The stock is held: of a change that was `refused`, what was held before.
    fn reserved(&mut self, refused: Option<String>) -> Vec<Effect> {
        self.stock = Stock::Reserved;
        let mut effects: Vec<Effect> = refused.map(Effect::Restored).into_iter().collect();
        if self.wants_to_pay || self.checkout != Checkout::Stepwise {
            self.wants_to_pay = false;
            self.paying = true;
            effects.push(Effect::RequestPayment);
        } else if effects.is_empty() {
            effects.push(Effect::Updated(None));
        }
        effects
    }

    /// From here on it is paid and confirmed by itself.
    fn settle(&mut self) -> Result<Vec<Effect>, OutOfTurn> {
        match self.status {
            OrderStatus::PendingPayment => {
                if self.checkout == Checkout::Stepwise {
                    self.checkout = Checkout::Prepaid;
                }
                if self.paying || self.stock != Stock::Reserved {
                    return Ok(Vec::new());
                }
                self.paying = true;
                Ok(vec![Effect::RequestPayment])
            }
            OrderStatus::PendingConfirmation => self.step(Step::Confirm),
            OrderStatus::Confirmed | OrderStatus::Shipped | OrderStatus::Delivered => {
                Ok(Vec::new())
            }
            _ => Err(OutOfTurn("it is closed")),
        }
    }

    fn update(&mut self) -> Result<Vec<Effect>, OutOfTurn> {
        match (self.status, self.stock) {
            (OrderStatus::PendingPayment, _) if self.paying || self.wants_to_pay => {
                Err(OutOfTurn("its payment is under way"))
            }
            (OrderStatus::PendingPayment, _) if self.checkout != Checkout::Stepwise => {
                Err(OutOfTurn("it goes on by itself"))
            }
            (OrderStatus::PendingPayment, Stock::Reserved) => {
                self.revision += 1;
                self.stock = Stock::Asked;
                Ok(vec![Effect::Updated(Some(ASKING.to_owned()))])
            }
            (OrderStatus::PendingPayment, _) => Err(OutOfTurn("its stock is being reserved")),
            _ => Err(OutOfTurn("it is paid or closed")),
        }
    }

    fn pay(&mut self) -> Result<Vec<Effect>, OutOfTurn> {
        match self.status {
            OrderStatus::PendingPayment if self.paying || self.wants_to_pay => {
                Err(OutOfTurn("its payment is under way"))
            }
            OrderStatus::PendingPayment if self.checkout != Checkout::Stepwise => {
                Err(OutOfTurn("it is paid by itself"))
            }
            OrderStatus::PendingPayment if self.stock == Stock::Reserved => {
                self.paying = true;
                Ok(vec![Effect::RequestPayment])
            }
            OrderStatus::PendingPayment => {
                self.wants_to_pay = true;
                Ok(Vec::new())
            }
            OrderStatus::PendingConfirmation
            | OrderStatus::Confirmed
            | OrderStatus::Shipped
            | OrderStatus::Delivered => Err(OutOfTurn("it is paid already")),
            _ => Err(OutOfTurn("it is closed")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(checkout: Checkout, steps: &[Step]) -> (Life, Vec<Effect>) {
        let mut life = Life::new(checkout);
        let mut effects = Vec::new();
        for step in steps {
            effects.extend(life.step(step.clone()).unwrap_or_default());
        }
        (life, effects)
    }

    #[test]
    fn a_buyer_pays_and_confirms() {
        let steps = [
            Step::Priced,
            Step::Reserved(0),
            Step::Pay,
            Step::Paid,
            Step::Confirm,
        ];
        let (life, effects) = run(Checkout::Stepwise, &steps);
        assert_eq!(life.status, OrderStatus::Confirmed);
        let expected = [
            Effect::Created,
            Effect::Updated(None),
            Effect::RequestPayment,
            Effect::Updated(None),
            Effect::Confirmed,
        ];
        assert_eq!(effects, expected);
    }

    #[test]
    fn an_immediate_order_needs_nobody() {
        let steps = [Step::Priced, Step::Reserved(0), Step::Paid];
        let (life, effects) = run(Checkout::Immediate, &steps);
        assert_eq!(life.status, OrderStatus::Confirmed);
        assert_eq!(effects.last(), Some(&Effect::Confirmed));
    }

    #[test]
    fn paying_early_waits_for_the_stock() {
        let (life, effects) = run(Checkout::Stepwise, &[Step::Priced, Step::Pay]);
        assert_eq!((life.paying, effects.len()), (false, 1));
        let steps = [Step::Priced, Step::Pay, Step::Reserved(0)];
        let (life, effects) = run(Checkout::Stepwise, &steps);
        assert!(life.paying);
        assert_eq!(effects.last(), Some(&Effect::RequestPayment));
    }

    #[test]
    fn an_order_that_is_settled_is_paid_and_confirmed_by_itself() {
        let early = [Step::Priced, Step::Settle, Step::Reserved(0), Step::Paid];
        let late = [Step::Priced, Step::Reserved(0), Step::Settle, Step::Paid];
        let begun = [&late[..2], &[Step::Pay, Step::Settle, Step::Paid]].concat();
        let paid = [&late[..2], &[Step::Pay, Step::Paid, Step::Settle]].concat();
        for steps in [&early[..], &late, &begun, &paid] {
            let (life, effects) = run(Checkout::Stepwise, steps);
            assert_eq!(life.status, OrderStatus::Confirmed, "{steps:?}");
            let count = |effect| effects.iter().filter(|one| **one == effect).count();
            assert_eq!(count(Effect::RequestPayment), 1, "{steps:?}");
            assert_eq!(count(Effect::Confirmed), 1, "{steps:?}");
            let again = [steps, &[Step::Settle]].concat();
            assert_eq!(run(Checkout::Stepwise, &again).0, life);
        }
    }

    #[test]
    fn requests_out_of_turn_change_nothing() {
        let paid = [Step::Priced, Step::Reserved(0), Step::Pay, Step::Paid];
        let confirmed = [&paid[..], &[Step::Confirm]].concat();
        let refused = [Step::Priced, Step::Refused(0, "none left".into())];
        let shipped = [&confirmed[..], &[Step::Shipped]].concat();
        let back = [&shipped[..], &[Step::Delivered, Step::SendBack]].concat();
        let table: [(&[Step], Step); 18] = [
            (&back, Step::Settle),
            (&paid[..1], Step::Update),
            (&paid[..3], Step::Update),
            (&paid, Step::Update),
            (&confirmed, Step::Update),
            (&confirmed, Step::SendBack),
            (&shipped, Step::SendBack),
            (&shipped, Step::Cancel),
            (&back, Step::SendBack),
            (&back, Step::Pay),
            (&paid[..3], Step::Pay),
            (&paid[..3], Step::Cancel),
            (&paid, Step::Pay),
            (&paid[..2], Step::Confirm),
            (&confirmed, Step::Pay),
            (&confirmed, Step::Confirm),
            (&confirmed, Step::Cancel),
            (&refused, Step::Pay),
        ];
        for (before, request) in table {
            let (mut life, _) = run(Checkout::Stepwise, before);
            let copy = life;
            assert!(
                life.step(request.clone()).is_err(),
                "{before:?} {request:?}"
            );
            assert_eq!(life, copy);
        }
    }

    #[test]
    fn a_change_that_the_stock_refuses_leaves_the_order_as_it_was() {
        let begun = [Step::Priced, Step::Reserved(0), Step::Update];
        let (life, _) = run(Checkout::Stepwise, &begun);
        assert_eq!((life.stock, life.revision), (Stock::Asked, 1));
        // What the stock said of the order before the change is of no meaning any more.
        let late = [&begun[..], &[Step::Reserved(0)]].concat();
        assert_eq!(run(Checkout::Stepwise, &late).0, life);
        let refused = [&begun[..], &[Step::Refused(1, "none".into())]].concat();
        let (life, effects) = run(Checkout::Stepwise, &refused);
        assert_eq!(life.status, OrderStatus::PendingPayment);
        assert_eq!(life.stock, Stock::Reserved);
        assert_eq!(effects.last(), Some(&Effect::Restored("none".into())));
        let paid = [&begun[..], &[Step::Pay, Step::Refused(1, "none".into())]].concat();
        let (life, effects) = run(Checkout::Stepwise, &paid);
        assert!(life.paying);
        assert_eq!(effects.last(), Some(&Effect::RequestPayment));
    }

    #[test]
    fn what_is_delivered_may_come_back() {
        let steps = [
            Step::Priced,
            Step::Reserved(0),
            Step::Paid,
            Step::Shipped,
            Step::Delivered,
            Step::SendBack,
        ];
        let (life, effects) = run(Checkout::Immediate, &steps);
        assert_eq!(life.status, OrderStatus::Returned);
        assert_eq!(effects.last(), Some(&Effect::Returned));
        // Arriving is a proof of having left.
        let (life, _) = run(Checkout::Immediate, &[&steps[..3], &steps[4..5]].concat());
        assert_eq!(life.status, OrderStatus::Delivered);
        let late = [&steps[..], &[Step::Shipped, Step::Delivered]].concat();
        let (life, _) = run(Checkout::Immediate, &late);
        assert_eq!(life.status, OrderStatus::Returned);
    }

    /// Every sequence of up to six steps, doubles among them: only a delivered order leaves its
    /// final status, to come back; creation, payment request, confirmation and end are told once at
    /// most.
    #[test]
    fn no_order_of_steps_breaks_an_order() {
        let steps = [
            Step::Priced,
            Step::Reserved(0),
            Step::Refused(0, "x".into()),
            Step::Pay,
            Step::Paid,
            Step::PaymentFailed("x".into()),
            Step::Confirm,
            Step::Cancel,
            Step::Delivered,
            Step::SendBack,
        ];
        for checkout in [Checkout::Stepwise, Checkout::Immediate] {
            for number in 0..10_usize.pow(6) {
                let mut life = Life::new(checkout);
                let (mut created, mut asked, mut confirmed, mut ended) = (0, 0, 0, 0);
                for at in 0..6 {
                    let step = steps[(number / 10_usize.pow(at)) % 10].clone();
                    let before = life;
                    let effects = life.step(step).unwrap_or_default();
                    let back = before.status == OrderStatus::Delivered
                        && life.status == OrderStatus::Returned;
                    assert!(!before.status.is_final() || before == life || back);
                    ended += i32::from(life.status.is_final() && before != life && !back);
                    for effect in effects {
                        created += i32::from(effect == Effect::Created);
                        asked += i32::from(effect == Effect::RequestPayment);
                        confirmed += i32::from(effect == Effect::Confirmed);
                    }
                }
                assert!(created <= 1 && asked <= 1 && confirmed <= 1, "{number}");
                assert_eq!(ended, i32::from(life.status.is_final()), "{number}");
            }
        }
    }
}
