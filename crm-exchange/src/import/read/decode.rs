//! Text of any encoding as UTF-8: detection over the whole file, decoding as a stream.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use chardetng::EncodingDetector;
use encoding_rs::{CoderResult, Decoder, Encoding, UTF_8, UTF_16BE, UTF_16LE};

/// How many bytes the detector looks at, counting only stretches that are not plain ASCII.
const DETECTED: usize = 1 << 20;
/// The most bytes that one row may have: a quote that is never closed must not fill the memory.
pub(crate) const ROW_BYTES: usize = 16 << 20;

/// The encoding of a text.
pub(crate) type TextEncoding = &'static Encoding;

/// Finds the encoding while the file goes by: a byte order mark says it; else it is UTF-8 if all of
/// the file is; else what the detector finds most likely.
pub(crate) struct EncodingScan {
    start: Vec<u8>,
    /// The bytes of a character that the last chunk ended in.
    rest: Vec<u8>,
    is_utf8: bool,
    /// Zero bytes at even and odd places: UTF-16 without a mark has one of them.
    zeros: [usize; 2],
    seen: usize,
    detector: EncodingDetector,
    fed: usize,
}

impl Default for EncodingScan {
    fn default() -> Self {
        Self {
            start: Vec::new(),
            rest: Vec::new(),
            is_utf8: true,
            zeros: [0; 2],
            seen: 0,
            detector: EncodingDetector::new(),
            fed: 0,
        }
    }
}

impl EncodingScan {
    pub(crate) fn feed(&mut self, chunk: &[u8]) {
        if self.start.len() < 4 {
            self.start.extend(chunk.iter().take(4));
        }
        for (place, byte) in chunk.iter().enumerate() {
            if *byte == 0
                && let Some(count) = self.zeros.get_mut((self.seen + place) % 2)
            {
                *count += 1;
            }
        }
        self.seen += chunk.len();
        if self.is_utf8 {
            self.check_utf8(chunk);
        }
        if self.fed < DETECTED && !chunk.is_ascii() {
            self.detector.feed(chunk, false);
            self.fed += chunk.len();
        }
    }

    fn check_utf8(&mut self, chunk: &[u8]) {
        let mut bytes = std::mem::take(&mut self.rest);
        bytes.extend_from_slice(chunk);
        if let Err(error) = std::str::from_utf8(&bytes) {
            match error.error_len() {
                Some(_) => self.is_utf8 = false,
                None => self.rest = bytes.split_off(error.valid_up_to()),
            }
        }
    }

    /// Whether all that went by is UTF-8, a byte order mark or not.
    pub(crate) fn is_utf8(&self) -> bool {
        self.is_utf8 && self.rest.is_empty()
    }

    pub(crate) fn finish(mut self) -> TextEncoding {
        if let Some((encoding, _)) = Encoding::for_bom(&self.start) {
            return encoding;
        }
        let [even, odd] = self.zeros;
        let many = self.seen / 4;
        if odd > many && even < odd / 4 {
            return UTF_16LE;
        }
        if even > many && odd < even / 4 {
            return UTF_16BE;
        }
        if self.is_utf8() {
            return UTF_8;
        }
        self.detector.feed(b"", true);
        self.detector.guess(None, false)
    }
}

/// A stream of bytes of an encoding as a stream of UTF-8, without the byte order mark. What cannot be
/// decoded becomes U+FFFD, which the cells are checked for.
pub(crate) struct Decoded<R> {
    inner: R,
    decoder: Decoder,
    raw: Vec<u8>,
    raw_at: usize,
    text: Vec<u8>,
    text_at: usize,
    ended: bool,
    finished: bool,
    /// Bytes given out since the owner last set it to zero.
    given: Arc<AtomicUsize>,
}

impl<R: Read> Decoded<R> {
    pub(crate) fn new(inner: R, encoding: TextEncoding) -> Self {
        Self {
            inner,
            decoder: encoding.new_decoder_with_bom_removal(),
            raw: Vec::new(),
            raw_at: 0,
            text: Vec::new(),
            text_at: 0,
            ended: false,
            finished: false,
            given: Arc::default(),
        }
    }

    /// The counter of bytes given out, for the owner to set to zero at each row.
    pub(crate) fn given(&self) -> Arc<AtomicUsize> {
        self.given.clone()
    }

    fn fill(&mut self) -> io::Result<()> {
        while self.text_at >= self.text.len() && !self.finished {
            if self.raw_at >= self.raw.len() && !self.ended {
                self.raw.resize(1 << 15, 0);
                let count = self.inner.read(&mut self.raw)?;
                self.raw.truncate(count);
                self.raw_at = 0;
                self.ended = count == 0;
            }
            self.text.resize(1 << 16, 0);
            let raw = self.raw.get(self.raw_at..).unwrap_or_default();
            let (result, read, written, _) =
                self.decoder.decode_to_utf8(raw, &mut self.text, self.ended);
            self.raw_at += read;
            self.text.truncate(written);
            self.text_at = 0;
            self.finished = self.ended && result == CoderResult::InputEmpty;
        }
        Ok(())
    }
}

impl<R: Read> Read for Decoded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.fill()?;
        let text = self.text.get(self.text_at..).unwrap_or_default();
        let count = text.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), text.get(..count)) {
            to.copy_from_slice(from);
        }
        self.text_at += count;
        if self.given.fetch_add(count, Ordering::Relaxed) + count > ROW_BYTES {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "a row is too long: is a quote not closed?",
            ));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scanned(bytes: &[u8], chunk: usize) -> TextEncoding {
        let mut scan = EncodingScan::default();
        for chunk in bytes.chunks(chunk.max(1)) {
            scan.feed(chunk);
        }
        scan.finish()
    }

    fn decoded(bytes: &[u8], encoding: TextEncoding) -> String {
        let mut text = String::new();
        Decoded::new(bytes, encoding)
            .read_to_string(&mut text)
            .unwrap();
        text
    }

    #[test]
    fn marks_say_the_encoding() {
        let text = "name;city\nJörg;Köln\n";
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let marked = [&[0xFF, 0xFE], utf16.as_slice()].concat();
        assert_eq!(decoded(&marked, scanned(&marked, 7)), text);
        assert_eq!(decoded(&utf16, scanned(&utf16, 7)), text);
        let marked = [b"\xEF\xBB\xBF", text.as_bytes()].concat();
        assert_eq!(decoded(&marked, scanned(&marked, 3)), text);
    }

    #[test]
    fn western_text_is_detected() {
        let text = "Vorname,Straße,Ort\nJörg,Königstraße 5,Köln\nZoë,Rue du Château,Besançon\n";
        let (bytes, _, _) = encoding_rs::WINDOWS_1252.encode(text);
        let encoding = scanned(&bytes, 10);
        assert_eq!(encoding.name(), "windows-1252");
        assert_eq!(decoded(&bytes, encoding), text);
    }

    proptest! {
        #[test]
        fn utf8_is_utf8_however_it_is_cut(text in "\\PC{0,200}", chunk in 1..9_usize) {
            // Zero bytes aside, which are no text.
            prop_assert_eq!(scanned(text.as_bytes(), chunk), UTF_8);
            prop_assert_eq!(decoded(text.as_bytes(), UTF_8), text.trim_start_matches('\u{feff}'));
        }
    }
}
