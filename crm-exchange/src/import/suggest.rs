//! A mapping suggested from the headers and a sample of the rows.

use crm_core::query::FieldAt;
use crm_core::schema::{CUSTOM_FIELDS, FieldSchema, FieldType, ObjectRef, StorageKind};
use rapidfuzz::distance::jaro_winkler;

use super::mapping::{ColumnMapping, FULL_NAME, Lookup, Mapping};
use super::parse::{ColumnFormat, Format, parse, plain};
use super::read::Cell;
use super::read::sniff::looks_like_email;

/// The least score of a column that is mapped.
const ENOUGH: f64 = 0.7;
/// The least likeness of texts that counts.
const ALIKE: f64 = 0.9;

/// What else the standard terms of fields are called, in the files of other systems and in German,
/// French and Spanish. A name counts for every object that has such a field.
const ALIASES: [(&str, &[&str]); 33] = [
    (
        "name",
        &[
            "title",
            "deal name",
            "opportunity",
            "opportunity name",
            "company",
            "company name",
            "account",
            "account name",
            "organization",
            "organisation",
            "firma",
            "firmenname",
            "entreprise",
            "empresa",
        ],
    ),
    (
        "first_name",
        &[
            "given name",
            "forename",
            "first",
            "vorname",
            "prenom",
            "prénom",
            "nombre",
        ],
    ),
    (
        "last_name",
        &[
            "family name",
            "surname",
            "last",
            "nachname",
            "nom",
            "nom de famille",
            "apellido",
            "apellidos",
        ],
    ),
    (
        FULL_NAME,
        &[
            "name",
            "contact",
            "contact name",
            "full name",
            "person",
            "lead name",
            "ansprechpartner",
        ],
    ),
    (
        "email",
        &[
            "e mail",
            "mail",
            "email address",
            "e mail address",
            "email 1",
            "e mail 1 value",
            "correo",
            "courriel",
        ],
    ),
    (
        "phone",
        &[
            "telephone",
            "tel",
            "phone number",
            "telephone number",
            "work phone",
            "business phone",
            "telefon",
            "telefonnummer",
            "téléphone",
            "telefono",
            "teléfono",
        ],
    ),
    (
        "mobile",
        &[
            "mobile phone",
            "cell",
            "cell phone",
            "cellphone",
            "mobile number",
            "handy",
            "mobil",
            "portable",
            "móvil",
        ],
    ),
    (
        "company",
        &[
            "company name",
            "account",
            "account name",
            "organization",
            "organisation",
            "employer",
            "firma",
            "unternehmen",
            "société",
            "empresa",
        ],
    ),
    (
        "account_id",
        &[
            "company",
            "company name",
            "account",
            "account name",
            "organization",
            "organisation",
            "customer",
            "client",
            "firma",
            "kunde",
        ],
    ),
    (
        "parent_account_id",
        &[
            "parent",
            "parent company",
            "subsidiary of",
            "muttergesellschaft",
        ],
    ),
    (
        "contact_id",
        &[
            "person",
            "contact person",
            "contact name",
            "primary contact",
            "ansprechpartner",
        ],
    ),
    (
        "owner_id",
        &[
            "owner",
            "sales agent",
            "sales rep",
            "salesperson",
            "assigned to",
            "assignee",
            "account owner",
            "deal owner",
            "contact owner",
            "lead owner",
            "besitzer",
            "zuständig",
        ],
    ),
    (
        "job_title",
        &[
            "title", "position", "role", "job", "function", "titel", "funktion",
        ],
    ),
    ("department", &["dept", "division", "abteilung"]),
    (
        "website",
        &[
            "web site",
            "web",
            "url",
            "homepage",
            "company website",
            "webseite",
            "domain",
            "company domain",
            "web domain",
        ],
    ),
    ("industry", &["sector", "branche", "secteur"]),
    (
        "annual_revenue",
        &["revenue", "turnover", "yearly revenue", "umsatz"],
    ),
    (
        "employee_count",
        &[
            "employees",
            "number of employees",
            "headcount",
            "company size",
            "mitarbeiter",
        ],
    ),
    (
        "founded_year",
        &[
            "year established",
            "year founded",
            "founded",
            "gründungsjahr",
        ],
    ),
    (
        "amount",
        &[
            "value",
            "deal value",
            "deal amount",
            "close value",
            "price",
            "opportunity amount",
            "betrag",
            "wert",
            "montant",
            "importe",
        ],
    ),
    (
        "currency",
        &[
            "currency code",
            "deal currency",
            "währung",
            "devise",
            "moneda",
        ],
    ),
    (
        "expected_close_date",
        &[
            "close date",
            "closing date",
            "expected close",
            "abschlussdatum",
        ],
    ),
    (
        "actual_close_date",
        &["closed on", "closed date", "won date"],
    ),
    (
        "stage_id",
        &["deal stage", "stage", "phase", "status", "sales stage"],
    ),
    ("pipeline_id", &["pipeline name", "funnel"]),
    (
        "lead_source",
        &["source", "original source", "channel", "quelle", "herkunft"],
    ),
    (
        "description",
        &[
            "notes",
            "note",
            "comment",
            "comments",
            "remarks",
            "notizen",
            "bemerkung",
            "beschreibung",
        ],
    ),
    (
        "tags",
        &["labels", "keywords", "categories", "schlagwörter"],
    ),
    (
        "street",
        &[
            "address",
            "address 1",
            "address line 1",
            "street address",
            "straße",
            "strasse",
            "rue",
            "calle",
        ],
    ),
    (
        "city",
        &[
            "town", "suburb", "locality", "ort", "stadt", "ville", "ciudad",
        ],
    ),
    (
        "postal_code",
        &[
            "zip",
            "zip code",
            "postal code",
            "postcode",
            "plz",
            "code postal",
        ],
    ),
    (
        "region",
        &[
            "state",
            "province",
            "state province",
            "county",
            "bundesland",
            "provincia",
        ],
    ),
    ("country", &["land", "pays", "país", "country code"]),
];

