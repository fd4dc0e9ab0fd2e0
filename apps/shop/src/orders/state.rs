//! The life of one order as a pure state machine: `(order, input) -> effects`. Knows no database,
//! no events and no clock.

use crate::events::{Checkout, OrderStatus};

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
}

/// What happens to an order. Requests come from a buyer, the others are facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Fact: every price is known.
    Priced,
    /// Fact: the stock is held.
    Reserved,
    /// Fact: there is not enough stock.
    Refused(String),
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
        }
    }

    /// Goes one step. A fact that comes too late, or a second time, has no effect.
    pub(crate) fn step(&mut self, step: Step) -> Result<Vec<Effect>, OutOfTurn> {
        use OrderStatus::{Cancelled, Confirmed, PendingConfirmation, PendingPayment, Rejected};
        let before = (self.status, self.stock);
        Ok(match (step, before) {
            (Step::Priced, (PendingPayment, Stock::Unpriced)) => {
                self.stock = Stock::Asked;
                vec![Effect::Created]
            }
            (Step::Reserved, (PendingPayment, Stock::Asked)) => {
                self.stock = Stock::Reserved;
                if self.wants_to_pay || self.checkout == Checkout::Immediate {
                    self.wants_to_pay = false;
                    self.paying = true;
                    vec![Effect::RequestPayment]
                } else {
                    vec![Effect::Updated(None)]
                }
            }
            (Step::Refused(why), (PendingPayment, Stock::Asked)) => {
                self.status = Rejected;
                vec![Effect::Updated(Some(why))]
            }
            (Step::Pay, _) => return self.pay(),
            (Step::Paid, (PendingPayment, _)) if self.paying => {
                self.paying = false;
                if self.checkout == Checkout::Immediate {
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
            _ => Vec::new(),
        })
    }

    fn pay(&mut self) -> Result<Vec<Effect>, OutOfTurn> {
        match self.status {
            OrderStatus::PendingPayment if self.paying || self.wants_to_pay => {
                Err(OutOfTurn("its payment is under way"))
            }
            OrderStatus::PendingPayment if self.checkout == Checkout::Immediate => {
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
            OrderStatus::PendingConfirmation | OrderStatus::Confirmed => {
                Err(OutOfTurn("it is paid already"))
            }
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
            Step::Reserved,
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
        let steps = [Step::Priced, Step::Reserved, Step::Paid];
        let (life, effects) = run(Checkout::Immediate, &steps);
        assert_eq!(life.status, OrderStatus::Confirmed);
        assert_eq!(effects.last(), Some(&Effect::Confirmed));
    }

    #[test]
    fn paying_early_waits_for_the_stock() {
        let (life, effects) = run(Checkout::Stepwise, &[Step::Priced, Step::Pay]);
        assert_eq!((life.paying, effects.len()), (false, 1));
        let steps = [Step::Priced, Step::Pay, Step::Reserved];
        let (life, effects) = run(Checkout::Stepwise, &steps);
        assert!(life.paying);
        assert_eq!(effects.last(), Some(&Effect::RequestPayment));
    }

    #[test]
    fn requests_out_of_turn_change_nothing() {
        let paid = [Step::Priced, Step::Reserved, Step::Pay, Step::Paid];
        let confirmed = [&paid[..], &[Step::Confirm]].concat();
        let refused = [Step::Priced, Step::Refused("none left".into())];
        let table: [(&[Step], Step); 8] = [
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

    /// Every sequence of up to six steps, each also with a double: no final status is left, and
    /// creation, payment request and end are told once at most.
    #[test]
    fn no_order_of_steps_breaks_an_order() {
        let steps = [
            Step::Priced,
            Step::Reserved,
            Step::Refused("x".into()),
            Step::Pay,
            Step::Paid,
            Step::PaymentFailed("x".into()),
            Step::Confirm,
            Step::Cancel,
        ];
        for checkout in [Checkout::Stepwise, Checkout::Immediate] {
            for number in 0..8_usize.pow(6) {
                let mut life = Life::new(checkout);
                let (mut created, mut asked, mut ended) = (0, 0, 0);
                for at in 0..6 {
                    let step = steps[(number / 8_usize.pow(at)) % 8].clone();
                    let before = life;
                    let effects = life.step(step).unwrap_or_default();
                    assert!(!before.status.is_final() || before == life);
                    for effect in effects {
                        created += i32::from(effect == Effect::Created);
                        asked += i32::from(effect == Effect::RequestPayment);
                        let ends = matches!(effect, Effect::Confirmed | Effect::Cancelled(_))
                            || life.status == OrderStatus::Rejected;
                        ended += i32::from(ends);
                    }
                }
                assert!(created <= 1 && asked <= 1 && ended <= 1, "{number}");
                assert_eq!(ended == 1, life.status.is_final(), "{number}");
            }
        }
    }
}
