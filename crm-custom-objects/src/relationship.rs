//! [`CustomRelationship`]: how records of two objects belong together.

use crm_core::Id;
use crm_core::error::{Faults, codes};
use crm_core::schema::{Entity, Picklist};
use crm_core::value::ApiName;

use crate::{CustomField, CustomFieldType, CustomObject};

/// What belonging together means (R-200, R-292).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
pub enum RelationshipKind {
    /// One record names another; each lives on its own.
    Lookup,
    /// A record is a part of another: it always has one, and is deleted with it.
    MasterDetail,
    /// Any number on both sides.
    ManyToMany,
}

/// How many records may stand on each side, read from the first object to the second (R-291).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Picklist)]
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
    /// Whether a relationship of this kind may have this cardinality (R-070, R-290).
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
/// A lookup or master-detail relationship is a custom field of one of the objects, which is made with
/// it and goes with it: of the first, or of the second where one record of the first has many of the
/// second. The links of a many-to-many relationship are records of their own, of an object with the
/// name of the relationship; [`Links`](crate::Links) makes them.
///
/// Kind and cardinality agree (R-070), and a part cannot be without its whole (R-072): a
/// master-detail relationship is written as required and cascading, whatever was given.
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
/// );
/// assert!(rooms.needs_link() && rooms.cascades());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, PartialEq, Entity)]
#[entity(
    object = "custom_relationship",
    table = "custom_relationships",
    unique(name; live),
    index(from_object),
    index(to_object),
    check = check_relationship
)]
pub struct CustomRelationship {
    /// The name, of which a tenant has only one (R-321, R-353). It stays.
    #[field(required)]
    pub name: ApiName,
    /// The object that the relationship is read from. It stays.
    #[field(required)]
    pub from_object: ApiName,
    /// The object that it leads to. It stays.
    #[field(required)]
    pub to_object: ApiName,
    /// What belonging together means. It stays.
    #[field(required)]
    pub kind: RelationshipKind,
    /// How many records may stand on each side.
    #[field(required)]
    pub cardinality: Cardinality,
    /// The definition of the first object, where the tenant made it (R-504).
    #[field(
        references = "custom_object",
        on_delete = "cascade",
        read_only,
        indexed
    )]
    pub from_object_id: Option<Id<CustomObject>>,
    /// The definition of the second object, where the tenant made it (R-504).
    #[field(
        references = "custom_object",
        on_delete = "cascade",
        read_only,
        indexed
    )]
    pub to_object_id: Option<Id<CustomObject>>,
    /// The name of the relationship as seen from the first object. Where that object holds the
    /// reference it is the name of the field, and the name of the relationship unless given.
    pub from_field: Option<ApiName>,
    /// The name of the relationship as seen from the second object, likewise.
    pub to_field: Option<ApiName>,
    /// Whether a record must have a link (R-072).
    pub is_required: bool,
    /// Whether the deletion of a record deletes those linked from it (R-072).
    pub cascade_delete: bool,
    /// Whether new links may be made.
    #[field(default = true)]
    pub is_active: bool,
    /// The name as people read it.
    #[field(max_len = 255)]
    pub label: Option<String>,
    /// What the relationship means.
    #[field(multiline)]
    pub description: Option<String>,
}

impl CustomRelationship {
    /// The custom field that holds the reference; `None` where links do.
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
    /// );
    /// let field = rooms.reference_field().expect("no links");
    /// assert_eq!((field.object.as_str(), field.api_name.as_str()), ("room", "rooms"));
    /// assert_eq!(field.field_type.target().map(ApiName::as_str), Some("property"));
    /// # Ok::<(), crm_core::value::ValueError>(())
    /// ```
    #[must_use]
    pub fn reference_field(&self) -> Option<CustomField> {
        let (holder, target, name) = match self.cardinality {
            Cardinality::OneToMany => (&self.to_object, &self.from_object, &self.to_field),
            _ => (&self.from_object, &self.to_object, &self.from_field),
        };
        let object = target.clone();
        let field_type = match self.kind {
            RelationshipKind::Lookup => CustomFieldType::Lookup {
                object,
                cascade: self.cascade_delete,
            },
            RelationshipKind::MasterDetail => CustomFieldType::MasterDetail { object },
            RelationshipKind::ManyToMany => return None,
        };
        let name = name.clone().unwrap_or_else(|| self.name.clone());
        let label = self.label.clone().unwrap_or_else(|| name.to_string());
        Some(CustomField {
            is_required: self.needs_link(),
            is_unique: self.cardinality == Cardinality::OneToOne,
            is_active: self.is_active,
            description: self.description.clone(),
            ..CustomField::new(holder.clone(), name, label, field_type)
        })
    }

    /// Whether a record must have a link: a part always has its whole (R-072).
    #[must_use]
    pub fn needs_link(&self) -> bool {
        self.is_required || self.kind == RelationshipKind::MasterDetail
    }

    /// Whether the deletion of a record deletes those linked from it: a part goes with its whole
    /// (R-072).
    #[must_use]
    pub fn cascades(&self) -> bool {
        self.cascade_delete || self.kind == RelationshipKind::MasterDetail
    }
}

/// R-070, R-290.
fn check_relationship(relationship: &CustomRelationship, faults: &mut Faults) {
    if !relationship.kind.allows(relationship.cardinality) {
        let message = match relationship.kind {
            RelationshipKind::ManyToMany => "a many-to-many relationship is `many_to_many`",
            RelationshipKind::Lookup | RelationshipKind::MasterDetail => {
                "use `one_to_one`, `one_to_many` or `many_to_one` for this kind"
            }
        };
        let field = CustomRelationship::CARDINALITY.name();
        faults.add(field, codes::INCONSISTENT, message);
    }
}

#[cfg(test)]
mod tests {
    use crm_core::value::TextValue;

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

    /// R-070.
    #[test]
    fn cardinality_agrees_with_kind() {
        let name = |text| ApiName::parse(text).unwrap();
        for kind in KINDS {
            for cardinality in CARDINALITIES {
                // An object may relate to itself.
                let made = CustomRelationship::new(
                    name("parts"),
                    name("whole"),
                    name("whole"),
                    kind,
                    cardinality,
                );
                let mut faults = Faults::default();
                made.check(&mut faults);
                let both =
                    kind == RelationshipKind::ManyToMany && cardinality == Cardinality::ManyToMany;
                let neither =
                    kind != RelationshipKind::ManyToMany && cardinality != Cardinality::ManyToMany;
                assert_eq!(
                    faults.is_empty(),
                    both || neither,
                    "{kind:?} {cardinality:?}"
                );
                assert!(faults.is_empty() || faults.has("cardinality"));
            }
        }
    }

    /// R-072.
    #[test]
    fn a_part_has_a_whole_and_goes_with_it() {
        let name = |text| ApiName::parse(text).unwrap();
        let of = |kind| {
            let many = Cardinality::OneToMany;
            CustomRelationship::new(name("parts"), name("whole"), name("part"), kind, many)
        };
        let parts = of(RelationshipKind::MasterDetail);
        assert!(parts.needs_link() && parts.cascades());
        let lookup = of(RelationshipKind::Lookup);
        assert!(!lookup.needs_link() && !lookup.cascades());
    }
}
