//! A raw client: it sends exactly the bytes it is told to and shows exactly what came back, as a transcript.
//!
//! A transcript is a line of words such as `T D(1) C(SELECT 1) Z(I)`; an error is `E(SQLSTATE)`.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};

/// How long a test waits for bytes before it fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// One message as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type.
    pub tag: u8,
    /// Its body.
    pub body: Vec<u8>,
}

impl Message {
    /// A field of an ErrorResponse or NoticeResponse.
    pub fn field(&self, code: u8) -> Option<String> {
        self.body
            .split(|byte| *byte == 0)
            .find(|field| field.first() == Some(&code))
            .map(|field| String::from_utf8_lossy(&field[1..]).into_owned())
    }

    /// The fields of a RowDescription: name, column, type, modifier and format, but no table.
    pub fn fields(&self) -> Vec<String> {
        let (mut rest, mut all) = (self.body.get(2..).unwrap_or_default(), Vec::new());
        while let Some(end) = rest.iter().position(|byte| *byte == 0) {
            let (name, behind) = (String::from_utf8_lossy(&rest[..end]), &rest[end + 1..]);
            let Some((numbers, next)) = behind.split_at_checked(18) else { break };
            let number =
                |range: std::ops::Range<usize>| numbers[range].iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
            all.push(format!("{name}:{}:{}:{:x}:{}", number(4..6), number(6..10), number(12..16), number(16..18)));
            rest = next;
        }
        all
    }

    /// The message as a word of a transcript.
    pub fn word(&self) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\0').replace('\0', "=");
        match self.tag {
            b'E' | b'N' => format!("{}({})", self.tag as char, self.field(b'C').unwrap_or_default()),
            b'D' => format!("D({})", columns(&self.body).join("|")),
            b'C' | b'Z' | b'S' | b'd' => format!("{}({})", self.tag as char, text(&self.body)),
            b'V' => format!("V({})", text(self.body.get(4..).unwrap_or_default())),
            tag => (tag as char).to_string(),
        }
    }
}

fn columns(body: &[u8]) -> Vec<String> {
    let (mut at, mut all) = (2, Vec::new());
    while at + 4 <= body.len() {
        let length = i32::from_be_bytes(body[at..at + 4].try_into().unwrap());
        at += 4;
        match usize::try_from(length) {
            Ok(length) => {
                all.push(String::from_utf8_lossy(&body[at..at + length]).into_owned());
                at += length;
            }
            Err(_) => all.push("NULL".to_owned()),
        }
    }
    all
}

/// A connection.
pub struct Wire {
    stream: TcpStream,
    /// Every byte that ever came, for those who look for what must not be among them.
    pub received: Vec<u8>,
    /// ParameterStatus messages of the start-up.
    pub parameters: Vec<(String, String)>,
    /// BackendKeyData: process id and secret.
    pub key: (i32, Vec<u8>),
}

