//! A server that does nothing but write: Socket.IO's handshake without looking at it, and the
//! same frame to everybody for each event that is posted.

use std::sync::Arc;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;

use crate::Fallible;

type Everybody = Arc<Mutex<Vec<OwnedWriteHalf>>>;

pub(crate) fn serve(port: &str) -> Fallible<()> {
    let port: u16 = port.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", port)).await?;
        let everybody = Everybody::default();
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let everybody = Arc::clone(&everybody);
            tokio::spawn(async move {
                let _ = connection(stream, everybody).await;
            });
        }
    })
}

/// A frame as RFC 6455 has it, from a server.
fn frame(text: &[u8]) -> Vec<u8> {
    let mut out = vec![0x81];
    match text.len() {
        short @ 0..=125 => out.push(short as u8),
        long => {
            out.push(126);
            out.extend_from_slice(&(long as u16).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
    out
}

async fn connection(stream: TcpStream, everybody: Everybody) -> Fallible<()> {
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    loop {
        let (mut line, mut length, mut first) = (String::new(), 0, None);
        while reader.read_line(&mut line).await? > 2 {
            first.get_or_insert_with(|| line.clone());
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
            line.clear();
        }
        let Some(first) = first else {
            return Ok(());
        };
        if first.starts_with("GET") {
            let head = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\
                        connection: upgrade\r\n\r\n";
            writer.write_all(head.as_bytes()).await?;
            for said in ["0{}", "40{}", "430[{}]"] {
                writer.write_all(&frame(said.as_bytes())).await?;
            }
            everybody.lock().await.push(writer);
            // What the client says is taken and forgotten.
            let mut taken = [0; 256];
            while reader.read(&mut taken).await? > 0 {}
            return Ok(());
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).await?;
        let text = [b"42[\"event\",".as_slice(), &body, b"]"].concat();
        let frame = frame(&text);
        tell(&everybody, &frame).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
        writer.write_all(answer).await?;
    }
}

/// One after another: who does not read holds everybody up, and who has gone is left out.
async fn tell(everybody: &Everybody, frame: &[u8]) {
    let mut all = everybody.lock().await;
    for mut client in std::mem::take(&mut *all) {
        if client.write_all(frame).await.is_ok() {
            all.push(client);
        }
    }
}
