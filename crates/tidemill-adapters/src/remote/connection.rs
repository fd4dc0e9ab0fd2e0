//! The task that has the connection: moves frames both ways, and connects anew when it breaks, for
//! as long as somebody has a handle on the bus.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{Sink, SinkExt, StreamExt};
use tidemill_core::wire::{Call, ClientFrame, ServerFrame, Welcome};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::{Error, Message};

use super::address::{Address, ConnectError, Socket};
use super::backoff::Backoff;
use super::limits::PING_EVERY;
use super::link::Command;
use super::session::{Session, Then};

/// How a connection ended.
enum End {
    /// Nobody has the bus any longer.
    Unused,
    Broke(String),
    /// The server closes, and asks to be left alone so long.
    Closed(Duration),
}

/// See the module.
pub(super) struct Connection {
    address: Address,
    session: Session,
    commands: mpsc::UnboundedReceiver<Command>,
    /// Those that came while there was no connection.
    early: Vec<Command>,
}

/// A connection on which hello was said and answered.
pub(super) struct Open {
    sink: SplitSink<Socket, Message>,
    stream: SplitStream<Socket>,
    pub(super) welcome: Welcome,
}

impl Connection {
    /// One try: connects and says hello.
    pub(super) async fn open(address: &Address, hello: String) -> Result<Open, ConnectError> {
        let socket = address.connect().await?;
        let protocol = |why: String| ConnectError::Protocol {
            address: address.to_string(),
            why,
        };
        let (mut sink, mut stream) = socket.split();
        let welcomed = async {
            sink.send(Message::text(hello))
                .await
                .map_err(|error| protocol(error.to_string()))?;
            loop {
                let Some(bytes) = message(stream.next().await).map_err(protocol)? else {
                    continue;
                };
                return match ServerFrame::decode(&bytes) {
                    Ok(ServerFrame::Welcome(welcome)) => Ok(welcome),
                    Ok(ServerFrame::Error(failed)) => Err(protocol(failed.message)),
                    Ok(_) => Err(protocol("it does not answer a hello".into())),
                    Err(malformed) => Err(protocol(malformed.fault.to_string())),
                };
            }
        };
        let welcome = timeout(address.settings.connect, welcomed).await;
        let welcome = welcome.map_err(|_| protocol("it does not answer a hello".into()))??;
        Ok(Open {
            sink,
            stream,
            welcome,
        })
    }

    pub(super) fn new(
        address: Address,
        session: Session,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        Self {
            address,
            session,
            commands,
            early: Vec::new(),
        }
    }

    /// Runs until nobody has the bus any longer. The session knows of the first connection.
    pub(super) async fn run(mut self, first: Open) {
        let mut open = first;
        loop {
            let began = Instant::now();
            let mut wait = Duration::ZERO;
            match self.serve(&mut open).await {
                End::Unused => {
                    let bye = ClientFrame::Call(Call::Bye {}).encode();
                    let said = open.sink.send(Message::text(bye));
                    let _ = timeout(Duration::from_secs(1), said).await;
                    break;
                }
                End::Broke(why) => {
                    tracing::warn!(server = %self.address, why, "the connection broke");
                }
                End::Closed(asked) => {
                    tracing::warn!(server = %self.address, "the server closes the connection");
                    wait = asked;
                }
            }
            drop(open);
            // One that breaks at once must not be made anew without a pause.
            let pause = began.elapsed() < Duration::from_secs(1) || !wait.is_zero();
            match self.reconnect(wait, pause).await {
                Some(next) => open = next,
                None => break,
            }
            self.session.welcomed(&open.welcome);
            for command in self.early.drain(..) {
                self.session.take(command);
            }
            tracing::info!(server = %self.address, "connected again");
        }
        self.session.end();
    }

    /// Tries until there is a connection, first after `wait`, and a pause if there is to be one;
    /// `None` where nobody has the bus any longer. What is left to be said then needs no
    /// connection: the server gives back what members held when their session is over.
    async fn reconnect(&mut self, wait: Duration, pause: bool) -> Option<Open> {
        let (commands, early) = (&mut self.commands, &mut self.early);
        let unused = async {
            while let Some(command) = commands.recv().await {
                early.push(command);
            }
        };
        let hello = self.session.hello();
        tokio::select! {
            biased;
            () = unused => None,
            open = Self::open_again(&self.address, &hello, wait, pause) => Some(open),
        }
    }

