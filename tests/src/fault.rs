//! Faults on the wire: a relay between two parties that bends, holds or drops what passes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// What happens to the bytes that flow towards the server.
#[derive(Clone)]
pub enum Fault {
    /// They pass.
    None,
    /// They pass one at a time.
    Trickle,
    /// After so many bytes both sides are hung up on.
    DropAfter(usize),
    /// The byte at this place is turned over.
    Flip(usize),
    /// What comes after so many bytes waits until the switch is set.
    HoldAfter(usize, Arc<AtomicBool>),
}

/// A relay that listens on loopback.
pub struct Relay {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Relay {
    /// A relay to a server; every connection through it has the fault.
    pub fn to(server: impl ToSocketAddrs, fault: Fault) -> Self {
        let server = server.to_socket_addrs().unwrap().next().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(server) = TcpStream::connect(server) else { continue };
                let fault = fault.clone();
                let (client_in, server_out) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || pass(server, client, &Fault::None));
                thread::spawn(move || pass(client_in, server_out, &fault));
            }
        });
        Self { address, stop }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, fault: &Fault) {
    let (mut buffer, mut passed) = ([0; 4096], 0);
    let most = if matches!(fault, Fault::Trickle) { 1 } else { buffer.len() };
    while let Ok(read @ 1..) = from.read(&mut buffer[..most]) {
        let mut bytes = &mut buffer[..read];
        match fault {
            Fault::DropAfter(limit) if passed + read >= *limit => bytes = &mut bytes[..limit - passed.min(*limit)],
            Fault::Flip(at) if (passed..passed + read).contains(at) => bytes[at - passed] ^= 0xff,
            Fault::HoldAfter(limit, go_on) if passed + read > *limit => {
                while !go_on.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
            }
            _ => {}
        }
        if to.write_all(bytes).is_err() {
            break;
        }
        passed += read;
        if matches!(fault, Fault::DropAfter(limit) if passed >= *limit) {
            break;
        }
    }
    let _ = from.shutdown(std::net::Shutdown::Both);
    let _ = to.shutdown(std::net::Shutdown::Both);
}