/// How the parts of the address begin that is meant where a file speaks of an address.
const USUAL_ADDRESSES: [&str; 3] = ["mailing_", "billing_", "address_"];

/// Suggests where the columns of a file go; columns that fit no field well are left out. `sample` are
/// some rows of the file.
///
/// ```
/// use crm_core::{deals::Deal, schema::Entity};
/// use crm_exchange::import::suggest;
///
/// let headers = ["Title", "Value", "Company"].map(String::from);
/// let mapping = suggest(Deal::schema(), &headers, &[]);
/// let fields: Vec<_> = mapping.columns.iter().map(|column| column.field.as_str()).collect();
/// assert_eq!(fields, ["name", "amount", "account_id"]);
/// ```
#[must_use]
pub fn suggest(object: &ObjectRef, headers: &[String], sample: &[Vec<Cell>]) -> Mapping {
    let mut pairs = Vec::new();
    for (place, header) in headers.iter().enumerate() {
        let header = plain(header);
        let cells: Vec<&Cell> = sample
            .iter()
            .filter_map(|row| row.get(place))
            .filter(|cell| !cell.is_empty())
            .take(100)
            .collect();
        let own = object.own_fields().iter();
        let own = own.map(|field| (field, field.name.to_string()));
        let custom = object.custom_fields().iter().filter(|custom| custom.active);
        let custom = custom.map(|custom| {
            let field = &custom.field;
            (field, format!("{CUSTOM_FIELDS}.{}", field.name))
        });
        for (field, path) in own.chain(custom).filter(|(field, _)| !field.read_only) {
            let by_name = score(object, &field.name, &field.label(), &header);
            // The field's own name is not doubted, whatever the values are.
            let score = if by_name == 1.0 {
                by_name
            } else {
                by_name * fit(field, &cells)
            };
            if score >= ENOUGH {
                pairs.push((score, place, path));
            }
        }
        if has_both_names(object) {
            let score = score(object, FULL_NAME, "Full name", &header);
            if score >= ENOUGH {
                pairs.push((score, place, FULL_NAME.to_owned()));
            }
        }
    }
    pairs.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut fields: Vec<Option<String>> = vec![None; headers.len()];
    for (_, place, field) in pairs {
        let taken = fields.iter().flatten().any(|other| clashes(other, &field));
        if let Some(slot) = fields.get_mut(place)
            && slot.is_none()
            && !taken
        {
            *slot = Some(field);
        }
    }
    let mut mapping = Mapping::new(object.name());
    for (place, (column, field)) in headers.iter().zip(fields).enumerate() {
        let Some(name) = field else { continue };
        let mut mapped = ColumnMapping::new(column, &name);
        if let Ok((_, field)) = FieldAt::named(object, &name)
            && field.reference().is_some()
        {
            let cells = sample.iter().filter_map(|row| row.get(place));
            mapped.lookup = Some(Lookup {
                by: sniffed_lookup(cells).to_owned(),
                create_missing: false,
            });
        }
        mapping.columns.push(mapped);
    }
    mapping
}

