//! Reads a file line by line, and finds out whether it is whole.

use std::collections::HashMap;
use std::io::{BufRead, Read};

use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::TransferError;
use super::export::hexadecimal;
use super::line::RecordLine;
use super::manifest::{FORMAT, Head, Manifest, Tail};

/// The most bytes of a line: more than any record has.
const LINE: usize = 64 * 1_048_576;

/// Reads a file without importing it: its format, the order of its lines, counts and checksums, and
/// that it ends with its manifest. Gives the manifest.
///
/// A checksum finds what was damaged or cut off on the way. It is no signature: who can change the
/// file can change the checksum too.
///
/// # Errors
/// What is wrong with the file.
pub fn verify(reader: &mut impl BufRead) -> Result<Manifest, TransferError> {
    scan(reader, &mut |_, _, _| Ok(()))
}

/// Lines of bounded length.
pub(super) struct Lines<'a, R> {
    reader: &'a mut R,
    /// The number of the last line, from 1.
    pub(super) number: u64,
    /// Where the next line begins.
    pub(super) offset: u64,
    buffer: Vec<u8>,
}

impl<'a, R: BufRead> Lines<'a, R> {
    pub(super) const fn new(reader: &'a mut R, number: u64, offset: u64) -> Self {
        Self {
            reader,
            number,
            offset,
            buffer: Vec::new(),
        }
    }

    /// The next line, its end included; none at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, TransferError> {
        self.buffer.clear();
        let limit = u64::try_from(LINE).unwrap_or(u64::MAX).saturating_add(1);
        let mut some = Read::take(&mut *self.reader, limit);
        let read = some.read_until(b'\n', &mut self.buffer)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        self.offset += read as u64;
        if self.buffer.last() == Some(&b'\n') {
            return Ok(Some(&self.buffer));
        }
        if read > LINE {
            return Err(TransferError::LineTooLong {
                line: self.number,
                max: LINE,
            });
        }
        Err(TransferError::Truncated)
    }
}

/// A record of the file, given to the visitor with the number of its line and its place.
pub(super) type Visit<'v> =
    dyn FnMut(RecordLine, u64, u64) -> Result<(), TransferError> + Send + 'v;

/// Reads the whole file, and gives each record to `visit`.
pub(super) fn scan(
    reader: &mut impl BufRead,
    visit: &mut Visit<'_>,
) -> Result<Manifest, TransferError> {
    let mut lines = Lines::new(reader, 0, 0);
    let head = read_head(lines.next()?.ok_or(TransferError::NotAnExport)?)?;
    let order: HashMap<&str, usize> = head
        .objects
        .iter()
        .flatten()
        .enumerate()
        .map(|(place, name)| (name.as_str(), place))
        .collect();
    let mut found: HashMap<usize, (u64, Sha256)> = HashMap::new();
    let mut last: Option<(usize, Uuid)> = None;
    loop {
        let (number, offset) = (lines.number + 1, lines.offset);
        let malformed = |reason| TransferError::Malformed {
            line: number,
            reason,
        };
        let Some(line) = lines.next()? else {
            return Err(TransferError::Truncated);
        };
        let Ok(record) = serde_json::from_slice::<RecordLine>(line) else {
            let tail: Tail = serde_json::from_slice(line)
                .map_err(|_| malformed("is neither a record nor the manifest"))?;
            if lines.next()?.is_some() {
                return Err(malformed("is the manifest, and more lines follow"));
            }
            return compare(tail.manifest, &head, &order, found);
        };
        let place = *order
            .get(record.object.as_str())
            .ok_or_else(|| malformed("is of an object that the head does not name"))?;
        let here = (place, record.id);
        if last.is_some_and(|last| last >= here) {
            return Err(malformed("is there twice, or not in its order"));
        }
        last = Some(here);
        let (count, hash) = found.entry(place).or_default();
        *count += 1;
        hash.update(line);
        visit(record, number, offset)?;
    }
}

pub(super) fn read_head(line: &[u8]) -> Result<Head, TransferError> {
    let json: Json = serde_json::from_slice(line).map_err(|_| TransferError::NotAnExport)?;
    let format = json.get("crm_tenant_export").and_then(Json::as_u64);
    match format {
        None | Some(0) => Err(TransferError::NotAnExport),
        Some(found) if found > FORMAT => Err(TransferError::NewerFormat {
            found,
            known: FORMAT,
        }),
        Some(_) => serde_json::from_value(json).map_err(|_| TransferError::Malformed {
            line: 1,
            reason: "is not a head of this format",
        }),
    }
}

/// Compares what was found with what the manifest tells.
fn compare(
    manifest: Manifest,
    head: &Head,
    order: &HashMap<&str, usize>,
    mut found: HashMap<usize, (u64, Sha256)>,
) -> Result<Manifest, TransferError> {
    let altered = |object: &str| TransferError::Altered {
        object: object.to_owned(),
    };
    if manifest.head != *head || manifest.objects.len() != order.len() {
        return Err(altered("manifest's"));
    }
    for (summary, name) in manifest.objects.iter().zip(head.objects.iter().flatten()) {
        let place = order.get(name.as_str()).copied().unwrap_or_default();
        let (count, hash) = found.remove(&place).unwrap_or_default();
        let is_same = summary.object == *name
            && summary.count == count
            && summary.sha256 == hexadecimal(hash);
        if !is_same {
            return Err(altered(name));
        }
    }
    Ok(manifest)
}
