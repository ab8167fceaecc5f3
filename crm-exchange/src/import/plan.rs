//! [`Plan`]: a mapping bound to an object and a file, with every format decided.

use std::sync::Arc;

use chrono::DateTime;
use crm_core::Session;
use crm_core::error::FieldError;
use crm_core::imports::{DuplicateHandling, ImportMode, RowFault};
use crm_core::query::{FieldAt, Filter, Find, fold_case};
use crm_core::schema::{
    CustomFieldSchema, Dynamic, FieldType, Lifecycle, Meta, ObjectRef, Registry, Row,
    SYSTEM_FIELDS, StorageKind, Value,
};
use crm_core::{Actor, Stamp};
use serde_json::{Map, Value as Json};
use uuid::Uuid;

use super::detect::{self, Unclear};
use super::error::{ImportError, MappingProblem};
use super::importer::Import;
use super::mapping::{ColumnMapping, EmptyCell, FULL_NAME, Lookup};
use super::parse::{Format, parse, parse_member, split_name};
use super::read::{Cell, TableRow};
use super::suggest::{has_both_names, sniffed_lookup};

/// The most rows in one batch: as many values as one filter takes.
const MOST_ROWS: usize = 1_000;

/// How rows become values, decided before the first one is read.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) object: ObjectRef,
    pub(crate) columns: Vec<Column>,
    pub(crate) keys: Vec<Key>,
    pub(crate) mode: ImportMode,
    pub(crate) duplicates: DuplicateHandling,
    pub(crate) batch_size: usize,
    width: usize,
    short_rows: bool,
}

/// A column of the file, or a constant for new records.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) header: Option<String>,
    from: From,
    target: Target,
    format: Format,
    empty: EmptyCell,
}

#[derive(Debug)]
enum From {
    Column(usize),
    Constant(Cell),
}

#[derive(Debug)]
enum Target {
    Field(usize),
    Member {
        index: usize,
        member: String,
        /// What the member is, where the tenant defined it; its name is the whole path.
        custom: Option<Box<CustomFieldSchema>>,
    },
    FullName {
        first: usize,
        last: usize,
    },
    Reference(Reference),
}

/// A column of references.
#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) index: usize,
    /// The member of the document at `index`, where the reference is a custom field.
    pub(crate) member: Option<String>,
    /// The name of the field.
    pub(crate) path: String,
    pub(crate) object: ObjectRef,
    pub(crate) lookup: Lookup,
}

/// A field, or a member of a document, by which rows find their records.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) path: String,
    pub(crate) field: FieldAt,
}

/// A row as far as it can be understood without asking the storage.
pub(crate) struct ParsedRow {
    pub(crate) number: u64,
    pub(crate) cells: Vec<Cell>,
    pub(crate) values: Vec<(usize, Value)>,
    /// Values for a new record only.
    pub(crate) constants: Vec<(usize, Value)>,
    /// References still to be looked up: the place of the column, and the text.
    pub(crate) references: Vec<(usize, String)>,
    pub(crate) faults: Vec<RowFault>,
}

impl Column {
    pub(crate) const fn reference(&self) -> Option<&Reference> {
        match &self.target {
            Target::Reference(reference) => Some(reference),
            _ => None,
        }
    }

    pub(crate) const fn is_constant(&self) -> bool {
        matches!(self.from, From::Constant(_))
    }

    fn fields(&self) -> Vec<usize> {
        match &self.target {
            Target::Field(index) | Target::Member { index, .. } => vec![*index],
            Target::FullName { first, last } => vec![*first, *last],
            Target::Reference(reference) => vec![reference.index],
        }
    }
}

