//! What a file tells of itself: the head in front, the manifest at the end.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The format of the files that this engine writes; it reads this and every earlier one.
pub const FORMAT: u64 = 1;

/// The first line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// The format; see [`FORMAT`].
    #[serde(rename = "crm_tenant_export")]
    pub format: u64,
    /// The version of the engine that wrote the file.
    pub engine: String,
    /// The id of the export, which is that of its
    /// [`ExportJob`](crm_core::exports::ExportJob).
    pub export: Uuid,
    /// The id of the tenant.
    pub tenant: Uuid,
    /// The name of the tenant.
    pub name: String,
    /// When the export began, by the engine's clock: later records are not in the file.
    pub at: DateTime<Utc>,
    /// Whether archived records are in the file.
    pub archived: bool,
    /// Whether deleted records are in the file.
    pub deleted: bool,
    /// Whether logs are in the file.
    pub logs: bool,
    /// The objects in their order; those that refer to one another in a circle are together.
    pub objects: Vec<Vec<String>>,
}

/// The last line of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The head.
    pub head: Head,
    /// What the file has of each object, in the order of the file.
    pub objects: Vec<ObjectSummary>,
}

impl Manifest {
    /// How many records the file has.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.objects.iter().map(|object| object.count).sum()
    }

    /// What the file has of one object.
    #[must_use]
    pub fn object(&self, name: &str) -> Option<&ObjectSummary> {
        self.objects.iter().find(|object| object.object == name)
    }
}

/// What a file has of one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectSummary {
    /// The object.
    pub object: String,
    /// How many records are in the file.
    pub count: u64,
    /// SHA-256 over their lines with the line ends, in hexadecimal digits.
    pub sha256: String,
    /// How many records stayed behind: they cannot be without a secret, or without a record that is
    /// not in the file.
    pub left_out: u64,
    /// The fields that stayed behind, since they are secrets.
    pub fields_left_out: Vec<String>,
}

/// The last line as it stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tail {
    pub(super) manifest: Manifest,
}
