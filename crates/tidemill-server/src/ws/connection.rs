//! One WebSocket connection: hello, then frames in and out, until one side ends it. May not know
//! what calls do.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tidemill_core::wire::{
    CALLS_MAX, Call, ClientFrame, Failed, Fault, KEEP_DEFAULT_MS, KEEP_MAX_MS, Limits, News,
    ServerFrame, Welcome,
};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::calls::Calls;
use super::outbox::{Outbox, Parcel};
use super::session::{Attached, Session};
use crate::app::App;
use crate::limits;

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    /// The client took its leave: its session is over.
    Left,
    /// It broke, and may come back.
    Broke,
    /// Another connection goes on with the session.
    Replaced,
    /// The server closes.
    Closing,
    /// The client did not keep to the protocol.
    Refused(u16, &'static str),
}

/// Runs a connection to its end.
pub(super) async fn run(app: &Arc<App>, socket: Socket, number: u64) {
    let (sink, mut stream) = socket.split();
    let (outbox, parcels) = Outbox::new(app.memory.clone());
    let writer = tokio::spawn(write(sink, parcels));
    let end = match hello(app, &mut stream, &outbox, number).await {
        Ok((session, attached)) => {
            let end = read(app, &mut stream, &outbox, &session, &attached).await;
            let at_once = matches!(end, End::Left | End::Closing);
            app.ws.sessions.leave(session, attached, at_once);
            end
        }
        Err(end) => end,
    };
    take_leave(&outbox, end).await;
    drop(outbox);
    let abort = writer.abort_handle();
    // Of one that was replaced nobody waits for what is left.
    let patience = match end {
        End::Replaced => limits::WS_REPLACED_PATIENCE,
        _ => limits::WRITE_STALL_TIMEOUT,
    };
    if timeout(patience, writer).await.is_err() {
        abort.abort();
    }
}

/// Says why the connection ends, as far as the client can still hear it.
async fn take_leave(outbox: &Outbox, end: End) {
    let (code, why) = match end {
        End::Left => (1000, "bye"),
        End::Broke => (1001, "nothing came for too long"),
        End::Replaced => (4000, "the session goes on over another connection"),
        End::Closing => (1001, "the server is closing"),
        End::Refused(code, why) => (code, why),
    };
    let bye = (end != End::Left).then(|| {
        let retry_ms = limits::WS_RETRY_MS;
        let why = why.to_owned();
        ServerFrame::News(News::Bye { retry_ms, why }).encode()
    });
    // A client that takes nothing is not waited for.
    let _ = timeout(Duration::from_secs(1), outbox.close(bye, code, why)).await;
}

/// The first frame, and the session that it begins or goes on with.
async fn hello(
    app: &Arc<App>,
    stream: &mut SplitStream<Socket>,
    outbox: &Outbox,
    number: u64,
) -> Result<(Arc<Session>, Attached), End> {
    let first = async {
        loop {
            match text(stream.next().await)? {
                ControlFlow::Break(bytes) => return Ok(bytes),
                ControlFlow::Continue(()) => {}
            }
        }
    };
    let first = tokio::select! {
        first = timeout(limits::WS_HELLO_TIMEOUT, first) => first,
        () = app.closed() => return Err(End::Closing),
    };
    let first = first.map_err(|_| End::Refused(1008, "no hello came in time"))??;
    let hello = match ClientFrame::decode(&first) {
        Ok(ClientFrame::Call(Call::Hello {
            session,
            received,
            keep_ms,
        })) => Ok((session, received, keep_ms)),
        Ok(_) => Err(Fault::Unexpected {
            why: "the first frame is a hello; send one".into(),
        }),
        Err(refused) => Err(refused.fault),
    };
    let (token, received, keep_ms) = match hello {
        Ok(hello) => hello,
        Err(fault) => {
            let failed = ServerFrame::Error(Failed::call(None, fault));
            let _ = outbox.send(failed.encode()).await;
            return Err(End::Refused(1008, "the first frame is a hello"));
        }
    };
    let known = token.and_then(|token| app.ws.sessions.find(&token));
    let resumed = known.is_some();
    let session = match known {
        Some(session) => session,
        None => begin(app, number, keep_ms)?,
    };
    // Before anything of its subscriptions.
    let welcome = ServerFrame::Welcome(welcome(app, &session, resumed));
    if outbox.send(welcome.encode()).await.is_err() {
        if !resumed {
            app.ws.sessions.end(&session);
        }
        return Err(End::Broke);
    }
    let received = if resumed { received } else { Vec::new() };
    let attached = session.attach(outbox, &received);
    let attached = attached.ok_or(End::Refused(1001, "the session has just ended; come back"))?;
    Ok((session, attached))
}

