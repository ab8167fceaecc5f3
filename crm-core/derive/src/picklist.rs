//! `#[derive(Picklist)]`.

use proc_macro2::TokenStream as Tokens;
use quote::quote;
use syn::{Data, DeriveInput, Error, Fields, LitStr, Result, Variant};

use crate::attributes::Errors;

pub(crate) fn picklist(input: &DeriveInput, root: &Tokens) -> Result<Tokens> {
    let Data::Enum(data) = &input.data else {
        return Err(Error::new_spanned(
            &input.ident,
            "only an enum can be a picklist",
        ));
    };
    let mut errors = Errors::default();
    let mut variants = Vec::new();
    let mut texts: Vec<String> = Vec::new();
    for variant in &data.variants {
        if !matches!(variant.fields, Fields::Unit) {
            errors.add(Error::new_spanned(
                variant,
                "an option of a picklist has no data",
            ));
        }
        match text(variant) {
            Ok(text) => {
                if texts.contains(&text) {
                    errors.add(Error::new_spanned(
                        variant,
                        "another option has the same text",
                    ));
                }
                texts.push(text);
            }
            Err(error) => errors.add(error),
        }
        variants.push(&variant.ident);
    }
    errors.finish()?;
    let name = &input.ident;
    let expected = format!("must be one of: {}", texts.join(", "));
    Ok(quote! {
        impl #name {
            /// Every option, in the order of their declaration.
            pub const ALL: &'static [Self] = &[#(Self::#variants),*];

            /// The text under which the option is stored.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    #(Self::#variants => #texts),*
                }
            }
        }

        impl ::core::fmt::Display for #name {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl ::core::str::FromStr for #name {
            type Err = #root::value::ValueError;

            fn from_str(text: &str) -> ::core::result::Result<Self, Self::Err> {
                match text {
                    #(#texts => ::core::result::Result::Ok(Self::#variants),)*
                    _ => ::core::result::Result::Err(
                        #root::value::ValueError::new(#root::error::codes::NOT_AN_OPTION, #expected)
                    ),
                }
            }
        }

        impl #root::__private::serde::Serialize for #name {
            fn serialize<S: #root::__private::serde::Serializer>(
                &self,
                serializer: S,
            ) -> ::core::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> #root::__private::serde::Deserialize<'de> for #name {
            fn deserialize<D: #root::__private::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::core::result::Result<Self, D::Error> {
                let text =
                    <::std::string::String as #root::__private::serde::Deserialize>::deserialize(
                        deserializer,
                    )?;
                text.parse().map_err(<D::Error as #root::__private::serde::de::Error>::custom)
            }
        }

        impl #root::schema::FieldValue for #name {
            type Operand = Self;

            fn field_type() -> #root::schema::FieldType {
                #root::schema::FieldType::Picklist {
                    options: ::std::borrow::Cow::Borrowed(&[#(#texts),*]),
                }
            }

            fn value(&self) -> #root::schema::ValueRef<'_> {
                #root::schema::ValueRef::Text(self.as_str())
            }

            fn from_value(
                value: #root::schema::Value,
            ) -> ::core::result::Result<Self, #root::value::ValueError> {
                match value {
                    #root::schema::Value::Text(text) => text.parse(),
                    _ => ::core::result::Result::Err(#root::value::ValueError::new(
                        #root::error::codes::WRONG_TYPE,
                        "the stored value is of another kind",
                    )),
                }
            }
        }
    })
}

/// The stored text of a variant: its name in snake case, or what `#[option("..")]` says.
fn text(variant: &Variant) -> Result<String> {
    for attribute in &variant.attrs {
        if attribute.path().is_ident("option") {
            return Ok(attribute.parse_args::<LitStr>()?.value());
        }
    }
    let mut text = String::new();
    for letter in variant.ident.to_string().chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    Ok(text)
}
