//! The form in which logs travel: a JSON string of base64, in lines as base64(1) breaks them, of gzip. Both ways as a stream.

use base64::engine::general_purpose::STANDARD;
use base64::prelude::BASE64_STANDARD;
use base64::{Engine, read::DecoderReader};
use flate2::Compression;
use flate2::read::{GzEncoder, MultiGzDecoder};
use std::io::{self, BufReader, ErrorKind, Read};

/// Bytes that a line of 76 characters encodes.
const LINE: usize = 57;
/// Lines that are encoded at a time.
const LINES: usize = 512;

/// Reads the answer: `"H4sI...\n...\n"`.
pub(super) struct Encoder<R> {
    zipped: GzEncoder<R>,
    out: Vec<u8>,
    at: usize,
    ended: bool,
}

impl<R: Read> Encoder<R> {
    pub(super) fn new(plain: R) -> Self {
        Self {
            zipped: GzEncoder::new(plain, Compression::fast()),
            out: vec![b'"'],
            at: 0,
            ended: false,
        }
    }

    fn refill(&mut self) -> io::Result<()> {
        let mut block = Vec::with_capacity(LINE * LINES);
        let most = (LINE * LINES) as u64;
        self.zipped.by_ref().take(most).read_to_end(&mut block)?;
        self.out.clear();
        self.at = 0;
        for line in block.chunks(LINE) {
            self.out.extend(STANDARD.encode(line).into_bytes());
            self.out.extend(br"\n");
        }
        if block.len() < LINE * LINES {
            self.out.push(b'"');
            self.ended = true;
        }
        Ok(())
    }
}

impl<R: Read> Read for Encoder<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.at == self.out.len() && !self.ended {
            self.refill()?;
        }
        let n = (&self.out[self.at..]).read(buf)?;
        self.at += n;
        Ok(n)
    }
}

/// Reads the log out of a request: base64 of gzip, with or without line breaks.
pub(super) fn decoded(text: impl Read) -> impl Read {
    let text = WithoutBlanks(BufReader::with_capacity(64 << 10, text));
    let zipped = DecoderReader::new(text, &BASE64_STANDARD);
    Named(MultiGzDecoder::new(zipped))
}

struct WithoutBlanks<R>(R);

impl<R: Read> Read for WithoutBlanks<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.0.read(buf)?;
            let mut kept = 0;
            for i in 0..n {
                if !buf[i].is_ascii_whitespace() {
                    buf[kept] = buf[i];
                    kept += 1;
                }
            }
            if kept > 0 || n == 0 {
                return Ok(kept);
            }
        }
    }
}

/// Names what is wrong in the errors of the two decoders.
struct Named<R>(R);

impl<R: Read> Read for Named<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.0.read(buf).map_err(|e| match e.kind() {
            ErrorKind::Interrupted => e,
            kind => io::Error::new(kind, format!("the body is not base64 of gzip: {e}")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(bytes: &[u8]) -> String {
        let mut text = String::new();
        Encoder::new(bytes).read_to_string(&mut text).unwrap();
        serde_json::from_slice(text.as_bytes()).unwrap()
    }

    fn decode(text: &str) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        decoded(text.as_bytes()).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn lines_are_those_of_base64() {
        let noise: Vec<u8> = (0..300_000u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        for length in [0, 1, 57, 1000, 300_000] {
            let text = encoded(&noise[..length]);
            assert!(text.ends_with('\n'));
            let lines: Vec<&str> = text.lines().collect();
            let (last, full) = lines.split_last().unwrap();
            assert!(full.iter().all(|l| l.len() == 76) && last.len() <= 76);
            assert_eq!(decode(&text).unwrap(), noise[..length], "{length}");
            let joined = text.replace('\n', "");
            assert_eq!(decode(&joined).unwrap(), noise[..length]);
            assert_eq!(
                decode(&text.replace('\n', "\r\n")).unwrap(),
                noise[..length]
            );
        }
    }

    #[test]
    fn what_is_cut_or_foreign_is_an_error() {
        let text = encoded(&[7; 5000]);
        let joined = text.replace('\n', "");
        for bad in [
            "",
            &joined[..joined.len() - 1],
            &joined[..joined.len() - 4],
            &joined[..8],
            "not base64!",
            &format!("\"{joined}\""),
            &BASE64_STANDARD.encode("plain"),
            &format!("{}====", &joined[..40]),
        ] {
            let e = decode(bad).unwrap_err().to_string();
            assert!(
                e.starts_with("the body is not base64 of gzip: "),
                "{bad}: {e}"
            );
        }
    }

    #[test]
    fn a_source_that_fails_leaves_the_end_missing() {
        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let mut text = String::new();
        let e = Encoder::new((&[1u8; 100][..]).chain(Broken)).read_to_string(&mut text);
        assert!(e.is_err() && !text.ends_with("\\n\""), "{text}");
    }
}
