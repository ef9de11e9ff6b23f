//! One keep-alive HTTP/1.1 connection, as bare as it gets: one write of bytes made beforehand, and
//! as much reading as the answer's length asks for.
//!
//! Why not `net::Client`: a load generator shares the machine with what it measures. The pool, the
//! channels and the header maps of a full client cost several times what the request itself does.
//! Only http:// comes here; https:// goes the usual way.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A head longer than this is no answer of a webhook receiver.
const MAX_HEAD: usize = 32 << 10;
const MAX_BODY: usize = 4 << 20;
/// What is kept of a body, for people.
const KEPT: usize = 4 << 10;

pub struct Connection {
    address: String,
    stream: Option<TcpStream>,
    buffer: BytesMut,
    /// The beginning of the last answer's body.
    pub body: Vec<u8>,
}

/// How long the body of an answer is.
#[derive(Debug, PartialEq, Eq)]
enum Length {
    Exactly(usize),
    Chunked,
    UntilClosed,
}

struct Head {
    status: u16,
    length: Length,
    closes: bool,
}

impl Connection {
    /// `address` is HOST:PORT.
    pub fn new(address: String) -> Self {
        Self { address, stream: None, buffer: BytesMut::with_capacity(4 << 10), body: vec![] }
    }

    /// Sends `request` and reads the answer's status. A connection that the other side closed while
    /// it was idle is replaced once; nothing of the request was read there.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<u16, String> {
        let was_open = self.stream.is_some();
        match self.once(request).await {
            Err(e) if was_open && e.kind() == std::io::ErrorKind::UnexpectedEof && self.buffer.is_empty() => {
                self.close();
                self.once(request).await
            }
            done => done,
        }
        .map_err(|e| {
            self.close();
            words(&e)
        })
    }

    pub fn close(&mut self) {
        self.stream = None;
        self.buffer.clear();
    }

    async fn once(&mut self, request: &[u8]) -> std::io::Result<u16> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                let stream = TcpStream::connect(&self.address).await?;
                stream.set_nodelay(true)?;
                none.insert(stream)
            }
        };
        stream.write_all(request).await?;
        let head = loop {
            let (head, size) = read_head(stream, &mut self.buffer).await?;
            self.buffer.advance(size);
            // 100 Continue and its like announce the real answer.
            if head.status >= 200 {
                break head;
            }
        };
        self.body.clear();
        match head.length {
            Length::Exactly(size) => exactly(stream, &mut self.buffer, size, &mut self.body).await?,
            Length::Chunked => chunks(stream, &mut self.buffer, &mut self.body).await?,
            Length::UntilClosed => until_closed(stream, &mut self.buffer, &mut self.body).await?,
        }
        if head.closes || head.length == Length::UntilClosed {
            self.close();
        }
        Ok(head.status)
    }
}

fn words(e: &std::io::Error) -> String {
    match e.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::BrokenPipe => "connection reset".to_owned(),
        std::io::ErrorKind::UnexpectedEof => "closed without an answer".to_owned(),
        _ => e.to_string(),
    }
}

fn eof() -> std::io::Error {
    std::io::ErrorKind::UnexpectedEof.into()
}

fn wrong(why: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, why)
}

async fn more(stream: &mut TcpStream, buffer: &mut BytesMut) -> std::io::Result<()> {
    buffer.reserve(2 << 10);
    if stream.read_buf(buffer).await? == 0 { Err(eof()) } else { Ok(()) }
}

async fn read_head(stream: &mut TcpStream, buffer: &mut BytesMut) -> std::io::Result<(Head, usize)> {
    let mut searched = 0;
    loop {
        if let Some(at) = find(&buffer[searched..], b"\r\n\r\n") {
            let size = searched + at + 4;
            return Ok((parse(&buffer[..size]).ok_or_else(|| wrong("the answer is no HTTP"))?, size));
        }
        searched = buffer.len().saturating_sub(3);
        if buffer.len() > MAX_HEAD {
            return Err(wrong("the answer's head is too long"));
        }
        more(stream, buffer).await?;
    }
}

fn find(all: &[u8], what: &[u8]) -> Option<usize> {
    all.windows(what.len()).position(|w| w == what)
}

