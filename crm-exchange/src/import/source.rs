//! [`Source`]: the file that is imported, as often as it has to be read.

use std::fs::File;
use std::io::{self, BufReader, Cursor, Read, Seek};
use std::path::PathBuf;
use std::sync::Arc;

use crm_core::imports::ImportFormat;
use sha2::{Digest, Sha256};

use super::read::decode::{EncodingScan, TextEncoding};

/// A file to import: a path, or bytes that the host already has. It is opened several times: to look
/// at it, to run, to resume.
///
/// ```
/// use crm_exchange::import::Source;
///
/// let source = Source::bytes("leads.csv", "company\nGlobex\n".as_bytes().to_vec());
/// assert_eq!(source.name(), "leads.csv");
/// ```
#[derive(Clone)]
pub struct Source {
    name: String,
    content: Content,
}

#[derive(Clone)]
enum Content {
    File(PathBuf),
    Bytes(Arc<[u8]>),
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// What reading a source needs.
pub(crate) trait Input: Read + Seek + Send {}
impl<T: Read + Seek + Send> Input for T {}

/// What a source is, found by reading it once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Its size in bytes.
    pub size: u64,
    /// SHA-256 of it, in hexadecimal digits.
    pub fingerprint: String,
    /// Its format.
    pub format: ImportFormat,
    /// The encoding of its text, where it is text.
    pub(crate) encoding: TextEncoding,
    /// Whether all of it is UTF-8: a mark at the beginning promises that, and may be wrong.
    pub(crate) is_utf8: bool,
}

impl Source {
    /// A file on disk.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        let name = path.file_name().unwrap_or(path.as_os_str());
        Self {
            name: name.to_string_lossy().into_owned(),
            content: Content::File(path),
        }
    }

    /// Bytes in memory, such as an upload.
    #[must_use]
    pub fn bytes(name: impl Into<String>, bytes: impl Into<Arc<[u8]>>) -> Self {
        Self {
            name: name.into(),
            content: Content::Bytes(bytes.into()),
        }
    }

    /// The name of the file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn open(&self) -> io::Result<Box<dyn Input>> {
        Ok(match &self.content {
            Content::File(path) => Box::new(BufReader::with_capacity(1 << 16, File::open(path)?)),
            Content::Bytes(bytes) => Box::new(Cursor::new(bytes.clone())),
        })
    }

    /// Reads the source once, to its end.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn inspect(&self) -> io::Result<Inspection> {
        let mut input = self.open()?;
        let mut digest = Sha256::new();
        let mut scan = EncodingScan::default();
        let mut size = 0_u64;
        let mut start = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = input.read(&mut buffer)?;
            let Some(chunk) = buffer.get(..count).filter(|chunk| !chunk.is_empty()) else {
                break;
            };
            if start.len() < 8 {
                start.extend(chunk.iter().take(8));
            }
            size += count as u64;
            digest.update(chunk);
            scan.feed(chunk);
        }
        let digest = digest.finalize();
        let fingerprint = digest.iter().map(|byte| format!("{byte:02x}"));
        Ok(Inspection {
            size,
            fingerprint: fingerprint.collect(),
            format: format_of(&start),
            is_utf8: scan.is_utf8(),
            encoding: scan.finish(),
        })
    }
}

/// A ZIP archive (XLSX, XLSB, ODS) or a compound document (XLS) is a spreadsheet.
fn format_of(start: &[u8]) -> ImportFormat {
    let is_spreadsheet = start.starts_with(b"PK\x03\x04") || start.starts_with(b"\xD0\xCF\x11\xE0");
    if is_spreadsheet {
        ImportFormat::Spreadsheet
    } else {
        ImportFormat::Csv
    }
}
