//! Reads the attributes, with errors that point at the faulty one.

use proc_macro2::{Span, TokenStream as Tokens};
use syn::meta::ParseNestedMeta;
use syn::spanned::Spanned;
use syn::{Attribute, Error, Expr, ExprLit, Ident, Lit, LitStr, Path, Result, Token};

/// Gathers errors, so that the compiler shows all of them.
#[derive(Default)]
pub(crate) struct Errors(Option<Error>);

impl Errors {
    pub(crate) fn add(&mut self, error: Error) {
        match &mut self.0 {
            Some(all) => all.combine(error),
            None => self.0 = Some(error),
        }
    }

    pub(crate) fn at(&mut self, span: Span, message: &str) {
        self.add(Error::new(span, message));
    }

    pub(crate) fn finish(self) -> Result<()> {
        self.0.map_or(Ok(()), Err)
    }
}

/// `#[entity(..)]`.
#[derive(Default)]
pub(crate) struct EntityAttributes {
    pub(crate) object: Option<LitStr>,
    pub(crate) table: Option<LitStr>,
    pub(crate) unique: Vec<UniqueAttribute>,
    pub(crate) indexes: Vec<Vec<Ident>>,
    pub(crate) check: Option<Path>,
    pub(crate) log: bool,
    pub(crate) fed: bool,
    pub(crate) monthly: bool,
    pub(crate) derived: bool,
    pub(crate) platform: bool,
    pub(crate) template: Option<Ident>,
}

/// `unique(..)`.
#[derive(Default)]
pub(crate) struct UniqueAttribute {
    pub(crate) fields: Vec<Ident>,
    pub(crate) ignore_case: bool,
    pub(crate) live: bool,
    pub(crate) only_if: Option<Ident>,
}

/// `#[field(..)]`.
#[derive(Default)]
pub(crate) struct FieldAttributes {
    pub(crate) required: Option<Span>,
    pub(crate) max_len: Option<Expr>,
    pub(crate) multiline: Option<Span>,
    pub(crate) min: Option<Expr>,
    pub(crate) max: Option<Expr>,
    pub(crate) precision: Option<Expr>,
    pub(crate) scale: Option<Expr>,
    pub(crate) currency: Option<LitStr>,
    pub(crate) references: Option<LitStr>,
    pub(crate) on_delete: Option<Ident>,
    pub(crate) record_of: Option<LitStr>,
    pub(crate) condition_of: Option<LitStr>,
    pub(crate) merge: Option<Ident>,
    pub(crate) read_only: bool,
    pub(crate) in_step: bool,
    pub(crate) personal: bool,
    pub(crate) sensitive: bool,
    pub(crate) searchable: bool,
    pub(crate) indexed: bool,
    pub(crate) ignore_case: bool,
    pub(crate) default: Option<Expr>,
    pub(crate) flatten: bool,
    pub(crate) prefix: Option<LitStr>,
}

impl EntityAttributes {
    pub(crate) fn read(attributes: &[Attribute], errors: &mut Errors) -> Self {
        let mut found = Self::default();
        for attribute in attributes
            .iter()
            .filter(|attribute| attribute.path().is_ident("entity"))
        {
            if let Err(error) = attribute.parse_nested_meta(|meta| found.one(&meta)) {
                errors.add(error);
            }
        }
        found
    }

    fn one(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        match name(meta).as_str() {
            "object" => self.object = Some(snake_case(meta.value()?.parse()?)?),
            "table" => self.table = Some(snake_case(meta.value()?.parse()?)?),
            "check" => self.check = Some(meta.value()?.parse()?),
            "log" => self.log = true,
            "fed" => self.fed = true,
            "monthly" => self.monthly = true,
            "derived" => self.derived = true,
            "platform" => self.platform = true,
            "template" => {
                let content;
                syn::parenthesized!(content in meta.input);
                self.template = Some(content.parse()?);
            }
            "unique" => self.unique.push(unique(meta)?),
            "index" => {
                let mut fields = Vec::new();
                meta.parse_nested_meta(|inner| {
                    fields.push(inner.path.require_ident()?.clone());
                    Ok(())
                })?;
                self.indexes.push(fields);
            }
            _ => {
                return Err(meta.error(
                    "unknown attribute: expected `object`, `table`, `unique`, `index`, `check`, \
                     `log`, `fed`, `monthly`, `derived`, `platform` or `template`",
                ));
            }
        }
        Ok(())
    }
}

/// `unique(first_field, second_field; ignore_case, live, only_if(flag))`
fn unique(meta: &ParseNestedMeta<'_>) -> Result<UniqueAttribute> {
    let content;
    syn::parenthesized!(content in meta.input);
    let mut key = UniqueAttribute::default();
    while !content.is_empty() && !content.peek(Token![;]) {
        key.fields.push(content.parse()?);
        if !content.peek(Token![;]) && !content.is_empty() {
            content.parse::<Token![,]>()?;
        }
    }
    if key.fields.is_empty() {
        return Err(meta.error("`unique` needs at least one field"));
    }
    if content.is_empty() {
        return Ok(key);
    }
    content.parse::<Token![;]>()?;
    while !content.is_empty() {
        let option: Ident = content.parse()?;
        match option.to_string().as_str() {
            "ignore_case" => key.ignore_case = true,
            "live" => key.live = true,
            "only_if" => {
                let field;
                syn::parenthesized!(field in content);
                key.only_if = Some(field.parse()?);
            }
            _ => {
                return Err(Error::new(
                    option.span(),
                    "expected `ignore_case`, `live` or `only_if(field)`",
                ));
            }
        }
        if !content.is_empty() {
            content.parse::<Token![,]>()?;
        }
    }
    Ok(key)
}