fn begin(app: &App, number: u64, keep_ms: Option<u64>) -> Result<Arc<Session>, End> {
    let keep_ms = keep_ms.unwrap_or(KEEP_DEFAULT_MS).min(KEEP_MAX_MS);
    // Who sends much waits behind itself.
    let broker = app.broker.as_ref().map(|broker| broker.as_client(number));
    let bus = broker
        .as_ref()
        .map_or_else(|| app.bus.clone(), |broker| broker.bus());
    let keep = Duration::from_millis(keep_ms);
    let session = app.ws.sessions.open(bus, broker, &app.memory, keep);
    session.ok_or(End::Refused(
        1013,
        "there are too many sessions; try again later",
    ))
}

fn welcome(app: &App, session: &Session, resumed: bool) -> Welcome {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    Welcome {
        session: session.token.clone(),
        resumed,
        keep_ms: millis(session.keep),
        numbered: session.broker.is_some(),
        describes: true,
        guarantees: app.bus.guarantees(),
        limits: Limits {
            frame_max_bytes: limits::WS_FRAME_MAX_BYTES as u64,
            calls_max: CALLS_MAX as u64,
            subscriptions_max: limits::WS_SUBSCRIPTIONS_MAX as u64,
            credit_max: limits::WS_CREDIT_MAX as u64,
            idle_ms: millis(limits::WS_IDLE_TIMEOUT),
        },
    }
}

/// What came: a frame's bytes, something without a frame, or the end.
fn text(came: Option<Result<Message, Error>>) -> Result<ControlFlow<Bytes>, End> {
    match came {
        Some(Ok(Message::Text(text))) => Ok(ControlFlow::Break(text.into())),
        Some(Ok(Message::Binary(_))) => Err(End::Refused(1003, "frames are texts; send JSON")),
        Some(Ok(Message::Close(_))) => Err(End::Left),
        Some(Ok(_)) => Ok(ControlFlow::Continue(())),
        Some(Err(Error::Capacity(_))) => Err(End::Refused(
            1009,
            "the frame is larger than frame_max_bytes",
        )),
        Some(Err(Error::Utf8(_))) => Err(End::Refused(1007, "a text frame is UTF-8")),
        Some(Err(_)) | None => Err(End::Broke),
    }
}

async fn read(
    app: &Arc<App>,
    stream: &mut SplitStream<Socket>,
    outbox: &Outbox,
    session: &Arc<Session>,
    attached: &Attached,
) -> End {
    let mut calls = Calls::new(Arc::clone(session), outbox.clone());
    loop {
        let came = tokio::select! {
            biased;
            () = app.closed() => return End::Closing,
            () = attached.replaced.notified() => return End::Replaced,
            came = timeout(limits::WS_IDLE_TIMEOUT, stream.next()) => came,
        };
        let Ok(came) = came else {
            return End::Broke;
        };
        let frame = match text(came) {
            Ok(ControlFlow::Break(bytes)) => bytes,
            Ok(ControlFlow::Continue(())) => continue,
            Err(end) => return end,
        };
        let taken = tokio::select! {
            taken = calls.take(frame) => taken,
            () = app.closed() => return End::Closing,
            // The client says again what was not begun.
            () = attached.replaced.notified() => return End::Replaced,
        };
        if taken.is_break() {
            return End::Left;
        }
    }
}

/// Sends what waits, as much at once as there is, and asks the client whether it is there.
async fn write(mut sink: SplitSink<Socket, Message>, mut parcels: mpsc::Receiver<Parcel>) {
    let mut pings = interval(limits::WS_PING_EVERY);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings.tick().await;
    loop {
        let parcel = tokio::select! {
            parcel = parcels.recv() => parcel,
            _ = pings.tick() => {
                if sink.send(Message::Ping(Bytes::new())).await.is_err() {
                    return;
                }
                continue;
            }
        };
        let mut next = parcel;
        // Their room is free again once they are on their way.
        let mut sent = Vec::new();
        while let Some(parcel) = next {
            match parcel {
                Parcel::Frame(text, room, share) => {
                    sent.push((room, share));
                    if sink.feed(Message::text(text)).await.is_err() {
                        return;
                    }
                }
                Parcel::Close(last, code, reason) => {
                    if let Some(text) = last
                        && sink.feed(Message::text(text)).await.is_err()
                    {
                        return;
                    }
                    let frame = CloseFrame {
                        code: code.into(),
                        reason: reason.into(),
                    };
                    let _ = sink.send(Message::Close(Some(frame))).await;
                    return;
                }
            }
            next = parcels.try_recv().ok();
        }
        if sent.is_empty() || sink.flush().await.is_err() {
            return;
        }
    }
}