impl Plan {
    /// Binds an import to the object and the file. `sample` are its first rows.
    ///
    /// Completes the formats and lookups of the mapping, which then say all that was found.
    pub(crate) async fn new(
        session: &Session,
        import: &mut Import,
        headers: &[String],
        sample: &[TableRow],
    ) -> Result<Self, ImportError> {
        let object = session.describe(&import.mapping.object).await?;
        let registry = session.registry().await?;
        let mut problems = Vec::new();
        if object.lifecycle() != Lifecycle::Full {
            problems.push(problem(
                object.name(),
                "not_writable",
                "is written by the engine",
            ));
        }
        let mut columns = Vec::new();
        import.mapping.adopt(headers);
        for column in &mut import.mapping.columns {
            let Some(at) = headers.iter().position(|header| *header == column.column) else {
                problems.push(problem(
                    &column.column,
                    "unknown_column",
                    "is no column of the file",
                ));
                continue;
            };
            let cells: Vec<&Cell> = sample.iter().filter_map(|row| row.cells.get(at)).collect();
            match bind(&registry, &object, column, &cells) {
                Ok((target, format)) => columns.push(Column {
                    header: Some(column.column.clone()),
                    from: From::Column(at),
                    target,
                    format,
                    empty: column.empty,
                }),
                Err(found) => problems.push(found),
            }
        }
        add_defaults(session, &object, import).await?;
        for (field, value) in &import.mapping.constants {
            let cell = constant(value);
            let mut column = ColumnMapping::new(field, field);
            column.format.separator = Some(';');
            match bind(&registry, &object, &mut column, &[&cell]) {
                Ok((target, format)) => columns.push(Column {
                    header: None,
                    from: From::Constant(cell),
                    target,
                    format,
                    empty: EmptyCell::Leave,
                }),
                Err(found) => problems.push(found),
            }
        }
        let mut filled: Vec<usize> = Vec::new();
        for column in columns.iter().filter(|column| !column.is_constant()) {
            let is_member = match &column.target {
                Target::Member { .. } => true,
                Target::Reference(reference) => reference.member.is_some(),
                _ => false,
            };
            for index in column.fields() {
                if filled.contains(&index) && !is_member {
                    problems.push(problem(
                        object.field_name(index),
                        "mapped_twice",
                        "is filled by two columns",
                    ));
                }
                filled.push(index);
            }
        }
        let keys = keys(&object, import, &columns, &mut problems);
        if !problems.is_empty() {
            return Err(ImportError::Mapping(problems));
        }
        Ok(Self {
            object,
            columns,
            keys,
            mode: import.mode,
            duplicates: import.duplicates,
            batch_size: import.batch_size.clamp(1, MOST_ROWS),
            width: headers.len(),
            short_rows: import.read.short_rows,
        })
    }

    /// The columns that refer to records of the same object by what the file says of these.
    pub(crate) fn own_references(&self) -> impl Iterator<Item = (usize, &Reference)> {
        let columns = self.columns.iter().enumerate();
        let references = columns.filter(|(_, column)| !column.is_constant());
        references
            .filter_map(|(place, column)| Some((place, column.reference()?)))
            .filter(|(_, reference)| reference.object == self.object && reference.lookup.by != "id")
    }

    /// Whether rows may name the records of other rows.
    pub(crate) fn names_own_records(&self) -> bool {
        self.own_references().next().is_some()
    }

    /// A record with these values, new or in place of those before, as far as it can be told before
    /// any rule runs.
    pub(crate) fn draft(&self, before: Option<&Row>, given: &[(usize, Value)]) -> Row {
        let stamp = Stamp {
            at: DateTime::UNIX_EPOCH,
            by: Actor::System,
        };
        let mut values = match before {
            Some(before) => before.values(),
            None => self.object.defaults(),
        };
        for (index, value) in given {
            let slot = index.checked_sub(SYSTEM_FIELDS);
            if let Some(slot) = slot.and_then(|slot| values.get_mut(slot)) {
                *slot = value.clone();
            }
        }
        let meta = before.map_or_else(|| Meta::first(Uuid::nil(), stamp), |before| before.meta());
        Arc::new(Dynamic::new(self.object.clone(), meta, values))
    }

    /// Understands a row as far as that needs no other records.
    pub(crate) fn parse(&self, row: TableRow) -> ParsedRow {
        let mut parsed = ParsedRow {
            number: row.number,
            cells: row.cells,
            values: Vec::with_capacity(self.columns.len()),
            constants: Vec::new(),
            references: Vec::new(),
            faults: Vec::new(),
        };
        let cells = std::mem::take(&mut parsed.cells);
        let more = cells.iter().skip(self.width).any(|cell| !cell.is_empty());
        if more || (cells.len() < self.width && !self.short_rows) {
            parsed.faults.push(RowFault {
                column: None,
                field: None,
                code: "ragged_row".to_owned(),
                message: "must have as many cells as the header".to_owned(),
            });
        }
        for (place, column) in self.columns.iter().enumerate() {
            let cell = match &column.from {
                From::Column(at) => cells.get(*at).unwrap_or(&Cell::Empty),
                From::Constant(cell) => cell,
            };
            if let Err(error) = self.parse_cell(place, column, cell, &mut parsed) {
                parsed
                    .faults
                    .push(fault_of(&error, column.header.as_deref()));
            }
        }
        parsed.cells = cells;
        parsed
    }

