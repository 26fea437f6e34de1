//! Reading children's output in bounded memory.

use std::collections::VecDeque;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, BufReader};

use crate::error::{Context, Error, Result};

/// The longest line [`LineReader`] accepts, in bytes. A trace of a long conversation is one line.
pub(crate) const MAX_LINE: usize = 16 * 1024 * 1024;

const CHUNK: usize = 64 * 1024;

/// Reads lines as bytes. Dropping a pending [`LineReader::next_line`] loses nothing.
#[derive(Debug)]
pub(crate) struct LineReader<R> {
    reader: BufReader<R>,
    partial: Vec<u8>,
    longest: usize,
    number: u64,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    /// Reads lines of up to [`MAX_LINE`] bytes.
    pub(crate) fn new(reader: R) -> Self {
        LineReader::with_limit(reader, MAX_LINE)
    }

    /// Reads lines of up to `longest` bytes.
    pub(crate) fn with_limit(reader: R, longest: usize) -> Self {
        LineReader { reader: BufReader::with_capacity(CHUNK, reader), partial: Vec::new(), longest, number: 0 }
    }

    /// Number of the line last returned, from 1; 0 before the first.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// The next line without its newline; `None` at the end. A last line without a newline counts.
    /// Errors: usage when a line is longer than the limit (names the line), infrastructure when reading fails.
    pub(crate) async fn next_line(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            let buffer = self.reader.fill_buf().await.infra(|| "cannot read from a child process".into())?;
            if buffer.is_empty() {
                if self.partial.is_empty() {
                    return Ok(None);
                }
                self.number += 1;
                return Ok(Some(std::mem::take(&mut self.partial)));
            }
            let newline = buffer.iter().position(|&byte| byte == b'\n');
            let taken = newline.unwrap_or(buffer.len());
            if self.partial.len() + taken > self.longest {
                return Err(Error::usage(format!("line {} is longer than {} bytes", self.number + 1, self.longest)));
            }
            self.partial.extend_from_slice(&buffer[..taken]);
            self.reader.consume(taken + usize::from(newline.is_some()));
            if newline.is_some() {
                self.number += 1;
                return Ok(Some(std::mem::take(&mut self.partial)));
            }
        }
    }

    /// Reads and discards everything up to the end, so that a full pipe does not block the writer.
    pub(crate) async fn drain(&mut self) {
        self.partial = Vec::new();
        loop {
            match self.reader.fill_buf().await {
                Ok([]) | Err(_) => return,
                Ok(buffer) => {
                    let length = buffer.len();
                    self.reader.consume(length);
                }
            }
        }
    }
}

/// The first and the last bytes of an output of any size.
#[derive(Debug)]
pub(crate) struct HeadAndTail {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    each: usize,
    omitted: u64,
}

impl HeadAndTail {
    /// Keeps up to `each` bytes of the beginning and as many of the end.
    pub(crate) fn new(each: usize) -> Self {
        HeadAndTail { head: Vec::new(), tail: VecDeque::new(), each, omitted: 0 }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let (head, rest) = bytes.split_at(bytes.len().min(self.each - self.head.len()));
        self.head.extend_from_slice(head);
        let kept = &rest[rest.len().saturating_sub(self.each)..];
        let excess = (self.tail.len() + kept.len()).saturating_sub(self.each);
        self.tail.drain(..excess);
        self.tail.extend(kept);
        self.omitted += (rest.len() - kept.len() + excess) as u64;
    }

    /// Reads `reader` to its end.
    pub(crate) async fn fill(&mut self, mut reader: impl AsyncRead + Unpin) -> std::io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        loop {
            match reader.read(&mut chunk).await? {
                0 => return Ok(()),
                length => self.push(&chunk[..length]),
            }
        }
    }

    /// How many bytes were left out between beginning and end.
    pub(crate) fn omitted(&self) -> u64 {
        self.omitted
    }

    /// Beginning and end, with a line between them that says how much is missing.
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        let mut bytes = self.head;
        if self.omitted > 0 {
            bytes.extend_from_slice(format!("\n[{} bytes left out]\n", self.omitted).as_bytes());
        }
        bytes.extend(self.tail);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lines(text: &[u8], longest: usize) -> Result<Vec<Vec<u8>>> {
        let mut reader = LineReader::with_limit(text, longest);
        let mut lines = Vec::new();
        while let Some(line) = reader.next_line().await? {
            lines.push(line);
        }
        Ok(lines)
    }

    #[tokio::test(flavor = "current_thread")]
    async fn lines_come_whole_and_a_long_one_is_named() {
        assert_eq!(lines(b"one\n\nlast", 4).await.expect("short lines"), [&b"one"[..], b"", b"last"]);
        let error = lines(b"one\nfives", 4).await.expect_err("too long");
        assert_eq!(error.to_string(), "line 2 is longer than 4 bytes");
    }

    #[test]
    fn the_middle_is_left_out() {
        for step in 1..12 {
            let mut output = HeadAndTail::new(3);
            b"0123456789".chunks(step).for_each(|chunk| output.push(chunk));
            assert_eq!(output.into_bytes(), b"012\n[4 bytes left out]\n789", "step {step}");
        }
        let mut short = HeadAndTail::new(3);
        short.push(b"01234");
        assert_eq!(short.into_bytes(), b"01234");
    }
}