/// Whether two columns cannot both be mapped: to the same field, or to a name and its parts.
fn clashes(one: &str, other: &str) -> bool {
    let is_part = |name: &str| name == "first_name" || name == "last_name";
    one == other || (one == FULL_NAME && is_part(other)) || (other == FULL_NAME && is_part(one))
}

/// Whether the object has a given and a family name.
pub(crate) fn has_both_names(object: &ObjectRef) -> bool {
    object.field("first_name").is_some() && object.field("last_name").is_some()
}

/// How well a header names a field, from 0 to 1.
fn score(object: &ObjectRef, name: &str, label: &str, header: &str) -> f64 {
    let name_of_field = plain(name);
    if header == name_of_field || header == plain(label) {
        return 1.0;
    }
    // "Contact e-mail" and "deal_stage" name the object too.
    let bare = header
        .strip_prefix(&plain(object.name()))
        .unwrap_or(header)
        .trim_start();
    if bare == name_of_field || bare == plain(label) {
        return 0.97;
    }
    // A column "Deal" in a file of deals holds what they are called.
    if (name == "name" || name == FULL_NAME) && header == plain(object.name()) {
        return 0.95;
    }
    // Of several addresses, a file that does not say which means the usual one.
    let part = USUAL_ADDRESSES.iter().find_map(|of| name.strip_prefix(of));
    if part.is_some_and(|part| header == plain(part)) {
        return 0.96;
    }
    let field = part.unwrap_or(name);
    let aliases = ALIASES.iter().find(|(known, _)| *known == field);
    let aliases = aliases.map_or(&[] as &[&str], |(_, aliases)| aliases);
    // Earlier aliases are the more usual ones, so that of two fields one is the better.
    if let Some(place) = aliases.iter().position(|alias| *alias == header) {
        return 0.95 - 0.002 * place as f64;
    }
    if aliases.contains(&bare) {
        return 0.9;
    }
    let mut best = alike(header, &name_of_field).max(alike(header, &plain(label)));
    for alias in aliases.iter().filter(|alias| alias.len() > 4) {
        best = best.max(alike(header, alias));
    }
    best
}

fn alike(header: &str, name: &str) -> f64 {
    let likeness = jaro_winkler::similarity(header.chars(), name.chars());
    if likeness >= ALIKE {
        likeness * 0.85
    } else {
        0.0
    }
}

/// How well the values fit the field: 1 where they do or there are none, less where many do not.
fn fit(field: &FieldSchema, cells: &[&Cell]) -> f64 {
    if cells.is_empty() {
        return 1.0;
    }
    let share = |fits: &dyn Fn(&Cell) -> bool| {
        cells.iter().filter(|cell| fits(cell)).count() as f64 / cells.len() as f64
    };
    let emails = share(&|cell: &Cell| looks_like_email(cell.text().trim()));
    let fits = match field.storage_kind() {
        // References are looked up, dates have many formats.
        StorageKind::Uuid | StorageKind::Date | StorageKind::Timestamp | StorageKind::List => 1.0,
        StorageKind::Integer | StorageKind::Decimal => share(&|cell: &Cell| {
            matches!(cell, Cell::Number(_)) || cell.text().contains(|c: char| c.is_ascii_digit())
        }),
        _ => {
            let Ok(format) = Format::new(&ColumnFormat::default()) else {
                return 1.0;
            };
            share(&|cell: &Cell| parse(cell, field, &format).is_ok())
        }
    };
    let takes_emails = matches!(
        field.field_type,
        FieldType::Email | FieldType::Reference { .. }
    );
    if emails > 0.5 && !takes_emails {
        return 0.5;
    }
    if fits >= 0.5 { 1.0 } else { 0.5 }
}

/// By what a column of references probably names its records.
pub(crate) fn sniffed_lookup<'a>(cells: impl Iterator<Item = &'a Cell>) -> &'static str {
    let texts: Vec<String> = cells
        .filter(|cell| !cell.is_empty())
        .take(100)
        .map(Cell::text)
        .collect();
    let most = |fits: fn(&str) -> bool| {
        !texts.is_empty() && 2 * texts.iter().filter(|text| fits(text.trim())).count() > texts.len()
    };
    if most(|text| uuid::Uuid::try_parse(text).is_ok()) {
        "id"
    } else if most(looks_like_email) {
        "email"
    } else {
        "name"
    }
}

