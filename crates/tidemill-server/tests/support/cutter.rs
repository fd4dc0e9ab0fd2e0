//! A proxy that cuts one WebSocket connection at a chosen frame, and passes everything on from
//! then on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Where a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    /// The frame, counted from 0 in its direction over all connections.
    pub(crate) frame: usize,
    /// Whether it is one of the client's.
    pub(crate) from_client: bool,
    /// Whether its first half still goes through.
    pub(crate) half: bool,
}

/// A running proxy. Stops when dropped.
pub(crate) struct Cutter {
    pub(crate) address: SocketAddr,
    counts: Arc<Counts>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct Counts {
    from_client: AtomicUsize,
    from_server: AtomicUsize,
    connections: AtomicUsize,
}

impl Cutter {
    pub(crate) async fn start(server: SocketAddr, cut: Option<Cut>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let counts = Arc::new(Counts::default());
        let mut tasks = JoinSet::new();
        let shared = Arc::clone(&counts);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::Relaxed);
                connections.spawn(pass(client, server, Arc::clone(&shared), cut));
            }
        });
        Self {
            address,
            counts,
            _tasks: tasks,
        }
    }

    /// Frames of the client and of the server that came until now, and connections.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let counts = &self.counts;
        let read = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        (
            read(&counts.from_client),
            read(&counts.from_server),
            read(&counts.connections),
        )
    }
}

/// Moves both directions; the connection ends when one of both does.
async fn pass(client: TcpStream, server: SocketAddr, counts: Arc<Counts>, cut: Option<Cut>) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    let of = |from_client: bool| cut.filter(|cut| cut.from_client == from_client);
    tokio::select! {
        _ = one_way(client_in, server_out, &counts.from_client, of(true)) => {}
        _ = one_way(server_in, client_out, &counts.from_server, of(false)) => {}
    }
}

async fn one_way(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    count: &AtomicUsize,
    cut: Option<Cut>,
) -> std::io::Result<()> {
    // The head of the request or the answer that begins a WebSocket.
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(from.read_u8().await?);
    }
    to.write_all(&head).await?;
    loop {
        let frame = frame(&mut from).await?;
        let number = count.fetch_add(1, Ordering::Relaxed);
        match cut.filter(|cut| cut.frame == number) {
            None => to.write_all(&frame).await?,
            Some(cut) => {
                if cut.half {
                    to.write_all(&frame[..frame.len() / 2]).await?;
                }
                return Ok(());
            }
        }
    }
}

/// A frame of RFC 6455, section 5.2, as it came.
async fn frame(from: &mut OwnedReadHalf) -> std::io::Result<Vec<u8>> {
    let mut frame = vec![from.read_u8().await?, from.read_u8().await?];
    let mut length = usize::from(frame[1] & 0x7f);
    let extended = match length {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    if extended > 0 {
        length = 0;
        for _ in 0..extended {
            let byte = from.read_u8().await?;
            frame.push(byte);
            length = (length << 8) | usize::from(byte);
        }
    }
    let mask = if frame[1] & 0x80 == 0 { 0 } else { 4 };
    let begin = frame.len();
    frame.resize(begin + mask + length, 0);
    from.read_exact(&mut frame[begin..]).await?;
    Ok(frame)
}
