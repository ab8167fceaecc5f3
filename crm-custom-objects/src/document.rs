//! How the typed documents of definitions become values of fields.

/// Makes a type that serde reads and writes the value of a field that holds a JSON document.
macro_rules! document_value {
    ($type:ty, $message:literal) => {
        impl ::crm_core::schema::FieldValue for $type {
            type Operand = Self;

            fn field_type() -> ::crm_core::schema::FieldType {
                ::crm_core::schema::FieldType::Json
            }

            fn value(&self) -> ::crm_core::schema::ValueRef<'_> {
                let document = ::serde_json::to_value(self).unwrap_or_default();
                ::crm_core::schema::ValueRef::Json(::std::borrow::Cow::Owned(document))
            }

            fn from_value(
                value: ::crm_core::schema::Value,
            ) -> Result<Self, ::crm_core::value::ValueError> {
                ::serde_json::from_value(value.to_json()).map_err(|_| {
                    ::crm_core::value::ValueError::new(
                        ::crm_core::error::codes::WRONG_TYPE,
                        $message,
                    )
                })
            }

            fn normalize(&mut self) {
                // As it comes back from its stored form.
                let stored = ::crm_core::schema::FieldValue::value(self).into_owned();
                if let Ok(stored) = Self::from_value(stored) {
                    *self = stored;
                }
            }
        }
    };
}

pub(crate) use document_value;