fn parse(head: &[u8]) -> Option<Head> {
    let mut lines = head.split(|b| *b == b'\n').map(<[u8]>::trim_ascii_end);
    let first = lines.next()?;
    if !first.starts_with(b"HTTP/1.") {
        return None;
    }
    let status: u16 = std::str::from_utf8(first.get(9..12)?).ok()?.parse().ok()?;
    let bodiless = status < 200 || status == 204 || status == 304;
    let mut length = if bodiless { Length::Exactly(0) } else { Length::UntilClosed };
    let mut closes = first.starts_with(b"HTTP/1.0");
    for line in lines {
        let Some(colon) = line.iter().position(|b| *b == b':') else { continue };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") && !bodiless && length != Length::Chunked {
            length = Length::Exactly(std::str::from_utf8(value).ok()?.parse().ok()?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") && !bodiless {
            length = Length::Chunked;
        } else if name.eq_ignore_ascii_case(b"connection") {
            closes = value.eq_ignore_ascii_case(b"close");
        }
    }
    Some(Head { status, length, closes })
}

fn keep(body: &mut Vec<u8>, part: &[u8]) {
    let room = KEPT.saturating_sub(body.len()).min(part.len());
    body.extend_from_slice(&part[..room]);
}

async fn exactly(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    size: usize,
    body: &mut Vec<u8>,
) -> std::io::Result<()> {
    let mut left = size;
    while left > 0 {
        if buffer.is_empty() {
            more(stream, buffer).await?;
        }
        let part = left.min(buffer.len());
        keep(body, &buffer[..part]);
        buffer.advance(part);
        left -= part;
    }
    Ok(())
}

async fn chunks(stream: &mut TcpStream, buffer: &mut BytesMut, body: &mut Vec<u8>) -> std::io::Result<()> {
    loop {
        let line = line(stream, buffer).await?;
        let digits = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
        let size = std::str::from_utf8(digits).ok().and_then(|d| usize::from_str_radix(d, 16).ok());
        let size =
            size.filter(|s| *s <= MAX_BODY).ok_or_else(|| wrong("a chunk of the answer has no length"))?;
        if size == 0 {
            // Trailers end with an empty line.
            while !self::line(stream, buffer).await?.is_empty() {}
            return Ok(());
        }
        exactly(stream, buffer, size, body).await?;
        self::line(stream, buffer).await?;
    }
}

async fn line(stream: &mut TcpStream, buffer: &mut BytesMut) -> std::io::Result<Vec<u8>> {
    loop {
        if let Some(at) = find(buffer, b"\r\n") {
            let line = buffer[..at].to_vec();
            buffer.advance(at + 2);
            return Ok(line);
        }
        if buffer.len() > MAX_HEAD {
            return Err(wrong("a line of the answer is too long"));
        }
        more(stream, buffer).await?;
    }
}

async fn until_closed(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    body: &mut Vec<u8>,
) -> std::io::Result<()> {
    let mut seen = 0;
    loop {
        keep(body, buffer);
        seen += buffer.len();
        buffer.clear();
        if seen > MAX_BODY {
            return Err(wrong("the answer does not end"));
        }
        match more(stream, buffer).await {
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            other => other?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    /// Plays one answer per connection, in pieces.
    async fn answered(pieces: &[&[u8]]) -> (Result<u16, String>, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut connection = Connection::new(listener.local_addr().unwrap().to_string());
        let play = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 4];
            stream.read_exact(&mut request).await.unwrap();
            for piece in pieces {
                stream.write_all(piece).await.unwrap();
                stream.flush().await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (status, ()) = tokio::join!(connection.exchange(b"ping"), play);
        (status, connection.body)
    }

    #[tokio::test]
    async fn answers_of_every_kind_are_read_to_their_end() {
        let pieces: [&[u8]; 3] = [b"HTTP/1.1 200 OK\r\nContent-Le", b"ngth: 5\r\n\r", b"\nhello"];
        assert_eq!(answered(&pieces).await, (Ok(200), b"hello".to_vec()));
        let chunked: &[u8] =
            b"HTTP/1.1 401 No\r\ntransfer-encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nt: x\r\n\r\n";
        assert_eq!(answered(&[chunked]).await, (Ok(401), b"hello!".to_vec()));
        assert_eq!(answered(&[b"HTTP/1.0 200 OK\r\n\r\nall"]).await, (Ok(200), b"all".to_vec()));
        assert_eq!(answered(&[b"HTTP/1.1 204 No\r\n\r\n"]).await, (Ok(204), vec![]));
        let early: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 OK\r\ncontent-length: 0\r\n\r\n";
        assert_eq!(answered(&[early]).await, (Ok(202), vec![]));
    }

    #[tokio::test]
    async fn what_is_no_answer_is_said() {
        assert_eq!(answered(&[b"SSH-2.0-OpenSSH\r\n\r\n"]).await.0, Err("the answer is no HTTP".to_owned()));
        assert_eq!(answered(&[]).await.0, Err("closed without an answer".to_owned()));
        let cut: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe";
        assert_eq!(answered(&[cut]).await.0, Err("closed without an answer".to_owned()));
    }
}