    async fn open_again(
        address: &Address,
        hello: &str,
        mut wait: Duration,
        mut pause: bool,
    ) -> Open {
        let mut backoff = Backoff::new();
        loop {
            if pause {
                tokio::time::sleep(wait + backoff.wait()).await;
            }
            (pause, wait) = (true, Duration::ZERO);
            match Self::open(address, hello.to_owned()).await {
                Ok(open) => return open,
                Err(error) => tracing::debug!(%error, "not connected yet"),
            }
        }
    }

    async fn serve(&mut self, open: &mut Open) -> End {
        let silence_max = self.address.settings.silence;
        let mut pings = interval(PING_EVERY.min(silence_max / 3));
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut heard = Instant::now();
        let mut unsent = false;
        loop {
            let sending = !self.session.outgoing.is_empty();
            tokio::select! {
                came = open.stream.next() => {
                    heard = Instant::now();
                    match self.heard(message(came)) {
                        Ok(Then::GoOn) => {}
                        Ok(Then::Reconnect(wait)) => return End::Closed(wait),
                        Err(why) => return End::Broke(why),
                    }
                }
                // Reading goes on while the server takes nothing.
                moved = step(&mut open.sink, sending), if sending || unsent => {
                    if let Err(error) = moved.and_then(|()| self.send(&mut open.sink, sending)) {
                        return End::Broke(error.to_string());
                    }
                    unsent = sending;
                }
                command = self.commands.recv() => match command {
                    Some(command) => self.take(command),
                    None => return End::Unused,
                },
                _ = pings.tick() => {
                    if heard.elapsed() > silence_max {
                        return End::Broke("the server says nothing any longer".into());
                    }
                    self.session.outgoing.push_back(ClientFrame::Call(Call::Ping {}).encode());
                }
            }
        }
    }

    /// Sends the next frame, for which there is room.
    fn send(&mut self, sink: &mut SplitSink<Socket, Message>, sending: bool) -> Result<(), Error> {
        let next = match sending {
            true => self.session.outgoing.pop_front(),
            false => None,
        };
        match next {
            Some(text) => Pin::new(sink).start_send(Message::text(text)),
            None => Ok(()),
        }
    }

    /// Takes all commands that are there.
    fn take(&mut self, first: Command) {
        self.session.take(first);
        while let Ok(command) = self.commands.try_recv() {
            self.session.take(command);
        }
    }

    fn heard(&mut self, came: Result<Option<Bytes>, String>) -> Result<Then, String> {
        let Some(bytes) = came? else {
            return Ok(Then::GoOn);
        };
        match ServerFrame::decode(&bytes) {
            Ok(frame) => Ok(self.session.heard(frame)),
            Err(malformed) => Err(malformed.fault.to_string()),
        }
    }
}

/// Waits until another frame may be sent, or all that was are gone.
async fn step(sink: &mut SplitSink<Socket, Message>, sending: bool) -> Result<(), Error> {
    poll_fn(|cx| match sending {
        true => Pin::new(&mut *sink).poll_ready(cx),
        false => Pin::new(&mut *sink).poll_flush(cx),
    })
    .await
}

/// The frame that came; none where it was something else.
fn message(came: Option<Result<Message, Error>>) -> Result<Option<Bytes>, String> {
    match came {
        Some(Ok(Message::Text(text))) => Ok(Some(text.into())),
        Some(Ok(Message::Close(_))) | None => Err("the server closed the connection".into()),
        Some(Ok(_)) => Ok(None),
        Some(Err(error)) => Err(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt;

    use super::super::link::Link;
    use super::*;

    #[tokio::test]
    async fn nobody_connects_for_a_bus_that_nobody_has_any_longer() {
        let (link, commands) = Link::new(Arc::default());
        // As a member does that is dropped while there is no connection.
        link.tell(Command::Leave(1));
        drop(link);
        let address = Address::parse("tidemill://127.0.0.1:1").unwrap();
        let session = Session::new(Arc::default(), 0);
        let mut connection = Connection::new(address, session, commands);
        assert!(connection.reconnect(Duration::ZERO, true).await.is_none());
    }

    #[tokio::test]
    async fn who_waits_to_connect_again_ends_with_the_last_handle() {
        let (link, commands) = Link::new(Arc::default());
        let address = Address::parse("tidemill://127.0.0.1:1").unwrap();
        let session = Session::new(Arc::default(), 0);
        let mut connection = Connection::new(address, session, commands);
        let again = connection.reconnect(Duration::from_secs(3600), true);
        let mut again = std::pin::pin!(again);
        let other = link.clone();
        for link in [link, other] {
            assert!((&mut again).now_or_never().is_none());
            link.tell(Command::Leave(1));
            drop(link);
        }
        // Without an hour's sleep.
        assert!(matches!((&mut again).now_or_never(), Some(None)));
    }
}
