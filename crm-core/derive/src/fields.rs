//! `#[derive(Entity)]` and `#[derive(FieldGroup)]`.

use proc_macro2::{Span, TokenStream as Tokens};
use quote::{format_ident, quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{
    Data, DeriveInput, Error, Field, Fields, GenericArgument, Ident, PathArguments, Result, Type,
    Visibility,
};

use crate::attributes::{EntityAttributes, Errors, FieldAttributes, help, tokens};

/// One field of the struct.
struct Member<'a> {
    ident: &'a Ident,
    vis: &'a Visibility,
    ty: &'a Type,
    attributes: FieldAttributes,
    help: String,
}

impl Member<'_> {
    /// The type inside an `Option`.
    fn inner(&self) -> Option<&Type> {
        let Type::Path(path) = self.ty else {
            return None;
        };
        let segment = path.path.segments.last()?;
        if segment.ident != "Option" {
            return None;
        }
        let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
            return None;
        };
        match arguments.args.first()? {
            GenericArgument::Type(inner) => Some(inner),
            _ => None,
        }
    }

    /// Whether the field is an argument of `new`.
    fn is_argument(&self) -> bool {
        self.attributes.required.is_some() && self.inner().is_none()
    }
}

fn members<'a>(input: &'a DeriveInput, errors: &mut Errors) -> Result<Vec<Member<'a>>> {
    let Data::Struct(data) = &input.data else {
        return Err(Error::new_spanned(
            &input.ident,
            "expected a struct with named fields",
        ));
    };
    let Fields::Named(fields) = &data.fields else {
        return Err(Error::new_spanned(
            &input.ident,
            "expected a struct with named fields",
        ));
    };
    if let Some(parameter) = input.generics.params.first() {
        errors.at(parameter.span(), "generic parameters are not supported");
    }
    Ok(fields
        .named
        .iter()
        .filter_map(|field| member(field, errors))
        .collect())
}

fn member<'a>(field: &'a Field, errors: &mut Errors) -> Option<Member<'a>> {
    let attributes = FieldAttributes::read(&field.attrs, errors);
    let member = Member {
        ident: field.ident.as_ref()?,
        vis: &field.vis,
        ty: &field.ty,
        help: help(&field.attrs),
        attributes,
    };
    let given = &member.attributes;
    if let Some(on_delete) = &given.on_delete {
        if given.references.is_none() {
            errors.at(on_delete.span(), "`on_delete` needs `references`");
        }
        if on_delete == "SetNull" && member.inner().is_none() {
            errors.at(on_delete.span(), "\"set_null\" needs an `Option`");
        }
    }
    if let Some(record_of) = &given.record_of
        && (given.references.is_some() || given.flatten)
    {
        errors.at(
            record_of.span(),
            "`record_of` goes with neither `references` nor `flatten`",
        );
    }
    if let Some(prefix) = &given.prefix
        && !given.flatten
    {
        errors.at(prefix.span(), "`prefix` needs `flatten`");
    }
    if let Some(default) = &given.default
        && given.required.is_some()
    {
        errors.at(default.span(), "a required field has no default");
    }
    if given.personal && given.sensitive {
        errors.at(
            member.ident.span(),
            "a field is either `personal` or `sensitive`",
        );
    }
    Some(member)
}