    fn parse_cell(
        &self,
        place: usize,
        column: &Column,
        cell: &Cell,
        row: &mut ParsedRow,
    ) -> Result<(), FieldError> {
        let is_empty = cell.is_empty();
        if is_empty && column.empty == EmptyCell::Leave {
            return Ok(());
        }
        let values = if column.is_constant() {
            &mut row.constants
        } else {
            &mut row.values
        };
        match &column.target {
            Target::Field(index) => {
                if let Some(field) = self.object.fields().get(*index) {
                    values.push((*index, parse(cell, field, &column.format)?));
                }
            }
            Target::Member {
                index,
                member,
                custom,
            } => {
                let value = match custom {
                    Some(custom) => parse_custom(cell, custom, &column.format)?.to_json(),
                    None => {
                        let path = format!("{}.{member}", self.object.field_name(*index));
                        parse_member(cell, &path, &column.format)?
                    }
                };
                set_member(values, *index, member, value);
            }
            Target::FullName { first, last } => {
                let text = cell.text();
                let (given, family) = split_name(&text);
                for (index, part) in [(*first, given), (*last, family)] {
                    if let Some(field) = self.object.fields().get(index) {
                        let part = part.map_or(Cell::Empty, Cell::Text);
                        values.push((index, parse(&part, field, &column.format)?));
                    }
                }
            }
            Target::Reference(reference) if is_empty => reference.set(values, Value::Null),
            Target::Reference(_) => row.references.push((place, cell.text().trim().to_owned())),
        }
        Ok(())
    }

    /// The column that fills a field.
    pub(crate) fn header_of(&self, path: &str) -> Option<&str> {
        let name = path.split('.').next().unwrap_or_default();
        let index = self.object.field_index(name);
        let rest = path
            .strip_prefix(name)
            .and_then(|rest| rest.strip_prefix('.'));
        let key = rest.map(|rest| match self.object.custom_field(rest) {
            Some(custom) => &*custom.key,
            None => rest,
        });
        let fills = |column: &&Column| match &column.target {
            Target::Member {
                index: own, member, ..
            } => Some(*own) == index && key == Some(member),
            Target::Reference(reference) if reference.member.is_some() => {
                key.is_some() && key == reference.member.as_deref()
            }
            _ => index.is_some_and(|index| column.fields().contains(&index)),
        };
        self.columns.iter().find(fills)?.header.as_deref()
    }
}

impl Reference {
    /// Sets the reference among the values of a row.
    pub(crate) fn set(&self, values: &mut Vec<(usize, Value)>, id: Value) {
        match &self.member {
            Some(member) => set_member(values, self.index, member, id.to_json()),
            None => match values.iter_mut().find(|(known, _)| *known == self.index) {
                Some((_, known)) => *known = id,
                None => values.push((self.index, id)),
            },
        }
    }
}

/// Sets a member of a document among the values of a row.
fn set_member(values: &mut Vec<(usize, Value)>, index: usize, member: &str, value: Json) {
    let known = values.iter_mut().find(|(known, _)| *known == index);
    if let Some((_, Value::Json(Json::Object(members)))) = known {
        members.insert(member.to_owned(), value);
    } else {
        let members = Map::from_iter([(member.to_owned(), value)]);
        values.push((index, Value::Json(Json::Object(members))));
    }
}

/// The value of a custom field that a cell says; the options of picklists in whatever case.
fn parse_custom(
    cell: &Cell,
    custom: &CustomFieldSchema,
    format: &Format,
) -> Result<Value, FieldError> {
    let option = |text: String| {
        let folded = fold_case(&text);
        let known = custom
            .options
            .iter()
            .find(|option| fold_case(option) == folded);
        known.map_or(text, ToString::to_string)
    };
    Ok(match parse(cell, &custom.field, format)? {
        Value::Text(text) => Value::Text(option(text)),
        Value::List(entries) => Value::List(entries.into_iter().map(option).collect()),
        value => value,
    })
}