#[cfg(test)]
mod tests {
    use crm_core::accounts::Account;
    use crm_core::contacts::Contact;
    use crm_core::leads::Lead;
    use crm_core::schema::Entity;

    use super::*;

    fn fields(object: &ObjectRef, headers: &[&str], row: &[&str]) -> Vec<(String, String)> {
        let headers: Vec<String> = headers.iter().map(ToString::to_string).collect();
        let sample = [row.iter().map(|text| Cell::from(*text)).collect()];
        let mapping = suggest(object, &headers, &sample);
        let pair = |column: ColumnMapping| (column.column, column.field);
        mapping.columns.into_iter().map(pair).collect()
    }

    /// Every alias is one of a field that some object has.
    #[test]
    fn aliases_are_those_of_fields() {
        let objects = crm_core::objects();
        let fields = || objects.iter().flat_map(|object| object.own_fields());
        let is_field = |name: &str| {
            fields().any(|field| {
                let mut parts = USUAL_ADDRESSES.iter();
                field.name == name || parts.any(|of| field.name.strip_prefix(of) == Some(name))
            })
        };
        let names = ALIASES.iter().map(|(name, _)| *name);
        let unknown: Vec<&str> = names
            .filter(|name| *name != FULL_NAME && !is_field(name))
            .collect();
        assert_eq!(unknown, [""; 0]);
    }

    /// Addresses of a directory, as the files of national registers have them.
    #[test]
    fn parts_of_addresses_find_their_fields() {
        let headers = [
            "given_name",
            "surname",
            "Address 1",
            "suburb",
            "postcode",
            "state",
        ];
        let row = ["ada", "lovelace", "3 main street", "perth", "6000", "wa"];
        let found = fields(Contact::schema(), &headers, &row);
        let expected = [
            ("given_name", "first_name"),
            ("surname", "last_name"),
            ("Address 1", "mailing_street"),
            ("suburb", "mailing_city"),
            ("postcode", "mailing_postal_code"),
            ("state", "mailing_region"),
        ];
        assert_eq!(found, pairs(&expected));
        let found = fields(
            Account::schema(),
            &["Name", "City", "Country"],
            &["A", "B", "DE"],
        );
        let expected = [
            ("Name", "name"),
            ("City", "billing_city"),
            ("Country", "billing_country"),
        ];
        assert_eq!(found, pairs(&expected));
    }

    fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        let owned = |pair: &(&str, &str)| (pair.0.to_owned(), pair.1.to_owned());
        pairs.iter().map(owned).collect()
    }

    #[test]
    fn usual_headers_find_their_fields() {
        let headers = [
            "Given Name",
            "Surname",
            "E-mail",
            "Cell phone",
            "Company",
            "Shoe size",
        ];
        let row = [
            "Ada",
            "Lovelace",
            "ada@x.example",
            "+4930123456",
            "Globex",
            "38",
        ];
        let wanted = pairs(&[
            ("Given Name", "first_name"),
            ("Surname", "last_name"),
            ("E-mail", "email"),
            ("Cell phone", "mobile"),
            ("Company", "company"),
        ]);
        assert_eq!(fields(Contact::schema(), &headers, &row), wanted);
        let lead = fields(
            Lead::schema(),
            &["Firma", "Ansprechpartner", "Mail", "Quelle"],
            &[],
        );
        let wanted = pairs(&[
            ("Firma", "company"),
            ("Ansprechpartner", FULL_NAME),
            ("Mail", "email"),
            ("Quelle", "lead_source"),
        ]);
        assert_eq!(lead, wanted);
    }

    #[test]
    fn values_speak_against_a_header() {
        let found = fields(
            Contact::schema(),
            &["Phone", "Mail"],
            &["555 123", "Main Street 5"],
        );
        assert!(found.iter().all(|(_, field)| field != "email"), "{found:?}");
    }

    #[test]
    fn published_accounts_are_mapped() {
        let headers = [
            "account",
            "sector",
            "year_established",
            "revenue",
            "employees",
            "subsidiary_of",
        ];
        let found = fields(
            Account::schema(),
            &headers,
            &["Acme", "medical", "1996", "1100.04", "2822", ""],
        );
        let fields: Vec<&str> = found.iter().map(|(_, field)| field.as_str()).collect();
        let wanted = [
            "name",
            "industry",
            "founded_year",
            "annual_revenue",
            "employee_count",
            "parent_account_id",
        ];
        assert_eq!(fields, wanted);
    }
}
