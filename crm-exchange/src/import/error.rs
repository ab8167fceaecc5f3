//! [`ImportError`]: why an import cannot begin or go on.

use super::read::ReadError;

/// Why an import cannot begin or go on. What is wrong with single rows is no error of the import: it
/// is told of each row.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The mapping does not fit the object or the file; every problem is listed.
    #[error("the mapping does not fit: {}", list(.0))]
    Mapping(Vec<MappingProblem>),
    /// The job was begun with another file.
    #[error("this is not the file that the job was begun with")]
    OtherFile,
    /// The engine refused, or the storage failed.
    #[error(transparent)]
    Crm(#[from] crm_core::Error),
    /// The list of bad rows cannot be written.
    #[error("the list of bad rows cannot be written: {0}")]
    Write(#[from] std::io::Error),
}

fn list(problems: &[MappingProblem]) -> String {
    let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
    texts.join("; ")
}

/// One thing that is wrong with a mapping.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{place}` {message}")]
pub struct MappingProblem {
    /// The column or field.
    pub place: String,
    /// A stable code.
    pub code: &'static str,
    /// What is wrong and what would be right.
    pub message: &'static str,
}