impl FieldAttributes {
    pub(crate) fn read(attributes: &[Attribute], errors: &mut Errors) -> Self {
        let mut found = Self::default();
        for attribute in attributes
            .iter()
            .filter(|attribute| attribute.path().is_ident("field"))
        {
            if let Err(error) = attribute.parse_nested_meta(|meta| found.one(&meta)) {
                errors.add(error);
            }
        }
        found
    }

    fn one(&mut self, meta: &ParseNestedMeta<'_>) -> Result<()> {
        let span = meta.path.span();
        match name(meta).as_str() {
            "required" => self.required = Some(span),
            "max_len" => self.max_len = Some(number(meta)?),
            "multiline" => self.multiline = Some(span),
            "min" => self.min = Some(number(meta)?),
            "max" => self.max = Some(number(meta)?),
            "precision" => self.precision = Some(number(meta)?),
            "scale" => self.scale = Some(number(meta)?),
            "currency" => self.currency = Some(meta.value()?.parse()?),
            "references" => self.references = Some(snake_case(meta.value()?.parse()?)?),
            "on_delete" => {
                let text: LitStr = meta.value()?.parse()?;
                let variant = match text.value().as_str() {
                    "restrict" => "Restrict",
                    "set_null" => "SetNull",
                    "cascade" => "Cascade",
                    _ => {
                        return Err(Error::new(
                            text.span(),
                            "expected \"restrict\", \"set_null\" or \"cascade\"",
                        ));
                    }
                };
                self.on_delete = Some(Ident::new(variant, text.span()));
            }
            "record_of" => self.record_of = Some(snake_case(meta.value()?.parse()?)?),
            "condition_of" => self.condition_of = Some(snake_case(meta.value()?.parse()?)?),
            "merge" => {
                let text: LitStr = meta.value()?.parse()?;
                let variant = match text.value().as_str() {
                    "any" => "Any",
                    "greatest" => "Greatest",
                    "least" => "Least",
                    "survivor" => "Survivor",
                    _ => {
                        return Err(Error::new(
                            text.span(),
                            "expected \"any\", \"greatest\", \"least\" or \"survivor\"",
                        ));
                    }
                };
                self.merge = Some(Ident::new(variant, text.span()));
            }
            "read_only" => self.read_only = true,
            "in_step" => (self.read_only, self.in_step) = (true, true),
            "personal" => self.personal = true,
            "sensitive" => self.sensitive = true,
            "searchable" => self.searchable = true,
            "indexed" => self.indexed = true,
            "ignore_case" => self.ignore_case = true,
            "default" => self.default = Some(meta.value()?.parse()?),
            "flatten" => self.flatten = true,
            "prefix" => self.prefix = Some(meta.value()?.parse()?),
            _ => {
                return Err(meta.error(
                    "unknown attribute: expected `required`, `max_len`, `multiline`, `min`, `max`, \
                     `precision`, `scale`, `currency`, `references`, `on_delete`, `record_of`, \
                     `condition_of`, `merge`, `read_only`, `in_step`, `personal`, `sensitive`, \
                     `searchable`, `indexed`, `ignore_case`, `default`, `flatten` or `prefix`",
                ));
            }
        }
        Ok(())
    }
}

fn name(meta: &ParseNestedMeta<'_>) -> String {
    meta.path
        .get_ident()
        .map(ToString::to_string)
        .unwrap_or_default()
}

/// A number, perhaps with a sign.
fn number(meta: &ParseNestedMeta<'_>) -> Result<Expr> {
    let value: Expr = meta.value()?.parse()?;
    let inner = match &value {
        Expr::Unary(unary) => &unary.expr,
        other => other,
    };
    match inner {
        Expr::Lit(ExprLit {
            lit: Lit::Int(_), ..
        }) => Ok(value),
        _ => Err(Error::new(value.span(), "expected a whole number")),
    }
}

fn snake_case(text: LitStr) -> Result<LitStr> {
    let value = text.value();
    let starts_well = value
        .chars()
        .next()
        .is_some_and(|first| first.is_ascii_lowercase());
    let fits = value.len() <= 50
        && value
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if starts_well && fits {
        Ok(text)
    } else {
        Err(Error::new(
            text.span(),
            "expected a name of at most 50 lower-case letters, digits and underscores that begins \
             with a letter",
        ))
    }
}

/// The first paragraph of a doc comment, as one line.
pub(crate) fn help(attributes: &[Attribute]) -> String {
    let mut help = String::new();
    for attribute in attributes {
        if !attribute.path().is_ident("doc") {
            continue;
        }
        let syn::Meta::NameValue(value) = &attribute.meta else {
            continue;
        };
        let Expr::Lit(ExprLit {
            lit: Lit::Str(line),
            ..
        }) = &value.value
        else {
            continue;
        };
        let line = line.value();
        let line = line.trim();
        if line.is_empty() {
            break;
        }
        if !help.is_empty() {
            help.push(' ');
        }
        help.push_str(line);
    }
    help
}

/// An expression as an `i64` literal for the schema.
pub(crate) fn tokens(value: &Expr) -> Tokens {
    quote::quote!(#value)
}
