//! Reads a file line by line, and goes on after a broken line.

use std::io::{self, BufRead, Read as _};

/// The longest line that is read, in bytes. A longer one is an error of that line.
pub const MAX_LINE_BYTES: u64 = 4 << 20;

/// One line of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its number, from 1.
    pub number: i64,
    /// What stands on it, without the line's end; or why it cannot be read.
    pub text: Result<String, String>,
    /// How many bytes it has in the file.
    pub bytes: u64,
}

/// The lines of a file that are not blank.
#[derive(Debug)]
pub struct LineReader<R> {
    source: R,
    number: i64,
}

impl<R: BufRead> LineReader<R> {
    /// Reads from `source`.
    pub fn new(source: R) -> Self {
        Self { source, number: 0 }
    }

    fn read_line(&mut self) -> io::Result<Option<Line>> {
        loop {
            let mut bytes = Vec::new();
            let mut length = self.source.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes)? as u64;
            if length == 0 {
                return Ok(None);
            }
            self.number += 1;
            let number = self.number;
            if length == MAX_LINE_BYTES && bytes.last() != Some(&b'\n') {
                length += self.skip_line()?;
                let text = Err(format!("the line is longer than {} MiB", MAX_LINE_BYTES >> 20));
                return Ok(Some(Line { number, text, bytes: length }));
            }
            let text = match String::from_utf8(bytes) {
                Ok(text) => Ok(text.trim_matches(['\u{feff}', '\r', '\n', ' ', '\t']).to_owned()),
                Err(error) => Err(format!("byte {} is not UTF-8", error.utf8_error().valid_up_to() + 1)),
            };
            if text.as_deref() != Ok("") {
                return Ok(Some(Line { number, text, bytes: length }));
            }
        }
    }

    fn skip_line(&mut self) -> io::Result<u64> {
        let mut skipped = 0;
        loop {
            let buffer = self.source.fill_buf()?;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let length = end.map_or(buffer.len(), |at| at + 1);
            self.source.consume(length);
            skipped += length as u64;
            if end.is_some() || length == 0 {
                return Ok(skipped);
            }
        }
    }
}

impl<R: BufRead> Iterator for LineReader<R> {
    type Item = io::Result<Line>;

    fn next(&mut self) -> Option<Self::Item> {
        self.read_line().transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: &[u8]) -> Vec<(i64, Result<String, String>)> {
        LineReader::new(source).map(|line| line.map(|line| (line.number, line.text)).unwrap()).collect()
    }

    #[test]
    fn blank_lines_count_but_do_not_appear() {
        assert_eq!(read(b"a\n\n \r\nb"), [(1, Ok("a".into())), (4, Ok("b".into()))]);
    }

    #[test]
    fn a_byte_order_mark_and_windows_line_ends_are_left_out() {
        assert_eq!(read("\u{feff}a\r\nb\r\n".as_bytes()), [(1, Ok("a".into())), (2, Ok("b".into()))]);
    }

    #[test]
    fn a_line_that_is_not_utf8_spoils_no_other() {
        let lines = read(b"a\nb\xff\nc\n");
        assert_eq!(lines[1].1, Err("byte 2 is not UTF-8".into()));
        assert_eq!(lines[2], (3, Ok("c".into())));
    }

    #[test]
    fn an_endless_line_is_reported_and_passed_over() {
        let mut source = vec![b'x'; MAX_LINE_BYTES as usize + 10];
        source.extend_from_slice(b"\nnext\n");
        let lines = read(&source);
        assert_eq!(lines[0].1, Err("the line is longer than 4 MiB".into()));
        assert_eq!(lines[1], (2, Ok("next".into())));
    }
}
