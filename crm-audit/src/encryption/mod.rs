//! Personal and sensitive values are encrypted before they reach a storage (R-006, R-007, C-078 to C-080,
//! C-110, C-149).
//!
//! An [`EncryptedStorage`] stands between an engine and its storage, whichever that is. On the way down
//! the values of all fields marked `personal` or `sensitive` are taken out of a row and sealed together:
//! AES-256-GCM-SIV (RFC 8452) under a key of the tenant, bound to the tenant and the record. In their
//! place stands what can be compared: of a text a token (HMAC-SHA-256 under another key of the tenant),
//! of all else nothing. On the way up rows are opened. So rules, the trail, seals, exports, the feed and
//! hosts see values; the storage, its indexes, its dumps and its replicas none.
//!
//! ```text
//! engine            contact: email "ada@acme.example", born 1815-12-10, status "active"
//!   │ EncryptedStorage
//! storage           contact: email "~q5hs…", born null, status "active", sealed 0x01a3…
//! ```
//!
//! The keys of a tenant are rows beside its records ([`DataKey`]), wrapped by a [`KeyProvider`] of the
//! host: a key management service, or [`MasterKeys`] that the host holds itself. They are made with the
//! first commit of the tenant. Whoever has the database and not the provider has nothing but lengths and
//! what is equal.
//!
//! ```
//! use std::sync::Arc;
//!
//! use crm_audit::encryption::{EncryptedStorage, Key, MasterKeys};
//! use crm_core::contacts::Contact;
//! use crm_core::query::{Find, WhereExt as _};
//! use crm_core::schema::Entity as _;
//! use crm_core::storage::Storage as _;
//! use crm_core::tenancy::Onboarding;
//! use crm_core::value::{EmailAddress, TextValue as _};
//! use crm_core::{Actor, Engine};
//! use crm_storage_memory::MemoryStorage;
//!
//! # pollster::block_on(async {
//! let inner = Arc::new(MemoryStorage::new());
//! // From where the host keeps its secrets.
//! let masters = MasterKeys::new("2026", Key::new([42; 32]));
//! let storage = EncryptedStorage::new(inner.clone(), masters);
//! let engine = crm_audit::install(Engine::builder(storage)).build();
//!
//! let acme = engine.onboard(Onboarding::new("Acme", "acme", "boss@acme.example")).await?;
//! let session = engine.session(acme.tenant, Actor::User(acme.admin));
//! let email = EmailAddress::parse("Ada@acme.example").expect("an address");
//! let ada = Contact { email: Some(email.clone()), ..Contact::named("Ada", "Lovelace") };
//! let ada = session.contacts().create(ada).await?;
//!
//! let found = session.contacts().find(Find::from(Contact::EMAIL.eq(email))).await?;
//! assert_eq!(found.items[0].name.last_name.as_deref(), Some("Lovelace"));
//! let stored = inner.get(session.scope(), Contact::schema(), &[ada.id.uuid()]).await?;
//! assert!(stored[0].get("email").as_text().expect("a token").starts_with('~'));
//! # Ok::<(), crm_core::Error>(())
//! # }).unwrap();
//! ```
//!
//! # What can be asked
//!
//! - **Equality** is answered by the storage, with its indexes: `eq`, `ne`, `in`, `is_null` of texts, without
//!   case where the field has none, and of texts, days, moments and references in custom fields. Unique
//!   keys and duplicate rules work as before, and groups by encrypted texts whose case counts.
//! - **All else** about an encrypted value (an order, a range, a part of a text, a sum, whether a number or
//!   day is there, a search for words) cannot be told of tokens: records are opened and looked at one by
//!   one, at most [10,000](EncryptedStorageBuilder::scan_at_most) for a question, those that fulfil the
//!   rest of its condition. Beyond, it is [unsupported](crm_core::query::QueryError::Unsupported). A search
//!   for words looks at all records of the object, whatever their number.
//! - Conditions and trees along a custom reference in an encrypted document are followed by the typed rows
//!   of custom fields. Claims and feeds that ask for more than equality are unsupported.
//!
//! A host that sorts long lists by name leaves the name [plain](EncryptedStorageBuilder::except). Records of
//! the objects that tenants define keep their fields in one personal document; a host that has nothing
//! personal there leaves `custom_record.custom_fields` plain, and with it filters and roll-ups by index.
//!
//! # What it costs, and what it tells
//!
//! A sealed row is longer by its values as JSON and 45 bytes, and by a token of 27 characters in the place of
//! each text; a read and a write by some microseconds for each row. Who reads the database sees ids,
//! references, times, statuses and amounts, which fields are public, how long the values of a row are in
//! all, and which texts of one field and tenant are **equal**: how often the commonest last name occurs,
//! but not which it is. Nothing is equal between tenants or fields. Short texts such as country codes and
//! options leave no token. Text that is not marked personal, such as the title of a deal, is stored as it is.
//!
//! # Commits of the host's own transactions
//!
//! A host that writes a prepared change set itself has it [sealed](EncryptedStorage::seal) first:
//!
//! ```text
//! work.prepare() ─► storage.seal(scope, changes) ─► postgres.commit_in(transaction, scope, sealed)
//! ```
//!
//! # Tenants that were there before
//!
//! Rows that are not sealed are read as they are, but equality finds sealed ones only. So after switching
//! encryption on, run [`EncryptedStorage::encrypt_tenant`] for every tenant before its users come back; it
//! can be stopped and run again. The same call seals everything anew after [`KeyStore::rotate`].
//!
//! # What the trail tells
//!
//! That a key was exchanged, wrapped by another master key or removed is told by events of `data_key`:
//! which one, when, and by which master key. The first keys of a tenant are not told: nothing was sealed
//! before. Sealing everything anew changes nothing, and is not told.
//!
//! # Who may read
//!
//! Opening values takes the consent of the provider, which may refuse a tenant: [`KeyError`] then says so,
//! and nothing is shown. Which user may read which record is for the host, by a
//! [`ReadHook`](crm_core::engine::ReadHook), and reads are told in the trail where the tenant names the
//! object as sensitive (C-079).

mod cache;
mod conditions;
mod coverage;
mod data_key;
mod error;
mod events;
mod keyring;
mod pass;
mod provider;
mod rows;
mod storage;
mod store;
#[cfg(test)]
mod tests;
mod trees;
mod upkeep;

pub use data_key::{DataKey, KeyPurpose, TenantKey};
pub use error::EncryptionError;
pub use keyring::{Key, Keyring, UnknownKey};
pub use pass::{ResealReport, SealRows};
pub use provider::{KeyError, KeyProvider, MasterKeys, WrappedKey};
pub use storage::{EncryptedStorage, EncryptedStorageBuilder};
pub use store::KeyStore;