impl Wire {
    /// A connection on which nothing was said yet.
    pub fn raw(address: (&str, u16)) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, received: Vec::new(), parameters: Vec::new(), key: (0, Vec::new()) }
    }

    /// A session, or the message that refused it.
    pub fn login(address: (&str, u16), secret: &str, parameters: &[(&str, &str)]) -> Result<Self, Message> {
        let mut wire = Self::raw(address);
        wire.send(&startup(3 << 16, parameters));
        wire.authenticate(secret)?;
        Ok(wire)
    }

    /// A session with a connection URL, which must be let in.
    pub fn open(url: &str) -> Self {
        Self::open_with(url, &[])
    }

    /// The same with further startup parameters.
    pub fn open_with(url: &str, further: &[(&str, &str)]) -> Self {
        Self::try_open(url, further).unwrap_or_else(|error| panic!("login: {error:?} {:?}", error.field(b'M')))
    }

    /// The same, or the message that refused it.
    pub fn try_open(url: &str, further: &[(&str, &str)]) -> Result<Self, Message> {
        let url = Url::parse(url);
        let mut parameters = vec![("user", url.user.as_str()), ("database", url.database.as_str())];
        parameters.extend_from_slice(further);
        Self::login((&url.host, url.port), &url.password, &parameters)
    }

    /// Answers the server's authentication and reads up to ReadyForQuery.
    pub fn authenticate(&mut self, secret: &str) -> Result<(), Message> {
        let mut scram = None;
        loop {
            // Who is hung up on is refused too: by a message of no type.
            let Some(message) = self.read() else { return Err(Message { tag: 0, body: Vec::new() }) };
            match (message.tag, message.body.first_chunk::<4>().map(|code| i32::from_be_bytes(*code))) {
                (b'R', Some(0)) => {}
                (b'R', Some(3)) => self.send(&frame(b'p', format!("{secret}\0").as_bytes())),
                (b'R', Some(10)) => {
                    let first = ScramSha256::new(secret.as_bytes(), ChannelBinding::unsupported());
                    let data = first.message();
                    let length = i32::try_from(data.len()).unwrap().to_be_bytes();
                    self.send(&frame(b'p', &[SCRAM_SHA_256.as_bytes(), b"\0", &length, data].concat()));
                    scram = Some(first);
                }
                (b'R', Some(11)) => {
                    let scram = scram.as_mut().expect("SASL was begun");
                    scram.update(&message.body[4..]).expect("a proper server-first-message");
                    let data = scram.message().to_vec();
                    self.send(&frame(b'p', &data));
                }
                (b'R', Some(12)) => scram
                    .as_mut()
                    .expect("SASL was begun")
                    .finish(&message.body[4..])
                    .expect("the server knows the key"),
                (b'S', _) => {
                    let text = String::from_utf8_lossy(&message.body).into_owned();
                    let mut parts = text.split('\0').map(str::to_owned);
                    self.parameters.push((parts.next().unwrap(), parts.next().unwrap()));
                }
                (b'K', Some(pid)) => self.key = (pid, message.body[4..].to_vec()),
                (b'Z', _) => return Ok(()),
                (b'E', _) => return Err(message),
                (b'N' | b'v', _) => {}
                other => panic!("unexpected during login: {other:?}"),
            }
        }
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: &[u8]) {
        // A server that has hung up is noticed when reading.
        let _ = self.stream.write_all(bytes);
    }

    /// Reads one message; none at the end of the stream.
    pub fn read(&mut self) -> Option<Message> {
        let mut head = [0; 5];
        self.fill(&mut head)?;
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let mut body = vec![0; length - 4];
        self.fill(&mut body)?;
        Some(Message { tag: head[0], body })
    }

    /// Waits until anything has come, but not for long.
    pub fn read_some(&mut self) {
        let patience = self.stream.read_timeout().unwrap();
        self.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let _ = self.stream.peek(&mut [0]);
        self.stream.set_read_timeout(patience).unwrap();
    }

    /// The socket, on which nothing is read ahead.
    pub fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Whether the peer has hung up. It doesn't wait.
    pub fn is_over(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        match peeked {
            Ok(read) => read == 0,
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
        }
    }

    /// Reads one byte, as after an SSLRequest.
    pub fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        self.fill(&mut byte).map(|()| byte[0])
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Option<()> {
        match self.stream.read_exact(buffer) {
            Ok(()) => {
                self.received.extend_from_slice(buffer);
                Some(())
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                panic!("nothing came for {PATIENCE:?}")
            }
            Err(_) => None,
        }
    }

    /// Reads up to the `count`th ReadyForQuery and returns the transcript; `EOF` stands for the end of the stream.
    pub fn cycles(&mut self, count: usize) -> String {
        let (mut words, mut seen) = (Vec::new(), 0);
        while seen < count {
            let Some(message) = self.read() else {
                words.push("EOF".to_owned());
                break;
            };
            seen += usize::from(message.tag == b'Z');
            words.push(message.word());
        }
        words.join(" ")
    }

    /// Reads up to a message of this type and returns the transcript.
    pub fn until(&mut self, tag: u8) -> String {
        let mut words = Vec::new();
        loop {
            let Some(message) = self.read() else {
                words.push("EOF".to_owned());
                return words.join(" ");
            };
            words.push(message.word());
            if message.tag == tag {
                return words.join(" ");
            }
        }
    }

    /// Runs a simple query and returns its transcript.
    pub fn query(&mut self, sql: &str) -> String {
        self.send(&query(sql));
        self.cycles(1)
    }

    /// The rows of a simple query, one line each, which must succeed.
    pub fn rows(&mut self, sql: &str) -> Vec<String> {
        self.send(&query(sql));
        let mut rows = Vec::new();
        loop {
            let message = self.read().expect("an answer");
            match message.tag {
                b'D' => rows.push(columns(&message.body).join("|")),
                b'E' => panic!("{sql}: {} {:?}", message.word(), message.field(b'M')),
                b'Z' => return rows,
                _ => {}
            }
        }
    }

    /// The one value of a simple query.
    pub fn value(&mut self, sql: &str) -> String {
        let rows = self.rows(sql);
        assert_eq!(rows.len(), 1, "{sql}");
        rows.into_iter().next().unwrap()
    }

    /// Hangs up without a word.
    pub fn hang_up(&self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }

    /// Sends a CancelRequest for this session on a connection of its own, and waits for that to end if asked to.
    pub fn cancel(&self, follow: bool) {
        let mut other = TcpStream::connect(self.stream.peer_addr().unwrap()).unwrap();
        other.write_all(&cancel(self.key.0, &self.key.1)).unwrap();
        if follow {
            let _ = other.read(&mut [0; 16]);
        }
    }
}

/// The parts of a connection URL.
pub struct Url {
    /// User.
    pub user: String,
    /// Password.
    pub password: String,
    /// Host.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
}

