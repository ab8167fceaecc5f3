//! [`CustomRelationship`]: how records of two objects belong together.

use crm_core::error::{Faults, ValidationError, codes};
use crm_core::value::ApiName;
use serde::{Deserialize, Serialize};

use crate::check::checked;

/// What belonging together means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationshipKind {
    /// One record names another; each lives on its own.
    Lookup,
    /// A record is a part of another: it always has one, and is deleted with it.
    MasterDetail,
    /// Any number on both sides.
    ManyToMany,
}

/// How many records may stand on each side, read from the first object to the second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cardinality {
    /// At most one on both sides.
    OneToOne,
    /// One record has many others.
    OneToMany,
    /// Many records have the same other one.
    ManyToOne,
    /// Any number on both sides.
    ManyToMany,
}

impl RelationshipKind {
    /// Whether a relationship of this kind may have this cardinality (R-070).
    ///
    /// ```
    /// use crm_custom_objects::{Cardinality, RelationshipKind};
    ///
    /// assert!(RelationshipKind::Lookup.allows(Cardinality::ManyToOne));
    /// assert!(!RelationshipKind::Lookup.allows(Cardinality::ManyToMany));
    /// ```
    #[must_use]
    pub const fn allows(self, cardinality: Cardinality) -> bool {
        matches!(self, Self::ManyToMany) == matches!(cardinality, Cardinality::ManyToMany)
    }
}

/// How records of two objects belong together; an object may relate to itself.
///
/// Kind and cardinality agree (R-070), and a part cannot be without its whole (R-072): there is no
/// way to make one of which this is not true.
///
/// ```
/// use crm_core::value::{ApiName, TextValue};
/// use crm_custom_objects::{Cardinality, CustomRelationship, RelationshipKind};
///
/// let rooms = CustomRelationship::new(
///     ApiName::parse("rooms")?,
///     ApiName::parse("property")?,
///     ApiName::parse("room")?,
///     RelationshipKind::MasterDetail,
///     Cardinality::OneToMany,
/// )?;
/// assert!(rooms.is_required() && rooms.cascades());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct CustomRelationship {
    name: ApiName,
    from: ApiName,
    to: ApiName,
    kind: RelationshipKind,
    cardinality: Cardinality,
    is_required: bool,
    cascade_delete: bool,
    /// The name of the relationship as a field of the first object.
    pub from_field: Option<ApiName>,
    /// The name of the relationship as a field of the second object.
    pub to_field: Option<ApiName>,
    /// What the relationship means.
    pub description: Option<String>,
}

impl CustomRelationship {
    /// A relationship from the records of one object to those of another.
    ///
    /// # Errors
    /// R-070: a many-to-many relationship has that cardinality, the other kinds do not.
    pub fn new(
        name: ApiName,
        from: ApiName,
        to: ApiName,
        kind: RelationshipKind,
        cardinality: Cardinality,
    ) -> Result<Self, ValidationError> {
        let mut faults = Faults::default();
        if !kind.allows(cardinality) {
            let message = match kind {
                RelationshipKind::ManyToMany => "a many-to-many relationship is `many_to_many`",
                RelationshipKind::Lookup | RelationshipKind::MasterDetail => {
                    "use `one_to_one`, `one_to_many` or `many_to_one` for this kind"
                }
            };
            faults.add("cardinality", codes::INCONSISTENT, message);
        }
        // R-072: parts have a whole, and go with it.
        let is_part = kind == RelationshipKind::MasterDetail;
        let relationship = Self {
            name,
            from,
            to,
            kind,
            cardinality,
            is_required: is_part,
            cascade_delete: is_part,
            from_field: None,
            to_field: None,
            description: None,
        };
        checked(relationship, faults)
    }

    /// The same relationship, whose records must have a link.
    #[must_use]
    pub const fn required(mut self) -> Self {
        self.is_required = true;
        self
    }

    /// The same relationship, in which the deletion of a record deletes those linked from it.
    #[must_use]
    pub const fn cascading(mut self) -> Self {
        self.cascade_delete = true;
        self
    }

    /// The name, of which a tenant has only one.
    #[must_use]
    pub const fn name(&self) -> &ApiName {
        &self.name
    }

    /// The object that the relationship is read from.
    #[must_use]
    pub const fn from(&self) -> &ApiName {
        &self.from
    }

    /// The object that it leads to.
    #[must_use]
    pub const fn to(&self) -> &ApiName {
        &self.to
    }

    /// What belonging together means.
    #[must_use]
    pub const fn kind(&self) -> RelationshipKind {
        self.kind
    }

    /// How many records may stand on each side.
    #[must_use]
    pub const fn cardinality(&self) -> Cardinality {
        self.cardinality
    }

    /// Whether a record must have a link.
    #[must_use]
    pub const fn is_required(&self) -> bool {
        self.is_required
    }

