//! The values that records are made of: e-mail addresses, telephone numbers, money, percentages,
//! names.
//!
//! Each type here is a promise. Text from outside becomes a value once, at the border, through a
//! fallible `parse` or `new`; from then on the rest of the engine need not ask again whether an
//! address has an `@` or a percentage ends at 100.
//!
//! ```text
//! form, file, API --parse--> value --as_str--> storage, JSON
//!                              ^                  |
//!                              '---from_stored----'   cheap: it was checked on its way in
//! ```
//!
//! - [`TextValue`] is what the types with one text form have in common: [`EmailAddress`],
//!   [`HttpUrl`], [`Color`], [`ApiName`], [`Subdomain`], [`DomainName`], [`LanguageTag`],
//!   [`NonBlankText`], [`Currency`], [`Country`] and [`TimeZone`].
//! - [`Percent`], [`Score`] and [`Money`] are numbers with limits; [`Totals`] sums money without
//!   ever adding two currencies.
//! - [`PersonName`] and [`Address`] are groups of fields that several objects have.
//! - [`SocialProfiles`] are a person's or company's addresses and handles at social networks.
//! - [`PhoneNumber`] keeps what was typed and, where it can, the number in its canonical form.
//! - [`ValueError`] says why an input is not a value. It never repeats the input, because the input
//!   may be personal data and errors end up in logs.

mod color;
mod currency;
mod decimal;
mod email;
mod error;
mod locale;
mod money;
mod names;
mod percent;
mod person;
mod phone;
mod score;
mod social;
mod text;
pub(crate) mod text_value;
mod url;

pub use self::color::Color;
pub use self::currency::Currency;
pub use self::email::EmailAddress;
pub use self::error::ValueError;
pub use self::locale::{Country, LanguageTag, TimeZone};
pub use self::money::{Money, Totals};
pub use self::names::{ApiName, DomainName, Subdomain};
pub use self::percent::Percent;
pub use self::person::{Address, PersonName};
pub use self::phone::PhoneNumber;
pub use self::score::Score;
pub use self::social::{SocialNetwork, SocialProfile, SocialProfiles};
pub use self::text::NonBlankText;
pub use self::text_value::TextValue;
pub use self::url::HttpUrl;
