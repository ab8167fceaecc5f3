//! The derive macros of `crm-core`: [`Entity`], [`FieldGroup`] and [`Picklist`].
//!
//! They only write down what the attributes say; all behaviour lives in `crm_core::schema`.

mod attributes;
mod fields;
mod picklist;

use proc_macro::TokenStream;
use proc_macro_crate::{FoundCrate, crate_name};
use proc_macro2::{Span, TokenStream as Tokens};
use quote::quote;
use syn::{DeriveInput, Ident, parse_macro_input};

/// Makes a struct an object of the engine.
///
/// Besides the `Entity` implementation this writes `Debug` (personal and sensitive fields redacted),
/// `Serialize` and `Deserialize` (one flat JSON object by the names of the schema), a typed handle
/// for each field (`Contact::EMAIL`) and, from the fields marked `required`, either `new(..)` or,
/// where there is none, `Default`.
///
/// # On the struct: `#[entity(..)]`
///
/// | attribute | meaning |
/// |---|---|
/// | `object = "contact"` | the object's name; must be given |
/// | `table = "contacts"` | the table's name; must be given |
/// | `unique(email; ignore_case, live)` | no two records of a tenant have the same value; `ignore_case` folds letters, `live` ignores deleted records; several fields, with commas between, are unique together |
/// | `unique(is_default; only_if(is_default))` | only records in which the boolean field is true count |
/// | `index(owner_id, created_at)` | backends keep an index over these fields |
/// | `check = path` | `fn(&Self, &mut Faults)`: rules between the fields of one record |
/// | `log` | records are written once by the engine and never changed |
/// | `fed` | a `log` whose entries can be followed in the order of their commits |
/// | `monthly` | a `log` whose entries lie by months, which are moved or dropped as a whole |
/// | `derived` | records are kept by the engine in step with others, without events |
/// | `platform` | records belong to the platform, not to one tenant |
/// | `template(object_id)` | its table holds the records of objects that tenants define, told apart by this field; see `ObjectRef::instance` |
///
/// # On a field: `#[field(..)]`
///
/// | attribute | meaning |
/// |---|---|
/// | `required` | always has a value; an argument of `new` unless it is an `Option` |
/// | `max_len = 150`, `multiline` | limits of a text |
/// | `min = 0`, `max = 100`, `precision = 15`, `scale = 2` | limits of a number |
/// | `currency = "currency"` | an amount of money; names the field with its currency |
/// | `references = "account"`, `on_delete = "set_null"` | a reference; `restrict` (default), `set_null` or `cascade` |
/// | `record_of = "object"` | the `Uuid` of a record of any object; names the field that holds the object's name |
/// | `condition_of = "deal"` | a text that holds a condition over records of the object, in the language of expressions |
/// | `merge = "any"` | which value counts in a merge: `any`, `greatest`, `least` or `survivor` instead of what the type says |
/// | `read_only` | only the engine writes it |
/// | `in_step` | like `read_only`, and it follows from other records: the engine keeps it in step at the end of every commit |
/// | `personal`, `sensitive` | about a person; a secret |
/// | `searchable`, `indexed`, `ignore_case` | how it is found and compared |
/// | `default = expression` | the value of a new record; other fields use `Default` |
/// | `flatten`, `prefix = "billing_"` | takes the fields of a `FieldGroup` in |
#[proc_macro_derive(Entity, attributes(entity, field))]
pub fn entity(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    fields::entity(&input, &root())
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}

/// Makes a struct a group of fields that entities take in with `#[field(flatten)]`.
///
/// Takes the same field attributes as [`Entity`] and writes the same `Debug`, handles and `new` or
/// `Default`.
#[proc_macro_derive(FieldGroup, attributes(field))]
pub fn field_group(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    fields::group(&input, &root())
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}

/// Makes an enum without data a picklist: each variant is stored as its name in `snake_case`, or
/// as `#[option("..")]` says.
#[proc_macro_derive(Picklist, attributes(option))]
pub fn picklist(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    picklist::picklist(&input, &root())
        .unwrap_or_else(|error| error.to_compile_error())
        .into()
}

/// The crate through which the caller sees `crm-core`: itself, or the facade.
fn root() -> Tokens {
    for (package, own) in [
        ("crm-core", quote!(::crm_core)),
        ("crm-engine", quote!(::crm_engine)),
    ] {
        match crate_name(package) {
            Ok(FoundCrate::Itself) => return own,
            Ok(FoundCrate::Name(name)) => {
                let name = Ident::new(&name, Span::call_site());
                return quote!(::#name);
            }
            Err(_) => {}
        }
    }
    quote!(::crm_core)
}
