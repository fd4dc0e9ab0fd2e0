//! A client of the Kafka protocol that says who it is, and nothing else.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn compact(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len() + 1).unwrap();
    [&[length], text.as_bytes()].concat()
}

/// ApiVersions, version 3, with its length, of a program of version 1.2.
pub(crate) fn versions(client_id: &str) -> Vec<u8> {
    let mut request = vec![0, 18, 0, 3, 0, 0, 0, 1];
    request.extend(u16::try_from(client_id.len()).unwrap().to_be_bytes());
    request.extend(client_id.as_bytes());
    request.push(0);
    request.extend([compact("a-program"), compact("1.2"), vec![0]].concat());
    let length = u32::try_from(request.len()).unwrap().to_be_bytes();
    [&length[..], &request].concat()
}

/// Asks which versions are served; answers how many bytes the answer has.
pub(crate) async fn ask_versions(stream: &mut TcpStream, client_id: &str) -> usize {
    stream.write_all(&versions(client_id)).await.unwrap();
    let length = stream.read_u32().await.unwrap() as usize;
    stream.read_exact(&mut vec![0; length]).await.unwrap();
    length + 4
}
