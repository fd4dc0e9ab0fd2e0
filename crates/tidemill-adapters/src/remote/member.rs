//! A member of a group over the network, and the settling of what it got.

use std::sync::Arc;

use tidemill_core::wire::{
    Answer, Call, ClientFrame, Delivered, Fault, ServerFrame, Settle as Frame,
};
use tidemill_core::{
    BoxFuture, Catalogue, CatalogueError, Commit, Delivery, Generation, GroupMember, Position,
    PublishError, PullError, Settle, SettleError, Settlement, Ticket,
};

use super::joined::{Found, Joined};
use super::link::{Again, Command, Link, Lost};

/// What a program holds.
pub(super) struct RemoteMember {
    pub(super) link: Link,
    pub(super) joined: Arc<Joined>,
    pub(super) frame_max_bytes: usize,
}

impl GroupMember for RemoteMember {
    fn pull(
        &mut self,
        credit: usize,
    ) -> BoxFuture<'_, Result<Vec<(Delivery, Settlement)>, PullError>> {
        Box::pin(async move {
            let number = self.joined.number;
            loop {
                match self.joined.take(credit) {
                    Found::Deliveries(taken, epoch) => {
                        let taken = taken.into_iter();
                        return Ok(taken.map(|one| self.delivery(one, epoch)).collect());
                    }
                    Found::Fault(fault) => {
                        // Also one that was refused when it came back is tried again.
                        self.link.tell(Command::Rejoin(number));
                        return Err(fault.into_pull());
                    }
                    Found::Nothing(new) => {
                        if new {
                            self.link.tell(Command::Credit(number));
                        }
                    }
                }
                self.joined.arrived.notified().await;
            }
        })
    }

    /// A server that does not know of catalogues is told nothing. What it answers otherwise is
    /// logged.
    fn describe(&mut self, catalogue: Arc<Catalogue>) -> Result<(), CatalogueError> {
        let number = self.joined.number;
        self.link.tell(Command::Describe(number, catalogue));
        Ok(())
    }
}

impl RemoteMember {
    fn delivery(&self, one: Delivered, epoch: u64) -> (Delivery, Settlement) {
        let delivery = Delivery {
            event: one.event,
            position: one.position.clone(),
            attempt: one.attempt,
            group: self.joined.asked.group.clone(),
        };
        let ticket = Ticket {
            position: one.position,
            generation: Generation(epoch),
            attempt: one.attempt,
        };
        let settler = Settler {
            link: self.link.clone(),
            joined: Arc::clone(&self.joined),
            epoch,
            delivery: one.delivery,
            frame_max_bytes: self.frame_max_bytes,
        };
        (delivery, Settlement::new(Arc::new(settler), ticket))
    }
}

impl Drop for RemoteMember {
    fn drop(&mut self) {
        self.link.tell(Command::Leave(self.joined.number));
    }
}

/// Settles one delivery.
#[derive(Clone)]
struct Settler {
    link: Link,
    joined: Arc<Joined>,
    epoch: u64,
    delivery: u64,
    frame_max_bytes: usize,
}

impl Settler {
    async fn settle_now(
        self,
        ticket: Ticket,
        commit: Commit,
    ) -> Result<Vec<Position>, SettleError> {
        // The server has given it back with the session before.
        if self.joined.epoch() != self.epoch {
            return Err(SettleError::Stale);
        }
        let effects = commit.effects.events.len();
        let id = self.link.number();
        let text = ClientFrame::Settle(Frame {
            id,
            subscription: self.joined.number,
            delivery: self.delivery,
            commit,
        })
        .encode();
        if text.len() > self.frame_max_bytes {
            return Err(SettleError::Effect(PublishError::TooLarge {
                size_bytes: text.len(),
                max_bytes: self.frame_max_bytes,
            }));
        }
        match self.link.call(id, text, Again::InSession(self.epoch)).await {
            Ok(Ok(ServerFrame::Answer(answer))) => Ok(answer.positions.unwrap_or_default()),
            Ok(Ok(_)) => Err(SettleError::Other("the server gave another answer".into())),
            Ok(Err(fault)) => Err(fault.into_settle()),
            Err(Lost) => self.look(ticket.position, effects).await,
        }
    }

    /// The session is gone, and the answer with it. Either the commit was kept, or the event is
    /// given out again: both keep its effects once.
    async fn look(self, position: Position, effects: usize) -> Result<Vec<Position>, SettleError> {
        let group = self.joined.asked.group.clone();
        let Position {
            topic,
            partition,
            offset,
        } = position;
        let asked = self.link.ask(|id| Call::IsSettled {
            id,
            group,
            topic,
            partition,
            offset,
        });
        match asked.await {
            // Without events there is nothing more to say of it.
            Ok(ServerFrame::Answer(Answer {
                settled: Some(true),
                ..
            })) if effects == 0 => Ok(Vec::new()),
            Ok(_) => Err(SettleError::Stale),
            Err(Fault::Closed) => Err(SettleError::Indeterminate("the runtime has ended".into())),
            Err(fault) => Err(fault.into_settle()),
        }
    }
}

impl Settle for Settler {
    fn settle(
        &self,
        ticket: Ticket,
        commit: Commit,
    ) -> BoxFuture<'static, Result<Vec<Position>, SettleError>> {
        Box::pin(self.clone().settle_now(ticket, commit))
    }

    fn abandon(&self, _: Ticket) {
        let id = self.link.number();
        let call = Call::Abandon {
            id,
            subscription: self.joined.number,
            delivery: self.delivery,
        };
        self.link.post(id, call, Again::InSession(self.epoch));
    }
}