fn problem(place: impl Into<String>, code: &'static str, message: &'static str) -> MappingProblem {
    MappingProblem {
        place: place.into(),
        code,
        message,
    }
}

/// What is wrong with a cell.
pub(crate) fn fault_of(error: &FieldError, column: Option<&str>) -> RowFault {
    RowFault {
        column: column.map(ToOwned::to_owned),
        field: Some(error.path.clone()),
        code: error.code.to_owned(),
        message: error.message.to_string(),
    }
}

/// Binds a column to its field.
fn bind(
    registry: &Registry,
    object: &ObjectRef,
    column: &mut ColumnMapping,
    cells: &[&Cell],
) -> Result<(Target, Format), MappingProblem> {
    let place = column.column.clone();
    let path = column.field.clone();
    let (name, member) = match path.split_once('.') {
        Some((name, member)) => (name, Some(member)),
        None => (path.as_str(), None),
    };
    let unknown = || {
        problem(
            &place,
            "unknown_field",
            "goes into a field that the object does not have",
        )
    };
    if name == FULL_NAME && object.field(name).is_none() {
        let (first, last) = (
            object.field_index("first_name"),
            object.field_index("last_name"),
        );
        let (Some(first), Some(last)) = (first, last) else {
            return Err(unknown());
        };
        let format = complete(column, &FieldType::text(255), cells)?;
        return Ok((Target::FullName { first, last }, format));
    }
    let (at, field) = match object.field_index(name) {
        // Members of members are no fields.
        Some(index) if object.custom_document() != Some(index) || member.is_none() => {
            FieldAt::named(object, name)
        }
        _ => FieldAt::named(object, &path),
    }
    .map_err(|_| unknown())?;
    let index = at.index;
    // A custom field is a field, whatever stands in front of its name.
    let (custom, member) = match (&at.custom, &at.member) {
        (Some(_), Some(key)) => (object.custom_field(key), None),
        _ => (None, member),
    };
    if field.system || field.read_only {
        return Err(problem(
            &place,
            "read_only",
            "goes into a field that only the engine writes",
        ));
    }
    let format = complete(column, &field.field_type, cells)?;
    let target = match (member, field.reference()) {
        (Some(member), None) if field.storage_kind() == StorageKind::Json => Target::Member {
            index,
            member: member.to_owned(),
            custom: None,
        },
        (Some(_), _) => return Err(unknown()),
        (None, Some((target, _))) => {
            let target = registry.object(target).ok_or_else(unknown)?;
            let lookup = match &column.lookup {
                Some(lookup) => lookup.clone(),
                None => Lookup {
                    by: sniffed_lookup(cells.iter().copied()).to_owned(),
                    create_missing: false,
                },
            };
            let lookup = checked_lookup(&target, lookup, &place)?;
            column.lookup = Some(lookup.clone());
            Target::Reference(Reference {
                index,
                member: custom.map(|custom| custom.key.to_string()),
                path: path.clone(),
                object: target,
                lookup,
            })
        }
        (None, None) => match custom {
            Some(custom) => {
                let mut custom = custom.clone();
                custom.field.name = path.clone().into();
                Target::Member {
                    index,
                    member: custom.key.to_string(),
                    custom: Some(Box::new(custom)),
                }
            }
            None => Target::Field(index),
        },
    };
    Ok((target, format))
}

/// A lookup that the other object allows; a person without a name field is known by the whole name.
fn checked_lookup(
    target: &ObjectRef,
    mut lookup: Lookup,
    place: &str,
) -> Result<Lookup, MappingProblem> {
    if lookup.by == "name" && target.field("name").is_none() && has_both_names(target) {
        FULL_NAME.clone_into(&mut lookup.by);
    }
    let is_person = lookup.by == FULL_NAME && has_both_names(target);
    let field = target.field(lookup.by.split('.').next().unwrap_or_default());
    let is_known = field.is_some_and(|field| {
        matches!(
            field.storage_kind(),
            StorageKind::Text | StorageKind::Uuid | StorageKind::Integer | StorageKind::Json
        )
    });
    if !is_person && !is_known {
        return Err(problem(
            place,
            "unknown_lookup",
            "is looked up by a field that is not there",
        ));
    }
    let plain_field = field.is_some_and(|field| !field.system && !field.read_only);
    if lookup.create_missing && (!plain_field || lookup.by.contains('.')) {
        return Err(problem(
            place,
            "not_creatable",
            "can only create records by a field that users write",
        ));
    }
    Ok(lookup)
}