pub(crate) fn group(input: &DeriveInput, root: &Tokens) -> Result<Tokens> {
    let mut errors = Errors::default();
    let members = members(input, &mut errors)?;
    check_record_links(&members, &mut errors);
    errors.finish()?;
    let name = &input.ident;
    let shared = shared(name, &members, root);
    Ok(quote! { #shared })
}

pub(crate) fn entity(input: &DeriveInput, root: &Tokens) -> Result<Tokens> {
    let mut errors = Errors::default();
    let attributes = EntityAttributes::read(&input.attrs, &mut errors);
    let members = members(input, &mut errors)?;
    let name = &input.ident;
    for (given, wanted) in [(&attributes.object, "object"), (&attributes.table, "table")] {
        if given.is_none() {
            let message = format!("missing attribute: `#[entity({wanted} = \"..\")]`");
            errors.at(name.span(), &message);
        }
    }
    check_names(&attributes, &members, &mut errors);
    check_record_links(&members, &mut errors);
    errors.finish()?;

    let (object, table) = (&attributes.object, &attributes.table);
    let text = help(&input.attrs);
    let platform = attributes.platform.then(|| quote!(.platform()));
    let log = attributes.log.then(|| quote!(.log()));
    let fed = attributes.fed.then(|| quote!(.fed()));
    let monthly = attributes.monthly.then(|| quote!(.monthly()));
    let derived = attributes.derived.then(|| quote!(.derived()));
    let template = attributes.template.as_ref().map(|field| {
        let field = field.to_string();
        quote!(.template(#field))
    });
    let unique = attributes.unique.iter().map(|key| {
        let fields = key.fields.iter().map(ToString::to_string);
        let (ignore_case, live) = (key.ignore_case, key.live);
        let only_if = match &key.only_if {
            Some(field) => {
                let field = field.to_string();
                quote!(::core::option::Option::Some(#field))
            }
            None => quote!(::core::option::Option::None),
        };
        quote!(.unique_key(&[#(#fields),*], #ignore_case, #live, #only_if))
    });
    let indexes = attributes.indexes.iter().map(|fields| {
        let fields = fields.iter().map(ToString::to_string);
        quote!(.index(&[#(#fields),*]))
    });
    let check = attributes
        .check
        .as_ref()
        .map(|path| quote!(#path(self, faults);));
    let shared = shared(name, &members, root);
    let system = system_handles(name, root);
    Ok(quote! {
        #shared
        #system

        impl #root::schema::Entity for #name {
            fn schema() -> &'static #root::schema::ObjectRef {
                static SCHEMA: ::std::sync::OnceLock<#root::schema::ObjectRef> =
                    ::std::sync::OnceLock::new();
                SCHEMA.get_or_init(|| {
                    #root::schema::ObjectRef::of::<Self>(
                        #root::schema::ObjectSchema::builder(#object, #table)
                            .help(#text) #platform #log #fed #monthly #derived #template #(#unique)* #(#indexes)*
                    )
                })
            }

            fn check(&self, faults: &mut #root::error::Faults) {
                let _ = &faults;
                #check
            }
        }

        impl #root::__private::serde::Serialize for #name {
            fn serialize<S: #root::__private::serde::Serializer>(
                &self,
                serializer: S,
            ) -> ::core::result::Result<S::Ok, S::Error> {
                #root::__private::serialize_entity(self, serializer)
            }
        }

        impl<'de> #root::__private::serde::Deserialize<'de> for #name {
            fn deserialize<D: #root::__private::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::core::result::Result<Self, D::Error> {
                #root::__private::deserialize_entity(deserializer)
            }
        }
    })
}

/// Refuses keys and indexes over fields that the struct does not have. Names that groups bring in
/// are not known here; the schema's own check finds those.
fn check_names(attributes: &EntityAttributes, members: &[Member<'_>], errors: &mut Errors) {
    const SYSTEM: &[&str] = &[
        "id",
        "version",
        "created_at",
        "created_by",
        "created_by_id",
        "updated_at",
        "updated_by",
        "updated_by_id",
        "archived_at",
        "deleted_at",
    ];
    let has_group = members.iter().any(|member| member.attributes.flatten);
    let keys = attributes
        .unique
        .iter()
        .flat_map(|key| key.fields.iter().chain(&key.only_if));
    for field in keys.chain(attributes.indexes.iter().flatten()) {
        let known = members.iter().any(|member| member.ident == field)
            || SYSTEM.contains(&field.to_string().as_str());
        if !known && !has_group {
            errors.at(field.span(), "the struct has no such field");
        }
    }
    for member in members {
        if SYSTEM.contains(&member.ident.to_string().as_str()) {
            errors.at(
                member.ident.span(),
                "every object has a field of this name already",
            );
        }
    }
}

/// The field that names the object stands beside the one with the id.
fn check_record_links(members: &[Member<'_>], errors: &mut Errors) {
    for member in members {
        let Some(record_of) = &member.attributes.record_of else {
            continue;
        };
        let named = record_of.value();
        let object = members.iter().find(|other| *other.ident == named);
        if object.is_none_or(|object| object.attributes.flatten || object.ident == member.ident) {
            errors.at(
                record_of.span(),
                "the struct has no such field to name the object",
            );
        }
    }
}

/// What entities and groups have in common.
fn shared(name: &Ident, members: &[Member<'_>], root: &Tokens) -> Tokens {
    let group_impl = group_impl(name, members, root);
    let handles = handles(name, members, root);
    let constructor = constructor(name, members);
    let debug = debug(name, members);
    let limits = limits(members, root);
    quote! { #group_impl #handles #constructor #debug #limits }
}

fn group_impl(name: &Ident, members: &[Member<'_>], root: &Tokens) -> Tokens {
    let mut counts = Vec::new();
    let mut starts = Vec::new();
    let mut describe = Vec::new();
    let mut value_arms = Vec::new();
    let mut reads = Vec::new();
    let mut normalize = Vec::new();
    let mut differing = Vec::new();
    let mut start = quote!(0usize);
    let idents: Vec<&Ident> = members.iter().map(|member| member.ident).collect();

    for (index, member) in members.iter().enumerate() {
        let (ident, ty) = (member.ident, member.ty);
        let constant = format_ident!("AT_{index}");
        let end = format_ident!("END_{index}");
        let count = if member.attributes.flatten {
            quote!(<#ty as #root::schema::FieldGroup>::COUNT)
        } else {
            quote!(1usize)
        };
        starts.push(
            quote!(const #constant: usize = #start; const #end: usize = #constant + #count - 1;),
        );
        start = quote!(#end + 1);
        counts.push(count);
        describe.push(describe_member(member, root));
        if member.attributes.flatten {
            value_arms.push(quote! {
                #constant..=#end =>
                    #root::schema::FieldGroup::value(&self.#ident, index - #constant),
            });
            reads.push(quote!(<#ty as #root::schema::FieldGroup>::read(reader)));
            normalize.push(quote!(#root::schema::FieldGroup::normalize(&mut self.#ident);));
            differing.push(quote! {
                #root::schema::FieldGroup::differing(
                    &self.#ident, &other.#ident, start + #constant, set,
                );
            });
        } else {
            value_arms.push(quote! {
                #constant => #root::schema::FieldValue::value(&self.#ident),
            });
            reads.push(quote!(reader.field::<#ty>()));
            normalize.push(quote!(#root::schema::FieldValue::normalize(&mut self.#ident);));
            differing.push(quote! {
                if self.#ident != other.#ident { set.insert(start + #constant); }
            });
        }
    }
    let starts_for_value = starts.clone();
    quote! {
        impl #root::schema::FieldGroup for #name {
            const COUNT: usize = 0 #(+ #counts)*;

            fn describe(fields: &mut #root::schema::FieldList) {
                #(#describe)*
            }

            #[allow(unused_variables, reason = "the last end is not used")]
            fn value(&self, index: usize) -> #root::schema::ValueRef<'_> {
                #(#starts_for_value)*
                match index {
                    #(#value_arms)*
                    _ => #root::schema::ValueRef::Null,
                }
            }

            fn read(
                reader: &mut #root::schema::FieldReader<'_>,
            ) -> ::core::option::Option<Self> {
                // Every field is read before the first missing one ends it: all faults are told.
                #(let #idents = #reads;)*
                ::core::option::Option::Some(Self { #(#idents: #idents?),* })
            }

            fn normalize(&mut self) {
                #(#normalize)*
            }

            #[allow(unused_variables, reason = "the last end is not used")]
            fn differing(&self, other: &Self, start: usize, set: &mut #root::schema::FieldSet) {
                #(#starts)*
                #(#differing)*
            }
        }
    }
}

fn describe_member(member: &Member<'_>, root: &Tokens) -> Tokens {
    let (ty, given) = (member.ty, &member.attributes);
    let name = member.ident.to_string();
    let privacy = if given.sensitive {
        Some(quote!(field.privacy = #root::schema::Privacy::Sensitive;))
    } else if given.personal {
        Some(quote!(field.privacy = #root::schema::Privacy::Personal;))
    } else {
        None
    };
    let flags = [
        (given.read_only, quote!(field.read_only = true;)),
        (given.in_step, quote!(field.in_step = true;)),
        (given.searchable, quote!(field.searchable = true;)),
        (given.indexed, quote!(field.indexed = true;)),
        (given.ignore_case, quote!(field.ignore_case = true;)),
    ];
    let flags: Vec<Tokens> = flags
        .into_iter()
        .filter_map(|(given, tokens)| given.then_some(tokens))
        .collect();
    if given.flatten {
        let prefix = given
            .prefix
            .as_ref()
            .map(syn::LitStr::value)
            .unwrap_or_default();
        return quote! {
            let count = fields.len();
            fields.group::<#ty>(#prefix);
            for field in fields.since(count) {
                let _ = &field;
                #privacy
                #(#flags)*
            }
        };
    }
    let field_type = field_type(member, root);
    let record_of = given.record_of.as_ref().map(|field| {
        quote!(field.record_of =
            ::core::option::Option::Some(::std::borrow::Cow::Borrowed(#field));)
    });
    let condition_of = given.condition_of.as_ref().map(|object| {
        quote!(field.condition_of =
            ::core::option::Option::Some(::std::borrow::Cow::Borrowed(#object));)
    });
    let merge = given
        .merge
        .as_ref()
        .map(|rule| quote!(field.merge = #root::schema::MergeRule::#rule;));
    let text = &member.help;
    let required = given.required.is_some() || member.inner().is_none();
    let default = default_value(member, root);
    quote! {
        {
            let mut field = #root::schema::FieldSchema::new(#name, #field_type);
            field.help = ::std::borrow::Cow::Borrowed(#text);
            field.required = #required;
            field.default = #default;
            #record_of
            #condition_of
            #merge
            #privacy
            #(#flags)*
            fields.push(field);
        }
    }
}

/// The value that a new record has in the field.
fn default_value(member: &Member<'_>, root: &Tokens) -> Tokens {
    let ty = member.ty;
    let given = &member.attributes;
    let value = match (&given.default, member.inner(), given.required) {
        (Some(default), ..) => quote!(::core::convert::Into::<#ty>::into(#default)),
        (None, None, None) => quote!(<#ty as ::core::default::Default>::default()),
        _ => return quote!(#root::schema::Value::Null),
    };
    quote!(#root::schema::ValueRef::into_owned(#root::schema::FieldValue::value(&#value)))
}

fn field_type(member: &Member<'_>, root: &Tokens) -> Tokens {
    let (ty, given) = (member.ty, &member.attributes);
    let base = quote!(<#ty as #root::schema::FieldValue>::field_type());
    if let Some(object) = &given.references {
        let on_delete = given
            .on_delete
            .clone()
            .unwrap_or_else(|| Ident::new("Restrict", Span::call_site()));
        return quote! {
            #root::schema::FieldType::Reference {
                object: ::std::borrow::Cow::Borrowed(#object),
                on_delete: #root::schema::OnDelete::#on_delete,
            }
        };
    }
    let mut steps = Vec::new();
    if let Some(length) = &given.max_len {
        let length = tokens(length);
        steps.push(quote!(let field_type = field_type.with_max_length(#length);));
    }
    if given.multiline.is_some() {
        steps.push(quote!(let field_type = field_type.with_lines();));
    }
    if given.min.is_some() || given.max.is_some() {
        let bound = |bound: &Option<syn::Expr>| match bound {
            Some(value) => quote!(::core::option::Option::Some(#value)),
            None => quote!(::core::option::Option::None),
        };
        let (min, max) = (bound(&given.min), bound(&given.max));
        steps.push(quote!(let field_type = field_type.with_range(#min, #max);));
    }
    if given.precision.is_some() || given.scale.is_some() {
        let precision = given.precision.as_ref().map_or_else(|| quote!(19), tokens);
        let scale = given.scale.as_ref().map_or_else(|| quote!(4), tokens);
        steps.push(quote!(let field_type = field_type.with_digits(#precision, #scale);));
    }
    if let Some(currency) = &given.currency {
        steps.push(quote!(let field_type = field_type.with_currency(#currency);));
    }
    if steps.is_empty() {
        base
    } else {
        quote!({ let field_type = #base; #(#steps)* field_type })
    }
}

/// Lets the compiler refuse a limit on a type that has none, at the attribute.
fn limits(members: &[Member<'_>], root: &Tokens) -> Tokens {
    let mut checks = Vec::new();
    for member in members {
        let (ty, given) = (member.ty, &member.attributes);
        let length = given
            .max_len
            .as_ref()
            .map(Spanned::span)
            .or(given.multiline)
            .or(given.condition_of.as_ref().map(Spanned::span));
        if let Some(span) = length {
            checks.push(quote_spanned!(span=> length::<#ty>();));
        }
        let number = given
            .min
            .as_ref()
            .or(given.max.as_ref())
            .or(given.precision.as_ref())
            .or(given.scale.as_ref())
            .map(Spanned::span)
            .or_else(|| given.currency.as_ref().map(syn::LitStr::span));
        if let Some(span) = number {
            checks.push(quote_spanned!(span=> number::<#ty>();));
        }
        if let Some(record_of) = &given.record_of {
            checks.push(quote_spanned!(record_of.span()=> record::<#ty>();));
        }
    }
    if checks.is_empty() {
        return Tokens::new();
    }
    quote! {
        const _: fn() = || {
            #[allow(dead_code, reason = "some may have no field to check")]
            const fn length<T: #root::schema::LengthLimited>() {}
            #[allow(dead_code, reason = "some may have no field to check")]
            const fn number<T: #root::schema::NumberLimited>() {}
            #[allow(dead_code, reason = "some may have no field to check")]
            const fn record<T: #root::schema::RecordId>() {}
            #(#checks)*
        };
    }
}

fn handles(name: &Ident, members: &[Member<'_>], root: &Tokens) -> Tokens {
    let handles = members.iter().map(|member| {
        let (ident, vis, ty) = (member.ident, member.vis, member.ty);
        let constant = Ident::new(&ident.to_string().to_uppercase(), ident.span());
        let text = ident.to_string();
        let doc = format!("The field `{text}`, for filters and sorts.");
        if member.attributes.flatten {
            let inner = member.inner().unwrap_or(ty);
            let prefix = member
                .attributes
                .prefix
                .as_ref()
                .map(syn::LitStr::value)
                .unwrap_or_default();
            quote! {
                #[doc = #doc]
                #vis const #constant: #root::schema::FieldOf<Self, #inner> =
                    #root::schema::FieldOf::group(#prefix);
            }
        } else {
            quote! {
                #[doc = #doc]
                #vis const #constant: #root::schema::FieldOf<
                    Self,
                    <#ty as #root::schema::FieldValue>::Operand,
                > = #root::schema::FieldOf::new(#text);
            }
        }
    });
    quote! {
        #[allow(dead_code, reason = "not every handle is used")]
        impl #name { #(#handles)* }
    }
}

/// Handles of the fields that the system keeps about every record.
fn system_handles(name: &Ident, root: &Tokens) -> Tokens {
    let moment = quote!(#root::__private::chrono::DateTime<#root::__private::chrono::Utc>);
    let handles = [
        ("id", quote!(#root::Id<Self>)),
        ("version", quote!(i64)),
        ("created_at", moment.clone()),
        ("created_by", quote!(::std::string::String)),
        ("created_by_id", quote!(#root::__private::uuid::Uuid)),
        ("updated_at", moment.clone()),
        ("updated_by", quote!(::std::string::String)),
        ("updated_by_id", quote!(#root::__private::uuid::Uuid)),
        ("archived_at", moment.clone()),
        ("deleted_at", moment),
    ]
    .map(|(text, ty)| {
        let constant = Ident::new(&text.to_uppercase(), Span::call_site());
        let doc = format!("The system's field `{text}`, for filters and sorts.");
        quote! {
            #[doc = #doc]
            pub const #constant: #root::schema::FieldOf<Self, #ty> =
                #root::schema::FieldOf::new(#text);
        }
    });
    quote! {
        #[allow(dead_code, reason = "not every handle is used")]
        impl #name { #(#handles)* }
    }
}

fn constructor(name: &Ident, members: &[Member<'_>]) -> Tokens {
    let fields = members.iter().map(|member| {
        let (ident, ty) = (member.ident, member.ty);
        if member.is_argument() {
            quote!(#ident: ::core::convert::Into::into(#ident))
        } else if let Some(default) = &member.attributes.default {
            quote!(#ident: ::core::convert::Into::<#ty>::into(#default))
        } else {
            quote!(#ident: ::core::default::Default::default())
        }
    });
    let arguments: Vec<&Member<'_>> = members
        .iter()
        .filter(|member| member.is_argument())
        .collect();
    if arguments.is_empty() {
        return quote! {
            impl ::core::default::Default for #name {
                fn default() -> Self { Self { #(#fields),* } }
            }
        };
    }
    let parameters = arguments.iter().map(|member| {
        let (ident, ty) = (member.ident, member.ty);
        quote!(#ident: impl ::core::convert::Into<#ty>)
    });
    let names: Vec<String> = arguments
        .iter()
        .map(|member| format!("`{}`", member.ident))
        .collect();
    let doc = format!(
        "A new `{name}` with what it needs: {}; every other field has its default.",
        names.join(", ")
    );
    quote! {
        impl #name {
            #[doc = #doc]
            #[must_use]
            pub fn new(#(#parameters),*) -> Self { Self { #(#fields),* } }
        }
    }
}

fn debug(name: &Ident, members: &[Member<'_>]) -> Tokens {
    let text = name.to_string();
    let fields = members.iter().map(|member| {
        let ident = member.ident;
        let text = ident.to_string();
        if member.attributes.personal || member.attributes.sensitive {
            quote!(.field(#text, &::core::format_args!("<redacted>")))
        } else {
            quote!(.field(#text, &self.#ident))
        }
    });
    quote! {
        impl ::core::fmt::Debug for #name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(#text) #(#fields)* .finish()
            }
        }
    }
}