impl Url {
    /// Reads `postgres://USER:PASSWORD@HOST:PORT/DATABASE`.
    pub fn parse(url: &str) -> Self {
        let rest = url.strip_prefix("postgres://").expect("a URL");
        let (login, place) = rest.rsplit_once('@').expect("a login");
        let (user, password) = login.split_once(':').expect("a password");
        let (address, database) = place.split_once('/').expect("a database");
        let (host, port) = address.rsplit_once(':').expect("a port");
        let [user, password, host, database] = [user, password, host, database].map(str::to_owned);
        Self { user, password, host, port: port.parse().expect("a port"), database }
    }
}

/// A message of a type with a body.
pub fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[tag][..], &length, body].concat()
}

/// A startup packet.
pub fn startup(version: i32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
    }
    body.push(0);
    [&u32::try_from(body.len() + 4).unwrap().to_be_bytes()[..], &body].concat()
}

/// CancelRequest.
pub fn cancel(pid: i32, secret: &[u8]) -> Vec<u8> {
    let length = u32::try_from(12 + secret.len()).unwrap().to_be_bytes();
    [&length[..], &80_877_102_u32.to_be_bytes(), &pid.to_be_bytes(), secret].concat()
}

/// Query.
pub fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', format!("{sql}\0").as_bytes())
}

/// Parse without parameter types.
pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(b'P', format!("{name}\0{sql}\0\0\0").as_bytes())
}

/// Bind of text parameters.
pub fn bind(portal: &str, statement: &str, values: &[&str]) -> Vec<u8> {
    let mut body = format!("{portal}\0{statement}\0\0\0").into_bytes();
    body.extend_from_slice(&u16::try_from(values.len()).unwrap().to_be_bytes());
    for value in values {
        body.extend_from_slice(&u32::try_from(value.len()).unwrap().to_be_bytes());
        body.extend_from_slice(value.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    frame(b'B', &body)
}

/// Parse with parameter types.
pub fn parse_typed(name: &str, sql: &str, types: &[u32]) -> Vec<u8> {
    let mut body = format!("{name}\0{sql}\0").into_bytes();
    body.extend_from_slice(&u16::try_from(types.len()).unwrap().to_be_bytes());
    types.iter().for_each(|oid| body.extend_from_slice(&oid.to_be_bytes()));
    frame(b'P', &body)
}

/// Bind of text parameters, with formats for the result.
pub fn bind_as(portal: &str, statement: &str, values: &[&str], formats: &[u16]) -> Vec<u8> {
    let mut message = bind(portal, statement, values);
    message.truncate(message.len() - 2);
    message.extend_from_slice(&u16::try_from(formats.len()).unwrap().to_be_bytes());
    formats.iter().for_each(|format| message.extend_from_slice(&format.to_be_bytes()));
    frame(b'B', &message[5..])
}

/// Describe of a statement (`S`) or portal (`P`).
pub fn describe(what: u8, name: &str) -> Vec<u8> {
    frame(b'D', format!("{}{name}\0", what as char).as_bytes())
}

/// Close of a statement (`S`) or portal (`P`).
pub fn close(what: u8, name: &str) -> Vec<u8> {
    frame(b'C', format!("{}{name}\0", what as char).as_bytes())
}

/// Execute with a row limit; 0 is none.
pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    frame(b'E', &[format!("{portal}\0").as_bytes(), &rows.to_be_bytes()].concat())
}

/// FunctionCall with text arguments.
pub fn function_call(oid: u32, arguments: &[&str]) -> Vec<u8> {
    let mut body = [&oid.to_be_bytes()[..], &[0, 1, 0, 0]].concat();
    body.extend_from_slice(&u16::try_from(arguments.len()).unwrap().to_be_bytes());
    for argument in arguments {
        body.extend_from_slice(&u32::try_from(argument.len()).unwrap().to_be_bytes());
        body.extend_from_slice(argument.as_bytes());
    }
    body.extend_from_slice(&[0, 0]);
    frame(b'F', &body)
}

/// Sync.
pub fn sync() -> Vec<u8> {
    frame(b'S', b"")
}

/// Flush.
pub fn flush() -> Vec<u8> {
    frame(b'H', b"")
}

/// Parse, Bind, Execute and Sync of an unnamed statement.
pub fn extended(sql: &str, values: &[&str]) -> Vec<u8> {
    [parse("", sql), bind("", "", values), execute("", 0), sync()].concat()
}

impl Wire {
    /// Tries to open a session, and returns the SQLSTATE of the refusal; none when the peer just hung up.
    pub fn try_open_quietly(url: &str) -> Result<Self, Option<String>> {
        let parts = Url::parse(url);
        let Ok(stream) = TcpStream::connect((parts.host.as_str(), parts.port)) else {
            return Err(Some("57P03".to_owned()));
        };
        drop(stream);
        Self::try_open(url, &[]).map_err(|refused| refused.field(b'C'))
    }
}