/// The format of a column, what is not said found in the cells.
fn complete(
    column: &mut ColumnMapping,
    field_type: &FieldType,
    cells: &[&Cell],
) -> Result<Format, MappingProblem> {
    column.format = detect::complete(&column.format, field_type, cells).map_err(|unclear| {
        let (code, message) = match unclear {
            Unclear::Date => (
                "ambiguous_date",
                "has dates whose day and month may be either way round; state the format",
            ),
            Unclear::Decimal => (
                "ambiguous_number",
                "has numbers whose mark may stand before decimals or between groups; state which",
            ),
        };
        problem(&column.column, code, message)
    })?;
    Format::new(&column.format).map_err(|part| match part {
        "timezone" => problem(
            &column.column,
            "unknown_timezone",
            "has an unknown time zone",
        ),
        _ => problem(
            &column.column,
            "invalid_format",
            "has a date format without a whole date",
        ),
    })
}

/// A constant as the cell that would say it.
fn constant(value: &Json) -> Cell {
    match value {
        Json::Null => Cell::Empty,
        Json::Bool(value) => Cell::Boolean(*value),
        Json::Number(number) => Cell::Text(number.to_string()),
        Json::String(text) => Cell::Text(text.clone()),
        Json::Array(items) if items.iter().all(Json::is_string) => {
            let texts: Vec<&str> = items.iter().filter_map(Json::as_str).collect();
            Cell::Text(texts.join(";"))
        }
        other => Cell::Text(other.to_string()),
    }
}

/// A reference that new records need and that nothing fills leads to the tenant's default record, as
/// that of a deal to the default pipeline.
async fn add_defaults(
    session: &Session,
    object: &ObjectRef,
    import: &mut Import,
) -> Result<(), ImportError> {
    for field in object.own_fields().iter().filter(|field| field.required) {
        let Some((target, _)) = field.reference() else {
            continue;
        };
        let is_filled = import
            .mapping
            .columns
            .iter()
            .any(|column| column.field == field.name)
            || import.mapping.constants.contains_key(&*field.name);
        let target = session.describe(target).await?;
        let marks = target.unique_keys().iter().find_map(|key| key.only_if);
        let (Some(mark), false) = (marks, is_filled) else {
            continue;
        };
        let filter = Filter::eq(target.field_name(mark).to_owned(), true);
        let find = Find::<()>::new().filter_by_name(filter).limit(1);
        let found = session.object(target.name()).await?.find(&find).await?;
        if let Some(row) = found.items.first() {
            let id = Json::String(row.id().to_string());
            import.mapping.constants.insert(field.name.to_string(), id);
        }
    }
    Ok(())
}

fn keys(
    object: &ObjectRef,
    import: &Import,
    columns: &[Column],
    problems: &mut Vec<MappingProblem>,
) -> Vec<Key> {
    if import.mode == ImportMode::Create {
        return Vec::new();
    }
    if import.keys.is_empty() {
        problems.push(problem(
            "keys",
            "no_keys",
            "must name at least one field in this mode",
        ));
    }
    let mut keys = Vec::new();
    for path in &import.keys {
        let Ok((field, _)) = FieldAt::named(object, path) else {
            problems.push(problem(path, "unknown_field", "is no field of the object"));
            continue;
        };
        let (index, member) = (field.index, field.member.as_deref());
        let is_filled = columns.iter().any(|column| {
            !column.is_constant()
                && match &column.target {
                    Target::Member {
                        index: own,
                        member: filled,
                        ..
                    } => *own == index && Some(filled.as_str()) == member,
                    Target::Reference(reference) => {
                        reference.index == index && reference.member.as_deref() == member
                    }
                    _ => member.is_none() && column.fields().contains(&index),
                }
        });
        if !is_filled {
            problems.push(problem(
                path,
                "key_not_mapped",
                "is a key, so a column must fill it",
            ));
        }
        keys.push(Key {
            path: path.clone(),
            field,
        });
    }
    keys
}
