//! A Socket.IO client over WebSocket that shows every text as it came.

use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

pub(crate) struct SocketIo {
    socket: WebSocketStream<TcpStream>,
}

impl SocketIo {
    /// Opens a session; the error is what the server answered instead.
    pub(crate) async fn open(address: SocketAddr) -> Result<Self, Error> {
        let stream = TcpStream::connect(address).await.unwrap();
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let (socket, _) = client_async(url, stream).await?;
        let mut opened = Self { socket };
        assert!(opened.text().await.unwrap().starts_with("0{"));
        Ok(opened)
    }

    /// Opens a session and connects.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let mut opened = Self::open(address).await.unwrap();
        opened.send("40").await;
        let connected = opened.text().await.unwrap();
        assert!(connected.starts_with("40{"), "{connected}");
        opened
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.socket.send(Message::text(text)).await.unwrap();
    }

    /// The next text; pings are answered and not shown. `None` at the end.
    pub(crate) async fn text(&mut self) -> Option<String> {
        loop {
            match self.socket.next().await? {
                Ok(Message::Text(text)) if text.as_str() == "2" => self.send("3").await,
                Ok(Message::Text(text)) => return Some(text.as_str().to_owned()),
                Ok(Message::Close(_)) | Err(_) => return None,
                Ok(_) => {}
            }
        }
    }

    /// The JSON of the next event `event`, as it came.
    pub(crate) async fn event(&mut self) -> String {
        let text = self.text().await.expect("the connection is open");
        let inner = text
            .strip_prefix("42[\"event\",")
            .and_then(|t| t.strip_suffix(']'));
        inner
            .unwrap_or_else(|| panic!("no event: {text}"))
            .to_owned()
    }
}