    /// Whether the deletion of a record deletes those linked from it.
    #[must_use]
    pub const fn cascades(&self) -> bool {
        self.cascade_delete
    }
}

/// A definition as it is read.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    name: ApiName,
    from: ApiName,
    to: ApiName,
    kind: RelationshipKind,
    cardinality: Cardinality,
    is_required: Option<bool>,
    cascade_delete: Option<bool>,
    #[serde(default)]
    from_field: Option<ApiName>,
    #[serde(default)]
    to_field: Option<ApiName>,
    #[serde(default)]
    description: Option<String>,
}

impl TryFrom<Unchecked> for CustomRelationship {
    type Error = ValidationError;

    fn try_from(read: Unchecked) -> Result<Self, Self::Error> {
        let start = Self::new(read.name, read.from, read.to, read.kind, read.cardinality)?;
        let mut faults = Faults::default();
        if start.is_required && read.is_required == Some(false) {
            faults.add(
                "is_required",
                codes::INCONSISTENT,
                "a part always has its whole",
            );
        }
        if start.cascade_delete && read.cascade_delete == Some(false) {
            faults.add(
                "cascade_delete",
                codes::INCONSISTENT,
                "a part is deleted with its whole",
            );
        }
        let relationship = Self {
            is_required: read.is_required.unwrap_or(start.is_required),
            cascade_delete: read.cascade_delete.unwrap_or(start.cascade_delete),
            from_field: read.from_field,
            to_field: read.to_field,
            description: read.description,
            ..start
        };
        checked(relationship, faults)
    }
}

#[cfg(test)]
mod tests {
    use crm_core::value::TextValue;
    use serde_json::json;

    use super::*;

    const KINDS: [RelationshipKind; 3] = [
        RelationshipKind::Lookup,
        RelationshipKind::MasterDetail,
        RelationshipKind::ManyToMany,
    ];
    const CARDINALITIES: [Cardinality; 4] = [
        Cardinality::OneToOne,
        Cardinality::OneToMany,
        Cardinality::ManyToOne,
        Cardinality::ManyToMany,
    ];

    fn relationship(
        kind: RelationshipKind,
        cardinality: Cardinality,
    ) -> Result<CustomRelationship, ValidationError> {
        let name = |text| ApiName::parse(text).unwrap();
        CustomRelationship::new(
            name("parts"),
            name("whole"),
            name("part"),
            kind,
            cardinality,
        )
    }

    /// R-070.
    #[test]
    fn cardinality_agrees_with_kind() {
        for kind in KINDS {
            for cardinality in CARDINALITIES {
                let both =
                    kind == RelationshipKind::ManyToMany && cardinality == Cardinality::ManyToMany;
                let neither =
                    kind != RelationshipKind::ManyToMany && cardinality != Cardinality::ManyToMany;
                match relationship(kind, cardinality) {
                    Ok(made) => {
                        assert!(both || neither, "{kind:?} {cardinality:?}");
                        let json = serde_json::to_value(&made).unwrap();
                        assert_eq!(
                            serde_json::from_value::<CustomRelationship>(json).unwrap(),
                            made
                        );
                    }
                    Err(error) => {
                        assert!(!both && !neither, "{kind:?} {cardinality:?}");
                        assert_eq!(error.errors()[0].path, "cardinality");
                        assert_eq!(error.errors()[0].code, codes::INCONSISTENT);
                    }
                }
            }
        }
    }

    /// R-072.
    #[test]
    fn a_part_has_a_whole_and_goes_with_it() {
        let parts = relationship(RelationshipKind::MasterDetail, Cardinality::OneToMany).unwrap();
        assert!(parts.is_required() && parts.cascades());
        let mut json = serde_json::to_value(&parts).unwrap();
        json["is_required"] = json!(false);
        assert!(serde_json::from_value::<CustomRelationship>(json).is_err());

        let lookup = relationship(RelationshipKind::Lookup, Cardinality::ManyToOne).unwrap();
        assert!(!lookup.is_required() && !lookup.cascades());
        assert!(lookup.required().cascading().cascades());
    }

    /// R-070: JSON cannot go round the check.
    #[test]
    fn a_contradiction_cannot_be_read() {
        let json = json!({
            "name": "friends", "from": "contact", "to": "contact",
            "kind": "lookup", "cardinality": "many_to_many",
        });
        assert!(serde_json::from_value::<CustomRelationship>(json).is_err());
    }

    #[test]
    fn an_object_may_relate_to_itself() {
        let contact = ApiName::parse("contact").unwrap();
        let made = CustomRelationship::new(
            ApiName::parse("friends").unwrap(),
            contact.clone(),
            contact,
            RelationshipKind::ManyToMany,
            Cardinality::ManyToMany,
        );
        assert!(made.is_ok());
    }
}
