//! A client of the native protocol that says frames as they are given and shows what comes.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

pub(crate) struct Ws {
    pub(crate) socket: WebSocketStream<TcpStream>,
}

/// The close code of the connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Closed(pub(crate) Option<u16>);

impl Ws {
    /// Opens a connection and says nothing.
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self::with(address, &[("Sec-WebSocket-Protocol", "tidemill.v1")])
            .await
            .unwrap()
    }

    /// Opens a connection with these headers.
    pub(crate) async fn with(
        address: SocketAddr,
        headers: &[(&'static str, &'static str)],
    ) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut request = format!("ws://{address}/v1/ws")
            .into_client_request()
            .unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let (socket, _) = client_async(request, stream).await?;
        Ok(Self { socket })
    }

    /// Opens a connection and says hello.
    pub(crate) async fn hello(address: SocketAddr) -> (Self, Value) {
        let mut ws = Self::open(address).await;
        ws.say(r#"{"type":"hello"}"#).await;
        let welcome = ws.hear().await.unwrap();
        assert_eq!(welcome["type"], "welcome", "{welcome}");
        (ws, welcome)
    }

    pub(crate) async fn say(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next frame; the error is the end of the connection.
    pub(crate) async fn hear(&mut self) -> Result<Value, Closed> {
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Close(frame))) => {
                    return Err(Closed(frame.map(|frame| frame.code.into())));
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Err(Closed(None)),
            }
        }
    }

    /// Says a frame, and gives the next one that comes.
    pub(crate) async fn ask(&mut self, text: &str) -> Value {
        self.say(text).await;
        self.hear().await.unwrap()
    }
}
