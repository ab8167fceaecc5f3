//! References and CHECKs.

use crm_core::schema::{FieldSchema, FieldType, Privacy, system};

use super::{Layout, SEALED, constraint_name, literal, quoted};

/// A reference: a composite foreign key that cannot leave the tenant.
#[derive(Clone, Debug)]
pub(crate) struct ForeignKey {
    /// The constraint's name.
    pub(crate) name: String,
    /// The field, by its place in the schema.
    pub(crate) field: usize,
    /// The object that it leads to.
    pub(crate) target: String,
}

/// A CHECK.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    /// The constraint's name.
    pub(crate) name: String,
    /// What must hold.
    pub(crate) expression: String,
}

impl Layout {
    pub(super) fn add_foreign_keys(&mut self) {
        let object = self.object.clone();
        for field in object.references() {
            let Some(schema) = object.fields().get(*field) else {
                continue;
            };
            if let Some((target, _)) = schema.reference() {
                self.foreign_keys.push(ForeignKey {
                    name: constraint_name(&self.name, &[&schema.name], "fkey"),
                    field: *field,
                    target: target.to_owned(),
                });
            }
        }
    }

    pub(super) fn add_checks(&mut self) {
        let object = self.object.clone();
        for (index, field) in object.fields().iter().enumerate() {
            let Some(column) = self.columns.get(index) else {
                continue;
            };
            if let Some(mut expression) = check(field, index, &column.sql) {
                if field.privacy != Privacy::Public {
                    // What stands in place of a sealed value is none of the field's.
                    expression = format!("{} IS NOT NULL OR {expression}", quoted(SEALED));
                }
                // A month that is moved to the archive brings its own with it.
                let table = self.archive_of().unwrap_or(&self.name);
                self.checks.push(Check {
                    name: constraint_name(table, &[&column.name], "check"),
                    expression,
                });
            }
        }
    }
}

/// What must hold of a column beyond its type: the options of a picklist, the range of a number.
fn check(field: &FieldSchema, index: usize, column: &str) -> Option<String> {
    let between = |least: Option<String>, greatest: Option<String>| match (least, greatest) {
        (Some(least), Some(greatest)) => Some(format!("{column} BETWEEN {least} AND {greatest}")),
        (Some(least), None) => Some(format!("{column} >= {least}")),
        (None, Some(greatest)) => Some(format!("{column} <= {greatest}")),
        (None, None) => None,
    };
    match &field.field_type {
        FieldType::Picklist { options } => {
            let options: Vec<String> = options.iter().map(|option| literal(option)).collect();
            Some(format!("{column} IN ({})", options.join(", ")))
        }
        FieldType::Integer { min, max } => between(
            (*min != i64::MIN).then(|| min.to_string()),
            (*max != i64::MAX).then(|| max.to_string()),
        ),
        FieldType::Score | FieldType::Percent => between(Some("0".into()), Some("100".into())),
        FieldType::Decimal { min, max, .. } => between(
            min.map(|min| min.to_string()),
            max.map(|max| max.to_string()),
        ),
        _ if index == system::VERSION => Some(format!("{column} >= 1")),
        _ => None,
    }
}
