//! Server connections and cancel requests against a real Postgres, and against servers that are none.
#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod cancelling;
mod encrypted;
mod garbage;
mod login;
mod scratch;
mod settings;

use std::time::Duration;

use pgcordon::domain::Fault;
use pgcordon::pool::upstream::{Address, ServerConnection, Target, Upstream};
use scratch::Scratch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn unix(scratch: &Scratch) -> Target {
    Target::new(Address::Unix { directory: scratch.directory().to_owned(), port: scratch.port })
}

fn tcp(host: &str, port: u16) -> Target {
    let mut target = Target::new(Address::Tcp { host: host.to_owned(), port });
    target.connect_timeout = Duration::from_secs(5);
    target
}

async fn connect(target: Target, role: &str) -> Result<ServerConnection, Fault> {
    Upstream::new(target).connect("postgres", role).await
}

/// Sends a simple Query and returns the columns of all rows, or the SQLSTATE of the error.
async fn ask(connection: &mut ServerConnection, sql: &str) -> Result<Vec<String>, String> {
    let mut message = vec![b'Q'];
    message.extend_from_slice(&u32::try_from(sql.len() + 5).unwrap().to_be_bytes());
    message.extend_from_slice(sql.as_bytes());
    message.push(0);
    connection.socket.write_all(&message).await.unwrap();
    let (mut columns, mut error) = (Vec::new(), None);
    loop {
        let kind = connection.socket.read_u8().await.unwrap();
        let mut body = vec![0; connection.socket.read_u32().await.unwrap() as usize - 4];
        connection.socket.read_exact(&mut body).await.unwrap();
        match kind {
            b'D' => {
                let mut rest = &body[2..];
                while let Some((length, after)) = rest.split_first_chunk::<4>() {
                    let (value, after) = after.split_at(u32::from_be_bytes(*length) as usize);
                    columns.push(String::from_utf8(value.to_vec()).unwrap());
                    rest = after;
                }
            }
            b'E' => {
                let code = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"C"));
                error = code.map(|code| String::from_utf8_lossy(code).into_owned());
            }
            b'Z' => return error.map_or(Ok(columns), Err),
            _ => {}
        }
    }
}
